// SPDX-License-Identifier: Apache-2.0

// kube-proxy's rules on a test node: a recorded rule set with its addresses
// turned into those of the pods that stand here.

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"regexp"
	"strings"
)

// Service is a Kubernetes service that the node's kube-proxy rules serve.
type Service struct {
	Namespace string
	Name      string
	ClusterIP netip.Addr
	Proto     string // tcp, udp
	Port      uint16
	Endpoints []netip.AddrPort // empty: kube-proxy rejects
}

// FullName is namespace/name.
func (s Service) FullName() string { return s.Namespace + "/" + s.Name }

// Service returns a service by namespace/name, false when there is none.
func (e *Env) Service(fullName string) (Service, bool) {
	for _, s := range e.Services {
		if s.FullName() == fullName {
			return s, true
		}
	}
	return Service{}, false
}

// recordedAddr finds whole addresses: 10.244.1.10 but not 10.244.1.100.
var recordedAddr = regexp.MustCompile(`\d+\.\d+\.\d+\.\d+`)

// serviceAddrs maps addresses of the recorded cluster to those of this one. The
// recorded endpoints .1.10 and .1.11 become server and client; those on the
// other node become web2 and unused addresses of that node.
func (e *Env) serviceAddrs(node *Node) map[string]string {
	kind := e.Dataplane.Kind()
	plan, remote := e.facts(1), e.facts(2)
	at := func(f facts, host byte) string {
		a := f.podNet.Addr().As4()
		a[3] += host
		return netip.AddrFrom4(a).String()
	}
	podNet := map[Kind]string{Calico: "192.168.0.0", Flannel: "10.244.0.0"}[kind]
	client, server, web2 := byte(2), byte(3), byte(3) // host parts that host-local gives
	if kind == Calico {
		client, server, web2 = 1, 2, 1
	}
	return map[string]string{
		"10.244.1.10": at(plan, server), "10.244.1.11": at(plan, client),
		"10.244.2.10": at(remote, web2), "10.244.2.11": at(remote, 11), "10.244.2.12": at(remote, 12),
		"10.244.0.0": podNet, "192.168.77.10": node.Addr.String(), "192.168.77.1": UnderlayGateway.Addr().String(),
	}
}

// rewriteAddrs replaces whole IPv4 addresses.
func rewriteAddrs(text string, to map[string]string) string {
	return recordedAddr.ReplaceAllStringFunc(text, func(a string) string {
		if b, ok := to[a]; ok {
			return b
		}
		return a
	})
}

// builtinRule finds rules of a built-in chain in an iptables-save text.
var builtinRule = regexp.MustCompile(`(?m)^(?:\[\d+:\d+\] )?-A (PREROUTING|INPUT|FORWARD|OUTPUT|POSTROUTING) `)

// placeJumps turns the rules that are appended to built-in chains into insertions
// after the first `skip` rules: kube-proxy puts its jumps first, ahead of
// flannel's; Felix keeps its own first jump ahead of kube-proxy's. The text is
// read table by table: positions count anew in each.
func placeJumps(text string, skip int) string {
	position := map[string]int{}
	var out strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "*") {
			clear(position)
		}
		out.WriteString(builtinRule.ReplaceAllStringFunc(line, func(head string) string {
			chain := builtinRule.FindStringSubmatch(head)[1]
			position[chain]++
			return fmt.Sprintf("-I %s %d ", chain, position[chain]+skip)
		}))
	}
	return out.String()
}

// restoreKubeProxy adds kube-proxy's rules to what is there and fills Services.
func (e *Env) restoreKubeProxy(ctx context.Context, node *Node) error {
	if e.Dataplane.IPVS() {
		return e.makeIPVS(ctx, node)
	}
	form := e.Dataplane.Form()
	if form != FormNFTables {
		if err := addAccounting(node.Netns, "ct_state_invalid_dropped_pkts"); err != nil {
			return err
		}
	}
	steps := []struct {
		file string
		cmd  []string
	}{
		{"iptables-legacy-save-c.txt", []string{"iptables-legacy-restore", "-w", "--noflush"}},
		{"ip6tables-legacy-save-c.txt", []string{"ip6tables-legacy-restore", "-w", "--noflush"}},
		{"iptables-nft-save-c.txt", []string{"iptables-nft-restore", "--noflush"}},
		{"ip6tables-nft-save-c.txt", []string{"ip6tables-nft-restore", "--noflush"}},
		{"nft-a-list-ruleset.txt", []string{"nft", "-f", "-"}},
	}
	to := e.serviceAddrs(node)
	for _, step := range steps {
		text, err := testdata.ReadFile(path.Join("testdata", "kube-proxy-"+string(form), step.file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		in := placeJumps(rewriteAddrs(string(text), to), e.firstJumps(step.file))
		if _, err := e.RunTool(ctx, node.Netns, in, step.cmd...); err != nil {
			return fmt.Errorf("restore %s: %w", step.file, err)
		}
	}
	if node.Number == 1 {
		e.Services = servicesOf(to)
	}
	return nil
}

// firstJumps is how many rules at the head of a built-in chain belong before
// kube-proxy's: Calico's one, in IPv4, where it has rules.
func (e *Env) firstJumps(file string) int {
	if e.Dataplane.Kind() == Calico && strings.HasPrefix(file, "iptables-") {
		return 1
	}
	return 0
}

// servicesOf describes those recorded services that tests use.
func servicesOf(to map[string]string) []Service {
	endpoint := func(recorded string, port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr(to[recorded]), port)
	}
	return []Service{
		{"demo", "one", netip.MustParseAddr("10.96.10.1"), "tcp", 80,
			[]netip.AddrPort{endpoint("10.244.1.10", 8080)}},
		{"demo", "two", netip.MustParseAddr("10.96.10.2"), "tcp", 80,
			[]netip.AddrPort{endpoint("10.244.1.10", 8080), endpoint("10.244.2.10", 8080)}},
		{"demo", "empty", netip.MustParseAddr("10.96.10.4"), "tcp", 80, nil},
		{"kube-system", "kube-dns", netip.MustParseAddr("10.96.0.10"), "udp", 53,
			[]netip.AddrPort{endpoint("10.244.1.11", 53), endpoint("10.244.2.10", 53)}},
	}
}
