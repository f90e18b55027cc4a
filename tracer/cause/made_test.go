// SPDX-License-Identifier: Apache-2.0

package cause

// Causes that testenv does not make: packets as the journeys tell them, with the
// reasons the kernel gives (include/net/dropreason-core.h, 6.12), each with a
// twin that differs in the one thing that matters.

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

const nodeNS, podNS, otherNS = 100, 200, 300

var (
	podA   = netip.MustParseAddr("10.244.1.2")
	podB   = netip.MustParseAddr("10.244.1.3")
	remote = netip.MustParseAddr("10.244.2.3")
	node1  = netip.MustParseAddr("172.30.0.1")
	node2  = netip.MustParseAddr("172.30.0.2")
)

// madeNode is a node with two pods, one uplink and a tunnel.
func madeNode() *recorded {
	prefix := netip.MustParsePrefix
	eth := func(addr string, peer int) []node.Link {
		return []node.Link{{Index: 2, Name: "eth0", Kind: "veth", Up: true, Carrier: true, MTU: 1450, PeerIndex: peer, PeerNetns: nodeNS, Addrs: []netip.Prefix{prefix(addr)}}}
	}
	def := node.Route{Dst: prefix("0.0.0.0/0"), LinkIndex: 2, Gateway: calicoGateway, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST}
	return &recorded{NodeInode: nodeNS, Places: map[uint32]*recordedPlace{
		nodeNS: {
			Links: []node.Link{
				{Index: 2, Name: "eth0", Up: true, Carrier: true, MTU: 1500, Addrs: []netip.Prefix{prefix("172.30.0.1/24")}},
				{Index: 3, Name: "vxlan.calico", Kind: "vxlan", Up: true, Carrier: true, MTU: 1450, VNI: 4096, VXLANPort: 4789, VXLANDevice: 2},
				{Index: 4, Name: "calia", Kind: "veth", Up: true, Carrier: true, MTU: 1450, PeerIndex: 2, PeerNetns: podNS},
				{Index: 5, Name: "calib", Kind: "veth", Up: true, Carrier: true, MTU: 1450, PeerIndex: 2, PeerNetns: otherNS},
			},
			Routes: []node.Route{
				{Dst: prefix("0.0.0.0/0"), LinkIndex: 2, Gateway: netip.MustParseAddr("172.30.0.254"), Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST},
				{Dst: prefix("10.244.2.0/24"), LinkIndex: 3, Gateway: netip.MustParseAddr("10.244.2.0"), Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST},
				{Dst: prefix("10.244.1.2/32"), LinkIndex: 4, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST},
				{Dst: prefix("10.244.1.3/32"), LinkIndex: 5, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST},
			},
			Sysctls: map[string]string{"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "netfilter/nf_conntrack_count": "10", "netfilter/nf_conntrack_max": "262144"},
			Rules:   &RuleSets{},
		},
		podNS:   {Links: eth("10.244.1.2/32", 4), Routes: []node.Route{def}, Rules: &RuleSets{}},
		otherNS: {Links: eth("10.244.1.3/32", 5), Routes: []node.Route{def}, Rules: &RuleSets{}},
	}}
}

// dead is a TCP SYN of pod A to pod B that died on the node.
func dead(reason, function string, more func(*model.Packet)) *model.Packet {
	p := &model.Packet{ID: 1, Direction: model.Forward, Time: time.Now().Add(-time.Minute), Proto: "tcp", TCPFlags: "S", Src: podA, SrcPort: 40000, Dst: podB, DstPort: 80,
		Length: 60, TTL: 64, Outcome: model.Dropped,
		Hops: []model.Hop{{Stage: model.StageReceive, Netns: nodeNS, Place: "node", Interface: "calia", IfIndex: 4}},
		Drop: &model.Drop{Reason: reason, Function: function, Netns: nodeNS, Place: "node", Interface: "calia", IfIndex: 4}}
	if more != nil {
		more(p)
	}
	return p
}

// byRule makes a packet die by a rule of table filter.
func byRule(chain, text, comment string) func(*model.Packet) {
	return func(p *model.Packet) {
		d := p.Drop
		d.Hook, d.Family, d.Table, d.Chain, d.Backend, d.Stage = "FORWARD", "ip", "filter", "FORWARD", "legacy", model.StageNetfilter
		d.Rule = &model.Rule{Family: "ip", Table: "filter", Chain: chain, Number: 3, Text: text, Comment: comment}
		d.RuleSource = model.RuleExact
	}
}

// arrived is the same packet, delivered.
func arrived() *model.Packet {
	return &model.Packet{ID: 9, Direction: model.Forward, Time: time.Now(), Proto: "tcp", TCPFlags: "S", Src: podA, SrcPort: 40000, Dst: podB, DstPort: 80,
		Outcome: model.Delivered, Hops: []model.Hop{{Stage: model.StageDeliver, Netns: otherNS, Place: "default/b", Interface: "eth0", IfIndex: 2}}}
}

func diagnoseAll(t *testing.T, state State, packets ...*model.Packet) []model.Finding {
	t.Helper()
	c := New(state, func(line string) { t.Errorf("could not be asked: %s", line) })
	c.Start(&model.Start{Type: model.TypeStart, Src: model.End{Given: "a", Netns: podNS}, Dst: model.End{Given: podB.String(), Addresses: model.Prefixes{netip.PrefixFrom(podB, 32)}}})
	for i, p := range packets {
		p.ID = uint64(i + 1)
		c.Packet(p)
	}
	return c.Findings()
}

func TestMade(t *testing.T) {
	const unknown = `-A cali-from-wl-dispatch -m comment --comment "cali:abcdefghijklmnop" -m comment --comment "Unknown interface" -j DROP`
	full := func(r *recorded) { r.Places[nodeNS].Sysctls["netfilter/nf_conntrack_count"] = "262144" }
	inPrerouting := func(p *model.Packet) {
		p.Drop.Hook, p.Drop.Candidates = "PREROUTING", model.Candidates{{Function: "nf_conntrack_in"}, {Backend: "legacy", Family: "ip", Table: "raw"}}
	}
	toQueue := func(options string) func(*model.Packet) {
		return byRule("FORWARD", "-A FORWARD -p udp -j NFQUEUE "+options, "")
	}
	listens := func(queues ...node.PacketQueue) func(*recorded) {
		return func(r *recorded) { r.Places[nodeNS].Queues = queues }
	}
	for name, tc := range map[string]struct {
		packet *model.Packet
		node   func(*recorded)
		code   string
		says   string
		sure   string
	}{
		"unknown interface": {dead("NETFILTER_DROP", "nf_hook_slow+0x1", byRule("cali-from-wl-dispatch", unknown, "")), nil,
			"unknown-interface", "no endpoint for interface calia", Certain},
		"conntrack invalid": {dead("NETFILTER_DROP", "nf_hook_slow+0x1", func(p *model.Packet) {
			byRule("FORWARD", "-A FORWARD -m conntrack --ctstate INVALID -j DROP", "")(p)
			p.TCPFlags = "."
			p.Hops = append(p.Hops, model.Hop{Stage: model.StageConntrack, Netns: nodeNS, Hook: "PREROUTING", CTState: "invalid"})
		}), nil, "conntrack-invalid", "no packet of the return direction was seen", Certain},
		"conntrack full": {dead("NETFILTER_DROP", "nf_hook_slow+0x1", inPrerouting), full,
			"conntrack-full", "nf_conntrack_count = 262144", Likely},
		"rule not known": {dead("NETFILTER_DROP", "nf_hook_slow+0x1", inPrerouting), nil,
			"rule-drop", "which of these it was: nf_conntrack_in", Likely},
		"queue without a listener": {dead("NOT_SPECIFIED", "nf_queue+0x1", toQueue("--queue-num 7")), listens(node.PacketQueue{Number: 8}),
			"queue-no-listener", "no program listens on queue 7 of this node", Likely},
		"queue by its number": {dead("NOT_SPECIFIED", "nf_queue+0x1", func(p *model.Packet) {
			number := uint16(2)
			toQueue("--queue-balance 1:3")(p)
			p.Drop.Queue = &number
		}), listens(node.PacketQueue{Number: 1}, node.PacketQueue{Number: 3}), "queue-no-listener", "no program listens on queue 2 of this node", Likely},
		"some queues have one": {dead("NOT_SPECIFIED", "nf_queue+0x1", toQueue("--queue-balance 1:3")), listens(node.PacketQueue{Number: 1, Dropped: 4}),
			"queue-no-listener", "of the queues 1 to 3 of this node, programs listen on 1", Likely},
		"slow listener": {dead("NOT_SPECIFIED", "nf_queue+0x1", toQueue("--queue-num 7")), listens(node.PacketQueue{Number: 7, Port: 4711, Dropped: 5}),
			"queue-full", "netlink port 4711", Likely},
		"listener that came since": {dead("NOT_SPECIFIED", "nf_queue+0x1", toQueue("--queue-num 7")), listens(node.PacketQueue{Number: 7}),
			"rule-drop", "its listener is there by now", Likely},
		"listener that drops": {dead("NOT_SPECIFIED", "nf_reinject+0x1", toQueue("--queue-num 7")), listens(node.PacketQueue{Number: 7, Port: 4711}),
			"rule-drop", "program that listens on queue 7 dropped it", Likely},
		"listener that ended": {dead("NOT_SPECIFIED", "nfqnl_flush+0x1", toQueue("--queue-num 7")), nil,
			"rule-drop", "What waits in a queue is dropped when its listener ends", Likely},
		"table behind a queue": {dead("NOT_SPECIFIED", "nf_reinject+0x1", byRule("FORWARD", "-A FORWARD -j DROP", "")), listens(node.PacketQueue{Number: 7}),
			"rule-drop", "-A FORWARD -j DROP", Certain},
		"socket buffer": {dead("SOCKET_RCVBUFF", "__udp_enqueue_schedule_skb+0x1", nil), nil, "queue-full", "application reads too slowly", Certain},
		"accept queue":  {dead("TCP_LISTEN_OVERFLOW", "tcp_conn_request+0x1", nil), nil, "queue-full", "accept queue is full", Certain},
		"qdisc":         {dead("QDISC_OVERLIMIT", "__dev_queue_xmit+0x1", nil), nil, "queue-full", "tc -s qdisc show dev calia", Certain},
		"checksum in the tunnel": {dead("UDP_CSUM", "udp4_csum_init+0x1", func(p *model.Packet) {
			p.Hops = append(p.Hops, model.Hop{Stage: model.StageDecapsulate, Netns: nodeNS, Place: "node", Interface: "vxlan.calico"})
		}), nil, "checksum", "tx-checksum-ip-generic off", Certain},
		"tc":                   {dead("TC_INGRESS", "__netif_receive_skb_core+0x1", nil), nil, "tc-drop", "tc filter show dev calia ingress", Certain},
		"tc before it had one": {dead("NOT_SPECIFIED", "sch_handle_egress+0x1", nil), nil, "tc-drop", "tc program or filter", Certain},
		"xdp":                  {dead("XDP", "netif_receive_generic_xdp+0x1", nil), nil, "tc-drop", "XDP program", Certain},
		"forwarding of one interface": {dead("IP_INADDRERRORS", "ip_error+0x94", nil),
			func(r *recorded) { r.Places[nodeNS].Sysctls["ipv4/conf/calia/forwarding"] = "0" }, "ip-forward-off", "net.ipv4.conf.calia.forwarding = 0", Certain},
		"forwarding of IPv6": {dead("NOT_SPECIFIED", "ip6_forward+0x1", func(p *model.Packet) {
			p.Src, p.Dst = netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")
		}), func(r *recorded) { r.Places[nodeNS].Sysctls["ipv6/conf/all/forwarding"] = "0" }, "ip-forward-off", "net.ipv6.conf.all.forwarding = 0", Likely},
		"martian": {dead("IP_LOCAL_SOURCE", "ip_rcv_finish_core+0x1", nil), nil, "rp-filter", "martian source", Certain},
		"unreachable route": {dead("NOT_SPECIFIED", "ip_error+0x94", func(p *model.Packet) {
			p.Drop.Stage, p.Dst = model.StageRoute, netip.MustParseAddr("192.0.2.1")
		}), func(r *recorded) {
			r.Places[nodeNS].Routes = append(r.Places[nodeNS].Routes, node.Route{Dst: netip.MustParsePrefix("192.0.2.0/24"), Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNREACHABLE})
		}, "blackhole-route", "unreachable 192.0.2.0/24", Likely},
		"route that came back": {dead("IP_INNOROUTES", "ip_error+0x94", nil), nil, "no-route", "had no route to 10.244.1.3 when the packet came", Certain},
		"waiting neighbour": {dead("", "", func(p *model.Packet) {
			p.Outcome, p.Drop = model.Unknown, nil
			p.Hops = append(p.Hops, model.Hop{Stage: model.StageNeighbor, Netns: nodeNS, Place: "node", Interface: "calib", IfIndex: 5, Neighbor: &model.Neighbor{Address: podB.String(), State: "incomplete"}})
		}), func(r *recorded) {
			r.Places[nodeNS].Neighbors = []node.Neighbor{{LinkIndex: 5, Addr: podB, State: 0x01}}
		}, "neighbor-failed", "still waiting for an answer", Likely},
		"foreign VNI": {dead("VXLAN_VNI_NOT_FOUND", "vxlan_rcv+0x1", func(p *model.Packet) {
			p.Drop.Interface, p.Drop.IfIndex = "eth0", 2
		}), nil, "vxlan-broken", "its VNI is none of this node's", Certain},
		"checksum of what a local route led here": {dead("UDP_CSUM", "udp4_csum_init+0x1", func(p *model.Packet) {
			p.Proto, p.TCPFlags, p.Drop.Interface, p.Drop.IfIndex, p.Src, p.Dst = "udp", "", "eth0", 2, remote, podA
		}), nil, "checksum", "UDP checksum is wrong", Certain},
		"tunnel port of nobody": {dead("NO_SOCKET", "__udp4_lib_rcv+0x1", func(p *model.Packet) {
			p.Drop.Interface, p.Drop.IfIndex, p.Src, p.Dst = "eth0", 2, remote, podA
			p.Drop.Tunnel = &model.Tunnel{Kind: "vxlan", VNI: 4096, Src: node2, Dst: node1, DstPort: 4789}
		}), nil, "vxlan-broken", "no tunnel of this node listens on its port", Certain},
	} {
		t.Run(name, func(t *testing.T) {
			state := madeNode()
			if tc.node != nil {
				tc.node(state)
			}
			found := diagnoseAll(t, state, tc.packet)
			if len(found) != 1 {
				t.Fatalf("%d findings, want one: %+v", len(found), found)
			}
			if f := found[0]; f.Code != tc.code || f.Confidence != tc.sure || !strings.Contains(words(f), tc.says) {
				t.Errorf("told %s (%s), want %s (%s) saying %q:\n%s", f.Code, f.Confidence, tc.code, tc.sure, tc.says, words(f))
			}
			// on the same node, a packet that arrives gives none
			if found := diagnoseAll(t, state, arrived()); len(found) > 0 {
				t.Errorf("healthy, but told %s: %s", found[0].Code, words(found[0]))
			}
		})
	}
}

// leaving is a packet to a pod of another node that left by the tunnel.
func leaving(more func(*model.Packet)) *model.Packet {
	p := &model.Packet{Direction: model.Forward, Time: time.Now().Add(-time.Second), Proto: "tcp", TCPFlags: "S", Src: podA, SrcPort: 40000, Dst: remote, DstPort: 80, Outcome: model.LeftNode,
		Hops: []model.Hop{
			{Stage: model.StageReceive, Netns: nodeNS, Place: "node", Interface: "calia", IfIndex: 4},
			{Stage: model.StageEncapsulate, Netns: nodeNS, Place: "node", Interface: "vxlan.calico", IfIndex: 3, Tunnel: &model.Tunnel{Kind: "vxlan", VNI: 4096, Src: node1, Dst: node2, DstPort: 4789}},
			{Stage: model.StageTransmit, Netns: nodeNS, Place: "node", Interface: "eth0", IfIndex: 2},
		}}
	if more != nil {
		more(p)
	}
	return p
}

func reply(from netip.Addr, port uint16) *model.Packet {
	return &model.Packet{Direction: model.Return, Time: time.Now(), Proto: "tcp", TCPFlags: "S.", Src: from, SrcPort: port, Dst: podA, DstPort: 40000, Outcome: model.Delivered}
}

// TestSilenceOfATraceThatMissed: a far end that answered once and later did not is told
// as silent, unless its answer may be among packets that the trace did not get.
func TestSilenceOfATraceThatMissed(t *testing.T) {
	for name, tc := range map[string]struct {
		summary model.Summary
		found   int
	}{
		"nothing missed":                      {model.Summary{}, 1},
		"programs left out: a hop, no packet": {model.Summary{SkippedRuns: 9}, 1},
		"packets without room":                {model.Summary{LostPackets: 1}, 0},
		"events lost":                         {model.Summary{LostEvents: 1}, 0},
		"packets left out by sampling":        {model.Summary{SampledOut: 1}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c := New(madeNode(), nil)
			c.Start(&model.Start{Type: model.TypeStart, Src: model.End{Given: "a", Netns: podNS}, Dst: model.End{Given: remote.String(), Addresses: model.Prefixes{netip.PrefixFrom(remote, 32)}}})
			later := leaving(func(p *model.Packet) { p.SrcPort = 40001 })
			for i, p := range []*model.Packet{leaving(nil), reply(remote, 80), later} {
				p.ID = uint64(i + 1)
				c.Packet(p)
			}
			var told findings
			if err := c.Sink(&told).Summary(&tc.summary); err != nil {
				t.Fatal(err)
			}
			if len(told.all) != tc.found {
				t.Errorf("%d findings, want %d: %+v", len(told.all), tc.found, told.all)
			}
		})
	}
}

// findings is a sink that keeps nothing else.
type findings struct {
	model.Sink
	all []model.Finding
}

func (s *findings) Finding(f *model.Finding) error {
	s.all = append(s.all, *f)
	return nil
}

func (*findings) Summary(*model.Summary) error { return nil }

func TestLeftNode(t *testing.T) {
	found := diagnoseAll(t, madeNode(), leaving(nil))
	if len(found) != 1 || found[0].Code != "left-node" || !strings.Contains(words(found[0]), "on node 172.30.0.2: pathtrace --src 10.244.1.2 --dst 10.244.2.3") {
		t.Fatalf("a request without answer: %+v", found)
	}
	for name, packets := range map[string][]*model.Packet{
		"answered":              {leaving(nil), reply(remote, 80)},
		"answer told first":     {reply(remote, 80), leaving(nil)},
		"no time for an answer": {leaving(func(p *model.Packet) { p.Time = time.Now() })},
		"answer that leaves":    {arrived(), leaving(func(p *model.Packet) { p.Direction = model.Return })},
		"answer that leaves, both ends asked for hold it": {leaving(func(p *model.Packet) { p.Hops[0].CTState = "established-reply" })},
		"reset": {leaving(func(p *model.Packet) { p.TCPFlags = "R" })},
	} {
		t.Run(name, func(t *testing.T) {
			if found := diagnoseAll(t, madeNode(), packets...); len(found) > 0 {
				t.Errorf("told %s: %s", found[0].Code, words(found[0]))
			}
		})
	}
}

// An answer of somebody else is none.
func TestLeftNodeOfOneOfTwo(t *testing.T) {
	found := diagnoseAll(t, madeNode(), leaving(nil), leaving(func(p *model.Packet) { p.DstPort = 81 }), reply(remote, 80))
	if len(found) != 1 || !strings.Contains(found[0].Summary, "10.244.2.3:81") || len(found[0].Packets) != 1 || found[0].Packets[0] != 2 {
		t.Errorf("want the one to port 81: %+v", found)
	}
}

func TestMasquerade(t *testing.T) {
	snat := func(p *model.Packet) {
		nat := model.Hop{Stage: model.StageNAT, Netns: nodeNS, Place: "node", Hook: "POSTROUTING",
			Before: &model.Endpoints{Src: podA, SrcPort: 40000, Dst: remote, DstPort: 80}, After: &model.Endpoints{Src: node1, SrcPort: 40000, Dst: remote, DstPort: 80}}
		p.Hops = append([]model.Hop{p.Hops[0], nat}, p.Hops[1:]...)
	}
	found := diagnoseAll(t, madeNode(), leaving(snat))
	if len(found) != 1 || found[0].Code != "masquerade" || !strings.Contains(found[0].Summary, "rewritten from 10.244.1.2 to 172.30.0.1") {
		t.Fatalf("an unwanted masquerade without answer: %+v", found)
	}
	if found := diagnoseAll(t, madeNode(), leaving(snat), reply(remote, 80)); len(found) > 0 {
		t.Errorf("answered, but told %s", found[0].Code)
	}
}

func TestNotSent(t *testing.T) {
	found := diagnoseAll(t, madeNode())
	if len(found) != 1 || found[0].Code != "not-sent" {
		t.Fatalf("silence: %+v", found)
	}
	for _, part := range []string{"eth0 <UP,LOWER_UP>", "its other end on the node: calia", "its way to 10.244.1.3: rule 32766 looks up table main: default via 169.254.1.1 dev eth0"} {
		if !strings.Contains(words(found[0]), part) {
			t.Errorf("does not say %q:\n%s", part, words(found[0]))
		}
	}
	state := madeNode()
	state.Places[podNS].Routes = nil
	if found := diagnoseAll(t, state); !strings.Contains(found[0].Summary, "no route to 10.244.1.3") {
		t.Errorf("a pod without a route: %s", words(found[0]))
	}
	state = madeNode()
	state.Places[nodeNS].Links[2].Up = false
	if found := diagnoseAll(t, state); !strings.Contains(found[0].Summary, "calia, the node's end of the source pod's interface, is set down") {
		t.Errorf("a pod whose interface is down: %s", words(found[0]))
	}
	if found := diagnoseAll(t, madeNode(), arrived()); len(found) > 0 {
		t.Errorf("a packet was seen, but told %s", found[0].Code)
	}
}

// Of several causes the one that explains most packets comes first.
func TestRanking(t *testing.T) {
	rp := func() *model.Packet {
		return dead("IP_RPFILTER", "ip_rcv_finish_core+0x1", func(p *model.Packet) {
			p.Direction, p.Src, p.Dst, p.Drop.Interface, p.Drop.IfIndex = model.Return, remote, podA, "vxlan.calico", 3
		})
	}
	rule := dead("NETFILTER_DROP", "nf_hook_slow+0x1", byRule("FORWARD", "-A FORWARD -s 10.244.1.2/32 -j DROP", ""))
	found := diagnoseAll(t, madeNode(), rule, rp(), rp())
	if len(found) != 2 || found[0].Code != "rp-filter" || found[1].Code != "rule-drop" {
		t.Fatalf("want rp-filter, rule-drop: %+v", found)
	}
	if len(found[0].Packets) != 2 || len(found[1].Packets) != 1 {
		t.Errorf("packets %v and %v, want two and one", found[0].Packets, found[1].Packets)
	}
}

// However many packets, destinations and ports: memory is bounded, all packets
// are counted, and causes that only differ in the destination are one finding.
func TestBounded(t *testing.T) {
	c := New(madeNode(), nil)
	c.Start(&model.Start{Type: model.TypeStart})
	const packets = 20000
	for i := range packets {
		addr := netip.AddrFrom4([4]byte{203, byte(i >> 16), byte(i >> 8), byte(i)})
		p := dead("IP_RPFILTER", "ip_rcv_finish_core+0x1", func(p *model.Packet) { p.ID, p.Dst = uint64(i), addr })
		c.Packet(p)
		c.Packet(leaving(func(p *model.Packet) {
			p.ID, p.Dst = uint64(i), addr
			p.Hops = append(p.Hops, model.Hop{Stage: model.StageNAT, Before: &model.Endpoints{Dst: addr}, After: &model.Endpoints{Dst: addr.Next()}})
		}))
		c.Packet(reply(addr, 80))
	}
	if len(c.cases) > 2*maxCases || len(c.mem.peers) > maxPeers || len(c.mem.asked) > maxPeers || len(c.mem.dnat) > maxTranslations {
		t.Errorf("%d cases, %d peers, %d translations are kept", len(c.cases), len(c.mem.peers), len(c.mem.dnat))
	}
	found := c.Findings()
	if len(found) > maxFindings || len(found) == 0 || found[0].Code != "rp-filter" {
		t.Fatalf("%d findings", len(found))
	}
	if f := found[0]; len(f.Packets) != shownPackets || !strings.Contains(words(f), fmt.Sprintf("%d packets in all", packets)) {
		t.Errorf("not all packets are counted: %v\n%s", f.Packets, words(f))
	}
}

// What cannot be asked about the node makes a finding say less, not vanish.
func TestStateUnreadable(t *testing.T) {
	state := &recorded{NodeInode: nodeNS}
	var said []string
	c := New(state, func(line string) { said = append(said, line) })
	c.Packet(dead("IP_RPFILTER", "ip_rcv_finish_core+0x1", nil))
	found := c.Findings()
	if len(found) != 1 || found[0].Code != "rp-filter" || !strings.Contains(words(found[0]), "not known: netns 100: not recorded") {
		t.Errorf("told %+v", found)
	}
	if len(said) == 0 {
		t.Error("what could not be asked was told to nobody")
	}
}
