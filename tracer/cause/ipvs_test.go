// SPDX-License-Identifier: Apache-2.0

package cause

// Services that IPVS balances, and services without endpoints, each with a twin that
// differs in the one thing that matters.

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

var (
	virtual    = netip.MustParseAddrPort("10.96.0.20:80")
	fromPodA   = netip.AddrPortFrom(podA, 40000)
	podBServer = netip.AddrPortFrom(podB, 8080)
	goneServer = netip.AddrPortFrom(gonePod, 8080)
)

// ipvsWith gives a node a service of IPVS with these real servers.
func ipvsWith(servers ...node.RealServer) func(*recorded) {
	return func(r *recorded) {
		p := r.Places[nodeNS]
		p.Links = append(p.Links, node.Link{Index: 9, Name: "kube-ipvs0", Kind: "dummy", Addrs: []netip.Prefix{netip.PrefixFrom(virtual.Addr(), 32)}})
		p.Balanced.services = []node.VirtualService{{Proto: "udp", Addr: virtual, Scheduler: "lc"}, {Proto: "tcp", Addr: virtual, Scheduler: "rr"}}
		p.Balanced.servers = map[string][]node.RealServer{virtual.String(): servers}
		p.Sysctls["ipv4/vs/expire_nodest_conn"] = "0"
	}
}

func server(at netip.AddrPort, weight uint32) node.RealServer {
	return node.RealServer{Addr: at, Method: "Masq", Weight: weight}
}

// ipvsEntry adds IPVS's entry of pod A's connection.
func ipvsEntry(r *recorded, real netip.AddrPort) {
	p := r.Places[nodeNS]
	p.Balanced.connections = []node.BalancedConnection{{Proto: "tcp", Client: fromPodA, Virtual: virtual, Real: real, State: "SYN_RECV", Expires: 59}}
}

// inINPUT is what dies in INPUT of the node on its way to the service, by no rule of it.
func inINPUT(more func(*model.Packet)) *model.Packet {
	return dead("NETFILTER_DROP", "nf_hook_slow+0x7b", func(p *model.Packet) {
		p.Dst, p.DstPort = virtual.Addr(), virtual.Port()
		p.Drop.Hook, p.Drop.Stage = "INPUT", model.StageNetfilter
		p.Hops = append(p.Hops, model.Hop{Stage: model.StageConntrack, Netns: nodeNS, Place: "node", Interface: "calia", IfIndex: 4, Hook: "PREROUTING", CTState: "new"},
			model.Hop{Stage: model.StageNetfilter, Netns: nodeNS, Place: "node", Interface: "calia", IfIndex: 4, Hook: "INPUT", Backend: "legacy", Table: "filter", Verdict: "accept"})
		if more != nil {
			more(p)
		}
	})
}

func wasTold(answer string) func(*model.Packet) {
	return func(p *model.Packet) {
		p.Outcome = model.Rejected
		p.Hops = append(p.Hops, model.Hop{Stage: model.StageAnswer, Netns: nodeNS, Place: "node", Interface: "calia", IfIndex: 4, Answer: answer})
	}
}

// inXmit is what dies when IPVS looks for the way to a real server.
func inXmit(answer string) *model.Packet {
	return inINPUT(func(p *model.Packet) {
		p.Drop.Reason, p.Drop.Function, p.Drop.Hook, p.Drop.Stage = "NOT_SPECIFIED", "ip_vs_nat_xmit+0x11d", "", ""
		wasTold(answer)(p)
	})
}

func reusing(mode string) func(*recorded) {
	return func(r *recorded) {
		r.Places[nodeNS].Sysctls["ipv4/vs/conn_reuse_mode"], r.Places[nodeNS].Sysctls["ipv4/vs/conntrack"] = mode, "1"
	}
}

func inState(state string) func(*model.Packet) {
	return func(p *model.Packet) { p.Hops[1].CTState = state }
}

func TestIPVS(t *testing.T) {
	block := func(kind int) func(*recorded) {
		return func(r *recorded) {
			r.Places[nodeNS].Routes = append(r.Places[nodeNS].Routes, node.Route{Dst: netip.MustParsePrefix("10.244.1.0/26"), Table: unix.RT_TABLE_MAIN, Type: kind, Protocol: protoFelix})
		}
	}
	for name, tc := range map[string]struct {
		packet *model.Packet
		node   []func(*recorded)
		code   string
		sure   string
		says   []string
		never  []string
	}{
		"no real server": {inINPUT(wasTold("icmp-port-unreachable")), []func(*recorded){ipvsWith()}, "service-no-backend", Certain,
			[]string{"Service 10.96.0.20:80/TCP has no real server in IPVS (scheduler rr)", "ipvsadm -Ln: TCP 10.96.0.20:80 rr, without a real server", "by none of its rules", "it takes a ready endpoint"},
			[]string{"scheduler lc", "ipvsadm -a"}},
		"one by one of the brackets": {inINPUT(func(p *model.Packet) {
			wasTold("icmp-port-unreachable")(p)
			p.Drop.Candidates = model.Candidates{{Function: "ip_vs_out_hook"}, {Function: "ip_vs_in_hook"}, {Function: "nf_nat_ipv4_local_in"}, {Backend: "legacy", Family: "ip", Table: "nat", Chain: "INPUT"}}
		}), []func(*recorded){ipvsWith()}, "service-no-backend", Certain, []string{"no real server"}, []string{"which of these tables"}},
		"a table may have": {inINPUT(func(p *model.Packet) {
			wasTold("icmp-port-unreachable")(p)
			p.Drop.Candidates = model.Candidates{{Backend: "nft", Family: "ip", Table: "fw", Chain: "in"}, {Function: "ip_vs_in_hook"}}
		}), []func(*recorded){ipvsWith()}, "rule-drop", Likely, []string{"which of these it was: ", "which IPVS balances"}, []string{"has no real server in IPVS"}},
		"weight 0": {inINPUT(wasTold("icmp-port-unreachable")), []func(*recorded){ipvsWith(server(podBServer, 0))}, "service-no-backend", Certain,
			[]string{"All real servers of service 10.96.0.20:80/TCP in IPVS have weight 0 (10.244.1.3:8080; scheduler rr)", "ipvsadm -Ln: -> 10.244.1.3:8080 Masq, weight 0"}, nil},
		"full": {inINPUT(wasTold("icmp-port-unreachable")), []func(*recorded){ipvsWith(server(podBServer, 0), node.RealServer{Addr: goneServer, Method: "Masq", Weight: 1, Upper: 2, Active: 2})}, "service-no-backend", Certain,
			[]string{"No real server of service 10.96.0.20:80/TCP in IPVS takes new connections", "--thresholds"}, nil},
		"there are by now": {inINPUT(wasTold("icmp-port-unreachable")), []func(*recorded){ipvsWith(server(podBServer, 1))}, "service-no-backend", Likely,
			[]string{"found no real server", "by now there are some: 10.244.1.3:8080", "not known: what was missing"}, nil},
		"entry to one that is gone": {inINPUT(nil), []func(*recorded){ipvsWith(server(podBServer, 1)), func(r *recorded) { ipvsEntry(r, goneServer) }}, "service-no-backend", Likely,
			[]string{"leads to 10.244.1.9:8080, which is not a real server of it any more", "expire_nodest_conn is 0", "ipvsadm -Lnc: TCP SYN_RECV 10.244.1.2:40000 10.96.0.20:80 10.244.1.9:8080; it ends in 59 s"}, nil},
		"dropped without a word": {inINPUT(nil), []func(*recorded){ipvsWith(server(podBServer, 1)), func(r *recorded) {
			r.Places[nodeNS].Sysctls["ipv4/vs/conn_reuse_mode"], r.Places[nodeNS].Sysctls["ipv4/vs/conntrack"] = "1", "1"
		}}, "unexplained-drop", Likely, []string{"service 10.96.0.20:80/TCP, which IPVS balances", "net.ipv4.vs.conn_reuse_mode = 1"}, []string{"has no real server", "last connection"}},
		"dropped, and conntrack's state not seen": {inINPUT(func(p *model.Packet) { p.Hops[1].CTState = "" }), []func(*recorded){ipvsWith(server(podBServer, 1)), reusing("1")}, "unexplained-drop", Likely, []string{"not known: whether conntrack took it for one of the last connection from its port"}, nil},
		"from a port that is not over":            {inINPUT(inState("established")), []func(*recorded){ipvsWith(server(podBServer, 1)), reusing("1")}, "ipvs-rescheduled", Likely, []string{"first segment of a connection to service 10.96.0.20:80/TCP from a port of the client's (40000)", "conntrack's state of it at node (calia): established", "net.ipv4.vs.conn_reuse_mode = 1", "net.ipv4.vs.conntrack = 1", "a second later", "ipvsadm -Ln: -> 10.244.1.3:8080"}, []string{"which IPVS balances"}},
		"reuse is off":                            {inINPUT(inState("established")), []func(*recorded){ipvsWith(server(podBServer, 1)), reusing("0")}, "unexplained-drop", Likely, nil, []string{"first segment"}},
		"not the first segment":                   {inINPUT(func(p *model.Packet) { inState("established")(p); p.TCPFlags = "P." }), []func(*recorded){ipvsWith(server(podBServer, 1)), reusing("1")}, "unexplained-drop", Likely, nil, []string{"first segment"}},
		"IPVS leaves conntrack out":               {inINPUT(inState("established")), []func(*recorded){ipvsWith(server(podBServer, 1)), reusing("1"), func(r *recorded) { r.Places[nodeNS].Sysctls["ipv4/vs/conntrack"] = "0" }}, "unexplained-drop", Likely, nil, []string{"first segment"}},
		"no service of IPVS":                      {inINPUT(func(p *model.Packet) { wasTold("icmp-port-unreachable")(p); p.DstPort = 81 }), []func(*recorded){ipvsWith()}, "unexplained-drop", Likely, nil, []string{"no real server", "which IPVS"}},
		"blackholed": {inXmit("icmp-host-unreachable"), []func(*recorded){ipvsWith(server(goneServer, 1)), func(r *recorded) { ipvsEntry(r, goneServer) }, block(unix.RTN_BLACKHOLE)}, "blackhole-route", Certain,
			[]string{"IPVS has chosen real server 10.244.1.9:8080 for service 10.96.0.20:80/TCP", "blackhole 10.244.1.0/26", "no pod of this node has 10.244.1.9", "ipvsadm -Lnc: TCP SYN_RECV"}, nil},
		"blackholed, entry closed": {inXmit("icmp-host-unreachable"), []func(*recorded){ipvsWith(server(goneServer, 1)), func(r *recorded) {
			ipvsEntry(r, goneServer)
			r.Places[nodeNS].Balanced.connections[0].State = "CLOSE"
		}, block(unix.RTN_BLACKHOLE)}, "blackhole-route", Certain, []string{"10.244.1.9:8080"}, []string{"ipvsadm -Lnc", "not known: which real server"}},
		"blackholed, entry gone": {inXmit("icmp-host-unreachable"), []func(*recorded){ipvsWith(server(goneServer, 1)), block(unix.RTN_BLACKHOLE)}, "blackhole-route", Likely,
			[]string{"10.244.1.9:8080", "not known: which real server it was for"}, nil},
		"without a route": {inXmit("icmp-host-unreachable"), []func(*recorded){ipvsWith(server(goneServer, 1)), func(r *recorded) {
			ipvsEntry(r, goneServer)
			r.Places[nodeNS].Routes = r.Places[nodeNS].Routes[1:]
		}}, "no-route", Certain, []string{"real server 10.244.1.9:8080", "this node has no route to it"}, nil},
		"a rule in INPUT": {inINPUT(func(p *model.Packet) {
			p.Drop.Family, p.Drop.Table, p.Drop.Chain, p.Drop.Backend = "ip", "filter", "INPUT", "legacy"
			p.Drop.Rule, p.Drop.RuleSource = &model.Rule{Family: "ip", Table: "filter", Chain: "INPUT", Number: 1, Text: "-A INPUT -p tcp --dport 80 -j DROP"}, model.RuleExact
		}), []func(*recorded){ipvsWith(server(podBServer, 1))}, "rule-drop", Certain, []string{"it was for service 10.96.0.20:80/TCP, which IPVS takes from this hook", "ipvsadm -Ln: -> 10.244.1.3:8080"}, nil},
		"nobody answers for the real server": {dead("NEIGH_FAILED", "neigh_invalidate+0x84", func(p *model.Packet) {
			p.Dst, p.DstPort = virtual.Addr(), virtual.Port()
			p.Drop.Interface, p.Drop.IfIndex, p.Drop.Stage = "eth0", 2, model.StageNeighbor
			before, after := model.Endpoints{Src: podA, SrcPort: 40000, Dst: virtual.Addr(), DstPort: 80}, model.Endpoints{Src: podA, SrcPort: 40000, Dst: node2, DstPort: 8080}
			p.Hops = append(p.Hops, model.Hop{Stage: model.StageNAT, Netns: nodeNS, Place: "node", Interface: "eth0", IfIndex: 2, Hook: "OUTPUT", Before: &before, After: &after, NATBy: model.ByIPVS, CTState: "new"},
				model.Hop{Stage: model.StageNeighbor, Netns: nodeNS, Place: "node", Interface: "eth0", IfIndex: 2, Neighbor: &model.Neighbor{Address: node2.String(), State: "incomplete"}})
		}), []func(*recorded){ipvsWith(server(podBServer, 1)), func(r *recorded) {
			r.Places[nodeNS].Neighbors = []node.Neighbor{{LinkIndex: 2, Addr: node2, State: 0x20}}
		}}, "neighbor-failed", Certain, []string{"IPVS has chosen 172.30.0.2:8080 for service 10.96.0.20:80/TCP", "it was translated from 10.96.0.20:80 to 172.30.0.2:8080 in hook OUTPUT at node (eth0), by IPVS", "172.30.0.2:8080 is not among the real servers any more"},
			[]string{"conntrack's entry", "NAT rule"}},
	} {
		t.Run(name, func(t *testing.T) {
			state := madeNode()
			for _, change := range tc.node {
				change(state)
			}
			found := diagnoseAll(t, state, tc.packet)
			if len(found) != 1 {
				t.Fatalf("%d findings, want one: %+v", len(found), found)
			}
			f := found[0]
			if f.Code != tc.code || f.Confidence != tc.sure {
				t.Errorf("told %s (%s), want %s (%s)", f.Code, f.Confidence, tc.code, tc.sure)
			}
			for _, says := range tc.says {
				if !strings.Contains(words(f), says) {
					t.Errorf("does not say %q", says)
				}
			}
			for _, never := range tc.never {
				if strings.Contains(words(f), never) {
					t.Errorf("says %q", never)
				}
			}
			if t.Failed() {
				t.Log(words(f))
			}
		})
	}
}

// TestConnectionUnknownToIPVS: a segment in the midst of a connection that IPVS has no
// entry of goes to the node's own TCP.
func TestConnectionUnknownToIPVS(t *testing.T) {
	reset := func(flags string) *model.Packet {
		return dead("NO_SOCKET", "tcp_v4_rcv+0x1", func(p *model.Packet) {
			p.Dst, p.DstPort, p.TCPFlags = virtual.Addr(), virtual.Port(), flags
			wasTold("tcp-reset")(p)
		})
	}
	for name, tc := range map[string]struct {
		packet *model.Packet
		node   func(*recorded)
		code   string
	}{
		"no entry":           {reset("P."), nil, "ipvs-unknown"},
		"there is an entry":  {reset("P."), func(r *recorded) { ipvsEntry(r, podBServer) }, "unexplained-drop"},
		"opens a connection": {reset("S"), nil, "no-listener"},
		"no service of IPVS": {reset("P."), func(r *recorded) { r.Places[nodeNS].Balanced.services = nil }, "unexplained-drop"},
	} {
		state := madeNode()
		ipvsWith(server(podBServer, 1))(state)
		if tc.node != nil {
			tc.node(state)
		}
		found := diagnoseAll(t, state, tc.packet)
		if len(found) != 1 || found[0].Code != tc.code {
			t.Errorf("%s: %+v, want %s", name, found, tc.code)
			continue
		}
		if says := words(found[0]); tc.code == "ipvs-unknown" && (found[0].Confidence != Likely || !strings.Contains(says, "ipvsadm -Lnc has no TCP entry from 10.244.1.2:40000 to 10.96.0.20:80") || !strings.Contains(says, "node (calia) answered: tcp-reset")) {
			t.Errorf("%s: %s", name, says)
		}
	}
}

// TestServerLeft: the first packet after its real server was taken out is dropped, where
// IPVS is set to end entries that lead to such.
func TestServerLeft(t *testing.T) {
	before := func(to netip.AddrPort) *model.Packet {
		p := arrived()
		p.Time, p.Dst, p.DstPort = time.Now().Add(-2*time.Minute), virtual.Addr(), virtual.Port()
		was, is := model.Endpoints{Src: podA, SrcPort: 40000, Dst: virtual.Addr(), DstPort: 80}, model.Endpoints{Src: podA, SrcPort: 40000, Dst: to.Addr(), DstPort: to.Port()}
		p.Hops = append([]model.Hop{{Stage: model.StageNAT, Netns: nodeNS, Place: "node", Interface: "calib", IfIndex: 5, Hook: "OUTPUT", Before: &was, After: &is, NATBy: model.ByIPVS, CTState: "new"}}, p.Hops...)
		return p
	}
	expires := func(value string) func(*recorded) {
		return func(r *recorded) {
			reusing("0")(r)
			r.Places[nodeNS].Sysctls["ipv4/vs/expire_nodest_conn"] = value
		}
	}
	const ended = "10.244.1.9:8080, to which IPVS has sent this connection to service 10.96.0.20:80/TCP so far, "
	answer := reply(goneServer.Addr(), goneServer.Port())
	for name, tc := range map[string]struct {
		flags  string
		server []node.RealServer
		node   func(*recorded)
		code   string
		says   []string
	}{
		"taken out":                {"P.", []node.RealServer{server(podBServer, 1)}, expires("1"), "ipvs-rescheduled", []string{ended + "was taken out", "10.244.1.9:8080 is not among the real servers any more", "net.ipv4.vs.expire_nodest_conn = 1", "an earlier packet of it was translated from 10.96.0.20:80 to 10.244.1.9:8080", "have the client connect again"}},
		"weight 0, new connection": {"S", []node.RealServer{server(goneServer, 0), server(podBServer, 1)}, expires("1"), "ipvs-rescheduled", []string{ended + "has weight 0", "net.ipv4.vs.expire_nodest_conn = 1", "ipvsadm -Ln: -> 10.244.1.9:8080 Masq, weight 0"}},
		"by the entry alone":       {"P.", []node.RealServer{server(podBServer, 1)}, func(r *recorded) { expires("1")(r); ipvsEntry(r, goneServer) }, "ipvs-rescheduled", []string{ended + "was taken out", "ipvsadm -Lnc: TCP SYN_RECV"}},
		"entry, and not ended":     {"P.", []node.RealServer{server(podBServer, 1)}, func(r *recorded) { expires("0")(r); ipvsEntry(r, goneServer) }, "service-no-backend", []string{"as long as that entry lives"}},
		"weight 0, under way":      {"P.", []node.RealServer{server(goneServer, 0), server(podBServer, 1)}, expires("1"), "unexplained-drop", nil},
		"it is there":              {"P.", []node.RealServer{server(goneServer, 1)}, expires("1"), "unexplained-drop", nil},
		"entries are not ended":    {"P.", []node.RealServer{server(podBServer, 1)}, expires("0"), "unexplained-drop", nil},
	} {
		state := madeNode()
		ipvsWith(tc.server...)(state)
		tc.node(state)
		p := inINPUT(func(p *model.Packet) { inState("established")(p); p.TCPFlags = tc.flags })
		found := diagnoseAll(t, state, before(goneServer), answer, p)
		if len(found) != 1 || found[0].Code != tc.code || found[0].Confidence != Likely {
			t.Errorf("%s: %+v, want %s", name, found, tc.code)
			continue
		}
		for _, says := range tc.says {
			if !strings.Contains(words(found[0]), says) {
				t.Errorf("%s: does not say %q:\n%s", name, says, words(found[0]))
			}
		}
	}
}

// TestAnswerLeftByIPVS: an answer that reaches the client with the real server's address.
func TestAnswerLeftByIPVS(t *testing.T) {
	request := func() *model.Packet {
		p := arrived()
		p.Time, p.Dst, p.DstPort = time.Now().Add(-2*time.Minute), virtual.Addr(), virtual.Port()
		before, after := model.Endpoints{Src: podA, SrcPort: 40000, Dst: virtual.Addr(), DstPort: 80}, model.Endpoints{Src: podA, SrcPort: 40000, Dst: podB, DstPort: 8080}
		p.Hops = append([]model.Hop{{Stage: model.StageNAT, Netns: nodeNS, Place: "node", Interface: "calib", IfIndex: 5, Hook: "OUTPUT", Before: &before, After: &after, NATBy: model.ByIPVS, CTState: "new"}}, p.Hops...)
		return p
	}
	answer := func(through bool) *model.Packet {
		return dead("NO_SOCKET", "tcp_v4_rcv+0x1", func(p *model.Packet) {
			p.Direction, p.TCPFlags, p.Src, p.SrcPort, p.Dst, p.DstPort = model.Return, "S.", podB, 8080, podA, 40000
			p.Drop.Netns, p.Drop.Place, p.Drop.Interface, p.Drop.IfIndex = podNS, "default/a", "eth0", 2
			p.Hops[0].Interface, p.Hops[0].IfIndex = "calib", 5
			if through {
				p.Hops = append(p.Hops, model.Hop{Stage: model.StageNetfilter, Netns: nodeNS, Place: "node", Interface: "calib", IfIndex: 5, Hook: "FORWARD", Verdict: "accept"})
			}
			p.Hops = append(p.Hops, model.Hop{Stage: model.StageReceive, Netns: podNS, Place: "default/a", Interface: "eth0", IfIndex: 2})
		})
	}
	for name, tc := range map[string]struct {
		through, entry bool
		says           string
	}{
		"past the hooks":  {false, true, "it passed by the netfilter hooks of this node, where IPVS had chosen 10.244.1.3:8080"},
		"entry gone":      {true, false, "IPVS has no entry of the connection any more"},
		"though it is so": {true, true, "not known: why IPVS left it as it is"},
	} {
		state := madeNode()
		ipvsWith(server(podBServer, 1))(state)
		if tc.entry {
			ipvsEntry(state, podBServer)
		}
		found := diagnoseAll(t, state, request(), answer(tc.through))
		if len(found) != 1 || found[0].Code != "reply-not-translated" || !strings.Contains(words(found[0]), tc.says) || strings.Contains(words(found[0]), "conntrack's entry") {
			t.Errorf("%s: %+v, want reply-not-translated saying %q", name, found, tc.says)
		}
	}
}

// TestServiceNotTaken: the node has not the address of a service that IPVS has, so what
// is for it leaves.
func TestServiceNotTaken(t *testing.T) {
	left := func() *model.Packet {
		return leaving(func(p *model.Packet) {
			p.Dst, p.DstPort = virtual.Addr(), virtual.Port()
			p.Hops = slices.Delete(p.Hops, 1, 2)
		})
	}
	state := madeNode()
	ipvsWith(server(podBServer, 1))(state)
	links := state.Places[nodeNS].Links
	links[len(links)-1].Addrs = nil
	found := diagnoseAll(t, state, left())
	if len(found) != 1 || found[0].Code != "service-untranslated" || !strings.Contains(words(found[0]), "IPVS has a service 10.96.0.20:80/TCP, but no interface of this node has 10.96.0.20") ||
		!strings.Contains(words(found[0]), "has no address") {
		t.Errorf("address lost: %+v", found)
	}
	state.Places[nodeNS].Balanced.services = nil
	if found := diagnoseAll(t, state, left()); len(found) != 1 || found[0].Code != "left-node" {
		t.Errorf("no service: %+v", found)
	}
}

// TestEmptyService: what kube-proxy rejects for want of endpoints is no stranger's rule.
func TestEmptyService(t *testing.T) {
	rejected := func(comment string) *model.Packet {
		return dead("NETFILTER_DROP", "nf_hook_slow+0x1", func(p *model.Packet) {
			byRule("KUBE-SERVICES", `-A KUBE-SERVICES -d 10.96.0.30/32 -p tcp -m comment --comment "`+comment+`" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable`, comment)(p)
			p.Outcome, p.Time = model.Rejected, time.Now().Add(-time.Minute)
		})
	}
	for comment, tc := range map[string]struct{ code, says string }{
		"default/web:http has no endpoints":       {"service-no-backend", "kubectl -n default get endpointslices -l kubernetes.io/service-name=web: it takes a ready endpoint"},
		"default/web:http has no local endpoints": {"service-no-backend", "the traffic policy is Local"},
		"no web today": {"rule-drop", "KUBE-SERVICES"},
	} {
		found := diagnoseAll(t, madeNode(), rejected(comment))
		if len(found) != 1 || found[0].Code != tc.code || found[0].Confidence != Certain || !strings.Contains(words(found[0]), tc.says) || !strings.Contains(words(found[0]), "rule 3 of KUBE-SERVICES in filter") {
			t.Errorf("%s: %+v, want %s saying %q", comment, found, tc.code, tc.says)
		}
		if tc.code == "service-no-backend" && strings.Contains(words(found[0]), "-D KUBE-SERVICES") {
			t.Errorf("%s: the rule is to be taken away", comment)
		}
	}
}

// TestOwnToServiceNotSeen: the node's own packets to a service of IPVS have the service's
// address as source, so that who asks for the node's sees none.
func TestOwnToServiceNotSeen(t *testing.T) {
	for name, tc := range map[string]struct {
		src uint32
		dst netip.Addr
		say bool
	}{"the node": {nodeNS, virtual.Addr(), true}, "to another address": {nodeNS, remote, false}, "somebody else": {0, virtual.Addr(), false}} {
		state := madeNode()
		ipvsWith()(state)
		c := New(state, nil)
		c.Start(&model.Start{Type: model.TypeStart, Src: model.End{Given: "node", Netns: tc.src}, Dst: model.End{Given: "it", Addresses: model.Prefixes{netip.PrefixFrom(tc.dst, 32)}}})
		found := c.Findings()
		if len(found) != 1 || found[0].Code != "not-sent" || strings.Contains(words(found[0]), "pathtrace --src any --dst 10.96.0.20") != tc.say || strings.Contains(words(found[0]), "ip addr: kube-ipvs0 has 10.96.0.20") != tc.say {
			t.Errorf("%s: %+v", name, found)
		}
	}
}
