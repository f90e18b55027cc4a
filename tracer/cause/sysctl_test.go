// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// twoPorts reads two addresses with ports.
func twoPorts(two string) (a, b netip.AddrPort) {
	first, second, _ := strings.Cut(two, " ")
	return netip.MustParseAddrPort(first), netip.MustParseAddrPort(second)
}

// Settings that refuse a packet, limits that are reached, and pairs of two MTUs; each
// with a twin in which the setting is another.
func TestSettings(t *testing.T) {
	set := func(all ...string) func(*recorded) {
		return func(r *recorded) {
			for i := 0; i < len(all); i += 2 {
				r.Places[nodeNS].Sysctls[all[i]] = all[i+1]
			}
		}
	}
	toLoopback := func(p *model.Packet) {
		after := model.Endpoints{Src: p.Src, SrcPort: p.SrcPort, Dst: netip.MustParseAddr("127.0.0.1"), DstPort: 8080}
		p.Hops = append(p.Hops, model.Hop{Stage: model.StageNAT, Netns: nodeNS, Place: "node", Before: &model.Endpoints{Src: p.Src, Dst: p.Dst, DstPort: 80}, After: &after})
	}
	large := func(p *model.Packet) {
		p.Length, p.Drop.Netns, p.Drop.Place, p.Drop.Interface, p.Drop.IfIndex = 4000, podNS, "default/a", "eth0", 2
	}
	wide := func(r *recorded) { r.Places[podNS].Links[0].MTU = 9000 }
	for name, tc := range map[string]struct {
		reason, function string
		packet           func(*model.Packet)
		node             func(*recorded)
		code, sure       string
		says             []string
	}{
		"route_localnet": {"IP_LOCALNET", "ip_rcv_finish_core+0x1", toLoopback, set("ipv4/conf/calia/route_localnet", "0", "ipv4/conf/all/route_localnet", "0"), "sysctl-drop", Certain,
			[]string{"route_localnet is 0 there", "net.ipv4.conf.calia.route_localnet = 0", "translates 10.244.1.3 to 127.0.0.1"}},
		"route_localnet that is set by now": {"IP_LOCALNET", "ip_rcv_finish_core+0x1", toLoopback, set("ipv4/conf/calia/route_localnet", "1", "ipv4/conf/all/route_localnet", "0"), "sysctl-drop", Certain,
			[]string{"route_localnet was 0 there", "it is set by now"}},
		"route_localnet before there was a reason": {"NOT_SPECIFIED", "ip_rcv_finish_core+0x1", toLoopback, set("ipv4/conf/calia/route_localnet", "0", "ipv4/conf/all/route_localnet", "0"), "sysctl-drop", Likely,
			[]string{"not known: the kernel gives no reason"}},
		"a loopback source": {"IP_LOCALNET", "ip_rcv_finish_core+0x1", func(p *model.Packet) { p.Src = netip.MustParseAddr("127.0.0.1") }, nil, "sysctl-drop", Certain,
			[]string{"refuses 127.0.0.1 as a source"}},
		"an old kernel, no loopback address": {"NOT_SPECIFIED", "ip_rcv_finish_core+0x1", nil, nil, "unexplained-drop", Likely, nil},
		"IPv6 disabled": {"IPV6DISABLED", "ip6_rcv_core+0x1", nil, set("ipv6/conf/calia/disable_ipv6", "1", "ipv6/conf/all/disable_ipv6", "0"), "sysctl-drop", Certain,
			[]string{"IPv6 is disabled on node (calia)", "net.ipv6.conf.calia.disable_ipv6 = 1"}},
		"IPv6 disabled, and on again": {"IPV6DISABLED", "ip6_rcv_core+0x1", nil, set("ipv6/conf/calia/disable_ipv6", "0"), "sysctl-drop", Certain,
			[]string{"not known: which setting it was"}},
		"unicast to all": {"UNICAST_IN_L2_MULTICAST", "ip_rcv_finish_core+0x1", nil, set("ipv4/conf/all/drop_unicast_in_l2_multicast", "1"), "sysctl-drop", Certain,
			[]string{"net.ipv4.conf.all.drop_unicast_in_l2_multicast = 1"}},
		"own address as a source": {"IP_LOCAL_SOURCE", "ip_rcv_finish_core+0x1", func(p *model.Packet) { p.Src = node1 }, set("ipv4/conf/calia/accept_local", "0", "ipv4/conf/all/accept_local", "0"), "rp-filter", Certain,
			[]string{"refuses 172.30.0.1 as a source (martian source)", "eth0 of this node has 172.30.0.1 itself", "net.ipv4.conf.calia.accept_local = 0", "arping -D -I calia 172.30.0.1"}},
		"own address, before there was a reason": {"NOT_SPECIFIED", "ip_rcv_finish_core+0x1", func(p *model.Packet) { p.Src = node1 }, nil, "rp-filter", Likely, []string{"martian source", "gives no reason"}},
		"options, before there was a reason for the rest": {"NOT_SPECIFIED", "ip_rcv_finish_core+0x1", func(p *model.Packet) {
			p.Hops = append(p.Hops, model.Hop{Stage: model.StageRoute, Netns: nodeNS, Place: "node", Route: &model.Route{Type: "unicast"}})
		}, set("ipv4/conf/calia/accept_source_route", "1", "ipv4/conf/all/accept_source_route", "0"), "sysctl-drop", Likely, []string{"a source route most likely"}},
		"own packet that came back": {"IP_LOCAL_SOURCE", "ip_rcv_finish_core+0x1", func(p *model.Packet) {
			p.Src = node1
			p.Hops = append([]model.Hop{{Stage: model.StageTransmit, Netns: nodeNS, Place: "node", Interface: "eth0", IfIndex: 2}}, p.Hops...)
		}, nil, "rp-filter", Certain, []string{"after it had left by eth0", "see who sends it back"}},
		"protocol memory": {"PROTO_MEM", "x+0x1", nil, func(r *recorded) {
			set("ipv4/tcp_mem", "1\t2\t3")(r)
			r.Places[nodeNS].Proc = map[string]string{"sockstat": "sockets: used 9\nTCP: inuse 1 orphan 0 tw 0 alloc 1 mem 4\nUDP: inuse 0 mem 0\n"}
		}, "queue-full", Certain, []string{"net.ipv4.tcp_mem is 1 2 3", "/proc/net/sockstat: TCP: inuse 1"}},
		"CPU backlog": {"CPU_BACKLOG", "enqueue_to_backlog+0x1", nil, func(r *recorded) {
			set("core/netdev_max_backlog", "1000")(r)
			r.Places[nodeNS].Proc = map[string]string{"softnet_stat": "00000009 0000000a 00\n00000001 00000000 00\n00000002 00000001 00\n"}
		}, "queue-full", Certain, []string{"net.core.netdev_max_backlog = 1000", "11 dropped so far, on 2 CPUs"}},
		"a qdisc of 7.1": {"QDISC_DROP_OVERLIMIT", "x+0x1", nil, nil, "queue-full", Certain, []string{"queueing discipline"}},
		"veth pair of two MTUs": {"NOT_SPECIFIED", "__dev_forward_skb2+0x1", large, wide, "mtu", Likely,
			[]string{"calia on this node has an MTU of 1450, eth0 has 9000", "nobody is told"}},
		"veth pair whose other end takes it": {"NOT_SPECIFIED", "__dev_forward_skb2+0x1", large, func(r *recorded) {
			wide(r)
			r.Places[nodeNS].Links[2].MTU = 9000
		}, "unexplained-drop", Likely, nil},
	} {
		t.Run(name, func(t *testing.T) {
			state := madeNode()
			if tc.node != nil {
				tc.node(state)
			}
			found := diagnoseAll(t, state, dead(tc.reason, tc.function, tc.packet))
			if len(found) != 1 || found[0].Code != tc.code || found[0].Confidence != tc.sure {
				t.Fatalf("told %+v, want %s, %s", found, tc.code, tc.sure)
			}
			for _, says := range tc.says {
				if !strings.Contains(words(found[0]), says) {
					t.Errorf("does not say %q:\n%s", says, words(found[0]))
				}
			}
		})
	}
}

// A source route is a guess, and only where what else it may be has a reason.
func TestSourceRoute(t *testing.T) {
	for release, want := range map[string]string{"6.18.44-x": "sysctl-drop", "6.13.0": "sysctl-drop", "6.12.9": "unexplained-drop", "": "unexplained-drop"} {
		for _, accepted := range []string{"0", "1"} {
			state := madeNode()
			state.Places[nodeNS].Sysctls["ipv4/conf/all/accept_source_route"] = accepted
			state.Places[nodeNS].Sysctls["ipv4/conf/calia/accept_source_route"] = "1"
			c := New(state, nil)
			c.Start(&model.Start{Type: model.TypeStart, Kernel: release})
			c.Packet(dead("NOT_SPECIFIED", "ip_rcv_finish_core+0x1", nil))
			found := c.Findings()
			if accepted == "1" {
				want = "unexplained-drop"
			}
			if len(found) != 1 || found[0].Code != want || found[0].Confidence != Likely {
				t.Errorf("%s, accept_source_route %s: told %+v, want %s", release, accepted, found, want)
			}
		}
	}
}
