// SPDX-License-Identifier: Apache-2.0

package journey

// Stories of single packets: what was seen, and what is told of it.

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
)

const (
	clientIP  = "10.244.1.2"
	serverIP  = "10.244.2.2"
	tcpClient = clientIP + " 40000"
	tcpServer = serverIP + " 80"
)

func syn(s *story) *packet {
	return s.send(unix.IPPROTO_TCP, tcpClient, tcpServer, tcp(0x02, 100, 0))
}

func ping(s *story) *packet {
	return s.send(unix.IPPROTO_ICMP, clientIP, serverIP, icmp(8, 0, 77, 3))
}

func TestHealthyPath(t *testing.T) {
	s := newStory(t)
	p := syn(s).fromClient()
	p.see(bpf.KindConntrack, bpf.FentryFnFN_nfConntrackIn, calicl, in(unix.NFPROTO_IPV4, prerouting), ct(3))
	p.become(ct(3))
	p.see(bpf.KindTable, bpf.FentryFnFN_iptDoTable, calicl, in(unix.NFPROTO_IPV4, prerouting), table("raw", "", 0, 1))
	p.see(bpf.KindHook, bpf.FentryFnFN_nfHookSlow, calicl, in(unix.NFPROTO_IPV4, prerouting), result(1))
	p.see(bpf.KindFib, bpf.FentryFnFN_fibTableLookup, calicl, route(255, 0, nowhere, "", unix.EAGAIN))
	p.see(bpf.KindFib, bpf.FentryFnFN_fibTableLookup, calicl, route(254, 0, calisv, "", 0))
	p.see(bpf.KindRoute, bpf.FentryFnFN_ipRouteInputSlow, calicl, route(0, 1, calisv, "", 0))
	p.see(bpf.KindForward, bpf.FentryFnFN_ipForward, calicl)
	p.see(bpf.KindTable, bpf.FentryFnFN_nftDoChain, calicl, in(unix.NFPROTO_IPV4, forwardHook), table("filter", "FORWARD", unix.NFPROTO_IPV4, 1))
	p.see(bpf.KindNeigh, bpf.FentryFnFN_neighResolveOutput, calisv, func(s *story, x *sample) {
		x.neigh = bpf.EventNeigh{Addr: tupleOf(s.t, 0, serverIP, serverIP).Saddr, State: 2, Ha: [6]uint8{2, 0, 0, 0, 0, 1}, Family: 4}
	})
	p.toServer(bpf.FentryFnFN_tcpV4Rcv)
	got := s.one()
	wantOutcome(t, got, model.Delivered)
	wantHops(t, got,
		"transmit eth0@client",
		"receive calicl@node",
		"conntrack calicl@node PREROUTING ct=new",
		"netfilter calicl@node PREROUTING legacy ip raw PREROUTING accept ct=new",
		"netfilter calicl@node PREROUTING accept ct=new",
		"route calicl@node ct=new unicast table 254 dev calisv via",
		"forward calicl@node ct=new",
		"netfilter calicl@node FORWARD nft ip filter FORWARD accept ct=new",
		"neighbor calisv@node ct=new 10.244.2.2 reachable calisv 02:00:00:00:00:01",
		"transmit calisv@node ct=new",
		"receive eth0@server ct=new",
		"deliver eth0@server ct=new")
	if got.Type != "packet" || got.ID != 1 || got.Direction != model.Forward || got.Proto != "tcp" || got.TCPFlags != "S" ||
		got.Src.String() != clientIP || got.SrcPort != 40000 || got.Dst.String() != serverIP || got.DstPort != 80 || got.Length != 84 || got.TTL != 64 {
		t.Errorf("packet %+v", got)
	}
	for i, h := range got.Hops {
		if i > 0 && h.AtNS <= got.Hops[i-1].AtNS {
			t.Errorf("hop %d at %d ns, the one before at %d", i, h.AtNS, got.Hops[i-1].AtNS)
		}
	}
	if f := got.Hops[5].Function; f != "ip_route_input_slow" {
		t.Errorf("the route's function is %q", f)
	}
	if f := got.Hops[0].Function; f != "net:net_dev_start_xmit" {
		t.Errorf("the first hop's function is %q", f)
	}
}

func TestEchoOverIPv6(t *testing.T) {
	s := newStory(t)
	p := s.send(unix.IPPROTO_ICMPV6, "fd00::2", "fd00::3", icmp(129, 0, 9, 4), returning)
	p.fromClient().toServer(bpf.FentryFnFN_icmpv6Rcv)
	got := s.one()
	if got.Proto != "icmpv6" || got.ICMP != "echo-reply" || got.ICMPID != 9 || got.ICMPSeq != 4 || got.SrcPort != 0 || got.Direction != model.Return {
		t.Errorf("packet %+v", got)
	}
}

// A drop's whole place: what kfree_skb told and what was seen before it.
func TestDropInNetfilter(t *testing.T) {
	inForward := in(unix.NFPROTO_IPV4, forwardHook)
	type place struct{ hook, backend, family, table, chain string }
	for _, c := range []struct {
		name    string
		inChain bool
		see     func(*packet)
		want    place
	}{
		{"legacy table told its verdict", true, func(p *packet) {
			p.see(bpf.KindTable, bpf.FentryFnFN_iptDoTable, calicl, inForward, table("mangle", "", 0, 1))
			p.see(bpf.KindTable, bpf.FentryFnFN_iptDoTable, calicl, inForward, table("filter", "", 0, 0))
			p.kfree("NETFILTER_DROP", "nf_hook_slow+0x9c", calicl, inForward)
		}, place{"FORWARD", "legacy", "ip", "filter", "FORWARD"}},
		{"ip6tables", true, func(p *packet) {
			six := in(unix.NFPROTO_IPV6, forwardHook)
			p.see(bpf.KindTable, bpf.FentryFnFN_ip6tDoTable, calicl, six, table("filter", "", 0, 0))
			p.kfree("NETFILTER_DROP", "nf_hook_slow+0x9c", calicl, six)
		}, place{"FORWARD", "legacy", "ip6", "filter", "FORWARD"}},
		{"nft frees in the chain", true, func(p *packet) {
			p.kfree("NETFILTER_DROP", "nft_do_chain+0x3a1", calicl, inForward, dropChain("calico", "filter-FORWARD", unix.NFPROTO_INET))
		}, place{"FORWARD", "nft", "inet", "calico", "filter-FORWARD"}},
		{"nft leaves it to the hook, before 6.7", false, func(p *packet) {
			p.see(bpf.KindTable, bpf.FentryFnFN_nftDoChain, calicl, inForward, table("filter", "FORWARD", unix.NFPROTO_IPV4, 0))
			p.kfree("NETFILTER_DROP", "nf_hook_slow+0x9c", calicl, inForward)
		}, place{"FORWARD", "nft", "ip", "filter", "FORWARD"}},
		{"the last table let it pass: something else in the hook", true, func(p *packet) {
			p.see(bpf.KindTable, bpf.FentryFnFN_iptDoTable, calicl, inForward, table("filter", "", 0, 1))
			p.kfree("NETFILTER_DROP", "nf_hook_slow+0x9c", calicl, inForward)
		}, place{"FORWARD", "", "", "", ""}},
		{"a table of another hook dropped nothing here", true, func(p *packet) {
			p.see(bpf.KindTable, bpf.FentryFnFN_iptDoTable, calicl, in(unix.NFPROTO_IPV4, prerouting), table("raw", "", 0, 0))
			p.kfree("NETFILTER_DROP", "nf_hook_slow+0x9c", calicl, inForward)
		}, place{"FORWARD", "", "", "", ""}},
		{"netdev ingress", true, func(p *packet) {
			p.kfree("NETFILTER_DROP", "nft_do_chain+0x3a1", calicl, in(unix.NFPROTO_NETDEV, 1), dropChain("guard", "in", unix.NFPROTO_NETDEV))
		}, place{"INGRESS", "nft", "netdev", "guard", "in"}},
		{"netdev egress", true, func(p *packet) {
			p.kfree("NETFILTER_DROP", "nft_do_chain+0x3a1", calicl, in(unix.NFPROTO_NETDEV, 2), dropChain("guard", "out", unix.NFPROTO_NETDEV))
		}, place{"EGRESS", "nft", "netdev", "guard", "out"}},
		{"symbols hidden: the reason tells", true, func(p *packet) {
			p.s.names.hidden = true
			p.see(bpf.KindTable, bpf.FentryFnFN_iptDoTable, calicl, inForward, table("filter", "", 0, 0))
			p.kfree("NETFILTER_DROP", "nf_hook_slow+0x9c", calicl, inForward)
		}, place{"FORWARD", "legacy", "ip", "filter", "FORWARD"}},
		{"no reason, but the function tells", true, func(p *packet) {
			p.kfree("NOT_SPECIFIED", "nft_do_chain+0x10", calicl, inForward, dropChain("t", "c", unix.NFPROTO_IPV4))
		}, place{"FORWARD", "nft", "ip", "t", "c"}},
		{"freed by what the hook went on with", true, func(p *packet) {
			p.kfree("PKT_TOO_BIG", "ip_fragment+0x10", calicl, inForward, stack("ip_fragment+0x10", "nf_hook_slow+0x40"))
		}, place{}},
		{"freed elsewhere after the hook", true, func(p *packet) {
			p.kfree("SKB_CSUM", "ip_forward+0x20", calicl, inForward)
		}, place{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStory(t)
			s.names.inChain = c.inChain
			c.see(syn(s).fromClient())
			got := s.one()
			wantOutcome(t, got, model.Dropped)
			if d := got.Drop; (place{d.Hook, d.Backend, d.Family, d.Table, d.Chain}) != c.want {
				t.Errorf("dropped in %+v, want %+v", *d, c.want)
			}
			last := got.Hops[len(got.Hops)-1]
			if last.Stage != model.StageDrop || last.Table != c.want.table || last.Chain != c.want.chain || last.Hook != c.want.hook || (last.Verdict == "drop") != (c.want.hook != "") {
				t.Errorf("last hop %+v", last)
			}
		})
	}
}

func TestDropCarriesWhereAndWhy(t *testing.T) {
	s := newStory(t)
	syn(s).fromClient().kfree("IP_INNOROUTES", "ip_forward+0x1f4", nowhere, stack("sk_skb_reason_drop+0x10", "ip_forward+0x1f4", "ip_rcv+0x20"))
	got := s.one()
	d := got.Drop
	if d == nil || d.Reason != "IP_INNOROUTES" || d.Stage != model.StageForward || d.Function != "ip_forward+0x1f4" ||
		d.Interface != "calicl" || d.Netns != 1 || d.Place != "node" || len(d.Stack) != 2 {
		t.Errorf("drop %+v: the device, cleared by then, is that of the last sighting", d)
	}
	wantHops(t, got, "transmit eth0@client", "receive calicl@node", "drop calicl@node IP_INNOROUTES")
}

func TestNATRewrite(t *testing.T) {
	s := newStory(t)
	p := s.send(unix.IPPROTO_TCP, tcpClient, "10.96.0.10 80", tcp(2, 1, 0)).fromClient()
	p.become(tuple(unix.IPPROTO_TCP, tcpClient, serverIP+" 8080"))
	p.see(bpf.KindHook, bpf.FentryFnFN_nfHookSlow, calicl, in(unix.NFPROTO_IPV4, prerouting), result(1))
	p.toServer(bpf.FentryFnFN_tcpV4Rcv)
	got := s.one()
	wantHops(t, got,
		"transmit eth0@client",
		"receive calicl@node",
		"nat calicl@node PREROUTING 10.244.1.2:40000 > 10.96.0.10:80 => 10.244.1.2:40000 > 10.244.2.2:8080",
		"netfilter calicl@node PREROUTING accept",
		"transmit calisv@node", "receive eth0@server", "deliver eth0@server")
	if got.Dst.String() != "10.96.0.10" || got.DstPort != 80 {
		t.Errorf("told as a packet to %s %d: want what was asked for first", got.Dst, got.DstPort)
	}
}

func TestVXLAN(t *testing.T) {
	tunnel := vxlan(1, "192.168.0.1 50000", "192.168.0.2 8472")
	for _, c := range []struct {
		name string
		see  func(*packet)
		want []string
	}{
		{"out, seen by function", func(p *packet) {
			p.fromClient().xmit(vxlan0).see(bpf.KindEncap, bpf.FentryFnFN_vxlanXmit, vxlan0)
			p.become(tunnel).xmit(uplink)
		}, []string{"transmit eth0@client", "receive calicl@node", "transmit vxlan0@node",
			"encapsulate vxlan0@node vxlan 1 192.168.0.1:50000 > 192.168.0.2:8472", "transmit eth0@node"}},
		{"out, seen by the header", func(p *packet) {
			p.fromClient().xmit(vxlan0).become(tunnel).xmit(uplink)
		}, []string{"transmit eth0@client", "receive calicl@node", "transmit vxlan0@node",
			"encapsulate vxlan0@node vxlan 1 192.168.0.1:50000 > 192.168.0.2:8472", "transmit eth0@node"}},
		{"in, seen by function", func(p *packet) {
			p.become(tunnel).recv(uplink).see(bpf.KindDecap, bpf.FentryFnFN_vxlanRcv, uplink)
			p.become(flags(0)).recv(vxlan0).toServer(bpf.FentryFnFN_tcpV4Rcv)
		}, []string{"receive eth0@node", "decapsulate eth0@node vxlan 1 192.168.0.1:50000 > 192.168.0.2:8472",
			"receive vxlan0@node", "transmit calisv@node", "receive eth0@server", "deliver eth0@server"}},
		{"in, seen by the header", func(p *packet) {
			p.become(tunnel).recv(uplink).become(flags(0)).recv(vxlan0).toServer(bpf.FentryFnFN_tcpV4Rcv)
		}, []string{"receive eth0@node", "decapsulate vxlan0@node vxlan 1 192.168.0.1:50000 > 192.168.0.2:8472",
			"receive vxlan0@node", "transmit calisv@node", "receive eth0@server", "deliver eth0@server"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStory(t)
			c.see(syn(s))
			wantHops(t, s.one(), c.want...)
		})
	}
}

func TestConntrackInvalid(t *testing.T) {
	s := newStory(t)
	p := syn(s).fromClient()
	p.see(bpf.KindConntrack, bpf.FentryFnFN_nfConntrackIn, calicl, in(unix.NFPROTO_IPV4, prerouting))
	p.toServer(bpf.FentryFnFN_tcpV4Rcv)
	if h := s.one().Hops[2]; h.Stage != model.StageConntrack || h.CTState != "invalid" || h.Hook != "PREROUTING" {
		t.Errorf("conntrack hop %+v", h)
	}
}

func TestRouteErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		see  func(*packet)
		want string // the route's hop
	}{
		{"the tables have none", func(p *packet) {
			p.see(bpf.KindFib, bpf.FentryFnFN_fibTableLookup, calicl, route(254, 0, nowhere, "", unix.ENETUNREACH))
			p.see(bpf.KindRoute, bpf.FentryFnFN_ipRouteInputSlow, calicl, route(0, 7, nowhere, "", unix.ENETUNREACH))
		}, "route calicl@node unreachable table 254 dev  via  ENETUNREACH"},
		{"up to 6.12 the function returns an errno", func(p *packet) {
			p.see(bpf.KindRoute, bpf.FentryFnFN_ipRouteInputSlow, calicl, route(0, 0, nowhere, "", 0), result(-int32(unix.EINVAL)))
		}, "route calicl@node table 0 dev  via  EINVAL"},
		{"since 6.18 a reason", func(p *packet) {
			number(&p.s.names.reasons, "NOT_SPECIFIED")
			p.see(bpf.KindRoute, bpf.FentryFnFN_ipRouteInputSlow, calicl, route(0, 0, calisv, "", 0), result(int32(number(&p.s.names.reasons, "IP_LOCAL_SOURCE"))))
		}, "route calicl@node table 0 dev  via IP_LOCAL_SOURCE"},
		{"gateway and table of a good one", func(p *packet) {
			p.see(bpf.KindFib, bpf.FentryFnFN_fibTableLookup, calicl, route(100, 0, uplink, "192.168.0.2", 0))
			p.see(bpf.KindRoute, bpf.FentryFnFN_ipRouteInputSlow, calicl, route(0, 1, uplink, "192.168.0.2", 0))
		}, "route calicl@node unicast table 100 dev eth0 via 192.168.0.2"},
		{"only the tables told", func(p *packet) {
			p.see(bpf.KindFib, bpf.FentryFnFN_fibTableLookup, calicl, route(254, 0, calisv, "", 0))
			p.xmit(calisv)
		}, "route calicl@node table 254 dev calisv via"},
		{"only the tables told, and the device was cleared", func(p *packet) {
			p.see(bpf.KindFib, bpf.FentryFnFN_fibTableLookup, nowhere, route(254, 0, calisv, "", 0))
			p.xmit(calisv)
		}, "route @node table 254 dev calisv via"},
		{"source validation", func(p *packet) {
			p.see(bpf.KindRPFilter, bpf.FentryFnFN_fibValidateSource, calicl, result(-int32(unix.EXDEV)))
		}, "route calicl@node table 0 dev  via  EXDEV source validation failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStory(t)
			p := syn(s).fromClient()
			c.see(p)
			p.kfree("IP_INNOROUTES", "ip_error+0x80", calicl)
			if got := hops(s.one()); got[2] != c.want {
				t.Errorf("hop %q, want %q", got[2], c.want)
			}
		})
	}
}

// A route known only by the dst entry the packet was freed with.
func TestRouteErrorToldByTheDrop(t *testing.T) {
	s := newStory(t)
	p := syn(s).fromClient()
	p.see(bpf.KindFib, bpf.FentryFnFN_fibTableLookup, calicl, route(254, 0, nowhere, "", unix.EINVAL))
	p.kfree("IP_OUTNOROUTES", "dst_discard+0x10", calicl, func(_ *story, x *sample) {
		x.drop.DstError, x.drop.DstType = -int32(unix.EINVAL), 6
	})
	wantHops(t, s.one(), "transmit eth0@client", "receive calicl@node",
		"route calicl@node blackhole table 254 dev  via  EINVAL", "drop calicl@node IP_OUTNOROUTES")
}

func TestQueueAndNeighbour(t *testing.T) {
	s := newStory(t)
	p := syn(s).fromClient()
	p.see(bpf.KindNeigh, bpf.FentryFnFN_neighResolveOutput, uplink, func(s *story, x *sample) {
		x.neigh = bpf.EventNeigh{Addr: tupleOf(s.t, 0, "192.168.0.2", serverIP).Saddr, State: 0x20, Family: 4}
	})
	p.see(bpf.KindQdisc, bpf.FentryFnFN___devQueueXmit, uplink, result(1))
	p.kfree("QDISC_DROP", "__dev_queue_xmit+0x7", uplink)
	got := s.one()
	wantHops(t, got, "transmit eth0@client", "receive calicl@node", "neighbor eth0@node 192.168.0.2 failed eth0",
		"qdisc eth0@node NET_XMIT_DROP", "drop eth0@node QDISC_DROP")
	if got.Drop.Stage != model.StageQdisc {
		t.Errorf("died in stage %q", got.Drop.Stage)
	}
}

func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		name    string
		fn      bpf.Fn
		v6      bool
		result  int32
		answer  string
		outcome model.Outcome
	}{
		{"port unreachable", bpf.FentryFnFN___icmpSend, false, 3<<8 | 3, "icmp-port-unreachable", model.Rejected},
		{"prohibited by a rule", bpf.FentryFnFN_icmpSend, false, 3<<8 | 13, "icmp-admin-prohibited", model.Rejected},
		{"too big", bpf.FentryFnFN___icmpSend, false, 3<<8 | 4, "icmp-frag-needed", model.Rejected},
		{"too big over IPv6", bpf.FentryFnFN_icmp6Send, true, 2 << 8, "icmp-packet-too-big", model.Rejected},
		{"TTL", bpf.FentryFnFN___icmpSend, false, 11 << 8, "icmp-ttl-exceeded", model.Rejected},
		{"TCP reset", bpf.FentryFnFN_tcpSendReset, false, 0, "tcp-reset", model.Rejected},
		{"reset by a rule", bpf.FentryFnFN_nfSendReset, false, 0, "tcp-reset", model.Rejected},
		{"a redirect is no refusal", bpf.FentryFnFN___icmpSend, false, 5<<8 | 1, "icmp-redirect", model.Dropped},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStory(t)
			p := syn(s)
			if c.v6 {
				p = s.send(unix.IPPROTO_TCP, "fd00::2 1", "fd00::3 2")
			}
			p.fromClient().see(bpf.KindAnswer, c.fn, calicl, result(c.result))
			p.see(bpf.KindAnswer, bpf.FentryFnFN_icmpSend, calicl, result(c.result), func(_ *story, x *sample) {
				if c.answer == "tcp-reset" {
					x.Fn = uint8(c.fn)
				}
			})
			p.kfree("NO_SOCKET", "ip_forward+0x1", calicl)
			got := s.one()
			wantOutcome(t, got, c.outcome)
			wantHops(t, got, "transmit eth0@client", "receive calicl@node", "answer calicl@node "+c.answer, "drop calicl@node NO_SOCKET")
		})
	}
}

// A packet that was answered and yet went on arrived.
func TestAnswerWithoutDeath(t *testing.T) {
	s := newStory(t)
	p := syn(s).fromClient().see(bpf.KindAnswer, bpf.FentryFnFN___icmpSend, calicl, result(5<<8|1))
	p.toServer(bpf.FentryFnFN_tcpV4Rcv)
	wantOutcome(t, s.one(), model.Delivered)
}

// TCP lets go of segments it received and understood by kfree_skb: they arrived.
func TestTCPDiscardsAfterDelivery(t *testing.T) {
	for reason := range afterTCP {
		t.Run(reason, func(t *testing.T) {
			s := newStory(t)
			p := syn(s).fromClient().toServer(bpf.FentryFnFN_tcpV4Rcv)
			p.kfree(reason, "tcp_rcv_state_process+0x1", serverEth)
			got := s.one()
			wantOutcome(t, got, model.Delivered)
			if reason == "NOT_SPECIFIED" {
				if n := len(got.Hops); n != 5 {
					t.Errorf("%d hops: a reason that says nothing is no hop", n)
				}
				return
			}
			if last := got.Hops[len(got.Hops)-1]; last.Stage != model.StageDeliver || last.Result != reason || last.Function != "tcp_rcv_state_process+0x1" {
				t.Errorf("last hop %+v", last)
			}
		})
	}
}

func TestDeathAtTheReceiver(t *testing.T) {
	for _, c := range []struct {
		name, reason, location string
		proto                  uint8
		fn                     bpf.Fn
		opts                   []with
		want                   model.Outcome
	}{
		{"no listener", "NO_SOCKET", "tcp_v4_rcv+0x1", unix.IPPROTO_TCP, bpf.FentryFnFN_tcpV4Rcv, nil, model.Dropped},
		{"bad TCP checksum", "TCP_CSUM", "tcp_v4_rcv+0x1", unix.IPPROTO_TCP, bpf.FentryFnFN_tcpV4Rcv, nil, model.Dropped},
		{"full backlog", "SOCKET_BACKLOG", "tcp_v4_rcv+0x1", unix.IPPROTO_TCP, bpf.FentryFnFN_tcpV4Rcv, nil, model.Dropped},
		{"full UDP buffer", "SOCKET_RCVBUFF", "__udp_queue_rcv_skb+0x1", unix.IPPROTO_UDP, bpf.FentryFnFN_udpQueueRcvSkb, nil, model.Dropped},
		{"a TCP excuse from UDP", "NOT_SPECIFIED", "udp_queue_rcv_skb+0x1", unix.IPPROTO_UDP, bpf.FentryFnFN_udpQueueRcvSkb, nil, model.Dropped},
		{"socket closed with it unread", "QUEUE_PURGE", "__skb_queue_purge+0x1", unix.IPPROTO_UDP, bpf.FentryFnFN_udpQueueRcvSkb, nil, model.Delivered},
		{"nobody uses a ping socket", "NO_SOCKET", "icmp_rcv+0x1", unix.IPPROTO_ICMP, bpf.FentryFnFN_icmpRcv, []with{icmp(0, 0, 1, 1)}, model.Delivered},
		{"the same from ping itself", "NO_SOCKET", "ping_rcv+0x1", unix.IPPROTO_ICMP, bpf.FentryFnFN_icmpRcv, []with{icmp(0, 0, 1, 1)}, model.Delivered},
		{"the same with symbols hidden", "NO_SOCKET", "", unix.IPPROTO_ICMP, bpf.FentryFnFN_icmpRcv, []with{icmp(0, 0, 1, 1)}, model.Delivered},
		{"the same over IPv6", "NO_SOCKET", "icmpv6_rcv+0x1", unix.IPPROTO_ICMPV6, bpf.FentryFnFN_icmpv6Rcv, []with{icmp(129, 0, 1, 1)}, model.Delivered},
		{"an ICMP error was read", "NOT_SPECIFIED", "icmp_rcv+0x1", unix.IPPROTO_ICMP, bpf.FentryFnFN_icmpRcv, []with{icmp(3, 3, 0, 0), flag(bpf.FlagICMPError)}, model.Delivered},
		{"an echo request that 6.1 answered over IPv6", "NOT_SPECIFIED", "icmpv6_rcv+0x1", unix.IPPROTO_ICMPV6, bpf.FentryFnFN_icmpv6Rcv, []with{icmp(128, 0, 1, 1)}, model.Delivered},
		{"an echo request of a kind nobody knows", "UNHANDLED_PROTO", "icmp_rcv+0x1", unix.IPPROTO_ICMP, bpf.FentryFnFN_icmpRcv, []with{icmp(8, 9, 1, 1)}, model.Dropped},
		{"bad ICMP checksum of a reply", "ICMP_CSUM", "icmp_rcv+0x1", unix.IPPROTO_ICMP, bpf.FentryFnFN_icmpRcv, []with{icmp(0, 0, 1, 1)}, model.Dropped},
		{"bad ICMP checksum of an error", "ICMP_CSUM", "icmp_rcv+0x1", unix.IPPROTO_ICMP, bpf.FentryFnFN_icmpRcv, []with{icmp(3, 3, 0, 0), flag(bpf.FlagICMPError)}, model.Dropped},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStory(t)
			p := s.send(c.proto, tcpClient, tcpServer, c.opts...).fromClient().toServer(c.fn)
			p.kfree(c.reason, c.location, serverEth)
			wantOutcome(t, s.one(), c.want)
		})
	}
}

// Who asks for a route has a header of the flow made up by the kernel: no packet.
func TestRouteQuestion(t *testing.T) {
	s := newStory(t)
	syn(s).fromClient().recv(calicl).kfree("NOT_SPECIFIED", "inet_rtm_getroute+0x495", calicl)
	syn(s).fromClient().recv(calicl).kfree("NOT_SPECIFIED", "ip_error+0x1", calicl)
	if p := s.one(); p.Drop == nil || p.Drop.Function != "ip_error+0x1" {
		t.Errorf("told %+v", p)
	}
}
