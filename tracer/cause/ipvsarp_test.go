// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// TestStrictARP: a balancer's address that every node answers for is told with what it
// leads to; one that is not told by ARP, or not asked for by it, is not.
func TestStrictARP(t *testing.T) {
	balancer := netip.MustParseAddrPort("172.30.0.100:80")
	from := func(iface string, index uint32) func(*model.Packet) {
		return func(p *model.Packet) {
			p.Src, p.Dst, p.DstPort = netip.MustParseAddr("172.30.0.254"), balancer.Addr(), balancer.Port()
			for i := range p.Hops {
				p.Hops[i].Interface, p.Hops[i].IfIndex = iface, index
			}
			p.Drop.Interface, p.Drop.IfIndex = iface, index
		}
	}
	empty := func(p *model.Packet) { wasTold("icmp-port-unreachable")(p); from("eth0", 2)(p) }
	node1 := func(service netip.AddrPort, servers ...node.RealServer) *recorded {
		r := madeNode()
		ipvsWith()(r)
		p := r.Places[nodeNS]
		p.Links[len(p.Links)-1].Addrs = []netip.Prefix{netip.PrefixFrom(service.Addr(), 32)}
		p.Balanced.services = []node.VirtualService{{Proto: "tcp", Addr: service, Scheduler: "rr"}}
		p.Balanced.servers = map[string][]node.RealServer{service.String(): servers}
		for _, name := range []string{"all", "eth0", "calia"} {
			p.Sysctls["ipv4/conf/"+name+"/arp_ignore"] = "0"
		}
		return r
	}
	const answers = "this node answers ARP for 172.30.0.100 on eth0, since it has it on kube-ipvs0 (arp_ignore is 0)"
	for name, tc := range map[string]struct {
		packet *model.Packet
		state  *recorded
		change func(p *recordedPlace)
		code   string
		told   bool
	}{
		"no real server here":     {inINPUT(empty), node1(balancer), nil, "service-no-backend", true},
		"strict":                  {inINPUT(empty), node1(balancer), func(p *recordedPlace) { p.Sysctls["ipv4/conf/all/arp_ignore"] = "1" }, "service-no-backend", false},
		"strict on the interface": {inINPUT(empty), node1(balancer), func(p *recordedPlace) { p.Sysctls["ipv4/conf/eth0/arp_ignore"] = "1" }, "service-no-backend", false},
		"its own on eth0, too": {inINPUT(empty), node1(balancer), func(p *recordedPlace) {
			p.Links[0].Addrs = append(p.Links[0].Addrs, netip.PrefixFrom(balancer.Addr(), 32))
		}, "service-no-backend", false},
		"routed, not asked for": {inINPUT(empty), node1(balancer), func(p *recordedPlace) { p.Links[0].Addrs = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")} }, "service-no-backend", false},
		"a pod asks":            {inINPUT(func(p *model.Packet) { wasTold("icmp-port-unreachable")(p); from("calia", 4)(p) }), node1(balancer), nil, "service-no-backend", false},
		"a connection from another node": {dead("NO_SOCKET", "tcp_v4_rcv+0x1", func(p *model.Packet) {
			p.TCPFlags = "P."
			wasTold("tcp-reset")(p)
			from("eth0", 2)(p)
		}), node1(balancer, server(podBServer, 1)), nil, "ipvs-unknown", true},
		"a rule drops it": {inINPUT(func(p *model.Packet) {
			from("eth0", 2)(p)
			p.Drop.Family, p.Drop.Table, p.Drop.Chain, p.Drop.Backend = "ip", "filter", "INPUT", "legacy"
			p.Drop.Rule, p.Drop.RuleSource = &model.Rule{Family: "ip", Table: "filter", Chain: "INPUT", Number: 1, Text: "-A INPUT -p tcp --dport 80 -j DROP"}, model.RuleExact
		}), node1(balancer, server(podBServer, 1)), nil, "rule-drop", true},
	} {
		if tc.change != nil {
			tc.change(tc.state.Places[nodeNS])
		}
		found := diagnoseAll(t, tc.state, tc.packet)
		if len(found) != 1 || found[0].Code != tc.code {
			t.Errorf("%s: %+v, want %s", name, found, tc.code)
			continue
		}
		says := words(found[0])
		if strings.Contains(says, answers) != tc.told || tc.told && (!strings.Contains(says, "ip addr: kube-ipvs0 has 172.30.0.100\nip addr: eth0 has 172.30.0.1/24\nnet.ipv4.conf.all.arp_ignore = 0, net.ipv4.conf.eth0.arp_ignore = 0") || !strings.Contains(says, "strictARP")) {
			t.Errorf("%s: want it told %v:\n%s", name, tc.told, says)
		}
	}
}
