// SPDX-License-Identifier: Apache-2.0

package cause

// Tunnels other than VXLAN: each death with a twin on the same node that is in order.

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// tunnelNode is madeNode with another tunnel in place of VXLAN's: tunl0 as Calico makes
// it, unless more makes another of it.
func tunnelNode(more func(*recordedPlace)) *recorded {
	r := madeNode()
	p := r.Places[nodeNS]
	p.Links[1] = node.Link{Index: 3, Name: "tunl0", Kind: "ipip", Up: true, Carrier: true, MTU: 1480, Addrs: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/32")}}
	p.Routes[1].Gateway = node2
	p.Routes = append(p.Routes, node.Route{Dst: netip.MustParsePrefix("172.30.0.0/24"), LinkIndex: 2, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST})
	if more != nil {
		more(p)
	}
	return r
}

// intoIPIP is a packet for another node's pod that died on its way into tunl0.
func intoIPIP(reason, function string, more func(*model.Packet)) *model.Packet {
	return dead(reason, function, func(p *model.Packet) {
		p.Dst = remote
		p.Drop.Stage, p.Drop.Interface, p.Drop.IfIndex = model.StageEncapsulate, "tunl0", 3
		if more != nil {
			more(p)
		}
	})
}

// inside wraps a packet, and has it die in a hook of the node.
func inside(outer model.Tunnel, hook, rule string) *model.Packet {
	return intoIPIP("NETFILTER_DROP", "nf_hook_slow+0x1", func(p *model.Packet) {
		byRule(hook, rule, "")(p)
		p.Drop.Hook, p.Drop.Interface, p.Drop.IfIndex = hook, "eth0", 2
		p.Hops = append(p.Hops, model.Hop{Stage: model.StageEncapsulate, Netns: nodeNS, Place: "node", Interface: "tunl0", IfIndex: 3, Tunnel: &outer})
	})
}

// cameIn is a packet of another node's pod that died before it came out of the tunnel.
func cameIn(reason, function string, more func(*model.Packet)) *model.Packet {
	return dead(reason, function, func(p *model.Packet) {
		p.Drop.Tunnel = &model.Tunnel{Kind: "ipip", Src: node2, Dst: node1}
		p.Src, p.Dst = remote, podA
		p.Drop.Interface, p.Drop.IfIndex, p.Drop.Stage = "eth0", 2, model.StageDecapsulate
		p.Hops[0].Interface, p.Hops[0].IfIndex = "eth0", 2
		if more != nil {
			more(p)
		}
	})
}

func TestTunnels(t *testing.T) {
	ipip := model.Tunnel{Kind: "ipip", Src: node1, Dst: node2}
	geneve := model.Tunnel{Kind: "geneve", Src: node1, Dst: node2, DstPort: 6081, VNI: 5}
	inInput := func(rule string) *model.Packet {
		return cameIn("NETFILTER_DROP", "nf_hook_slow+0x1", func(p *model.Packet) {
			byRule("INPUT", rule, "")(p)
			p.Drop.Hook, p.Drop.Interface, p.Drop.IfIndex = "INPUT", "eth0", 2
		})
	}
	in := func(kind string, port uint16, p *model.Packet) *model.Packet {
		p.Drop.Tunnel = &model.Tunnel{Kind: kind, Src: node2, Dst: node1, DstPort: port}
		return p
	}
	toldNobody := func(p *model.Packet) {
		p.Outcome = model.Rejected
		p.Hops = append(p.Hops, model.Hop{Stage: model.StageAnswer, Netns: nodeNS, Place: "node", Answer: "icmp-port-unreachable"})
	}
	unseen := func(p *model.Packet) *model.Packet { p.Hops[len(p.Hops)-1].Tunnel = nil; return p }
	bare := func(p *model.Packet) *model.Packet { p.Drop.Tunnel = nil; return p }
	down := func(p *recordedPlace) { p.Links[1].Up = false }
	for name, tc := range map[string]struct {
		packet     *model.Packet
		node       func(*recordedPlace)
		code, sure string
		says       []string
		never      string
	}{
		"OUTPUT drops IPIP": {inside(ipip, "OUTPUT", "-A OUTPUT -p ipencap -j DROP"), nil, "tunnel-blocked", Certain,
			[]string{"a rule of this node drops tunnel packets (IPIP, IP protocol 4)", "it was inside ipip, from 172.30.0.1 to 172.30.0.2", "let nodes reach each other by the tunnel: IP protocol 4"}, "port"},
		"OUTPUT drops Geneve": {inside(geneve, "OUTPUT", "-A OUTPUT -p udp -j DROP"), nil, "tunnel-blocked", Certain,
			[]string{"(Geneve, UDP port 6081)", "it was inside geneve, from 172.30.0.1 to 172.30.0.2 port 6081"}, ""},
		"OUTPUT drops WireGuard": {inside(model.Tunnel{Kind: "wireguard", Src: node1, Dst: node2, DstPort: 51820}, "OUTPUT", "-A OUTPUT -p udp -m udp --dport 51820 -j DROP"), nil, "tunnel-blocked", Certain,
			[]string{"(WireGuard, UDP port 51820)"}, ""},
		"OUTPUT drops VXLAN": {inside(model.Tunnel{Kind: "vxlan", Src: node1, Dst: node2, DstPort: 8472}, "OUTPUT", "-A OUTPUT -p udp -j DROP"), nil, "vxlan-blocked", Certain,
			[]string{"let nodes reach each other on the tunnel's UDP port"}, "IPIP"},
		"OUTPUT drops, by no rule that is known": {func() *model.Packet { p := inside(ipip, "OUTPUT", "x"); p.Drop.Rule = nil; return p }(), nil, "tunnel-blocked", Likely,
			[]string{"tunnel packets (IPIP, IP protocol 4) are dropped in OUTPUT of this node by table filter", "see the rules of OUTPUT for IP protocol 4: iptables-legacy-save"}, ""},
		"INPUT of unknown hosts": {inInput(`-A cali-INPUT -p ipencap -m comment --comment "cali:p8Wwvr6qydjU36AQ" -m comment --comment "Drop IPIP packets from non-Calico hosts" -m set ! --match-set cali40all-hosts-net src -j DROP`), nil,
			"tunnel-blocked", Certain, []string{"Calico", "it was inside ipip, from 172.30.0.2 to 172.30.0.1", "calicoctl get nodes -o wide"}, ""},
		"INPUT drops GRE on a node with IPIP":                    {in("gre", 0, inInput("-A INPUT -s 172.30.0.2 -j DROP")), nil, "tunnel-blocked", Certain, []string{"(GRE, IP protocol 47)"}, "IPIP"},
		"INPUT drops VXLAN on a node with IPIP":                  {in("vxlan", 4789, inInput("-A INPUT -s 172.30.0.2 -j DROP")), nil, "vxlan-blocked", Certain, []string{"it was inside vxlan, from 172.30.0.2 to 172.30.0.1 port 4789"}, "IPIP"},
		"FORWARD drops what a pod made":                          {in("ipip", 0, inside(ipip, "FORWARD", "-A FORWARD -p ipencap -j DROP")), nil, "tunnel-blocked", Certain, []string{"(IPIP, IP protocol 4)"}, ""},
		"put into a tunnel, the header was not seen":             {unseen(inside(ipip, "OUTPUT", "-A OUTPUT -j DROP")), nil, "tunnel-blocked", Certain, []string{"(IPIP, IP protocol 4)", "it was put into a tunnel, and was not seen to come out of it"}, "it was inside"},
		"INPUT, in no tunnel: a local route or TPROXY led there": {bare(inInput("-A INPUT -s 172.30.0.2 -j DROP")), nil, "rule-drop", Certain, nil, "tunnel"},
		"INPUT, in no tunnel, by a rule that asks for one":       {bare(inInput("-A INPUT -p ipencap -j DROP")), nil, "rule-drop", Certain, nil, "tunnel packet"},

		"tunl0 is down and had the route": {intoIPIP("IP_OUTNOROUTES", "ip_error+0x1", func(p *model.Packet) {
			p.Drop.Stage, p.Drop.Interface, p.Drop.IfIndex = model.StageRoute, "calia", 4
		}), func(p *recordedPlace) { down(p); p.Routes = p.Routes[2:4] }, "tunnel-broken", Likely, []string{"the tunnel interface tunl0 is set down"}, ""},
		"tunl0 that nobody uses is down": {intoIPIP("IP_INNOROUTES", "ip_error+0x1", func(p *model.Packet) {
			p.Drop.Stage, p.Drop.Interface, p.Drop.IfIndex = model.StageRoute, "calia", 4
		}), func(p *recordedPlace) { down(p); p.Links[1].Addrs, p.Routes = nil, p.Routes[2:4] }, "no-route", Certain, nil, "tunl0"},
		"no gateway": {intoIPIP("NOT_SPECIFIED", "ip_tunnel_xmit+0x1", nil), func(p *recordedPlace) { p.Routes[1].Gateway = netip.Addr{} }, "tunnel-broken", Likely,
			[]string{"the route into the tunnel tunl0 names no node", "10.244.2.0/24 dev tunl0", "ip -d link: tunl0 ipip remote any local any"}, ""},
		"foreign local address": {intoIPIP("NOT_SPECIFIED", "ip_tunnel_xmit+0x1", nil), func(p *recordedPlace) { p.Links[1].Tunnel.Local = podB }, "tunnel-broken", Likely,
			[]string{"is to send from 10.244.1.3, which is no address of this node"}, ""},
		"no route to the node": {intoIPIP("NOT_SPECIFIED", "ip_tunnel_xmit+0x1", nil), func(p *recordedPlace) { p.Routes = p.Routes[1:4] }, "tunnel-broken", Likely,
			[]string{"leads to node 172.30.0.2, to which there is no route"}, ""},
		"tunnel into itself": {intoIPIP("NOT_SPECIFIED", "ip_tunnel_xmit+0x1", nil), func(p *recordedPlace) {
			p.Links[1].Tunnel.Remote = remote
		}, "tunnel-broken", Likely, []string{"leads to node 10.244.2.3, and the route to that node leads into the tunnel itself"}, ""},
		"in order by now": {intoIPIP("NOT_SPECIFIED", "ip_tunnel_xmit+0x1", nil), nil, "unexplained-drop", Likely, []string{"no route to the remote end, or it is too large"}, ""},
		"nobody has the far end": {intoIPIP("NEIGH_FAILED", "neigh_invalidate+0x1", func(p *model.Packet) {
			p.Drop.Stage, p.Drop.Interface, p.Drop.IfIndex = model.StageNeighbor, "eth0", 2
			p.Hops = append(p.Hops, model.Hop{Stage: model.StageEncapsulate, Netns: nodeNS, Place: "node", Interface: "tunl0", IfIndex: 3, Tunnel: &ipip})
		}), nil, "tunnel-broken", Certain, []string{"the tunnel tunl0 sends what is for 10.244.2.3 to node 172.30.0.2, and nobody on node (eth0) has that address", "the way to it: rule 32766 looks up table main: 10.244.2.0/24 via 172.30.0.2 dev tunl0"}, "fdb"},

		"nothing takes IPIP, tunl0 is down": {cameIn("NOT_SPECIFIED", "tunnel4_rcv+0x1", toldNobody), down, "tunnel-broken", Certain,
			[]string{"an IPIP packet from another node, with one for 10.244.1.2 inside, came in, and the tunnel tunl0 of this node is set down"}, ""},
		"nothing takes GRE":        {cameIn("NOT_SPECIFIED", "gre_rcv+0x1", toldNobody), nil, "tunnel-broken", Certain, []string{"a GRE packet", "no tunnel of this node takes it", "this node has no interface of kind gre", "the sender was told: icmp-port-unreachable"}, "tunl0"},
		"GRE that is out of order": {cameIn("NOT_SPECIFIED", "gre_rcv+0x1", nil), nil, "tunnel-broken", Likely, []string{"its checksum, flags, sequence number or key may be wrong instead"}, "was told"},
		"IPIP that is cut off":     {cameIn("NOT_SPECIFIED", "tunnel4_rcv+0x1", nil), nil, "tunnel-broken", Likely, []string{"or it is cut off"}, "was told"},
		"GRE, and gre0 is nobody's": {cameIn("NOT_SPECIFIED", "gre_rcv+0x1", toldNobody), func(p *recordedPlace) { p.Links = append(p.Links, node.Link{Index: 9, Name: "gre0", Kind: "gre"}) }, "tunnel-broken", Certain,
			[]string{"no tunnel of this node takes it", "ip link: gre0 <DOWN>"}, "set down"},
		"module is not there": {cameIn("IP_NOPROTO", "ip_protocol_deliver_rcu+0x1", nil), func(p *recordedPlace) { p.Links = append(p.Links[:1:1], p.Links[2:]...) }, "tunnel-broken", Certain,
			[]string{"an IPIP packet from another node", "it was inside ipip, from 172.30.0.2 to 172.30.0.1", "this node has no interface of kind ipip"}, ""},
		"Geneve's port is nobody's": {in("geneve", 6081, cameIn("NO_SOCKET", "__udp4_lib_rcv+0x1", nil)), nil, "tunnel-broken", Certain,
			[]string{"a Geneve packet from another node", "this node has no interface of kind geneve"}, "listens"},
		"no such protocol, in no tunnel": {bare(cameIn("IP_NOPROTO", "ip_protocol_deliver_rcu+0x1", nil)), nil, "unexplained-drop", Likely, nil, "tunnel packet"},
		"its checksum may be wrong":      {cameIn("NOT_SPECIFIED", "ipip_rcv+0x1", nil), nil, "tunnel-broken", Likely, []string{"its checksum, flags, sequence number or key may be wrong instead"}, ""},

		"too large for the tunnel": {intoIPIP("NOT_SPECIFIED", "ip_forward+0x1", func(p *model.Packet) {
			p.Length, p.Outcome, p.Drop.Stage = 1490, model.Rejected, model.StageForward
			p.Hops = append(p.Hops, model.Hop{Stage: model.StageAnswer, Netns: nodeNS, Answer: "icmp-frag-needed"})
		}), nil, "mtu", Certain, []string{"larger than 1480 bytes, the MTU of tunl0", "at most 1480 (IPIP takes 20 bytes)"}, "VXLAN"},
		"the tunnel is too large for the way": {intoIPIP("NOT_SPECIFIED", "ip_tunnel_xmit+0x1", func(p *model.Packet) {
			p.Length, p.Outcome = 1490, model.Rejected
			p.Hops = append(p.Hops, model.Hop{Stage: model.StageAnswer, Netns: nodeNS, Answer: "icmp-frag-needed"})
		}), func(p *recordedPlace) { p.Links[1].MTU = 1500 }, "mtu", Likely, []string{"the tunnel tunl0 has an MTU of 1500, but of the 1500 bytes of eth0 IPIP takes 20 bytes", "at most 1480"}, "at least"},
		"the tunnel of GRE is too large for the way": {intoIPIP("NOT_SPECIFIED", "ip_tunnel_xmit+0x1", func(p *model.Packet) {
			p.Length, p.Outcome = 1490, model.Rejected
			p.Hops = append(p.Hops, model.Hop{Stage: model.StageAnswer, Netns: nodeNS, Answer: "icmp-frag-needed"})
		}), func(p *recordedPlace) { p.Links[1].MTU, p.Links[1].Kind = 1500, "gre" }, "mtu", Likely, []string{"GRE takes at least 24 bytes, and 4 more for each of key, checksum and sequence number"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			found := diagnoseAll(t, tunnelNode(tc.node), tc.packet)
			if len(found) != 1 || found[0].Code != tc.code || found[0].Confidence != tc.sure {
				t.Fatalf("want %s (%s): %+v", tc.code, tc.sure, found)
			}
			for _, says := range tc.says {
				if !strings.Contains(strings.ToLower(words(found[0])), strings.ToLower(says)) {
					t.Errorf("does not say %q:\n%s", says, words(found[0]))
				}
			}
			if tc.never != "" && strings.Contains(words(found[0]), tc.never) {
				t.Errorf("says %q:\n%s", tc.never, words(found[0]))
			}
		})
	}
}

// What leaves in a tunnel and is not answered is told with what has to be let through.
func TestLeftInTunnel(t *testing.T) {
	for kind, says := range map[string]string{"ipip": "see that IP protocol 4 is let through", "gre": "see that IP protocol 47 is let through", "sit": "see that IP protocol 41 is let through"} {
		found := diagnoseAll(t, tunnelNode(nil), leaving(func(p *model.Packet) {
			p.Hops[1].Interface, p.Hops[1].Tunnel = "tunl0", &model.Tunnel{Kind: kind, Src: node1, Dst: node2}
		}))
		if len(found) != 1 || found[0].Code != "left-node" || !strings.Contains(words(found[0]), says) || !strings.Contains(words(found[0]), "sent in "+kind+" to node 172.30.0.2\n") {
			t.Errorf("%s: want %q: %+v", kind, says, found)
		}
	}
	state := tunnelNode(func(p *recordedPlace) { p.Links[1].Up, p.Routes = false, append(p.Routes[:1:1], p.Routes[2:]...) })
	bare := leaving(func(p *model.Packet) { p.Hops = append(p.Hops[:1:1], p.Hops[2:]...) })
	if found := diagnoseAll(t, state, bare); len(found) != 1 || found[0].Code != "tunnel-broken" || !strings.Contains(words(found[0]), "leave by the default route instead") {
		t.Errorf("a tunnel that is down: %+v", found)
	}
	if found := diagnoseAll(t, state, bare, reply(remote, 80)); len(found) > 0 {
		t.Errorf("answered, but told %+v", found)
	}
}

// That conntrack calls the outer packet a reply says which node was heard first, and nothing
// of the packet inside: a request is one that an answer is due to.
func TestOuterReply(t *testing.T) {
	outer := model.Hop{Stage: model.StageConntrack, Netns: nodeNS, Place: "node", Interface: "eth0", Hook: "OUTPUT", CTState: "established-reply"}
	left := leaving(func(p *model.Packet) {
		p.Hops = append(p.Hops, outer)
		p.Hops[1].Interface, p.Hops[1].Tunnel = "tunl0", &model.Tunnel{Kind: "ipip", Src: node1, Dst: node2}
	})
	if found := diagnoseAll(t, tunnelNode(nil), left); len(found) != 1 || found[0].Code != "left-node" {
		t.Errorf("the outer packet is a reply: told %+v", found)
	}
	left = leaving(func(p *model.Packet) { p.Hops = slices.Insert(p.Hops, 1, outer) })
	if found := diagnoseAll(t, tunnelNode(nil), left); len(found) != 0 {
		t.Errorf("the packet itself is a reply: told %+v", found)
	}
	in := model.Hop{Stage: model.StageConntrack, Netns: nodeNS, Place: "node", Interface: "eth0", Hook: "PREROUTING", CTState: "established-reply"}
	out := model.Hop{Stage: model.StageDecapsulate, Netns: nodeNS, Place: "node", Interface: "tunl0", IfIndex: 3}
	for name, c := range map[string]struct {
		packet *model.Packet
		want   bool
	}{
		"came in a tunnel":         {&model.Packet{Hops: []model.Hop{in, out}}, false},
		"a reply out of a tunnel":  {&model.Packet{Hops: []model.Hop{in, out, in}}, true},
		"died in the tunnel":       {&model.Packet{Hops: []model.Hop{in}, Drop: &model.Drop{Tunnel: &model.Tunnel{Kind: "ipip"}}}, false},
		"a reply that died itself": {&model.Packet{Hops: []model.Hop{in}, Drop: &model.Drop{}}, true},
	} {
		if got := calledReply(c.packet); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// The bytes that each kind takes of the way's MTU.
func TestTunnelBytes(t *testing.T) {
	far6 := netip.MustParseAddr("fd00::2")
	for kind, want := range map[string][2]int{"vxlan": {50, 70}, "geneve": {50, 70}, "ipip": {20, 0}, "sit": {20, 0}, "gre": {24, 0}, "gretap": {38, 0}, "ip6tnl": {0, 48}, "ip6gre": {0, 52}, "wireguard": {60, 80}} {
		k := tunnelKindOf(&node.Link{Kind: kind})
		if k == nil {
			t.Errorf("%s is no tunnel", kind)
			continue
		}
		for i, far := range []netip.Addr{node2, far6} {
			if got := k.bytes(far); want[i] != 0 && got != want[i] {
				t.Errorf("%s over %s takes %d bytes, want %d", kind, far, got, want[i])
			}
		}
	}
	if tunnelKindOf(&node.Link{Kind: "veth"}) != nil || tunnelKindOf(nil) != nil {
		t.Error("taken for a tunnel")
	}
}
