// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

var (
	podA6 = netip.MustParseAddr("fd00:10:244:1::2")
	podB6 = netip.MustParseAddr("fd00:10:244:1::3")
)

// bridged is a node with the same two pods on a bridge.
func bridged() *recorded {
	r := madeNode()
	p := r.Places[nodeNS]
	for i := range p.Links {
		if p.Links[i].Kind == "veth" {
			p.Links[i].Master = 9
		}
	}
	p.Links = append(p.Links, node.Link{Index: 9, Name: "cni0", Kind: "bridge", Up: true, Carrier: true, MTU: 1450,
		Addrs: []netip.Prefix{netip.PrefixFrom(gateway, 24), netip.MustParsePrefix("fd00:10:244:1::1/64"), netip.MustParsePrefix("fe80::1/64")}})
	p.Sysctls["bridge/bridge-nf-call-ip6tables"] = "1"
	p.Sysctls["bridge/bridge-nf-call-iptables"] = "1"
	for netns, addr := range map[uint32]netip.Addr{podNS: podA6, otherNS: podB6} {
		l := &r.Places[netns].Links[0]
		l.Addrs = append(l.Addrs, netip.PrefixFrom(addr, 64))
		r.Places[netns].Links[0].Addrs[0] = netip.PrefixFrom(l.Addrs[0].Addr(), 24)
	}
	return r
}

// unheardOf is a packet that died since nobody answers its sender's question.
func unheardOf(netns uint32, iface string, index uint32, src, dst, hop netip.Addr) *model.Packet {
	return &model.Packet{ID: 1, Direction: model.Forward, Proto: "tcp", TCPFlags: "S", Src: src, SrcPort: 40000, Dst: dst, DstPort: 80, Outcome: model.Dropped,
		Hops: []model.Hop{{Stage: model.StageNeighbor, Netns: netns, Place: "x", Interface: iface, IfIndex: index, Neighbor: &model.Neighbor{Address: hop.String(), Interface: iface}}},
		Drop: &model.Drop{Reason: "NEIGH_FAILED", Function: "neigh_invalidate+0x7e", Netns: netns, Place: "x", Interface: iface, IfIndex: index}}
}

func rules6(texts ...string) *RuleSets {
	var all []meaning.Rule
	count := map[string]int{}
	for _, text := range texts {
		chain := strings.Fields(text)[1]
		count[chain]++
		all = append(all, meaning.Rule{Backend: "legacy", Family: "ip6", Table: "filter", Chain: chain, Number: count[chain], Text: text})
	}
	return &RuleSets{Legacy: Rules(slices.Values(all))}
}

func TestUnheldNeighbor(t *testing.T) {
	onBridge := func() *model.Packet { return unheardOf(podNS, "eth0", 2, podA6, podB6, podB6) }
	atGateway := func() *model.Packet { return unheardOf(podNS, "eth0", 2, podA, remote, gateway) }
	toPod := func(dst netip.Addr) *model.Packet { return unheardOf(nodeNS, "calib", 5, podA, dst, dst) }
	drops := func(texts ...string) func(*recorded) {
		return func(r *recorded) { r.Places[nodeNS].Rules = rules6(texts...) }
	}
	const jump, isolate = "-A FORWARD -j ISOLATION", "-A ISOLATION ! -d fd00:10:244:1::/64 -i cni0 -j DROP"
	for name, tc := range map[string]struct {
		packet *model.Packet
		node   func(*recorded)
		says   string // "": as without any of these
	}{
		"dadfailed": {onBridge(), func(r *recorded) {
			l := &r.Places[otherNS].Links[0]
			l.Tentative, l.Duplicate = []netip.Addr{podB6}, []netip.Addr{podB6}
		}, "eth0 of the pod behind calib has fd00:10:244:1::3, but does not use it (dadfailed)"},
		"tentative":                             {onBridge(), func(r *recorded) { r.Places[otherNS].Links[0].Tentative = []netip.Addr{podB6} }, "does not use it yet (tentative)"},
		"another of its addresses is tentative": {onBridge(), func(r *recorded) { r.Places[otherNS].Links[0].Tentative = []netip.Addr{podA6} }, ""},

		"bridge without an address": {atGateway(), func(r *recorded) { r.Places[nodeNS].Links[4].Addrs = r.Places[nodeNS].Links[4].Addrs[1:] },
			"The bridge cni0 has no IPv4 address, so nobody has 10.244.1.1"},
		"bridge with another address": {atGateway(), func(r *recorded) { r.Places[nodeNS].Links[4].Addrs[0] = netip.MustParsePrefix("10.244.9.1/24") },
			"The bridge cni0 has 10.244.9.1/24, not 10.244.1.1"},
		"bridge with the address": {atGateway(), nil, ""},
		"gateway on another interface of the node": {atGateway(), func(r *recorded) {
			r.Places[nodeNS].Links[4].Addrs = nil
			r.Places[nodeNS].Links[0].Addrs = append(r.Places[nodeNS].Links[0].Addrs, netip.PrefixFrom(gateway, 24))
		}, ""},

		"pod without the address": {toPod(podB), func(r *recorded) { r.Places[otherNS].Links[0].Addrs = nil }, "The pod behind calib has no address 10.244.1.3"},
		"pod with it":             {toPod(podB), nil, ""},
		"pod without IPv6": {toPod(podB6), func(r *recorded) {
			r.Places[otherNS].Links[0].Addrs = nil
			r.Places[otherNS].Sysctls = map[string]string{"ipv6/conf/eth0/disable_ipv6": "1"}
		}, "IPv6 is switched off in the pod behind calib"},

		"question dropped": {onBridge(), drops(jump, isolate), "neighbour solicitation for fd00:10:244:1::3 to ff02::1:ff00:3 dies by rule 1 of filter/ISOLATION"},
		"bridges do not ask ip6tables": {onBridge(), func(r *recorded) {
			drops(jump, isolate)(r)
			r.Places[nodeNS].Sysctls["bridge/bridge-nf-call-ip6tables"] = "0"
		}, ""},
		"accepted before":              {onBridge(), drops("-A FORWARD -p ipv6-icmp -m icmp6 --icmpv6-type 135 -j ACCEPT", "-A FORWARD -p ipv6-icmp -m icmp6 --icmpv6-type 136 -j ACCEPT", jump, isolate), ""},
		"perhaps accepted before":      {onBridge(), drops("-A FORWARD -m mark --mark 0x1 -j ACCEPT", jump, isolate), ""},
		"returned before":              {onBridge(), drops(jump, "-A ISOLATION -p ipv6-icmp -j RETURN", isolate), ""},
		"answer dropped":               {onBridge(), drops("-A FORWARD -p ipv6-icmp -m icmp6 --icmpv6-type 136 -j DROP"), "neighbour advertisement"},
		"another protocol":             {onBridge(), drops("-A FORWARD -p tcp -j DROP"), ""},
		"another interface":            {onBridge(), drops("-A FORWARD -i docker0 -j DROP"), ""},
		"its port":                     {onBridge(), drops("-A FORWARD -m physdev --physdev-in calia -j DROP"), "-m physdev --physdev-in calia -j DROP"},
		"never reached":                {onBridge(), drops(isolate), ""},
		"a comment that looks like it": {onBridge(), drops(`-A FORWARD -p tcp -m comment --comment "no -j DROP here" -j DROP`), ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := bridged()
			if strings.HasPrefix(name, "pod ") {
				s = madeNode()
			}
			if tc.node != nil {
				tc.node(s)
			}
			c := New(s, nil)
			c.Packet(tc.packet)
			found := c.Findings()
			if len(found) != 1 || found[0].Code != "neighbor-failed" {
				t.Fatalf("want neighbor-failed: %+v", found)
			}
			f := found[0]
			if tc.says == "" && (!strings.Contains(f.Summary, "Nobody answers for") || f.Confidence != Certain) || !strings.Contains(words(f), tc.says) {
				t.Errorf("want %q: %s", tc.says, words(f))
			}
			if tc.says != "" && f.Confidence != Likely {
				t.Errorf("%s, though only read off the state: %s", f.Confidence, words(f))
			}
			if tc.packet.Dst.Is6() && strings.Contains(words(f), "arping") {
				t.Errorf("ARP for IPv6: %s", words(f))
			}
		})
	}
}

func TestSolicited(t *testing.T) {
	if got := solicited(netip.MustParseAddr("2001:db8::aa:bbcc:ddee")); got != netip.MustParseAddr("ff02::1:ffcc:ddee") {
		t.Error(got)
	}
}
