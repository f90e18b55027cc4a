// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/program"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// What goes into a tun device goes to a program.
func TestHandedToProgram(t *testing.T) {
	agent := program.Holder{PID: 812, Comm: "flanneld"}
	for name, tc := range map[string]struct {
		owners []TunOwner
		says   []string
		never  string
	}{
		"stopped": {[]TunOwner{{agent, "T (stopped)"}}, []string{"tun device flannel0 of this node", "flanneld (pid 812), which is to read them there, is stopped", "/proc/812/status: State: T (stopped)", "kill -CONT 812"}, "tcpdump"},
		"runs":    {[]TunOwner{{agent, "S (sleeping)"}}, []string{"behind which flanneld (pid 812) is", "whether it read them"}, "is stopped"},
		"nobody":  {nil, []string{"which program has it open was not found"}, "pid"},
	} {
		t.Run(name, func(t *testing.T) {
			state := madeNode()
			p := state.Places[nodeNS]
			p.Links = append(p.Links, node.Link{Index: 9, Name: "flannel0", Kind: "tun", Up: true, Carrier: true, MTU: 1472})
			p.TunOwners = map[string][]TunOwner{"flannel0": tc.owners}
			sent := leaving(func(p *model.Packet) {
				p.Outcome = model.Unknown
				p.Hops = append(p.Hops[:1], model.Hop{Stage: model.StageTransmit, Netns: nodeNS, Place: "node", Interface: "flannel0", IfIndex: 9})
			})
			wantOne(t, diagnoseAll(t, state, sent), "unanswered", Likely, tc.says, tc.never)
		})
	}
}

// A port that nobody listens on may be one that rules translate for another address.
func TestPortElsewhere(t *testing.T) {
	const (
		nodePort = `-A KUBE-NODEPORTS -p tcp -m comment --comment "default/web:http" -m tcp --dport 80 -j KUBE-EXT-ABC`
		jumpFor  = `-A KUBE-SERVICES -d 172.30.0.9/32 -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -j KUBE-NODEPORTS`
		jumpAll  = `-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS`
		hostPort = `-A CNI-HOSTPORT-DNAT -d 172.30.0.9/32 -p tcp -m comment --comment "dnat name: \"cbr0\"" -m multiport --dports 80,443 -j CNI-DN-abc`
	)
	const told = "which is translated for 172.30.0.9 only"
	for name, tc := range map[string]struct {
		rules []string
		says  []string
		never string
	}{
		"a node port":            {[]string{nodePort, jumpFor}, []string{"80 is the port of default/web:http on this node (rule 1 of KUBE-NODEPORTS in nat), " + told, "nodePortAddresses"}, "in the pod"},
		"a host port":            {[]string{hostPort}, []string{"80 is a port that its NAT rules translate (rule 1 of CNI-HOSTPORT-DNAT in nat), " + told}, "in the pod"},
		"a cluster IP's":         {[]string{`-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment "default/kubernetes:https cluster IP" -m tcp --dport 80 -j KUBE-SVC-ABC`}, []string{"see what listens there: ss -lnt on this node"}, "default/kubernetes"},
		"of all addresses":       {[]string{nodePort, jumpFor, jumpAll}, []string{"nothing listens on tcp port 80"}, told},
		"a chain nobody asks":    {[]string{nodePort}, []string{"nothing listens on tcp port 80"}, told},
		"one that asks for more": {[]string{`-A C -d 172.30.0.9/32 -p tcp -m tcp --dport 80 -m mark --mark 0x1 -j DNAT --to-destination 10.244.1.3:80`}, []string{"nothing listens"}, told},
	} {
		t.Run(name, func(t *testing.T) {
			state := madeNode()
			eth0 := &state.Places[nodeNS].Links[0]
			eth0.Addrs = append(eth0.Addrs, netip.MustParsePrefix("172.30.0.9/24"))
			var all []meaning.Rule
			for i, text := range tc.rules {
				all = append(all, meaning.Rule{Family: "ip", Table: "nat", Chain: fieldsOfChain(text), Number: i + 1, Text: text})
			}
			state.Places[nodeNS].Rules = &RuleSets{Legacy: Rules(slices.Values(all))}
			p := dead("NO_SOCKET", "tcp_v4_rcv+0x91", func(p *model.Packet) {
				p.Dst = node1
				p.Drop.Interface, p.Drop.IfIndex = "eth0", 2
				p.Hops = append(p.Hops, model.Hop{Stage: model.StageAnswer, Netns: nodeNS, Place: "node", Interface: "eth0", IfIndex: 2, Answer: "tcp-reset"})
			})
			wantOne(t, diagnoseAll(t, state, p), "no-listener", Certain, tc.says, tc.never)
		})
	}
}

// fieldsOfChain is the chain of a rule as iptables-save prints it.
func fieldsOfChain(text string) string {
	for i, r := range text[3:] {
		if r == ' ' {
			return text[3 : 3+i]
		}
	}
	return text[3:]
}

// A rule that asks for the way back is told with the way that is there.
func TestReversePathRule(t *testing.T) {
	const nft, inet = "nft", "inet"
	before := func(r *recorded) {
		lost(r)
		r.Places[nodeNS].Rules = &RuleSets{NFT: Rules(slices.Values([]meaning.Rule{{Backend: nft, Family: inet, Table: "firewalld", Chain: "filter_PREROUTING", Number: 2, Text: "-A filter_PREROUTING -m rpfilter --validmark -j RETURN"}}))}
	}
	for name, tc := range map[string]struct {
		text string
		to   func(*recorded)
		says []string
	}{
		"nft": {"fib saddr . mark . iif oif missing drop", lost, []string{"it is a reverse path filter", "does not lead out of calia", "leave the rule"}},
		"iptables": {"-A PREROUTING -m rpfilter --validmark --invert -j DROP", lost,
			[]string{"it is a reverse path filter", "the way back: rule 32766 looks up table main: default via 172.30.0.254 dev eth0"}},
		"by what is let go before":  {"-A filter_PREROUTING -j DROP", before, []string{"it is a reverse path filter", "rule 2 of filter_PREROUTING in inet firewalld: -A filter_PREROUTING -m rpfilter --validmark -j RETURN", "leave the rule"}},
		"nothing is let go before":  {"-A filter_PREROUTING -j DROP", lost, []string{"drops it"}},
		"loose, and there is a way": {"-A PREROUTING -m rpfilter --loose --invert -j DROP", lost, []string{"not known"}},
		"the way is back":           {"fib saddr . iif oif missing drop", func(*recorded) {}, []string{"not known"}},
	} {
		t.Run(name, func(t *testing.T) {
			state := madeNode()
			tc.to(state)
			p := dead("NETFILTER_DROP", "nft_do_chain+0x1", func(p *model.Packet) {
				byRule("filter_PREROUTING", tc.text, "")(p)
				p.Drop.Hook, p.Drop.Backend, p.Drop.Family, p.Drop.Table, p.Drop.RuleSource = "PREROUTING", nft, inet, "firewalld", model.RuleInferred
				p.Drop.Rule.Family, p.Drop.Rule.Table = inet, "firewalld"
			})
			wantOne(t, diagnoseAll(t, state, p), "rule-drop", Likely, tc.says, "")
		})
	}
}

// lost takes pod A's route from the node.
func lost(r *recorded) {
	routes := r.Places[nodeNS].Routes
	r.Places[nodeNS].Routes = slices.DeleteFunc(slices.Clone(routes), func(r node.Route) bool {
		return r.Dst == netip.PrefixFrom(podA, 32) && r.Type == unix.RTN_UNICAST
	})
}

// A pod whose local ports are all taken towards the one that is asked sends nothing.
func TestNoLocalPort(t *testing.T) {
	to := netip.AddrPortFrom(podB, 80)
	socket := func(port uint16, state int) node.Socket {
		return node.Socket{Local: netip.AddrPortFrom(podA, port), Remote: to, State: state}
	}
	for name, tc := range map[string]struct {
		reserved string
		sockets  []node.Socket
		told     bool
	}{
		"all":             {"", []node.Socket{socket(40000, node.TCPEstablished), socket(40001, node.TCPTimeWait), socket(40002, node.TCPEstablished)}, true},
		"but for one":     {"", []node.Socket{socket(40000, node.TCPEstablished), socket(40002, node.TCPEstablished), socket(50000, node.TCPEstablished)}, false},
		"which is kept":   {"39990-39999,40001", []node.Socket{socket(40000, node.TCPEstablished), socket(40002, node.TCPEstablished)}, true},
		"to another port": {"", []node.Socket{socket(40000, node.TCPEstablished), socket(40001, node.TCPEstablished), {Local: netip.AddrPortFrom(podA, 40002), Remote: netip.AddrPortFrom(podB, 81), State: node.TCPEstablished}}, false},
		"none":            {"", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			state := madeNode()
			p := state.Places[podNS]
			p.Sysctls = map[string]string{"ipv4/ip_local_port_range": "40000\t40002", "ipv4/ip_local_reserved_ports": tc.reserved}
			p.Sockets = tc.sockets
			says, never := []string{"no local port left towards 10.244.1.3:80", "net.ipv4.ip_local_port_range = 40000 40002"}, ""
			if !tc.told {
				says, never = []string{"nothing was sent while it was traced"}, "local port"
			}
			c := New(state, func(line string) { t.Errorf("could not be asked: %s", line) })
			c.Start(&model.Start{Type: model.TypeStart, Src: model.End{Given: "a", Netns: podNS}, Dst: model.End{Given: podB.String(), Addresses: model.Prefixes{netip.PrefixFrom(podB, 32)}}})
			wantOne(t, c.Findings(), "not-sent", Likely, says, never)
		})
	}
}
