// SPDX-License-Identifier: Apache-2.0

package journey

// Tables of names: numbers of kernel headers in, words out.

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/nfnetlink"
)

func TestNames(t *testing.T) {
	hookIn := func(pf, hook uint8) string { return hookOf(&Record{Event: bpf.Event{Pf: pf, Hook: hook}}) }
	for _, c := range []struct{ what, got, want string }{
		{"hook 0", HookName(0), "PREROUTING"}, {"hook 4", HookName(4), "POSTROUTING"}, {"hook 5", HookName(5), "INGRESS"}, {"hook 9", HookName(9), "hook 9"},
		{"ip hook", hookIn(unix.NFPROTO_IPV4, 3), "FORWARD"}, {"bridge hook", hookIn(unix.NFPROTO_BRIDGE, 1), "PREROUTING"},
		{"netdev ingress", hookIn(unix.NFPROTO_NETDEV, 1), "INGRESS"}, {"netdev egress", hookIn(unix.NFPROTO_NETDEV, 2), "EGRESS"},
		{"no netdev hook", hookIn(unix.NFPROTO_NETDEV, 0), "hook 255"}, {"unknown netdev hook", hookIn(unix.NFPROTO_NETDEV, 9), "hook 8"},

		{"family inet", nfnetlink.Family(1), "inet"}, {"family ip", nfnetlink.Family(2), "ip"}, {"family arp", nfnetlink.Family(3), "arp"},
		{"family netdev", nfnetlink.Family(5), "netdev"}, {"family bridge", nfnetlink.Family(7), "bridge"}, {"family ip6", nfnetlink.Family(10), "ip6"}, {"no family", nfnetlink.Family(99), ""},

		{"hook went on", hookVerdict(1), "accept"}, {"hook dropped", hookVerdict(-1), "drop"}, {"hook kept it", hookVerdict(0), "stolen"},
		{"drop", VerdictName(0), "drop"}, {"drop with errno", VerdictName(0xffff0000), "drop"}, {"accept", VerdictName(1), "accept"},
		{"stolen", VerdictName(2), "stolen"}, {"stolen with errno", VerdictName(0x10002), "stolen"}, {"queue number 5", VerdictName(5<<16 | 3), "queue"},
		{"repeat", VerdictName(4), "repeat"}, {"stop", VerdictName(5), "stop"}, {"unknown verdict", VerdictName(0xff), "verdict 0xff"},

		{"no route type", routeType(0), ""}, {"unicast", routeType(1), "unicast"}, {"local", routeType(2), "local"}, {"blackhole", routeType(6), "blackhole"},
		{"throw", routeType(9), "throw"}, {"unknown route type", routeType(99), "type 99"},

		{"no neighbour state", neighbourState(0), "none"}, {"incomplete", neighbourState(1), "incomplete"}, {"failed", neighbourState(0x20), "failed"},
		{"permanent", neighbourState(0x80), "permanent"}, {"stale", neighbourState(4), "stale"}, {"noarp", neighbourState(0x40), "noarp"},

		{"no entry", ConntrackState(0), ""}, {"established", ConntrackState(1), "established"}, {"related", ConntrackState(2), "related"}, {"new", ConntrackState(3), "new"},
		{"reply", ConntrackState(4), "established-reply"}, {"related reply", ConntrackState(5), "related-reply"}, {"untracked", ConntrackState(8), "untracked"}, {"no such state", ConntrackState(7), ""},

		{"tcp", protoName(6), "tcp"}, {"udp", protoName(17), "udp"}, {"icmp", protoName(1), "icmp"}, {"icmpv6", protoName(58), "icmpv6"}, {"sctp", protoName(132), "sctp"}, {"gre", protoName(47), "ip-proto-47"},

		{"SYN", tcpFlags(0x02), "S"}, {"SYN ACK", tcpFlags(0x12), "S."}, {"ACK", tcpFlags(0x10), "."}, {"PSH ACK", tcpFlags(0x18), "P."},
		{"FIN ACK", tcpFlags(0x11), "F."}, {"RST", tcpFlags(0x04), "R"}, {"none", tcpFlags(0), "none"}, {"only ECN", tcpFlags(0xc0), "none"},

		{"echo", icmpName(false, 8, 0), "echo-request"}, {"echo reply", icmpName(false, 0, 0), "echo-reply"}, {"port", icmpName(false, 3, 3), "port-unreachable"},
		{"frag needed", icmpName(false, 3, 4), "frag-needed"}, {"prohibited", icmpName(false, 3, 13), "admin-prohibited"}, {"unknown code", icmpName(false, 3, 99), "type-3-code-99"},
		{"redirect", icmpName(false, 5, 1), "redirect"}, {"ttl", icmpName(false, 11, 0), "ttl-exceeded"}, {"reassembly", icmpName(false, 11, 1), "reassembly-time-exceeded"},
		{"echo6", icmpName(true, 128, 0), "echo-request"}, {"too big", icmpName(true, 2, 0), "packet-too-big"}, {"no route", icmpName(true, 1, 0), "no-route"},
		{"port6", icmpName(true, 1, 4), "port-unreachable"}, {"nd", icmpName(true, 135, 0), "neighbour-solicitation"}, {"unknown6", icmpName(true, 200, 1), "type-200-code-1"}, {"unknown6 code", icmpName(true, 1, 9), "type-1-code-9"},

		{"errno", ErrnoName(-101), "ENETUNREACH"}, {"no errno", ErrnoName(0), ""}, {"unknown errno", ErrnoName(-4000), "errno 4000"},
		{"xmit drop", xmitResult(1), "NET_XMIT_DROP"}, {"congestion", xmitResult(2), "NET_XMIT_CN"}, {"xmit errno", xmitResult(-100), "ENETDOWN"}, {"xmit other", xmitResult(16), "result 16"},

		{"no gateway", gatewayOf([4]uint32{}, unix.AF_INET), ""}, {"no gateway's family", gatewayOf([4]uint32{1}, 0), ""},
		{"gateway", gatewayOf(tupleOf(t, 0, "10.0.0.1", "::").Saddr, unix.AF_INET), "10.0.0.1"}, {"gateway6", gatewayOf(tupleOf(t, 0, "fe80::1", "::").Saddr, unix.AF_INET6), "fe80::1"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, want %q", c.what, c.got, c.want)
		}
	}
}

func TestStageOf(t *testing.T) {
	for fn, want := range map[string]model.Stage{
		"nf_hook_slow+0x9c/0xe0":            model.StageNetfilter,
		"nft_do_chain+0x3a1":                model.StageNetfilter,
		"nf_conntrack_in+0x1":               model.StageNetfilter,
		"ip_error+0x1":                      model.StageRoute,
		"ip_rcv_finish_core.isra.0+0x1":     model.StageRoute,
		"ip_rcv_core+0x10":                  model.StageReceive,
		"ip6_pkt_drop+0x1":                  model.StageRoute,
		"dst_discard_out+0x1":               model.StageRoute,
		"ip_forward+0x1f4":                  model.StageForward,
		"ip6_forward+0x1":                   model.StageForward,
		"neigh_invalidate+0x1":              model.StageNeighbor,
		"__neigh_event_send+0x1":            model.StageNeighbor,
		"arp_error_report+0x1":              model.StageNeighbor,
		"ndisc_error_report+0x1":            model.StageNeighbor,
		"vxlan_rcv+0x1":                     model.StageDecapsulate,
		"vxlan_xmit_one+0x1":                model.StageEncapsulate,
		"br_handle_frame+0x1":               model.StageBridge,
		"__dev_queue_xmit+0x1":              model.StageQdisc,
		"qdisc_drop+0x1":                    model.StageQdisc,
		"veth_xmit+0x1":                     model.StageTransmit,
		"__dev_forward_skb2+0x1":            model.StageTransmit,
		"ip_finish_output2+0x1":             model.StageTransmit,
		"__netif_receive_skb_core+0x1":      model.StageReceive,
		"tcp_v4_rcv+0x1":                    model.StageDeliver,
		"__udp4_lib_rcv+0x1":                model.StageDeliver,
		"udp_queue_rcv_one_skb+0x1":         model.StageDeliver,
		"icmp_rcv+0x1":                      model.StageDeliver,
		"ip_protocol_deliver_rcu+0x1":       model.StageDeliver,
		"ip_local_deliver_finish+0x1":       model.StageDeliver,
		"ip6_protocol_deliver_rcu+0x1":      model.StageDeliver,
		"0xffffffff81234567":                "",
		"":                                  "",
		"nothing_of_ours_and_not_nf_+0x123": "",
	} {
		if got := stageOf(fn); got != want {
			t.Errorf("%s: %q, want %q", fn, got, want)
		}
	}
	// a row behind one that covers it would never be used
	for i, s := range dropStages {
		for _, before := range dropStages[:i] {
			if len(before.prefix) <= len(s.prefix) && s.prefix[:len(before.prefix)] == before.prefix && before.stage != s.stage {
				t.Errorf("row %s is hidden by row %s", s.prefix, before.prefix)
			}
		}
	}
}

func TestStackOf(t *testing.T) {
	for _, c := range []struct {
		name     string
		location string
		hidden   bool
		frames   []string
		want     []string
	}{
		{"our own way in is left out", "ip_forward+0x1f4", false,
			[]string{"bpf_prog_1234_tp_kfree_skb+0x10", "bpf_trace_run3+0x8", "__bpf_trace_kfree_skb+0x2", "ip_forward+0x1f4", "ip_rcv+0x20"},
			[]string{"ip_forward+0x1f4", "ip_rcv+0x20"}},
		{"so are trampolines and the second frame of what they wrap", "ip_forward+0x1f4", false,
			[]string{"ip_forward+0x1f4", "bpf_trampoline_6442+0x1", "ip_forward+0x5", "ip_rcv+0x20", "0xffffffffc0001234", "ip_rcv+0x5", "netif_receive_skb+0x9"},
			[]string{"ip_forward+0x1f4", "ip_rcv+0x20", "netif_receive_skb+0x9"}},
		{"functions that free for others", "ip_error+0x80", false,
			[]string{"sk_skb_reason_drop+0x10", "kfree_skb_reason+0x1", "ip_error+0x80", "ip_rcv+0x20"}, []string{"ip_error+0x80", "ip_rcv+0x20"}},
		{"the freeing function is not on it", "gone+0x1", false, []string{"a+0x1", "b+0x1"}, []string{"a+0x1", "b+0x1"}},
		{"it ends at the first empty frame", "a+0x1", false, []string{"a+0x1", "", "c+0x1"}, []string{"a+0x1"}},
		{"empty", "a+0x1", false, nil, nil},
		{"hidden symbols stay numbers", "", true, []string{"a+0x1", "b+0x1"}, []string{"0xffffffff81000000", "0xffffffff81000001"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := &names{hidden: c.hidden}
			var addrs []uint64
			for _, f := range c.frames {
				addrs = append(addrs, n.symbol(f))
			}
			got := stackOf(&world{Naming: n}, addrs, c.location)
			if len(got) != len(c.want) {
				t.Fatalf("stack %q, want %q", got, c.want)
			}
			for i := range got {
				if got[i] != c.want[i] {
					t.Errorf("stack %q, want %q", got, c.want)
					break
				}
			}
		})
	}
}

func TestStageAt(t *testing.T) {
	for _, c := range []struct {
		stack []string
		want  model.Stage
	}{
		{[]string{"skb_queue_purge_reason+0x1", "neigh_flush_dev+0x1", "neigh_carrier_down+0x1"}, model.StageNeighbor},
		{[]string{"skb_queue_purge+0x1", "inet_sock_destruct+0x1", "udp_destruct_sock+0x1"}, ""}, // not the caller's caller
		{[]string{"veth_xmit+0x1", "neigh_resolve_output+0x1"}, model.StageTransmit},
		{[]string{"unknown+0x1", "neigh_resolve_output+0x1"}, ""},
		{nil, ""},
	} {
		function := ""
		if len(c.stack) > 0 {
			function = c.stack[0]
		}
		if got := stageAt(function, c.stack); got != c.want {
			t.Errorf("%v: %q, want %q", c.stack, got, c.want)
		}
	}
}
