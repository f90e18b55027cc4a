// SPDX-License-Identifier: Apache-2.0

// Rules of the dataplanes that are made of a recorded one: Felix' rules for VXLAN give
// way to those for IPIP or WireGuard, and beside kube-proxy's IPVS mode Felix has some
// more. What they are is told by felix/rules/static.go and dispatch.go (Calico 3.30);
// the numbers in the comments, hashes of each chain, are not Felix' own where they are
// named here. flanneld's rules do not depend on its backend.

package cluster

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// derive turns a recorded iptables-save or ipset-save text into this dataplane's.
func (d Dataplane) derive(text string) string {
	if d.Kind() != Calico || d.Recorded() {
		return text
	}
	if rewrite := map[Way]func(string) []string{WayIPIP: ipipLine, WayWireGuard: wireGuardLine}[d.Way()]; rewrite != nil {
		text = byLine(text, rewrite)
	}
	if d.IPVS() {
		text = besideIPVS(text)
	}
	return text
}

// byLine puts lines, or none, in the place of each.
func byLine(text string, rewrite func(line string) []string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		for _, l := range rewrite(strings.TrimSuffix(line, "\n")) {
			out.WriteString(l + "\n")
		}
	}
	return out.String()
}

// withoutVXLAN tells lines that only a node with VXLAN has: what leaves its outer
// packets out of conntrack, and keeps their ports.
func withoutVXLAN(line string) bool {
	return strings.Contains(line, "--dport 4789 -j NOTRACK") || strings.Contains(line, "-o vxlan.calico -p udp")
}

// ipipLine gives what a node with IPIP has in place of a line for VXLAN.
func ipipLine(line string) []string {
	const proto = `-p 4 -m comment --comment "cali:`
	switch {
	case withoutVXLAN(line):
		return nil
	case strings.Contains(line, `"Allow IPv4 VXLAN packets from allowed hosts"`):
		return []string{`-A cali-INPUT ` + proto + `PajejrV4aFdkZojI" -m comment --comment "Allow IPIP packets from Calico hosts" -m set --match-set cali40all-hosts-net src -m addrtype --dst-type LOCAL -j ACCEPT`}
	case strings.Contains(line, `"Drop IPv4 VXLAN packets from non-allowed hosts"`):
		return []string{`-A cali-INPUT ` + proto + `_wjq-Yrma8Ly1Svo" -m comment --comment "Drop IPIP packets from non-Calico hosts" -j DROP`}
	case strings.Contains(line, `"Allow IPv4 VXLAN packets to other allowed hosts"`):
		return []string{`-A cali-OUTPUT ` + proto + `AnEsmO6bDZbQntWW" -m comment --comment "Allow IPIP packets to other Calico hosts" -m set --match-set cali40all-hosts-net dst -m addrtype --src-type LOCAL -j ACCEPT`}
	case strings.HasPrefix(line, "create cali40all-vxlan-net "): // of all nodes, this one too
		return []string{strings.Replace(line, "vxlan", "hosts", 1), "add cali40all-hosts-net 172.30.0.1", "add cali40all-hosts-net 172.30.0.2"}
	case strings.HasPrefix(line, "add cali40all-vxlan-net "):
		return nil
	}
	return []string{strings.ReplaceAll(line, "-o vxlan.calico ", "-o "+calicoIPIP+" ")}
}

// wireGuardLine gives what a node with WireGuard has in place of a line for VXLAN.
func wireGuardLine(line string) []string {
	const port = `-m multiport --dports 51820 -m addrtype`
	switch {
	case withoutVXLAN(line), strings.Contains(line, `"Drop IPv4 VXLAN packets from non-allowed hosts"`), strings.Contains(line, " cali40all-vxlan-net "):
		return wireGuardRule(line, port)
	}
	return []string{strings.ReplaceAll(line, "-o vxlan.calico ", "-o wireguard.cali ")}
}

// wireGuardRule is what a line of VXLAN's becomes that does not stay as it is.
func wireGuardRule(line, port string) []string {
	switch {
	case strings.Contains(line, `"Allow IPv4 VXLAN packets from allowed hosts"`):
		return []string{`-A cali-INPUT -p udp -m comment --comment "cali:Vnbo2QqyS1ffLI4P" -m comment --comment "Allow incoming IPv4 Wireguard packets" ` + port + ` --dst-type LOCAL -j ACCEPT`}
	case strings.Contains(line, `"Allow IPv4 VXLAN packets to other allowed hosts"`):
		return []string{`-A cali-OUTPUT -p udp -m comment --comment "cali:o2S0bt1hL_KIBcHM" -m comment --comment "Allow outgoing IPv4 Wireguard packets" ` + port + ` --src-type LOCAL -j ACCEPT`}
	}
	return nil
}

// The marks by which Felix remembers, from INPUT to OUTPUT, which pod a packet came from
// that IPVS takes to its way out: all bits that its other rules leave, the lowest for
// what comes from no pod.
const (
	endpointMask = "0xffe00000"
	otherMark    = "0x200000"
	firstMark    = 0x400000
	nextMark     = 0x200000
)

var workloadChain = regexp.MustCompile(`(?m)^:cali-fw-(cali[0-9a-f]+) `)

// besideIPVS adds the rules that Felix has where kube-proxy serves by IPVS: what is for a
// service comes by INPUT and leaves by OUTPUT, and the policies are to hold there too.
func besideIPVS(text string) string {
	var pods []string
	for _, m := range workloadChain.FindAllStringSubmatch(text, -1) {
		pods = append(pods, m[1])
	}
	if len(pods) == 0 {
		return text // the sets, or a file without rules
	}
	slices.Sort(pods)
	filter := false
	return byLine(text, func(line string) []string {
		switch {
		case strings.HasPrefix(line, "*"):
			filter = line == "*filter"
		case !filter:
		case strings.HasPrefix(line, ":cali-FORWARD "):
			return append(endpointChains(pods), line)
		case line == "COMMIT":
			return append(endpointRules(pods), line)
		case strings.Contains(line, "-A cali-INPUT -i cali+ "):
			return []string{
				`-A cali-INPUT -m comment --comment "cali:clear" -j MARK --set-xmark 0x0/` + endpointMask,
				`-A cali-INPUT -m comment --comment "cali:forward" -j cali-forward-check`,
				`-A cali-INPUT -m comment --comment "cali:marked" -m mark ! --mark 0x0/` + endpointMask + ` -j RETURN`, line,
			}
		case strings.Contains(line, "-A cali-OUTPUT -o cali+ "):
			return []string{`-A cali-OUTPUT -m comment --comment "cali:marked" -m mark ! --mark 0x0/` + endpointMask + ` -g cali-forward-endpoint-mark`, line}
		}
		return []string{line}
	})
}

func endpointChains(pods []string) []string {
	lines := []string{":cali-forward-check - [0:0]", ":cali-forward-endpoint-mark - [0:0]", ":cali-from-endpoint-mark - [0:0]", ":cali-set-endpoint-mark - [0:0]"}
	for _, pod := range pods {
		lines = append(lines, ":cali-sm-"+pod+" - [0:0]")
	}
	return lines
}

func endpointRules(pods []string) []string {
	const nodePorts = `-m multiport --dports 30000:32767 -m set --match-set cali40this-host dst -m comment --comment "To kubernetes NodePort service" -g cali-set-endpoint-mark`
	lines := []string{
		`-A cali-forward-check -m comment --comment "cali:known" -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN`,
		`-A cali-forward-check -p tcp ` + nodePorts,
		`-A cali-forward-check -p udp ` + nodePorts,
		`-A cali-forward-check -m comment --comment "To kubernetes service" -m set ! --match-set cali40this-host dst -j cali-set-endpoint-mark`,
		`-A cali-forward-endpoint-mark -m comment --comment "cali:from" -m mark ! --mark ` + otherMark + `/` + endpointMask + ` -j cali-from-endpoint-mark`,
		`-A cali-forward-endpoint-mark -o cali+ -m comment --comment "cali:to" -j cali-to-wl-dispatch`,
		`-A cali-forward-endpoint-mark -m comment --comment "cali:host" -j cali-to-hep-forward`,
		`-A cali-forward-endpoint-mark -m comment --comment "cali:clear" -j MARK --set-xmark 0x0/` + endpointMask,
		`-A cali-forward-endpoint-mark -m comment --comment "Policy explicitly accepted packet." -m mark --mark 0x10000/0x10000 -j ACCEPT`,
	}
	for i, pod := range pods {
		mark := fmt.Sprintf("%#x/%s", firstMark+i*nextMark, endpointMask)
		lines = append(lines,
			`-A cali-set-endpoint-mark -i `+pod+` -m comment --comment "cali:`+pod+`" -g cali-sm-`+pod,
			`-A cali-sm-`+pod+` -m comment --comment "cali:`+pod+`" -j MARK --set-xmark `+mark,
			`-A cali-from-endpoint-mark -m comment --comment "cali:`+pod+`" -m mark --mark `+mark+` -g cali-fw-`+pod)
	}
	return append(lines,
		`-A cali-set-endpoint-mark -i cali+ -m comment --comment "Unknown endpoint" -j DROP`,
		`-A cali-set-endpoint-mark -m comment --comment "Non-Cali endpoint mark" -j MARK --set-xmark `+otherMark+`/`+endpointMask,
		`-A cali-from-endpoint-mark -m comment --comment "Unknown interface" -j DROP`)
}
