// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/program"
)

// markers are values of the kernel's enums that are no reasons.
func marker(name string) bool {
	return strings.HasPrefix(name, "_") || strings.HasSuffix(name, "_MAX") || strings.Contains(name, "_SUBSYS_") ||
		slices.Contains([]string{"SKB_NOT_DROPPED_YET", "SKB_CONSUMED", "QDISC_DROP_UNSPEC"}, name)
}

// Every reason of the running kernel has its row, and so its words.
func TestReasonsOfThisKernel(t *testing.T) {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		t.Skipf("no BTF of this kernel: %v", err)
	}
	known := make(map[string]bool)
	for _, r := range reasons() {
		known[r.name] = true
	}
	seen := 0
	for _, name := range []string{"skb_drop_reason", "qdisc_drop_reason", "ovs_drop_reason"} {
		var enum *btf.Enum
		if err := kernel.TypeByName(name, &enum); errors.Is(err, btf.ErrNotFound) {
			continue // a subsystem that this kernel has not, or has in a module
		} else if err != nil {
			t.Fatal(err)
		}
		for _, v := range enum.Values {
			if marker(v.Name) {
				continue
			}
			seen++
			if short := strings.TrimPrefix(v.Name, "SKB_DROP_REASON_"); !known[short] {
				t.Errorf("%s of enum %s has no row", short, name)
			}
		}
	}
	if seen < 50 {
		t.Errorf("only %d reasons were found in this kernel's BTF", seen)
	}
}

// The table itself: each reason once, in words that go on a sentence, and either a
// cause's or said not to be met.
func TestReasons(t *testing.T) {
	seen := make(map[string]bool)
	for _, r := range reasons() {
		if seen[r.name] {
			t.Errorf("%s is there twice", r.name)
		}
		seen[r.name] = true
		if r.words == "" || strings.HasSuffix(r.words, ".") || strings.Contains(r.words, "_DROP") {
			t.Errorf("%s: %q is no clause", r.name, r.words)
		}
		if (r.codes == "") == (r.why == "") {
			t.Errorf("%s: neither a cause's nor said not to be met, or both", r.name)
		}
		for _, code := range strings.Fields(r.codes) {
			if !slices.Contains(Codes(), code) {
				t.Errorf("%s: %s is the code of no cause", r.name, code)
			}
		}
		words, ok := reasonWords(r.name, "")
		if !ok != (r.name == "NOT_SPECIFIED") || ok && words != r.words {
			t.Errorf("%s is told as %q, %v", r.name, words, ok)
		}
	}
	for function, words := range freeingFunctions() {
		if words == "" || strings.HasSuffix(words, ".") || strings.ContainsAny(function, ".+ ") {
			t.Errorf("%s: %q", function, words)
		}
	}
}

func TestReasonWords(t *testing.T) {
	for _, tc := range []struct{ reason, function, says string }{
		{"TCP_OVERWINDOW", "tcp_data_queue", "beyond the receiver's window"}, // the reason says more than the function
		{"NOT_SPECIFIED", "br_handle_frame_finish", "bridge does not pass it on"},
		{"", "wg_xmit", "WireGuard"},
		{"NOT_SPECIFIED", "__netif_receive_skb_core.constprop.0", "nothing takes frames"},
		{"RX_DROP_U_REPLAY", "", "wireless"},
		{"NOT_SPECIFIED", "no_such_function", ""},
		{"reason 4711", "", ""},
	} {
		says, ok := reasonWords(tc.reason, tc.function)
		if ok != (tc.says != "") || !strings.Contains(says, tc.says) {
			t.Errorf("%s in %s: %q, %v; want %q", tc.reason, tc.function, says, ok, tc.says)
		}
	}
}

// reasonPackets are packets for reasons whose causes ask for more than the reason.
var reasonPackets = map[string]func(*model.Packet, *recorded){
	"NETFILTER_DROP":  func(p *model.Packet, _ *recorded) { byRule("FORWARD", "-A FORWARD -j DROP", "")(p) },
	"IP_INADDRERRORS": in("ip_error+0x1"),
	"IP_INNOROUTES":   in("ip_error+0x1"),
	"IP_OUTNOROUTES":  in("ip_error+0x1"),
	"IP_INHDR":        in("ip_forward+0x1"),
	"NO_TX_TARGET":    in("vxlan_xmit+0x1"),
	"DEV_READY":       func(_ *model.Packet, r *recorded) { r.Places[nodeNS].Links[2].Up = false },
	"LOCAL_MAC": func(p *model.Packet, _ *recorded) {
		p.Drop.Function, p.Drop.Interface, p.Drop.IfIndex = "vxlan_rcv+0x1", "vxlan.calico", 3
	},
	"IP_NOPROTO": in("ip_protocol_deliver_rcu+0x1"),
	"VXLAN_INVALID_HDR": func(p *model.Packet, _ *recorded) {
		p.Drop.Function, p.Drop.Interface, p.Drop.IfIndex = "vxlan_rcv+0x1", "eth0", 2
	},
	"VXLAN_VNI_NOT_FOUND": func(p *model.Packet, _ *recorded) {
		p.Drop.Function, p.Drop.Interface, p.Drop.IfIndex = "vxlan_rcv+0x1", "eth0", 2
	},
}

func in(function string) func(*model.Packet, *recorded) {
	return func(p *model.Packet, _ *recorded) { p.Drop.Function = function }
}

// A reason is told by one of the causes that the table says, and by no other: a cause
// that looks at one is in its row.
func TestReasonsAreOfTheirCauses(t *testing.T) {
	for _, r := range reasons() {
		state := madeNode()
		p := dead(r.name, "some_function+0x1", nil)
		if more := reasonPackets[r.name]; more != nil {
			more(p, state)
		}
		found := diagnoseAll(t, state, p)
		if len(found) != 1 {
			t.Errorf("%s: %d findings", r.name, len(found))
			continue
		}
		codes := strings.Fields(r.codes)
		if r.codes == "" {
			codes = []string{unexplainedCode}
		}
		if !slices.Contains(codes, found[0].Code) {
			t.Errorf("%s is told as %s, and the table says %v:\n%s", r.name, found[0].Code, codes, words(found[0]))
		}
		if reasonPackets[r.name] != nil || len(codes) == 1 || !slices.Contains(codes, unexplainedCode) {
			continue
		}
		t.Errorf("%s is said to be told as %v, and nothing shows the first", r.name, codes)
	}
}

// Programs are told by name, id, tag, place and holder; several by what is not known.
func TestPrograms(t *testing.T) {
	guard := program.Program{How: program.TCX, Side: program.Ingress, Where: "calia", ID: 12, Name: "guard", Tag: "abcd", Holders: []program.Holder{{PID: 7, Comm: "agent"}}}
	filter := program.Program{How: program.TCFilter, Side: program.Ingress, Where: "calia", Filter: "pref 7 u32 handle 0x800"}
	tame := program.Program{How: program.TCFilter, Side: program.Ingress, Where: "calia", Filter: "pref 8 u32 handle 0x801", Harmless: true}
	out := program.Program{How: program.TCX, Side: program.Egress, Where: "calia", ID: 13, Name: "other", Tag: "ef"}
	over := func(side string, s SocketPrograms) func(*recorded) {
		return func(r *recorded) { r.Places[nodeNS].OverSockets = map[string]SocketPrograms{side: s} }
	}
	on := func(all ...program.Program) func(*recorded) {
		return func(r *recorded) { r.Places[nodeNS].Programs = map[int][]program.Program{4: all} }
	}
	mine := program.Program{How: program.Cgroup, Side: program.Egress, Where: "/pod", ID: 20, Name: "sd_fw_egress", Tag: "1f", Pins: []string{"/sys/fs/bpf/x"}}
	top := program.Program{How: program.Cgroup, Side: program.Egress, Where: "/", ID: 21, Name: "all", Tag: "2f"}
	holder := program.Holder{PID: 9, Comm: "curl"}
	for name, tc := range map[string]struct {
		reason, function string
		node             func(*recorded)
		code, sure       string
		says             []string
		never            string
	}{
		"one": {"TC_INGRESS", "x+0x1", on(guard, out, tame), "tc-drop", Certain,
			[]string{"drops it: guard (id 12)", "attached: eBPF program guard (id 12, tag abcd), tcx ingress of calia", "program 12 is held by agent (pid 7)", "none of its actions is to drop: tc filter pref 8", "bpftool net show dev calia", "change what agent (pid 7) is told"}, "other"},
		"to a link that is down": {"TC_INGRESS", "x+0x1", func(r *recorded) {
			on(program.Program{How: program.TCFilter, Side: program.Ingress, Where: "calia", Filter: "pref 9 u32", Harmless: true, Redirect: 3})(r)
			r.Places[nodeNS].Links[1].Up = false
		}, "tc-drop", Certain, []string{"hands it to vxlan.calico (mirred redirect), which is set down", "ip link set vxlan.calico up"}, "none is attached"},
		"to a link that is up": {"TC_INGRESS", "x+0x1", on(program.Program{How: program.TCFilter, Side: program.Ingress, Where: "calia", Filter: "pref 9 u32", Harmless: true, Redirect: 3}), "tc-drop", Certain,
			[]string{"none of its actions is to drop: tc filter pref 9 u32", "which it was: none of those that are attached there by now is known to drop"}, "mirred"},
		"to a link that is gone": {"TC_INGRESS", "x+0x1", on(program.Program{How: program.TCFilter, Side: program.Ingress, Where: "calia", Filter: "pref 9 u32", Harmless: true, Redirect: 77}), "tc-drop", Certain,
			[]string{"an interface that is gone (index 77)"}, "none is attached"},
		"a filter": {"TC_INGRESS", "x+0x1", on(filter), "tc-drop", Certain,
			[]string{"drops it: tc filter pref 7 u32 handle 0x800", "attached: tc filter pref 7 u32 handle 0x800, ingress of calia"}, "program 0"},
		"two": {"TC_INGRESS", "x+0x1", on(guard, filter), "tc-drop", Certain,
			[]string{"one of 2 that are attached there", "not known: which of them", "guard (id 12", "pref 7 u32"}, ""},
		"gone": {"TC_EGRESS", "x+0x1", on(guard), "tc-drop", Certain,
			[]string{"not known: which it was: none is attached there by now"}, "guard"},
		"XDP without a reason": {"NOT_SPECIFIED", "veth_xdp_rcv_skb+0x1", on(program.Program{How: program.XDP, Side: "native", Where: "calia", ID: 5, Name: "x", Tag: "0"}), "tc-drop", Certain,
			[]string{"an XDP program on node (calia) drops it: x (id 5)", "XDP (native) of calia", "who attached program 5: no process holds it"}, ""},
		"netkit": {"NOT_SPECIFIED", "netkit_xmit+0x1", on(program.Program{How: program.Netkit, Side: "primary", Where: "calia", ID: 6, Name: "nk", Tag: "0"}, out), "tc-drop", Certain,
			[]string{"a netkit program on node (calia) drops it: nk (id 6)", "netkit primary of calia"}, "other"},
		"cgroup": {"BPF_CGROUP_EGRESS", "ip_finish_output+0x1", over(program.Egress, SocketPrograms{Owner: holder, Cgroup: "/pod", Mount: "/m", Programs: []program.Program{mine}}), "program-drop", Certain,
			[]string{"the eBPF program sd_fw_egress (id 20) on cgroup /pod does not let it out (curl (pid 9) in node)", "pinned as /sys/fs/bpf/x", "bpftool cgroup show /m/pod", "IPAddressDeny"}, ""},
		"cgroups": {"BPF_CGROUP_EGRESS", "ip_finish_output+0x1", over(program.Egress, SocketPrograms{Owner: holder, Cgroup: "/pod", Programs: []program.Program{mine, top}}), "program-drop", Certain,
			[]string{"one of 2 eBPF programs on the cgroups of curl (pid 9)", "not known: which of them"}, ""},
		"cgroup, whose socket is not known": {"BPF_CGROUP_EGRESS", "ip_finish_output+0x1", over(program.Egress, SocketPrograms{Programs: []program.Program{top}}), "program-drop", Likely,
			[]string{"all (id 21) on cgroup /", "not known: whose the socket is"}, ""},
		"cgroup program that went": {"BPF_CGROUP_EGRESS", "ip_finish_output+0x1", nil, "program-drop", Certain,
			[]string{"an eBPF program on the cgroup of the socket's process", "none is attached by now"}, ""},
		"cgroup before there was a reason": {"NOT_SPECIFIED", "ip_finish_output+0x1", over(program.Egress, SocketPrograms{Owner: holder, Programs: []program.Program{mine}}), "program-drop", Likely,
			[]string{"sd_fw_egress (id 20)"}, ""},
		"no cgroup program": {"NOT_SPECIFIED", "ip_finish_output+0x1", nil, "unexplained-drop", Likely, nil, "eBPF program on"},
		"ingress of a cgroup": {"SOCKET_FILTER", "tcp_v4_rcv+0x1", over(program.Ingress, SocketPrograms{Owner: holder, Cgroup: "/pod", Programs: []program.Program{top}}), "program-drop", Likely,
			[]string{"all (id 21) on cgroup / does not let it in", "not known: that it was not a filter of the socket itself"}, ""},
		"a socket's own": {"SOCKET_FILTER", "udp_queue_rcv_one_skb+0x1", over(program.Ingress, SocketPrograms{Owner: holder, Cgroup: "/pod"}), "program-drop", Likely,
			[]string{"a filter of the socket for tcp port 80 in node, that of curl (pid 9), does not take it", "SO_ATTACH_FILTER"}, ""},
		"tap": {"TAP_FILTER", "tun_net_xmit+0x1", nil, "program-drop", Certain, []string{"the tap device"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			state := madeNode()
			if tc.node != nil {
				tc.node(state)
			}
			found := diagnoseAll(t, state, dead(tc.reason, tc.function, nil))
			if len(found) != 1 || found[0].Code != tc.code || found[0].Confidence != tc.sure {
				t.Fatalf("told %+v, want %s, %s", found, tc.code, tc.sure)
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

// The connected socket before a bound one, and that before one of all addresses.
func TestSocketInode(t *testing.T) {
	at := func(a string) (s node.Socket) { s.Local, s.Remote = twoPorts(a); return s }
	all := []node.Socket{at("0.0.0.0:80 0.0.0.0:0"), at("10.0.0.1:80 0.0.0.0:0"), at("10.0.0.1:80 10.0.0.2:99"), at("10.0.0.3:80 10.0.0.2:99"), at("0.0.0.0:81 0.0.0.0:0")}
	for i := range all {
		all[i].Inode = uint64(i + 1)
	}
	for want, asked := range map[uint64]string{1: "10.0.0.9:80 10.0.0.2:99", 2: "10.0.0.1:80 10.0.0.2:98", 3: "10.0.0.1:80 10.0.0.2:99", 5: "10.0.0.1:81 10.0.0.2:99", 0: "10.0.0.1:82 10.0.0.2:99"} {
		s := SocketAt{}
		local, remote := twoPorts(asked)
		s.Locals, s.Remote = append(s.Locals, local), remote
		if got := socketInode(all, s); got != want {
			t.Errorf("%s: socket %d, want %d", asked, got, want)
		}
	}
}
