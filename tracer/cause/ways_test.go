// SPDX-License-Identifier: Apache-2.0

package cause

// Causes of the way a packet takes: by policy rules, back by another interface, in
// circles. Each with a twin.

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// policy adds a rule of policy routing to the node, before those of main.
func policy(r node.PolicyRule) func(*recorded) {
	if r.Action == 0 {
		r.Action = node.ActTable
	}
	r.Family, r.SuppressGroup = unix.AF_INET, -1
	if r.SuppressPrefixLength == 0 {
		r.SuppressPrefixLength = -1
	}
	return func(s *recorded) {
		p := s.Places[nodeNS]
		if p.RouteRules == nil {
			p.RouteRules = node.DefaultRules()
		}
		p.RouteRules = slices.Insert(p.RouteRules, 1, r)
	}
}

// inTable adds a route of the node.
func inTable(to string, dev, table int, kind int) func(*recorded) {
	return func(s *recorded) {
		p := s.Places[nodeNS]
		p.Routes = append(p.Routes, node.Route{Dst: netip.MustParsePrefix(to), LinkIndex: dev, Table: table, Type: kind})
	}
}

func withoutMain(s *recorded) {
	s.Places[nodeNS].RouteRules = slices.DeleteFunc(node.DefaultRules(), func(r node.PolicyRule) bool { return r.Table != unix.RT_TABLE_LOCAL })
}

func changes(them ...func(*recorded)) func(*recorded) {
	return func(s *recorded) {
		for _, c := range them {
			c(s)
		}
	}
}

// lookedUp is a packet that died of its look-up, which gave an error.
func lookedUp(reason, errno string, mark uint32) *model.Packet {
	return dead(reason, "ip_error+0x94", func(p *model.Packet) {
		p.Drop.Stage = model.StageRoute
		p.Hops = append(p.Hops, model.Hop{Stage: model.StageRoute, Netns: nodeNS, Place: "node", Interface: "calia", IfIndex: 4, SKB: "0x1", Mark: mark, Function: "skb:kfree_skb", Route: &model.Route{Error: errno}})
	})
}

func TestRefusedLookUps(t *testing.T) {
	marked := node.PolicyRule{Priority: 100, Mark: 0x80, Mask: 0x80, Table: 3}
	for name, tc := range map[string]struct {
		packet *model.Packet
		node   func(*recorded)
		code   string
		sure   string
		says   []string
		never  string
	}{
		"main is not looked up": {lookedUp("IP_INNOROUTES", "ENETUNREACH", 0), withoutMain, "no-route", Certain,
			[]string{"no policy rule looks up table main", "rule 32766 (from all lookup main) is gone", "table main has 10.244.1.3/32 dev calib"}, "by now"},
		"prohibit rule": {lookedUp("IP_INNOROUTES", "EACCES", 0), policy(node.PolicyRule{Priority: 900, Action: node.ActProhibit, Src: netip.MustParsePrefix("10.244.1.2/32")}), "blackhole-route", Certain,
			[]string{"olicy rule 900 of this node refuses packets to 10.244.1.3 (from 10.244.1.2 prohibit): it is a policy rule, no route"}, "by now"},
		"unreachable rule": {lookedUp("IP_INNOROUTES", "ENETUNREACH", 0), policy(node.PolicyRule{Priority: 900, Action: node.ActUnreachable}), "blackhole-route", Certain,
			[]string{"olicy rule 900 of this node", "from all unreachable"}, "by now"},
		"a rule for others": {lookedUp("IP_INNOROUTES", "ENETUNREACH", 0), policy(node.PolicyRule{Priority: 900, Action: node.ActUnreachable, Src: netip.MustParsePrefix("10.9.9.9/32")}), "no-route", Certain,
			[]string{"by now there is one, for the same look-up: rule 32766 looks up table main: 10.244.1.3/32 dev calib"}, ""},
		"blackhole of a rule's table": {lookedUp("IP_INNOROUTES", "EINVAL", 0x80), changes(policy(marked), inTable("10.244.0.0/16", 0, 3, unix.RTN_BLACKHOLE)), "blackhole-route", Certain,
			[]string{"rule 100 (fwmark 0x80/0x80) looks up table 3: blackhole 10.244.0.0/16", "table main would lead to: 10.244.1.3/32 dev calib"}, ""},
		"the same, and the packet has no such mark": {lookedUp("IP_INNOROUTES", "EINVAL", 0x40), changes(policy(marked), inTable("10.244.0.0/16", 0, 3, unix.RTN_BLACKHOLE)), "blackhole-route", Certain,
			[]string{"by now the same look-up gives: rule 32766 looks up table main"}, "rule 100"},
		"the same, and its mark is not known": {dead("IP_INNOROUTES", "ip_error+0x94", func(p *model.Packet) {
			p.Hops = append(p.Hops, model.Hop{Stage: model.StageRoute, Netns: nodeNS, Place: "node", Route: &model.Route{Error: "EINVAL"}})
		}), changes(policy(marked), inTable("10.244.0.0/16", 0, 3, unix.RTN_BLACKHOLE)), "blackhole-route", Certain,
			[]string{"it is one of these: rule 100 (fwmark 0x80/0x80)", "not known: whether rule 100 applies: it asks for mark 0x80/0x80"}, "by now"},
		"main does not give its default route": {lookedUp("IP_INNOROUTES", "ENETUNREACH", 0), func(s *recorded) {
			withoutMain(s)
			policy(node.PolicyRule{Priority: 32764, Table: unix.RT_TABLE_MAIN, SuppressPrefixLength: 32})(s)
		}, "no-route", Certain, []string{"but rule 32764 does not give it to this packet: from all lookup main suppress_prefixlength 32"}, "rule 32766"},
	} {
		t.Run(name, func(t *testing.T) {
			state := madeNode()
			tc.node(state)
			found := diagnoseAll(t, state, tc.packet)
			if len(found) != 1 || found[0].Code != tc.code || found[0].Confidence != tc.sure {
				t.Fatalf("want %s (%s): %+v", tc.code, tc.sure, found)
			}
			for _, part := range tc.says {
				if !strings.Contains(words(found[0]), part) {
					t.Errorf("does not say %q:\n%s", part, words(found[0]))
				}
			}
			if tc.never != "" && strings.Contains(words(found[0]), tc.never) {
				t.Errorf("says %q:\n%s", tc.never, words(found[0]))
			}
		})
	}
}

// A policy rule that went and came back is told with when it went.
func TestRuleThatCameBack(t *testing.T) {
	c := New(madeNode(), nil)
	c.Start(&model.Start{Type: model.TypeStart})
	p := lookedUp("IP_INNOROUTES", "ENETUNREACH", 0)
	for _, e := range []model.NodeEvent{
		{What: model.PolicyDeleted, Netns: nodeNS, Time: p.Time.Add(-time.Second), Text: `policy routing rule "32766: lookup main" deleted`},
		{What: model.PolicyAdded, Netns: nodeNS, Time: p.Time.Add(time.Second), Text: `policy routing rule "32766: lookup main" added`},
		{What: model.PolicyDeleted, Netns: otherNS, Time: p.Time, Text: "of another place"},
	} {
		c.Node(&e)
	}
	c.Packet(p)
	found := c.Findings()
	if len(found) != 1 || !strings.Contains(words(found[0]), `"32766: lookup main" deleted`) || strings.Contains(words(found[0]), "of another") || strings.Contains(words(found[0]), "added") {
		t.Errorf("told %+v", found)
	}
}

// A table that comes before main, and two routes to one subnet.
func TestDetours(t *testing.T) {
	failed := func() *model.Packet {
		return dead("NEIGH_FAILED", "neigh_invalidate+0x7e", func(p *model.Packet) {
			p.Drop.Interface, p.Drop.IfIndex, p.Drop.Stage = "eth0", 2, model.StageNeighbor
		})
	}
	for name, tc := range map[string]struct {
		node func(*recorded)
		says string
	}{
		"a table before main": {changes(policy(node.PolicyRule{Priority: 5270, Table: 52}), inTable("10.0.0.0/8", 2, 52, unix.RTN_UNICAST)),
			"rule 5270 looks up table 52 first, which sends it to eth0; table main would lead to calib"},
		"two routes": {func(s *recorded) {
			inTable("10.244.1.3/32", 2, unix.RT_TABLE_MAIN, unix.RTN_UNICAST)(s)
			s.Places[nodeNS].Routes[3].Metric = 10
		}, "there are two routes to 10.244.1.3/32, and that by eth0 comes before that by calib, behind which the pod is"},
	} {
		state := madeNode()
		tc.node(state)
		found := diagnoseAll(t, state, failed())
		if len(found) != 1 || found[0].Code != "neighbor-failed" || !strings.Contains(words(found[0]), tc.says) || strings.Contains(words(found[0]), "arping") {
			t.Errorf("%s: %+v", name, found)
		}
	}
	// where it is on its way, it is asked who answers
	found := diagnoseAll(t, madeNode(), dead("NEIGH_FAILED", "neigh_invalidate+0x7e", func(p *model.Packet) { p.Drop.Interface, p.Drop.IfIndex = "calib", 5 }))
	if len(found) != 1 || strings.Contains(words(found[0]), "table 52") || !strings.Contains(words(found[0]), "arping -I calib") {
		t.Errorf("no detour: %+v", found)
	}
}

// away is a packet to a pod of this node that left by the uplink.
func away() *model.Packet {
	return leaving(func(p *model.Packet) {
		p.Dst = podB
		p.Hops = []model.Hop{p.Hops[0], {Stage: model.StageTransmit, Netns: nodeNS, Place: "node", Interface: "eth0", IfIndex: 2}}
	})
}

func TestMisrouted(t *testing.T) {
	state := madeNode()
	changes(policy(node.PolicyRule{Priority: 5270, Table: 52}), inTable("10.0.0.0/8", 2, 52, unix.RTN_UNICAST))(state)
	found := diagnoseAll(t, state, away())
	if len(found) != 1 || found[0].Code != "misrouted" || found[0].Confidence != Certain || !strings.Contains(found[0].Summary, "which is on this node, leave by eth0 of this node: rule 5270 looks up table 52 first") {
		t.Fatalf("a pod of this node: %+v", found)
	}
	for _, f := range diagnoseAll(t, state, away(), reply(podB, 80)) {
		t.Errorf("answered, but told %s", f.Code)
	}
	// those that went away after others had arrived are lost, whatever comes of later ones
	arrived := away()
	arrived.Outcome = model.Delivered
	if found := diagnoseAll(t, state, arrived, reply(podB, 80), away(), reply(podB, 80)); len(found) != 1 || found[0].Code != "misrouted" {
		t.Errorf("the way was lost for a while: %+v", found)
	}
	// with its route, which is the cause then of all that went astray
	sent := func() *model.Packet {
		p := away()
		p.Time = deathTime
		p.Hops = append(p.Hops, model.Hop{Stage: model.StageRoute, Netns: nodeNS, Place: "node", Route: &model.Route{Interface: "eth0", IfIndex: 2}})
		return p
	}
	arrived, other := sent(), sent()
	arrived.Outcome, other.SrcPort = model.Delivered, other.SrcPort+1
	found = diagnoseChanged(t, state, []model.NodeEvent{rerouted(-200, model.RouteDeleted, 0, nil)}, arrived, reply(podB, 80), sent(), reply(podB, 80), other)
	if len(found) != 1 || found[0].Code != "no-route" || len(found[0].Packets) != 2 {
		t.Errorf("the route was deleted: %+v", found)
	}
}

// inAndBack is a request that came to pod A by an uplink, and the reply that left
// by another.
func inAndBack(proto, flags string, by model.Hop) (request, back *model.Packet) {
	far := netip.MustParseAddr("192.0.2.7")
	request = &model.Packet{Direction: model.Forward, Time: time.Now().Add(-2 * time.Second), Proto: proto, TCPFlags: flags, Src: far, SrcPort: 4000, Dst: podA, DstPort: 80, Outcome: model.Delivered,
		Hops: []model.Hop{{Stage: model.StageReceive, Netns: nodeNS, Place: "node", Interface: "up2", IfIndex: 9}, {Stage: model.StageReceive, Netns: podNS, Place: "default/a", Interface: "eth0", IfIndex: 2}}}
	back = &model.Packet{Direction: model.Return, Time: time.Now().Add(-time.Second), Proto: proto, Src: podA, SrcPort: 80, Dst: far, DstPort: 4000, Outcome: model.LeftNode,
		Hops: []model.Hop{{Stage: model.StageTransmit, Netns: podNS, Place: "default/a", Interface: "eth0", IfIndex: 2},
			{Stage: model.StageReceive, Netns: nodeNS, Place: "node", Interface: "calia", IfIndex: 4}, by}}
	if proto == "tcp" {
		back.TCPFlags = "S."
	}
	return request, back
}

func TestAsymmetricReturn(t *testing.T) {
	uplink := func(name string, index uint32) model.Hop {
		return model.Hop{Stage: model.StageTransmit, Netns: nodeNS, Place: "node", Interface: name, IfIndex: index}
	}
	second := func(s *recorded) {
		s.Places[nodeNS].Links = append(s.Places[nodeNS].Links, node.Link{Index: 9, Name: "up2", Up: true, Carrier: true})
	}
	table3 := inTable("0.0.0.0/0", 9, 3, unix.RTN_UNICAST)
	syn := func(by model.Hop) []*model.Packet {
		a, b := inAndBack("tcp", "S", by)
		return []*model.Packet{a, b}
	}
	again := func(p []*model.Packet) []*model.Packet { return append(p, syn(uplink("eth0", 2))...) }
	ack, _ := inAndBack("tcp", ".", uplink("eth0", 2))
	udp, udpBack := inAndBack("udp", "", uplink("eth0", 2))
	for name, tc := range map[string]struct {
		node    func(*recorded)
		packets []*model.Packet
		says    string // "": no finding
	}{
		"asked again":                    {second, again(syn(uplink("eth0", 2))), "leaves by eth0 of this node, while the request came in by up2: rule 32766 looks up table main"},
		"a table that was made for it":   {changes(second, table3), again(syn(uplink("eth0", 2))), "table 3 would lead back by up2: default dev up2, but no policy rule looks it up"},
		"told in the other order":        {second, again([]*model.Packet{syn(uplink("eth0", 2))[1], syn(uplink("eth0", 2))[0]}), "leaves by eth0 of this node"},
		"it works":                       {changes(second, table3), append(again(syn(uplink("eth0", 2))), ack), ""},
		"acknowledged before":            {second, append([]*model.Packet{syn(uplink("eth0", 2))[0], ack}, again(nil)...), ""},
		"the trace ended":                {changes(second, table3), syn(uplink("eth0", 2)), ""},
		"back by where it came":          {second, append(syn(uplink("up2", 9)), syn(uplink("up2", 9))...), ""},
		"datagrams acknowledge nothing":  {second, []*model.Packet{udp, udpBack}, ""},
		"but the way they were to go is": {changes(second, table3), []*model.Packet{udp, udpBack}, "table 3 would lead back by up2"},
		"ports of one bond": {func(s *recorded) {
			second(s)
			s.Places[nodeNS].Links[0].Master, s.Places[nodeNS].Links[len(s.Places[nodeNS].Links)-1].Master = 20, 20
		}, again(syn(uplink("eth0", 2))), ""},
	} {
		t.Run(name, func(t *testing.T) {
			state := madeNode()
			tc.node(state)
			found := diagnoseAll(t, state, tc.packets...)
			switch {
			case tc.says == "" && len(found) > 0:
				t.Errorf("told %s: %s", found[0].Code, words(found[0]))
			case tc.says != "" && (len(found) != 1 || found[0].Code != "asymmetric-return" || found[0].Confidence != Likely || !strings.Contains(words(found[0]), tc.says)):
				t.Errorf("want one that says %q: %+v", tc.says, found)
			}
		})
	}
}

// circling is a packet that left by the uplink and came back, some times.
func circling(times int) *model.Packet {
	return leaving(func(p *model.Packet) {
		p.Hops = p.Hops[:1]
		for range times {
			p.Hops = append(p.Hops,
				model.Hop{Stage: model.StageRoute, Netns: nodeNS, Place: "node", Interface: "eth0", IfIndex: 2, Route: &model.Route{Interface: "eth0", IfIndex: 2, Gateway: "172.30.0.254"}},
				model.Hop{Stage: model.StageTransmit, Netns: nodeNS, Place: "node", Interface: "eth0", IfIndex: 2}, model.Hop{Stage: model.StageReceive, Netns: nodeNS, Place: "node", Interface: "eth0", IfIndex: 2})
		}
		p.Hops = append(p.Hops, model.Hop{Stage: model.StageTransmit, Netns: nodeNS, Place: "node", Interface: "eth0", IfIndex: 2})
		p.TTL, p.Dst = 64, netip.MustParseAddr("203.0.113.7")
	})
}

func TestLoop(t *testing.T) {
	exceeded := &model.Packet{Direction: model.Return, Time: time.Now(), Proto: "icmp", ICMP: "ttl-exceeded", Src: netip.MustParseAddr("172.30.0.254"), Dst: podA, Outcome: model.Delivered}
	straight := func(ttl uint8) *model.Packet {
		p := circling(0)
		p.TTL = ttl
		return p
	}
	for name, tc := range map[string]struct {
		packets []*model.Packet
		code    string
		sure    string
		says    string
	}{
		"again and again": {[]*model.Packet{circling(31), exceeded}, "loop", Certain, "circle between this node and 172.30.0.254"},
		"once":            {[]*model.Packet{circling(1)}, "loop", Likely, "it was seen to come back once"},
		"further on":      {[]*model.Packet{straight(64), exceeded}, "loop", Likely, "they circle between 172.30.0.254 and another router"},
		"traceroute":      {[]*model.Packet{straight(3), exceeded}, "left-node", Certain, "ttl-exceeded"},
		"no circle":       {[]*model.Packet{straight(64)}, "left-node", Likely, "with the pod's own address"},
	} {
		t.Run(name, func(t *testing.T) {
			found := diagnoseAll(t, madeNode(), tc.packets...)
			if len(found) != 1 || found[0].Code != tc.code || found[0].Confidence != tc.sure || !strings.Contains(words(found[0]), tc.says) {
				t.Errorf("want %s (%s) that says %q: %+v", tc.code, tc.sure, tc.says, found)
			}
		})
	}
	answered := &model.Packet{Direction: model.Return, Time: time.Now(), Proto: "tcp", TCPFlags: "S.", Src: netip.MustParseAddr("203.0.113.7"), SrcPort: 80, Dst: podA, DstPort: 40000, Outcome: model.Delivered}
	if found := diagnoseAll(t, madeNode(), circling(1), answered); len(found) > 0 {
		t.Errorf("answered, but told %s", found[0].Code)
	}
	// segments of one packet are not it coming back
	segments := circling(1)
	for i := range segments.Hops {
		if i > 2 {
			segments.Hops[i].Copy = 1
		}
	}
	if n, _ := circles(segments); n != 0 {
		t.Errorf("%d segments are taken for circles", n)
	}
}
