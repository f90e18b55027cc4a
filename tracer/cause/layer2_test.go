// SPDX-License-Identifier: Apache-2.0

package cause

// Layer 2: a node with a bridge, two pods of it and a tunnel, on which one thing at a
// time is wrong. Each fault has a twin: the same death with that one thing right.

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

const (
	macA, macB, macC = "0a:00:00:00:00:0a", "0a:00:00:00:00:0b", "0a:00:00:00:00:0c"
	macBridge        = "0a:00:00:00:00:01"
	macTunnel        = "0a:00:00:00:00:f1"
	macNobody        = "0a:00:00:00:00:99"
	thirdNS          = 400
	reachable        = 0x02
	permanent        = 0x80
)

var (
	gateway = netip.MustParseAddr("10.244.1.1")
	vtep2   = netip.MustParseAddr("10.244.2.0")
)

// bridgedNode has pods A, B and C behind vetha (11), vethb (12) and vethc (13) of
// cni0 (10).
func bridgedNode() *recorded {
	prefix := netip.MustParsePrefix
	pod := func(addr, mac string, host int) *recordedPlace {
		return &recordedPlace{
			Links: []node.Link{{Index: 2, Name: "eth0", Kind: "veth", Up: true, Carrier: true, MTU: 1450, MAC: mac, PeerIndex: host, PeerNetns: nodeNS, Addrs: []netip.Prefix{prefix(addr + "/24")}}},
			Routes: []node.Route{{Dst: prefix("10.244.1.0/24"), LinkIndex: 2, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST},
				{Dst: prefix("0.0.0.0/0"), LinkIndex: 2, Gateway: gateway, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST}},
			Rules: &RuleSets{},
		}
	}
	veth := func(index int, name string, peer uint32) node.Link {
		return node.Link{Index: index, Name: name, Kind: "veth", Up: true, Carrier: true, MTU: 1450, MAC: "fe:00:00:00:00:0" + name[4:], Master: 10, PeerIndex: 2, PeerNetns: peer}
	}
	port := func(index int) node.BridgePort {
		return node.BridgePort{LinkIndex: index, Bridge: 10, State: node.PortForwarding, Hairpin: true, Learning: true, Flood: true, VLANs: []node.PortVLAN{{ID: 1, PVID: true, Untagged: true}}}
	}
	r := &recorded{NodeInode: nodeNS, Places: map[uint32]*recordedPlace{
		nodeNS: {
			Links: []node.Link{
				{Index: 2, Name: "eth0", Up: true, Carrier: true, MTU: 1500, MAC: "0a:00:00:00:00:e0", Addrs: []netip.Prefix{prefix("172.30.0.1/24")}},
				{Index: 3, Name: "flannel.1", Kind: "vxlan", Up: true, Carrier: true, MTU: 1450, VNI: 1, VXLANPort: 8472, VXLANDevice: 2, MAC: macTunnel, Addrs: []netip.Prefix{prefix("10.244.1.0/32")}},
				{Index: 10, Name: "cni0", Kind: "bridge", Up: true, Carrier: true, MTU: 1450, MAC: macBridge, Addrs: []netip.Prefix{prefix("10.244.1.1/24")}},
				veth(11, "vetha", podNS), veth(12, "vethb", otherNS), veth(13, "vethc", thirdNS),
			},
			Routes: []node.Route{
				{Dst: prefix("0.0.0.0/0"), LinkIndex: 2, Gateway: netip.MustParseAddr("172.30.0.254"), Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST},
				{Dst: prefix("172.30.0.0/24"), LinkIndex: 2, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST},
				{Dst: prefix("10.244.1.0/24"), LinkIndex: 10, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST},
				{Dst: prefix("10.244.2.0/24"), LinkIndex: 3, Gateway: vtep2, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST},
			},
			Neighbors: []node.Neighbor{
				{LinkIndex: 11, MAC: macA, Bridge: true, State: reachable}, {LinkIndex: 12, MAC: macB, Bridge: true, State: reachable}, {LinkIndex: 13, MAC: macC, Bridge: true, State: reachable},
				{LinkIndex: 3, Addr: vtep2, MAC: "0a:00:00:00:00:f2", State: permanent},
				{LinkIndex: 3, Addr: node2, MAC: "0a:00:00:00:00:f2", Bridge: true, State: permanent},
			},
			Ports:   []node.BridgePort{port(11), port(12), port(13), {LinkIndex: 10, Bridge: 10, VLANs: []node.PortVLAN{{ID: 1, PVID: true, Untagged: true}}}},
			Sysctls: map[string]string{"ipv4/ip_forward": "1"},
			Rules:   &RuleSets{},
		},
		podNS: pod("10.244.1.2", macA, 11), otherNS: pod("10.244.1.3", macB, 12), thirdNS: pod("10.244.1.4", macC, 13),
	}}
	r.Places[podNS].Neighbors = []node.Neighbor{{LinkIndex: 2, Addr: podB, MAC: macB, State: reachable}, {LinkIndex: 2, Addr: gateway, MAC: macBridge, State: reachable}}
	for _, netns := range []uint32{podNS, otherNS, thirdNS} {
		r.Places[netns].Sysctls = map[string]string{}
	}
	return r
}

// sentOnBridge is a SYN of pod A to pod B that pod A's stack sent, and that came in by
// vetha.
func sentOnBridge(reason, function string, more func(*model.Packet)) *model.Packet {
	return dead(reason, function, func(p *model.Packet) {
		p.Hops = []model.Hop{
			{Stage: model.StageTransmit, Netns: podNS, Place: "default/a", Interface: "eth0", IfIndex: 2},
			{Stage: model.StageReceive, Netns: nodeNS, Place: "node", Interface: "vetha", IfIndex: 11},
		}
		p.Drop.Interface, p.Drop.IfIndex, p.Drop.Stage = "vetha", 11, model.StageBridge
		if more != nil {
			more(p)
		}
	})
}

// inPod moves a death into a pod.
func inPod(netns uint32, place string) func(*model.Packet) {
	return func(p *model.Packet) {
		p.Drop.Netns, p.Drop.Place, p.Drop.Interface, p.Drop.IfIndex, p.Drop.Stage = netns, place, "eth0", 2, model.StageReceive
		p.Hops = append(p.Hops, model.Hop{Stage: model.StageReceive, Netns: netns, Place: place, Interface: "eth0", IfIndex: 2})
	}
}

// withFrame gives the packet's last hop its bytes, for a destination MAC.
func withFrame(mac string, more func(*model.Packet)) func(*model.Packet) {
	return func(p *model.Packet) {
		more(p)
		raw := make([]byte, 34)
		for i, octet := range strings.Split(mac, ":") {
			raw[i] = byte(strings.Index("0123456789abcdef", octet[:1])<<4 | strings.Index("0123456789abcdef", octet[1:]))
		}
		p.Hops[len(p.Hops)-1].Frame = &model.Frame{LinkType: 1, Bytes: raw, Length: 74}
	}
}

// ofNode changes what the node has.
func ofNode(change func(p *recordedPlace)) func(*recorded) {
	return func(r *recorded) { change(r.Places[nodeNS]) }
}

// ports changes ports of the bridge.
func ports(change func(*node.BridgePort), indexes ...int) func(*recorded) {
	return ofNode(func(p *recordedPlace) {
		for i := range p.Ports {
			if slices.Contains(indexes, p.Ports[i].LinkIndex) {
				change(&p.Ports[i])
			}
		}
	})
}

func all(changes ...func(*recorded)) func(*recorded) {
	return func(r *recorded) {
		for _, c := range changes {
			c(r)
		}
	}
}

// unlearned takes a MAC out of the bridge's table.
func unlearned(mac string) func(*recorded) {
	return ofNode(func(p *recordedPlace) {
		p.Neighbors = slices.DeleteFunc(p.Neighbors, func(n node.Neighbor) bool { return n.Bridge && n.MAC == mac })
	})
}

// held changes what pod A holds of an address.
func held(addr netip.Addr, mac string, state int) func(*recorded) {
	return func(r *recorded) {
		for i := range r.Places[podNS].Neighbors {
			if n := &r.Places[podNS].Neighbors[i]; n.Addr == addr {
				n.MAC, n.State = mac, state
			}
		}
	}
}

func filtering(p *recordedPlace) {
	for i := range p.Links {
		if p.Links[i].Kind == "bridge" {
			p.Links[i].VLANFiltering = true
		}
	}
}

// says tells whether a finding has it, a sentence's beginning or not.
func says(f model.Finding, part string) bool {
	return strings.Contains(strings.ToLower(words(f)), strings.ToLower(part))
}

func TestLayer2(t *testing.T) {
	freed := func(more func(*model.Packet)) *model.Packet {
		return sentOnBridge("NOT_SPECIFIED", "br_handle_frame_finish+0x380", more)
	}
	toItself := func(p *model.Packet) { p.Dst = podA }
	toNode := func(p *model.Packet) { p.Dst = gateway }
	back := func(p *model.Packet) { // from the node itself to pod B
		p.Src = node1
		p.Hops = []model.Hop{{Stage: model.StageTransmit, Netns: nodeNS, Place: "node", Interface: "cni0", IfIndex: 10}}
		p.Drop.Interface, p.Drop.IfIndex = "cni0", 10
	}
	noARP := func(p *model.Packet) {
		p.Drop.Netns, p.Drop.Place, p.Drop.Interface, p.Drop.IfIndex, p.Drop.Stage = podNS, "default/a", "eth0", 2, model.StageNeighbor
		p.Hops = nil
	}
	vlan := func(id uint16) func(*node.BridgePort) {
		return func(p *node.BridgePort) { p.VLANs = []node.PortVLAN{{ID: id, PVID: true, Untagged: true}} }
	}
	fromTunnel := func(p *model.Packet) {
		p.Src, p.Drop.Interface, p.Drop.IfIndex, p.Drop.Stage = remote, "flannel.1", 3, model.StageReceive
		p.Hops = []model.Hop{{Stage: model.StageDecapsulate, Netns: nodeNS, Place: "node", Interface: "flannel.1", IfIndex: 3, Tunnel: &model.Tunnel{Kind: "vxlan", VNI: 1, Src: node2, Dst: node1}},
			{Stage: model.StageReceive, Netns: nodeNS, Place: "node", Interface: "flannel.1", IfIndex: 3}}
	}
	intoTunnel := func(p *model.Packet) {
		p.Dst, p.Drop.Interface, p.Drop.IfIndex, p.Drop.Stage = remote, "eth0", 2, model.StageNeighbor
		p.Hops = []model.Hop{{Stage: model.StageRoute, Netns: nodeNS, Place: "node", Interface: "cni0", IfIndex: 10, Route: &model.Route{Type: "unicast", Interface: "flannel.1", IfIndex: 3, Gateway: vtep2.String()}},
			{Stage: model.StageTransmit, Netns: nodeNS, Place: "node", Interface: "flannel.1", IfIndex: 3}}
	}
	fromOutside := func(p *model.Packet) {
		p.Src, p.Drop.Interface, p.Drop.IfIndex = remote, "eth0", 2
		p.Hops = []model.Hop{{Stage: model.StageReceive, Netns: nodeNS, Place: "node", Interface: "eth0", IfIndex: 2}}
	}
	for name, tc := range map[string]struct {
		packet *model.Packet
		fault  func(*recorded) // nil: the packet itself is it
		code   string
		says   string
		sure   string
		never  string
		twin   *model.Packet // where the packet is the fault
		same   string        // what the twin is told as; "": unexplained-drop
	}{
		"hairpin": {packet: freed(toItself), fault: ports(func(p *node.BridgePort) { p.Hairpin = false }, 11),
			code: "bridge-port", says: "bridge link set dev vetha hairpin on", sure: Likely},
		"isolated": {packet: freed(nil), fault: ports(func(p *node.BridgePort) { p.Isolated = true }, 11, 12),
			code: "bridge-port", says: "vetha and vethb of bridge cni0 are both isolated", sure: Likely},
		"learning": {packet: sentOnBridge("BRIDGE_INGRESS_STP_STATE", "br_handle_frame_finish+0x1", nil), fault: ports(func(p *node.BridgePort) { p.State = node.PortLearning }, 11),
			code: "bridge-port", says: "bridge link: vetha master cni0 state learning", sure: Certain},
		"out blocked": {packet: freed(nil), fault: ports(func(p *node.BridgePort) { p.State = node.PortBlocking }, 12),
			code: "bridge-port", says: "port vethb of bridge cni0 is in state blocking, so it sends no frames out", sure: Likely},
		"out blocked, from the node": {packet: sentOnBridge("NOT_SPECIFIED", "br_forward+0x1", back), fault: ports(func(p *node.BridgePort) { p.State = node.PortBlocking }, 12),
			code: "bridge-port", says: "sends no frames out", sure: Likely},
		"locked": {packet: freed(nil), fault: all(ports(func(p *node.BridgePort) { p.Locked = true }, 11), unlearned(macA)),
			code: "bridge-port", says: "does not hold the sender's MAC " + macA, sure: Likely},
		"other VLAN": {packet: freed(nil), fault: all(ofNode(filtering), ports(vlan(20), 12)),
			code: "bridge-port", says: "the frame is in VLAN 1, that of vetha, but port vethb of bridge cni0 is not in it (is in VLAN 20 PVID untagged)", sure: Likely},
		"no VLAN": {packet: sentOnBridge("NOT_SPECIFIED", "__allowed_ingress+0x1", nil), fault: all(ofNode(filtering), ports(func(p *node.BridgePort) { p.VLANs = nil }, 11)),
			code: "bridge-port", says: "port vetha of bridge cni0 has no VLAN for frames without a tag", sure: Likely},
		"node in another VLAN": {packet: sentOnBridge("NOT_SPECIFIED", "br_pass_frame_up+0x1", toNode), fault: all(ofNode(filtering), ports(vlan(30), 10)),
			code: "bridge-port", says: "the node's own side of bridge cni0 is not in it", sure: Likely},
		"unflooded": {packet: sentOnBridge("NO_TX_TARGET", "br_flood+0x1", nil), fault: all(ports(func(p *node.BridgePort) { p.Flood = false }, 12), unlearned(macB)),
			code: "bridge-port", says: "bridge fdb: no entry of " + macB, sure: Likely},
		"unflooded, and a stranger got it": {packet: sentOnBridge("OTHERHOST", "ip_rcv_core+0x1", inPod(thirdNS, "default/c")), fault: all(ports(func(p *node.BridgePort) { p.Flood = false }, 12), unlearned(macB)),
			code: "bridge-port", says: "vethb", sure: Likely},
		"isolated, cold": {packet: sentOnBridge("NEIGH_FAILED", "neigh_invalidate+0x1", noARP), fault: ports(func(p *node.BridgePort) { p.Isolated = true }, 11, 12),
			code: "bridge-port", says: "requests of ARP or neighbour discovery do not pass either", sure: Likely, same: "neighbor-failed"},
		"the answer is not let in": {packet: sentOnBridge("NEIGH_FAILED", "neigh_invalidate+0x1", noARP), fault: all(ports(func(p *node.BridgePort) { p.Locked = true }, 12), unlearned(macB)),
			code: "bridge-port", says: "port vethb of bridge cni0 is locked", sure: Likely, same: "neighbor-failed"},

		"nobody's MAC": {packet: sentOnBridge("OTHERHOST", "ip_rcv_core+0x1", inPod(thirdNS, "default/c")), fault: held(podB, macNobody, permanent),
			code: "stale-neighbor", says: "the entry is permanent, so it does not mend itself: in default/a: ip neigh del 10.244.1.3 dev eth0", sure: Likely},
		"nobody's MAC, and nobody got it": {packet: sentOnBridge("NO_TX_TARGET", "br_flood+0x1", nil), fault: held(podB, macNobody, reachable),
			code: "stale-neighbor", says: "MAC " + macNobody + ", which no interface there has", sure: Likely},
		"seen in the frame": {packet: sentOnBridge("OTHERHOST", "ip_rcv_core+0x1", withFrame(macNobody, inPod(thirdNS, "default/c"))),
			code: "stale-neighbor", says: "to MAC " + macNobody, sure: Certain, twin: sentOnBridge("OTHERHOST", "ip_rcv_core+0x1", withFrame(macB, inPod(thirdNS, "default/c")))},
		"third pod's MAC": {packet: sentOnBridge("IP_INADDRERRORS", "ip_error+0x94", inPod(thirdNS, "default/c")), fault: held(podB, macC, 0x04),
			code: "stale-neighbor", says: "which is that of eth0 of default/c (behind vethc)", sure: Likely, never: "ip_forward=1", same: "ip-forward-off"},
		"bridge's MAC": {packet: sentOnBridge("OTHERHOST", "ip_rcv_core+0x1", func(p *model.Packet) {
			inPod(otherNS, "default/b")(p)
			p.Dst = remote
		}), fault: held(gateway, macNobody, reachable), code: "stale-neighbor", says: "cni0 of this node has " + macBridge, sure: Likely},
		"wrong port": {packet: sentOnBridge("OTHERHOST", "ip_rcv_core+0x1", inPod(thirdNS, "default/c")), fault: ofNode(func(p *recordedPlace) { p.Neighbors[1].LinkIndex = 13 }),
			code: "stale-neighbor", says: "sends frames for MAC " + macB + " by vethc", sure: Likely},
		"uplink's MAC": {packet: dead("OTHERHOST", "ip_rcv_core+0x1", fromOutside), code: "stale-neighbor", says: "who sent it holds another MAC for this node", sure: Likely,
			twin: dead("OTHERHOST", "ip_rcv_core+0x1", func(p *model.Packet) { fromOutside(p); p.Dst = node2 })},

		"tunnel's MAC": {packet: dead("OTHERHOST", "ip_rcv_core+0x1", fromTunnel), code: "vxlan-broken", says: "on node 172.30.0.2: ip neigh show dev flannel.1; the entry of 10.244.1.0 has to be " + macTunnel, sure: Certain,
			twin: dead("IP_RPFILTER", "ip_rcv_finish_core+0x1", fromTunnel), same: "rp-filter"},
		"tunnel's MAC, in the frame": {packet: dead("OTHERHOST", "ip_rcv_core+0x1", withFrame(macNobody, fromTunnel)), code: "vxlan-broken", says: "is for MAC " + macNobody + ", but flannel.1 of this node has " + macTunnel, sure: Certain,
			twin: dead("IP_RPFILTER", "ip_rcv_finish_core+0x1", fromTunnel), same: "rp-filter"},
		"tunnel to nobody": {packet: dead("NEIGH_FAILED", "neigh_invalidate+0x1", intoTunnel), code: "vxlan-broken", says: "bridge fdb: 0a:00:00:00:00:f2 dev flannel.1 dst 172.30.0.2", sure: Certain, never: "for the gateway 10.244.2.0",
			twin: dead("NEIGH_FAILED", "neigh_invalidate+0x1", func(p *model.Packet) { intoTunnel(p); p.Hops, p.Dst = nil, node2 }), same: "neighbor-failed"},
	} {
		t.Run(name, func(t *testing.T) {
			state := bridgedNode()
			if tc.fault != nil {
				tc.fault(state)
			}
			for _, netns := range []uint32{nodeNS, podNS, otherNS, thirdNS} {
				state.Places[netns].Sysctls["ipv4/ip_forward"] = "1"
			}
			found := diagnoseAll(t, state, tc.packet)
			if len(found) != 1 {
				t.Fatalf("%d findings, want one: %+v", len(found), found)
			}
			f := found[0]
			if f.Code != tc.code || f.Confidence != tc.sure || !says(f, tc.says) || tc.never != "" && strings.Contains(words(f), tc.never) {
				t.Errorf("told %s (%s), want %s (%s) saying %q and never %q:\n%s", f.Code, f.Confidence, tc.code, tc.sure, tc.says, tc.never, words(f))
			}
			twin := tc.twin
			if twin == nil {
				twin = tc.packet
			}
			for _, f := range diagnoseAll(t, bridgedNode(), twin) {
				if same := cmp.Or(tc.same, "unexplained-drop"); f.Code != same {
					t.Errorf("the twin is told as %s, want %s: %s", f.Code, same, words(f))
				}
			}
		})
	}
}

// Where the kernel hides its symbols, what a port was to send is not taken for what
// it let in: a frame too long for vethb is no hairpin.
func TestHiddenBridge(t *testing.T) {
	state := bridgedNode()
	ports(func(p *node.BridgePort) { p.Hairpin = false }, 11, 12, 13)(state)
	out := sentOnBridge("NOT_SPECIFIED", "0xffffffff81a3c2d1", func(p *model.Packet) { p.Drop.Interface, p.Drop.IfIndex, p.Drop.Stage = "vethb", 12, "" })
	for _, f := range diagnoseAll(t, state, out) {
		if f.Code != "unexplained-drop" {
			t.Errorf("told %s: %s", f.Code, words(f))
		}
	}
	itself := sentOnBridge("NOT_SPECIFIED", "0xffffffff81a3c2d1", func(p *model.Packet) { p.Dst, p.Drop.Stage = podA, "" })
	if found := diagnoseAll(t, state, itself); len(found) != 1 || found[0].Code != "bridge-port" || found[0].Confidence != Likely {
		t.Errorf("a hairpin is told as %+v", found)
	}
}

// A node that answers by proxy ARP needs four things; what is missing is told, and
// never that it answers.
func TestSilentProxy(t *testing.T) {
	ask := func() *model.Packet {
		return dead("NEIGH_FAILED", "neigh_invalidate+0x1", func(p *model.Packet) {
			p.Drop.Netns, p.Drop.Place, p.Drop.Interface, p.Drop.IfIndex, p.Hops = podNS, "default/a", "eth0", 2, nil
		})
	}
	set := func(sysctls ...string) func(*recorded) {
		return func(r *recorded) {
			for i := 0; i < len(sysctls); i += 2 {
				r.Places[nodeNS].Sysctls[sysctls[i]] = sysctls[i+1]
			}
		}
	}
	unroute := func(dst string) func(*recorded) {
		return ofNode(func(p *recordedPlace) {
			p.Routes = slices.DeleteFunc(p.Routes, func(r node.Route) bool { return r.Dst.String() == dst })
		})
	}
	route := func(r node.Route) func(*recorded) {
		return ofNode(func(p *recordedPlace) { p.Routes = append(p.Routes, r) })
	}
	gatewayBy := func(link, kind int) node.Route {
		return node.Route{Dst: netip.PrefixFrom(calicoGateway, 32), LinkIndex: link, Table: unix.RT_TABLE_MAIN, Type: kind}
	}
	for name, tc := range map[string]struct {
		fault func(*recorded)
		code  string
		says  string
	}{
		"forwarding off":             {set("ipv4/ip_forward", "0", "ipv4/conf/calia/forwarding", "0"), "ip-forward-off", "IPv4 forwarding is off on this node (net.ipv4.ip_forward = 0), and then it does not answer by proxy ARP"},
		"forwarding off on the link": {set("ipv4/conf/calia/forwarding", "0"), "ip-forward-off", "sysctl -w net.ipv4.conf.calia.forwarding=1"},
		"proxy_arp off":              {set("ipv4/conf/calia/proxy_arp", "0"), "neighbor-failed", "proxy_arp is off on calia"},
		"proxy_arp on for all":       {set("ipv4/conf/calia/proxy_arp", "0", "ipv4/conf/all/proxy_arp", "1"), "neighbor-failed", "what proxy ARP needs is there"},
		"no route":                   {unroute("0.0.0.0/0"), "neighbor-failed", "this node has no route that covers 169.254.1.1, and proxy ARP on calia"},
		"route by the link itself":   {route(gatewayBy(4, unix.RTN_UNICAST)), "neighbor-failed", "leads back by calia itself"},
		"route by itself, pvlan":     {all(route(gatewayBy(4, unix.RTN_UNICAST)), set("ipv4/conf/calia/proxy_arp_pvlan", "1")), "neighbor-failed", "what proxy ARP needs is there"},
		"route that refuses":         {route(gatewayBy(0, unix.RTN_BLACKHOLE)), "neighbor-failed", "which leads nowhere"},
		"strict filter":              {all(set("ipv4/conf/calia/rp_filter", "1"), unroute("10.244.1.2/32")), "rp-filter", "the way back to 10.244.1.2: default via 172.30.0.254 dev eth0"},
		"strict filter, route there": {set("ipv4/conf/calia/rp_filter", "1"), "neighbor-failed", "what proxy ARP needs is there"},
		"loose filter":               {all(set("ipv4/conf/calia/rp_filter", "2"), unroute("10.244.1.2/32")), "neighbor-failed", "what proxy ARP needs is there"},
		"all is right":               {func(*recorded) {}, "neighbor-failed", "not known: why it does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			state := madeNode()
			set("ipv4/conf/calia/forwarding", "1", "ipv4/conf/calia/proxy_arp", "1", "ipv4/conf/calia/rp_filter", "0", "ipv4/conf/all/rp_filter", "0")(state)
			tc.fault(state)
			found := diagnoseAll(t, state, ask())
			if len(found) != 1 || found[0].Code != tc.code || !says(found[0], tc.says) {
				t.Fatalf("want %s saying %q: %+v", tc.code, tc.says, found)
			}
			for _, never := range []string{"the node answers for it", "rp_filter=2"} {
				if strings.Contains(words(found[0]), never) {
					t.Errorf("says %q:\n%s", never, words(found[0]))
				}
			}
		})
	}
}

// A pod whose loopback is down gets what comes from outside all the same.
func TestLoopbackDown(t *testing.T) {
	state := madeNode()
	state.Places[otherNS].Links = append(state.Places[otherNS].Links, node.Link{Index: 1, Name: "lo", Loopback: true, Addrs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}})
	p := dead("NO_SOCKET", "tcp_v4_rcv+0x1", func(p *model.Packet) {
		inPod(otherNS, "default/b")(p)
		p.Hops = append(p.Hops, model.Hop{Stage: model.StageRoute, Netns: otherNS, Route: &model.Route{Type: "local", Interface: "lo", IfIndex: 1}}, model.Hop{Stage: model.StageAnswer, Netns: otherNS, Answer: "tcp-reset"})
		p.Outcome = model.Rejected
	})
	if found := diagnoseAll(t, state, p); len(found) != 1 || found[0].Code != "no-listener" || strings.Contains(words(found[0]), "lo ") {
		t.Errorf("told %+v", found)
	}
	// the pod's own end that is down is told, though the node's end is up
	state = madeNode()
	state.Places[otherNS].Links[0].Up = false
	if found := diagnoseAll(t, state, dead("NOT_SPECIFIED", "veth_xmit+0x1", nil)); len(found) != 1 || found[0].Code != "interface-down" || !strings.Contains(found[0].Summary, "behind calib") {
		t.Errorf("told %+v", found)
	}
}
