// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

var (
	router  = netip.MustParseAddr("172.30.0.254")
	router2 = netip.MustParseAddr("172.30.0.77")
	abroad  = netip.MustParseAddr("198.51.77.7")
)

const nudReachable, nudFailed = 0x02, 0x20

// silentHop is a packet to abroad for whose next hop nobody answered.
func silentHop(more func(*model.Packet)) *model.Packet {
	return dead("NEIGH_FAILED", "neigh_invalidate+0x7e", func(p *model.Packet) {
		p.Dst, p.Drop.Interface, p.Drop.IfIndex, p.Drop.Stage = abroad, "eth0", 2, model.StageNeighbor
		if more != nil {
			more(p)
		}
	})
}

// twoHops gives the node a route to abroad by two routers.
func twoHops(r *recorded) {
	p := r.Places[nodeNS]
	p.Routes = append(p.Routes, node.Route{Dst: netip.MustParsePrefix("198.51.77.0/24"), Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST,
		NextHops: []node.NextHop{{LinkIndex: 2, Gateway: router}, {LinkIndex: 2, Gateway: router2}}})
	p.Sysctls["ipv4/fib_multipath_hash_policy"], p.Sysctls["ipv4/fib_multipath_use_neigh"] = "1", "0"
}

// entry gives the node a neighbour entry on eth0.
func entryOf(addr netip.Addr, state int) func(*recorded) {
	return func(r *recorded) {
		n := node.Neighbor{LinkIndex: 2, Addr: addr, State: state}
		if state == nudReachable {
			n.MAC = "02:00:00:00:00:01"
		}
		r.Places[nodeNS].Neighbors = append(r.Places[nodeNS].Neighbors, n)
	}
}

func learnedBy(used node.UsedRoute) func(*recorded) {
	return func(r *recorded) { r.Places[nodeNS].Learned = map[netip.Addr]node.UsedRoute{abroad: used} }
}

// seenAt is a sighting of the route that a packet took.
func seenAt(function string, gateway netip.Addr) func(*model.Packet) {
	return func(p *model.Packet) {
		p.Hops = append(p.Hops, model.Hop{Stage: model.StageRoute, Netns: nodeNS, Place: "node", Interface: "calia", IfIndex: 4, Function: function,
			Route: &model.Route{Interface: "eth0", IfIndex: 2, Gateway: gateway.String()}})
	}
}

func TestNextHop(t *testing.T) {
	redirected := node.UsedRoute{LinkIndex: 2, Gateway: router2, Learned: true, Redirected: true}
	const mineSilent, firstSilent = "Nobody answers for the gateway 172.30.0.77 ", "Nobody answers for the gateway 172.30.0.254 "
	for name, tc := range map[string]struct {
		packet *model.Packet
		node   []func(*recorded)
		sure   string
		says   []string
		never  string
	}{
		"the second of two": {silentHop(nil), []func(*recorded){twoHops, entryOf(router, nudReachable), entryOf(router2, nudFailed)}, Certain,
			[]string{mineSilent, "one of the 2 next hops", "go by 172.30.0.254", "fib_multipath_use_neigh=1"}, firstSilent},
		"the table's look-up names the first": {silentHop(seenAt("fib:fib_table_lookup", router)), []func(*recorded){twoHops, entryOf(router, nudReachable), entryOf(router2, nudFailed)}, Certain,
			[]string{mineSilent}, firstSilent},
		"the buffer's route counts": {silentHop(seenAt("ip_route_input_noref+0x1", router)), []func(*recorded){twoHops, entryOf(router2, nudFailed)}, Certain,
			[]string{firstSilent}, mineSilent},
		"the first of two":       {silentHop(nil), []func(*recorded){twoHops, entryOf(router2, nudReachable), entryOf(router, nudFailed)}, Certain, []string{firstSilent, "go by 172.30.0.77"}, mineSilent},
		"one entry is swept":     {silentHop(nil), []func(*recorded){twoHops, entryOf(router, nudReachable)}, Likely, []string{mineSilent, "has no entry of it"}, firstSilent},
		"both silent":            {silentHop(nil), []func(*recorded){twoHops, entryOf(router, nudFailed), entryOf(router2, nudFailed)}, Likely, []string{"one of 172.30.0.254, 172.30.0.77", "to which of them"}, mineSilent},
		"both answer by now":     {silentHop(nil), []func(*recorded){twoHops, entryOf(router, nudReachable), entryOf(router2, nudReachable)}, Likely, []string{"one of 172.30.0.254, 172.30.0.77"}, mineSilent},
		"no entry":               {silentHop(nil), []func(*recorded){twoHops}, Likely, []string{"one of 172.30.0.254, 172.30.0.77"}, mineSilent},
		"one gateway":            {silentHop(nil), []func(*recorded){entryOf(router, nudFailed)}, Certain, []string{firstSilent}, "next hops"},
		"one that is well again": {silentHop(nil), []func(*recorded){entryOf(router, nudReachable)}, Likely, []string{firstSilent, "it does by now"}, "next hops"},
		"a redirect's":           {silentHop(nil), []func(*recorded){entryOf(router, nudReachable), entryOf(router2, nudFailed), learnedBy(redirected)}, Certain, []string{mineSilent, "ICMP redirect", "ip route flush cache"}, "the way it was sent"},
		"learned, and the same":  {silentHop(nil), []func(*recorded){entryOf(router, nudFailed), learnedBy(node.UsedRoute{LinkIndex: 2, Gateway: router, Learned: true, MTU: 1300})}, Certain, []string{firstSilent}, "redirect"},
	} {
		t.Run(name, func(t *testing.T) {
			state := madeNode()
			for _, more := range tc.node {
				more(state)
			}
			wantOne(t, diagnoseAll(t, state, tc.packet), "neighbor-failed", tc.sure, tc.says, tc.never)
		})
	}
}

// wantOne wants one finding that says some things and not another.
func wantOne(t *testing.T, found []model.Finding, code, sure string, says []string, never string) {
	t.Helper()
	if len(found) != 1 || found[0].Code != code || found[0].Confidence != sure {
		t.Fatalf("want one %s (%s): %+v", code, sure, found)
	}
	for _, part := range says {
		if !strings.Contains(words(found[0]), part) {
			t.Errorf("does not say %q:\n%s", part, words(found[0]))
		}
	}
	if never != "" && strings.Contains(words(found[0]), never) {
		t.Errorf("says %q:\n%s", never, words(found[0]))
	}
}

// outBy is a packet that left by eth0, for somebody.
func outBy(dst netip.Addr, more func(*model.Packet)) *model.Packet {
	return leaving(func(p *model.Packet) {
		p.Dst, p.Hops = dst, append(p.Hops[:1], p.Hops[2])
		if more != nil {
			more(p)
		}
	})
}

func TestLearnedNextHop(t *testing.T) {
	redirected := learnedBy(node.UsedRoute{LinkIndex: 2, Gateway: router2, Learned: true, Redirected: true})
	state := madeNode()
	redirected(state)
	wantOne(t, diagnoseAll(t, state, outBy(abroad, nil)), "misrouted", Likely,
		[]string{"leave by eth0 of this node for 172.30.0.77", "default via 172.30.0.254", "ip route flush cache", "whether 172.30.0.77 passes on"}, "in good order")
	if found := diagnoseAll(t, state, outBy(abroad, nil), reply(abroad, 80)); len(found) > 0 {
		t.Errorf("answered, but told %s", found[0].Code)
	}
	other := madeNode() // by another interface than the packet left by
	learnedBy(node.UsedRoute{LinkIndex: 3, Gateway: router2, Learned: true, Redirected: true})(other)
	for name, state := range map[string]*recorded{"nothing learned": madeNode(), "elsewhere": other} {
		if found := diagnoseAll(t, state, outBy(abroad, nil)); len(found) != 1 || found[0].Code != "left-node" {
			t.Errorf("%s: %+v", name, found)
		}
	}
}

func TestBareSource(t *testing.T) {
	rule := func(chain string, number int, text string) meaning.Rule {
		return meaning.Rule{Backend: "legacy", Family: "ip", Table: "nat", Chain: chain, Number: number, Text: text}
	}
	const exempting = "-A MASQ -d 198.51.0.0/16 -j RETURN"
	masquerades := rule("MASQ", 2, "-A MASQ -j MASQUERADE")
	with := func(rules ...meaning.Rule) func(*recorded) {
		return func(r *recorded) {
			r.Places[nodeNS].Rules = &RuleSets{Legacy: func(yield func(meaning.Rule) bool) {
				for _, r := range rules {
					if !yield(r) {
						return
					}
				}
			}}
		}
	}
	met := func(p *model.Packet) {
		p.Hops = append(p.Hops[:1:1], model.Hop{Stage: model.StageNetfilter, Netns: nodeNS, Place: "node", Hook: "POSTROUTING", Table: "nat", Backend: "legacy", RuleSource: model.RuleInferred,
			Rules: []model.Rule{{Family: "ip", Table: "nat", Chain: "MASQ", Number: 1, Text: exempting}, {Family: "ip", Table: "nat", Chain: "POSTROUTING", Text: ":POSTROUTING ACCEPT"}}}, p.Hops[1])
	}
	route := func(r node.Route) func(*recorded) {
		r.Table, r.Type, r.LinkIndex = unix.RT_TABLE_MAIN, unix.RTN_UNICAST, 2
		return func(s *recorded) { s.Places[nodeNS].Routes = append(s.Places[nodeNS].Routes, r) }
	}
	net := netip.MustParsePrefix("198.51.77.0/24")
	const bare = "with the pod's own address 10.244.1.2"
	for name, tc := range map[string]struct {
		packet *model.Packet
		node   func(*recorded)
		sure   string
		says   []string
		never  string
	}{
		"exempt":            {outBy(abroad, met), with(masquerades), Likely, []string{bare, "rule 1 of MASQ in nat exempts", exempting, "(it did not take them): -A MASQ -j MASQUERADE", "read off the rule set"}, "in good order"},
		"no rule":           {outBy(abroad, nil), nil, Likely, []string{bare, "no rule that rewrites IPv4 sources"}, "exempts"},
		"other interface":   {outBy(abroad, nil), with(rule("POSTROUTING", 1, "-A POSTROUTING -o ens3 -j MASQUERADE")), Likely, []string{bare, "what leaves by ens3"}, "exempts"},
		"any but that":      {outBy(abroad, nil), with(rule("POSTROUTING", 1, "-A POSTROUTING ! -o docker0 -j MASQUERADE")), Likely, []string{bare, "no rule that rewrites sources took them"}, "leaves by docker0"},
		"IPv6 rule":         {outBy(abroad, nil), with(meaning.Rule{Family: "ip6", Table: "nat", Chain: "POSTROUTING", Number: 1, Text: "-A POSTROUTING -j MASQUERADE"}), Likely, []string{bare, "no rule that rewrites IPv4 sources"}, "did not take"},
		"on the link":       {outBy(abroad, nil), route(node.Route{Dst: net}), Likely, []string{bare}, "in good order"},
		"routed":            {outBy(abroad, nil), route(node.Route{Dst: net, Gateway: node2, Protocol: protoBIRD}), Certain, []string{"in good order"}, bare},
		"another node":      {outBy(node2, nil), route(node.Route{Dst: netip.MustParsePrefix("10.244.9.0/24"), Gateway: node2}), Certain, []string{"in good order"}, bare},
		"of the uplink's":   {outBy(abroad, nil), func(r *recorded) { r.Places[nodeNS].Links[0].Addrs[0] = netip.MustParsePrefix("10.244.1.200/24") }, Certain, []string{"in good order"}, bare},
		"of the node's own": {outBy(abroad, func(p *model.Packet) { p.Src = node1 }), nil, Certain, []string{"in good order"}, bare},
		"public":            {outBy(abroad, func(p *model.Packet) { p.Src = netip.MustParseAddr("203.0.113.9") }), func(r *recorded) { r.Places[podNS].Links[0].Addrs[0] = netip.MustParsePrefix("203.0.113.9/32") }, Certain, []string{"in good order"}, "own address"},
	} {
		t.Run(name, func(t *testing.T) {
			state := madeNode()
			if tc.node != nil {
				tc.node(state)
			}
			wantOne(t, diagnoseAll(t, state, tc.packet), "left-node", tc.sure, tc.says, tc.never)
			if found := diagnoseAll(t, state, tc.packet, reply(tc.packet.Dst, 80)); len(found) > 0 {
				t.Errorf("answered, but told %s", found[0].Code)
			}
		})
	}
}

// askedFrom is a packet of an address in the pods' block that came in from outside.
func askedFrom(src netip.Addr, iface string, index uint32) *model.Packet {
	return &model.Packet{Direction: model.Forward, Time: time.Now(), Proto: "tcp", TCPFlags: "S", Src: src, SrcPort: 5000, Dst: podA, DstPort: 80, Outcome: model.Delivered,
		Hops: []model.Hop{{Stage: model.StageReceive, Netns: nodeNS, Place: "node", Interface: iface, IfIndex: index}, {Stage: model.StageDeliver, Netns: podNS, Place: "default/a", Interface: "eth0", IfIndex: 2}}}
}

func TestOverlap(t *testing.T) {
	lan := netip.MustParseAddr("10.244.1.50")
	block := func(r *recorded) {
		r.Places[nodeNS].Routes = append(r.Places[nodeNS].Routes, node.Route{Dst: netip.MustParsePrefix("10.244.1.0/26"), Table: unix.RT_TABLE_MAIN, Type: unix.RTN_BLACKHOLE, Protocol: protoFelix})
	}
	eaten := func() *model.Packet {
		return dead("NOT_SPECIFIED", "ip_error+0x94", func(p *model.Packet) {
			p.Direction, p.Dst, p.TCPFlags, p.Drop.Stage = model.Return, lan, "S.", model.StageRoute
			p.Hops = append(p.Hops, model.Hop{Stage: model.StageRoute, Netns: nodeNS, Place: "node", Interface: "calia", IfIndex: 4, Route: &model.Route{Error: "EINVAL"}})
		})
	}
	unheard := func() *model.Packet {
		return dead("NEIGH_FAILED", "neigh_invalidate+0x7e", func(p *model.Packet) {
			p.Direction, p.Dst, p.TCPFlags, p.Drop.Interface, p.Drop.IfIndex, p.Drop.Stage = model.Return, lan, "S.", "calib", 5, model.StageNeighbor
		})
	}
	wide := func(r *recorded) {
		r.Places[nodeNS].Routes = append(r.Places[nodeNS].Routes, node.Route{Dst: netip.MustParsePrefix("10.244.1.32/27"), LinkIndex: 5, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST})
	}
	const felix, outside = "delete the calico-node pod", "which is no pod of this node: its packets came in by eth0"
	for name, tc := range map[string]struct {
		packets    []*model.Packet
		node       func(*recorded)
		code, sure string
		says       []string
		never      string
	}{
		"blackhole":          {[]*model.Packet{askedFrom(lan, "eth0", 2), eaten()}, block, "blackhole-route", Certain, []string{outside, "overlap", "packet #1 from 10.244.1.50 came in by eth0"}, felix},
		"a pod that is gone": {[]*model.Packet{eaten()}, block, "blackhole-route", Certain, []string{felix}, outside},
		"a pod's interface":  {[]*model.Packet{askedFrom(lan, "calib", 5), eaten()}, block, "blackhole-route", Certain, []string{felix}, outside},
		"a tunnel's":         {[]*model.Packet{askedFrom(lan, "vxlan.calico", 3), eaten()}, block, "blackhole-route", Certain, []string{felix}, outside},
		"no neighbour":       {[]*model.Packet{askedFrom(lan, "eth0", 2), unheard()}, wide, "neighbor-failed", Likely, []string{"came in by eth0 of this node, from outside", `"10.244.1.32/27 dev calib" holds it`}, "kubectl get pod"},
		"a wide route":       {[]*model.Packet{unheard()}, wide, "neighbor-failed", Likely, []string{`by the route "10.244.1.32/27 dev calib", and the pod has no such address`, `without it "default via 172.30.0.254 dev eth0"`, "ip route del 10.244.1.32/27 dev calib"}, "kubectl get pod"},
	} {
		t.Run(name, func(t *testing.T) {
			state := madeNode()
			tc.node(state)
			wantOne(t, diagnoseAll(t, state, tc.packets...), tc.code, tc.sure, tc.says, tc.never)
		})
	}
}
