// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

var floating = netip.MustParseAddr("10.244.1.50")

// asks53 is a datagram of pod A to an address and port 53, which pod B took in.
func asks53(to netip.Addr) *model.Packet {
	return &model.Packet{Direction: model.Forward, Time: time.Now().Add(-time.Second), Proto: "udp", Src: podA, SrcPort: 40000, Dst: to, DstPort: 53, Outcome: model.Delivered,
		Hops: []model.Hop{{Stage: model.StageTransmit, Netns: podNS, Place: "default/a", Interface: "eth0", IfIndex: 2},
			{Stage: model.StageReceive, Netns: nodeNS, Place: "node", Interface: "calia", IfIndex: 4},
			{Stage: model.StageDeliver, Netns: otherNS, Place: "default/b", Interface: "eth0", IfIndex: 2}}}
}

// A server on all addresses that is asked at another than its routing has for a source.
func TestAnswersFromElsewhere(t *testing.T) {
	socket := func(at string) node.Socket { return node.Socket{Local: netip.MustParseAddrPort(at)} }
	two := func(r *recorded) {
		p := r.Places[otherNS]
		p.Links = append(p.Links, node.Link{Index: 1, Name: "lo", Loopback: true, Up: true, Addrs: []netip.Prefix{netip.PrefixFrom(floating, 32)}})
		p.UDP = []node.Socket{socket("0.0.0.0:53")}
	}
	rise := func(noPorts, sent uint64) func(*recorded) {
		return func(r *recorded) {
			r.Places[podNS].Datagrams = []node.DatagramStats{{NoPorts: 5}, {NoPorts: 5 + noPorts}}
			r.Places[otherNS].Datagrams = []node.DatagramStats{{Sent: 7}, {Sent: 7 + sent}}
		}
	}
	entry := func(r *recorded) {
		f := node.Flow{Proto: unix.IPPROTO_UDP, Src: netip.AddrPortFrom(podB, 53), Dst: netip.AddrPortFrom(podA, 40000)}
		r.Places[nodeNS].Connections = []node.Connection{{Orig: f, Reply: f.Back()}}
	}
	for name, tc := range map[string]struct {
		node        []func(*recorded)
		packets     []*model.Packet
		code        string
		says, never string
	}{
		"counters show it":           {[]func(*recorded){two, rise(2, 2)}, []*model.Packet{asks53(floating)}, "answer-from-elsewhere", "asked at 10.244.1.50:53 and answers from 10.244.1.3", "did not answer"},
		"conntrack shows it":         {[]func(*recorded){two, entry}, []*model.Packet{asks53(floating)}, "answer-from-elsewhere", "conntrack -L: udp src=10.244.1.3 dst=10.244.1.2", "did not answer"},
		"nobody refused anything":    {[]func(*recorded){two, rise(0, 2)}, []*model.Packet{asks53(floating)}, "unanswered", "what it answers may bear 10.244.1.3", "did not answer"},
		"it sent nothing":            {[]func(*recorded){two, rise(2, 0)}, []*model.Packet{asks53(floating)}, "unanswered", "whether it answered", "did not answer"},
		"asked where it answers":     {[]func(*recorded){two, rise(2, 2)}, []*model.Packet{asks53(podB)}, "unanswered", "did not answer", "all addresses"},
		"answered":                   {[]func(*recorded){two, rise(2, 2)}, []*model.Packet{asks53(floating), answer53(floating, 53)}, "", "", ""},
		"a socket of its own for it": {[]func(*recorded){two, rise(2, 2), func(r *recorded) { r.Places[otherNS].UDP = append(r.Places[otherNS].UDP, socket("10.244.1.50:53")) }}, []*model.Packet{asks53(floating)}, "unanswered", "did not answer", "all addresses"},
	} {
		t.Run(name, func(t *testing.T) {
			state := madeNode()
			for _, change := range tc.node {
				change(state)
			}
			wantCode(t, diagnoseAll(t, state, tc.packets...), tc.code, tc.says, tc.never)
		})
	}
}

// wantCode wants one finding, of a code; "": none.
func wantCode(t *testing.T, found []model.Finding, code, says, never string) {
	t.Helper()
	switch {
	case code == "" && len(found) > 0:
		t.Errorf("healthy, but told %s", words(found[0]))
	case code == "":
	case len(found) != 1 || found[0].Code != code || !strings.Contains(words(found[0]), says):
		t.Errorf("want one %s that says %q: %+v", code, says, found)
	case never != "" && strings.Contains(words(found[0]), never):
		t.Errorf("says %q: %s", never, words(found[0]))
	}
}

// answer53 is an answer to asks53, from an address and port.
func answer53(from netip.Addr, port uint16) *model.Packet {
	return &model.Packet{Direction: model.Return, Time: time.Now(), Proto: "udp", Src: from, SrcPort: port, Dst: podA, DstPort: 40000, Outcome: model.Delivered,
		Hops: []model.Hop{{Stage: model.StageTransmit, Netns: otherNS, Place: "default/b", Interface: "eth0", IfIndex: 2},
			{Stage: model.StageDeliver, Netns: podNS, Place: "default/a", Interface: "eth0", IfIndex: 2}}}
}

func turnedDown(p *model.Packet, answer string) *model.Packet {
	p.Hops = append(p.Hops, model.Hop{Stage: model.StageAnswer, Netns: podNS, Place: "default/a", Interface: "eth0", IfIndex: 2, Answer: answer})
	return p
}

func TestAnswerFromAnotherPort(t *testing.T) {
	wantCode(t, diagnoseAll(t, madeNode(), asks53(podB), turnedDown(answer53(podB, 54), "icmp-port-unreachable")), "answer-from-elsewhere", "answers from port 54", "is closed")
	// a socket that asked both ports itself, and is closed by now
	both := asks53(podB)
	both.DstPort = 54
	for _, f := range diagnoseAll(t, madeNode(), asks53(podB), both, turnedDown(answer53(podB, 54), "icmp-port-unreachable")) {
		if f.Code == "answer-from-elsewhere" {
			t.Errorf("it was asked: %s", words(f))
		}
	}
}

// Somebody off this node translates the destination and not the source.
func TestTranslatedElsewhere(t *testing.T) {
	asked := netip.MustParseAddr("172.30.0.2")
	request := func(back bool) *model.Packet {
		p := asks53(asked)
		p.Proto, p.TCPFlags, p.DstPort = "tcp", "S", 30080
		hops := []model.Hop{p.Hops[0], p.Hops[1], {Stage: model.StageTransmit, Netns: nodeNS, Place: "node", Interface: "eth0", IfIndex: 2}}
		if back {
			hops = append(hops, model.Hop{Stage: model.StageReceive, Netns: nodeNS, Place: "node", Interface: "eth0", IfIndex: 2},
				model.Hop{Stage: model.StageDecapsulate, Netns: nodeNS, Place: "node", Interface: "vxlan.calico", IfIndex: 3, Tunnel: &model.Tunnel{Kind: "vxlan", Src: node2, Dst: node1}}, p.Hops[2])
		} else {
			p.Outcome = model.LeftNode
		}
		p.Hops = hops
		return p
	}
	synAck := func(from netip.Addr) *model.Packet {
		p := answer53(from, 8080)
		p.Proto, p.TCPFlags = "tcp", "S."
		return turnedDown(p, "tcp-reset")
	}
	wantCode(t, diagnoseAll(t, madeNode(), request(true), synAck(podB)), "reply-not-translated", "came back by vxlan.calico, in a tunnel packet from 172.30.0.2", "did not answer")
	found := diagnoseAll(t, madeNode(), request(false), synAck(podB))
	if i := slices.IndexFunc(found, func(f model.Finding) bool { return f.Code == "reply-not-translated" }); i < 0 || found[i].Confidence != Likely {
		t.Errorf("a request that was not seen to come back: %+v", found)
	}
	// a reset by a client that has given up: the answer is from where it asked
	gone := synAck(asked)
	gone.SrcPort = 30080
	for _, f := range diagnoseAll(t, madeNode(), request(true), gone) {
		if f.Code == "reply-not-translated" {
			t.Errorf("the asked one answered: %s", words(f))
		}
	}
}

// toItself is a SYN of pod A that the node translated to pod A.
func toItself(rule string, by string) *model.Packet {
	return dead("IP_LOCAL_SOURCE", "ip_rcv_finish_core+0x1", func(p *model.Packet) {
		asked := netip.MustParseAddr("10.96.0.7")
		p.Dst = asked
		p.Drop = &model.Drop{Reason: "IP_LOCAL_SOURCE", Function: "ip_rcv_finish_core+0x1", Netns: podNS, Place: "default/a", Interface: "eth0", IfIndex: 2}
		p.Hops = []model.Hop{{Stage: model.StageTransmit, Netns: podNS, Place: "default/a", Interface: "eth0", IfIndex: 2},
			{Stage: model.StageNAT, Netns: nodeNS, Place: "node", Interface: "calia", IfIndex: 4, Hook: "PREROUTING", NATBy: by, CTState: "new",
				Before: &model.Endpoints{Src: podA, SrcPort: 40000, Dst: asked, DstPort: 80}, After: &model.Endpoints{Src: podA, SrcPort: 40000, Dst: podA, DstPort: 8080}},
			{Stage: model.StageNetfilter, Netns: nodeNS, Place: "node", Interface: "calia", IfIndex: 4, Hook: "PREROUTING", Table: "nat", Backend: "legacy", Rules: []model.Rule{{Family: "ip", Table: "nat", Chain: "KUBE-SEP-X", Number: 2, Text: rule}}},
			{Stage: model.StageReceive, Netns: podNS, Place: "default/a", Interface: "eth0", IfIndex: 2}}
	})
}

func TestHairpin(t *testing.T) {
	const dnat = "-A KUBE-SEP-X -p tcp -m tcp -j DNAT --to-destination 10.244.1.2:8080"
	state := func() *recorded {
		s := madeNode()
		s.Places[podNS].Sysctls = map[string]string{"ipv4/conf/eth0/accept_local": "0", "ipv4/conf/all/accept_local": "0"}
		return s
	}
	wantCode(t, diagnoseAll(t, state(), toItself(dnat, "")), "rp-filter", "it met no rule with -j KUBE-MARK-MASQ", "who sends it back")
	wantCode(t, diagnoseAll(t, state(), toItself("", model.ByIPVS)), "masquerade-missing", "sent it back with its own address", "who sends it back")
	p := toItself(dnat, "")
	p.Hops[2].RulesUnknown = "the table was replaced"
	wantCode(t, diagnoseAll(t, state(), p), "rp-filter", "its source was not rewritten", "it met no rule")
	p = toItself(dnat, "")
	p.Dst, p.Hops = podA, []model.Hop{p.Hops[0], p.Hops[3]} // nobody translated it
	wantCode(t, diagnoseAll(t, state(), p), "rp-filter", "see who sends it back", "masquerade")
}

func TestZoneOf(t *testing.T) {
	for rule, want := range map[string]zone{
		"-A PREROUTING -i cali1 -p udp -m udp --dport 53 -j CT --zone 1": {1, true, true},
		"-A PREROUTING -p udp -j CT --zone-orig 7":                       {7, true, false},
		"-A OUTPUT -p udp -j CT --zone-reply 9":                          {9, false, true},
		`iifname "a" ct zone set 3`:                                      {3, true, true},
		"ct original zone set 4 accept":                                  {4, true, false},
		"ct reply zone set 5":                                            {5, false, true},
		"-A PREROUTING -j CT --notrack":                                  {},
		`-A PREROUTING -m comment --comment "-j CT --zone 1" -j ACCEPT`:  {},
		"ct zone 5 accept":                                               {},
		"-A PREROUTING -j CT --zone-orig mark":                           {},
	} {
		got, ok := zoneOf(rule)
		if ok != (want != zone{}) || got != want {
			t.Errorf("%s: %+v, %v, want %+v", rule, got, ok, want)
		}
	}
	if z := (zone{7, true, false}); z.of(false) != 7 || z.of(true) != 0 {
		t.Errorf("a zone of the original direction: %d, %d", z.of(false), z.of(true))
	}
}

func TestFieldsOf(t *testing.T) {
	prefix := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
	for rule, want := range map[string]fields{
		`-A cali-pi-x -s 10.0.0.0/8 -p tcp -m comment --comment "a b" -m multiport --dports 80,90:99 -j MARK --set-xmark 0x10000/0x10000`: {proto: "tcp", src: prefix("10.0.0.0/8"), dports: [][2]uint16{{80, 80}, {90, 99}}, target: "MARK"},
		"-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT":                                                                 {local: true, target: "CNI-HOSTPORT-DNAT"},
		"-A PREROUTING ! -s 10.0.0.0/8 -j X":                                             {more: true, target: "X"},
		"-A C -m set --match-set cali40s:a src -p udp -m udp --dport 53 -j RETURN":       {proto: "udp", sets: []askedSet{{"cali40s:a", "src"}}, dports: [][2]uint16{{53, 53}}, target: "RETURN"},
		"-A C -p tcp -m tcp --sport 80 -j ACCEPT":                                        {proto: "tcp", more: true, target: "ACCEPT"},
		"ip daddr 10.96.0.1 tcp dport { 80, 443-445 } counter packets 1 bytes 2 jump c2": {proto: "tcp", dst: prefix("10.96.0.1/32"), dports: [][2]uint16{{80, 80}, {443, 445}}, target: "c2"},
		"meta l4proto udp ip saddr @s udp dport 53 accept":                               {proto: "udp", sets: []askedSet{{name: "@s"}}, dports: [][2]uint16{{53, 53}}, target: "accept"},
		"tcp sport 80 drop":           {more: true, target: "drop"},
		"ip daddr != 10.0.0.0/8 drop": {more: true, target: "drop"},
	} {
		if got := fieldsOf(rule); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", rule, got, want)
		}
	}
}

// TestNearMiss: what a policy allows, next to what it denied.
func TestNearMiss(t *testing.T) {
	const chain, policy = "cali-tw-calib", "cali-pi-p"
	const end = `-A cali-tw-calib -m comment --comment "cali:N3FucY-tAME8ezQa" -m comment --comment "End of tier default. Drop if no policies passed packet" -m mark --mark 0x0/0x20000 -j DROP`
	denied := func(allow ...string) (*model.Packet, *recorded) {
		state := madeNode()
		all := []meaning.Rule{}
		for i, text := range allow {
			all = append(all, meaning.Rule{Backend: "legacy", Family: "ip", Table: "filter", Chain: policy, Number: i + 1, Text: "-A " + policy + " " + text})
		}
		state.Places[nodeNS].Rules = &RuleSets{Legacy: Rules(slices.Values(all))}
		return dead("NETFILTER_DROP", "nf_hook_slow+0x1", func(p *model.Packet) {
			byRule(chain, end, "")(p)
			p.Drop.Rule.Chain, p.Drop.Rule.Number = chain, 5
			p.Hops = append(p.Hops, model.Hop{Stage: model.StageNetfilter, Netns: nodeNS, Place: "node", Hook: "FORWARD", Table: "filter", Backend: "legacy",
				Rules: []model.Rule{{Family: "ip", Table: "filter", Chain: chain, Number: 3, Text: "-A " + chain + " -m mark --mark 0x0/0x20000 -j " + policy}}})
		}), state
	}
	const mark = " -j MARK --set-xmark 0x10000/0x10000"
	for name, tc := range map[string]struct{ allow, says, never string }{
		"another protocol":     {"-p udp -m multiport --dports 80" + mark, "allows port 80 of udp, and this is tcp", "compare the labels"},
		"a range that ends":    {"-p tcp -m multiport --dports 70:79" + mark, "allows tcp ports 70-79, and this is port 80", "compare the labels"},
		"another source":       {"-s 192.0.2.0/24 -p tcp -m multiport --dports 80" + mark, "allows tcp port 80 from 192.0.2.0/24, and this comes from 10.244.1.2", "compare the labels"},
		"something else":       {"-p tcp -m multiport --dports 9000" + mark, "compare the labels", "9000"},
		"two things":           {"-s 192.0.2.0/24 -p udp -m multiport --dports 80" + mark, "compare the labels", "192.0.2.0"},
		"what passes the tier": {"-p udp -m multiport --dports 80 -j MARK --set-xmark 0x20000/0x20000", "compare the labels", "and this is tcp"},
		"not all is read":      {"-p udp -m multiport ! --dports 80" + mark, "compare the labels", "and this is tcp"},
	} {
		t.Run(name, func(t *testing.T) {
			p, state := denied(tc.allow)
			wantCode(t, diagnoseAll(t, state, p), "policy-deny", tc.says, tc.never)
		})
	}
	const fromSet = "-p tcp -m set --match-set cali40s:a src -m multiport --dports 80" + mark
	for name, tc := range map[string]struct {
		allow       string
		holds       []string
		source      netip.Addr // not valid: pod A
		says, never string
	}{
		"a set without it":             {fromSet, []string{"10.244.1.9"}, netip.Addr{}, "rule 1 of cali-pi-p in filter allows tcp port 80 from what that holds, and 10.244.1.2 is not in the set cali40s:a", "does not allow it"},
		"a set with it":                {strings.Replace(fromSet, "80 ", "79:79 ", 1), []string{"10.244.1.2"}, netip.Addr{}, "allows tcp ports 79 to what is in its sets, as this is, and this is port 80", "not in the set"},
		"a service's port comes first": {fromSet + "\n-p tcp -m multiport --dports 70:79" + mark, []string{"10.244.1.9"}, netip.Addr{}, "rule 2 of cali-pi-p in filter allows tcp ports 70-79", "is not in"},
		"several sets":                 {fromSet + "\n" + strings.Replace(fromSet, "40s:a", "40s:b", 1), []string{"10.244.1.9"}, netip.Addr{}, "ask for what 2 sets hold (cali40s:a, cali40s:b), and 10.244.1.2 is in none of them", "is not in the set"},
		"a router's address":           {fromSet, []string{"10.244.1.9"}, netip.MustParseAddr("172.30.0.77"), "172.30.0.77 is not in the set", "a node's address"},
		"the port, and the set":        {strings.Replace(fromSet, "80 ", "70:79 ", 1), []string{"10.244.1.9"}, netip.Addr{}, "compare the labels", "70-79"},
		"the port, set unread":         {strings.Replace(fromSet, "80 ", "70:79 ", 1), nil, netip.Addr{}, "ports 70-79, and this is port 80, the next one; it asks the set cali40s:a, too", "is not in"},
		"a set that is not read":       {fromSet, nil, netip.Addr{}, "compare the labels", "is not in"},
		"the source rewritten":         {fromSet, []string{"10.244.1.2"}, netip.MustParseAddr("192.0.2.9"), "as it does 10.244.1.2, which sent it: the source was rewritten to 192.0.2.9", "ipset list"},
		"a node's address":             {fromSet, []string{"10.244.1.2"}, netip.MustParseAddr("172.30.0.1"), "as it does 10.244.1.2", "ipset list"},
		"a tunnel's address":           {fromSet, []string{"10.244.1.9"}, netip.MustParseAddr("10.244.2.0"), "10.244.2.0 is a node's address: that node sent it itself, or masqueraded", "ipset list"},
	} {
		t.Run(name, func(t *testing.T) {
			p, state := denied(strings.Split(tc.allow, "\n")...)
			node1 := state.Places[nodeNS]
			node1.Routes = append(node1.Routes, node.Route{Dst: netip.MustParsePrefix("10.50.0.0/16"), Gateway: netip.MustParseAddr("172.30.0.77"), LinkIndex: 2, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST})
			if tc.holds != nil {
				node1.Sets = map[string][]string{"cali40s:a": tc.holds, "cali40s:b": tc.holds}
			}
			if tc.source.IsValid() {
				p.Hops = append(p.Hops, model.Hop{Stage: model.StageNAT, Netns: nodeNS, Place: "node", Hook: "PREROUTING",
					Before: &model.Endpoints{Src: podA, SrcPort: 40000, Dst: podB, DstPort: 80}, After: &model.Endpoints{Src: tc.source, SrcPort: 40000, Dst: podB, DstPort: 80}})
			}
			wantCode(t, diagnoseAll(t, state, p), "policy-deny", tc.says, tc.never)
		})
	}
}

// TestRival: the later of two NAT rules is told, and only that.
func TestRival(t *testing.T) {
	lb := netip.MustParseAddr("203.0.113.20")
	rule := func(chain string, number int, text string) meaning.Rule {
		return meaning.Rule{Backend: "legacy", Family: "ip", Table: "nat", Chain: chain, Number: number, Text: "-A " + chain + " " + text}
	}
	toHostPort := rule("PREROUTING", 1, "-m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT")
	hostPort := []meaning.Rule{rule("CNI-HOSTPORT-DNAT", 1, "-p tcp -m multiport --dports 443 -j CNI-DN-1"), rule("CNI-DN-1", 1, "-p tcp -m tcp --dport 443 -j DNAT --to-destination 10.244.1.3:80")}
	named := func(port int) meaning.Rule {
		return rule("KUBE-SERVICES", 1, fmt.Sprintf("-d 203.0.113.20/32 -p tcp -m comment --comment \"default/web:https\" -m tcp --dport %d -j KUBE-EXT-W", port))
	}
	for name, tc := range map[string]struct {
		entry []meaning.Rule // of PREROUTING
		named meaning.Rule
		says  string
		never string
	}{
		"later":        {[]meaning.Rule{toHostPort, rule("PREROUTING", 2, "-j KUBE-SERVICES")}, named(443), `rule 1 of KUBE-SERVICES in nat names 203.0.113.20:443 itself`, "compare its targetPort"},
		"before it":    {[]meaning.Rule{rule("PREROUTING", 1, "-j KUBE-SERVICES"), {Backend: "legacy", Family: "ip", Table: "nat", Chain: "PREROUTING", Number: 2, Text: toHostPort.Text}}, named(443), "compare its targetPort", "itself"},
		"another port": {[]meaning.Rule{toHostPort, rule("PREROUTING", 2, "-j KUBE-SERVICES")}, named(444), "compare its targetPort", "itself"},
		"not reached":  {[]meaning.Rule{toHostPort}, named(443), "compare its targetPort", "itself"},
	} {
		t.Run(name, func(t *testing.T) {
			state := madeNode()
			all := append(slices.Concat(tc.entry, hostPort), tc.named)
			state.Places[nodeNS].Rules = &RuleSets{Legacy: Rules(slices.Values(all))}
			state.Places[nodeNS].Routes = append(state.Places[nodeNS].Routes, node.Route{Dst: netip.PrefixFrom(lb, 32), LinkIndex: 2, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Protocol: 66})
			var met []model.Rule
			for _, r := range append([]meaning.Rule{tc.entry[slices.IndexFunc(tc.entry, func(r meaning.Rule) bool { return r.Text == toHostPort.Text })]}, hostPort...) {
				met = append(met, *ruleOf(r))
			}
			p := dead("NO_SOCKET", "tcp_v4_rcv+0x1", func(p *model.Packet) {
				p.Dst, p.DstPort = lb, 443
				p.Outcome = model.Rejected
				p.Drop.Netns, p.Drop.Place, p.Drop.Interface, p.Drop.IfIndex = otherNS, "default/b", "eth0", 2
				p.Hops = append(p.Hops, model.Hop{Stage: model.StageNAT, Netns: nodeNS, Place: "node", Interface: "calia", Hook: "PREROUTING", CTState: "new",
					Before: &model.Endpoints{Src: podA, SrcPort: 40000, Dst: lb, DstPort: 443}, After: &model.Endpoints{Src: podA, SrcPort: 40000, Dst: podB, DstPort: 80}},
					model.Hop{Stage: model.StageNetfilter, Netns: nodeNS, Place: "node", Interface: "calia", Hook: "PREROUTING", Table: "nat", Backend: "legacy", Rules: met},
					model.Hop{Stage: model.StageAnswer, Netns: otherNS, Place: "default/b", Interface: "eth0", Answer: "tcp-reset"})
			})
			found := diagnoseAll(t, state, p)
			if name == "later" {
				wantCode(t, found, "no-listener", `one by the route "local 203.0.113.20/32 dev eth0" of table local (proto 66)`, "")
				tc.says = "names 203.0.113.20:443 itself, but comes after rule 1 of CNI-DN-1 in nat"
			}
			wantCode(t, found, "no-listener", tc.says, tc.never)
		})
	}
}
