// SPDX-License-Identifier: Apache-2.0

// Package attach owns the kernel half while it runs: which programs there are and
// what they need of a kernel, how they are loaded and attached, and what is asked
// of them and shown to them after that. What their events mean is package journey's.
package attach

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/kernel"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// hook is one row of the plan: a program of the object, what has to be true
// of the running kernel for it to be loaded, and what is not seen without it.
type hook struct {
	prog      string
	module    string // kernel module that may hold the function; "" the kernel itself
	arg       int    // position of the packet among the function's arguments
	typ       string // that argument's type, as it has to be
	loses     string // what a trace lacks without it
	essential bool   // without it there is no trace
	quiet     bool   // its absence is normal and costs nothing worth a word
	beside    string // function of the module without which it is of no use; "" it is by itself
}

const (
	typeSKB     = "sk_buff"      // struct sk_buff *
	typeSKBPtr  = "sk_buff*"     // struct sk_buff **
	typePktinfo = "nft_pktinfo"  // struct nft_pktinfo *
	typeModule  = "module"       // struct module *
	typeFlow    = "flowi4"       // struct flowi4 *
	typeNone    = ""             // nothing to check
	modBridge   = "bridge"       // net/bridge
	modVXLAN    = "vxlan"        // drivers/net/vxlan
	modCT       = "nf_conntrack" // net/netfilter
	modNFT      = "nf_tables"    // net/netfilter

	modWireGuard = "wireguard" // drivers/net/wireguard
)

// tracepointHooks are bound by every backend.
var tracepointHooks = []hook{
	{prog: "tp_net_dev_start_xmit", arg: 0, typ: typeSKB, loses: "packets being sent", essential: true},
	{prog: "tp_netif_receive_skb", arg: 0, typ: typeSKB, loses: "packets being received", essential: true},
	{prog: "tp_kfree_skb", arg: 0, typ: typeSKB, loses: "drops", essential: true},
	{prog: "tp_consume_skb", arg: 0, typ: typeSKB, loses: "the normal end of packets", essential: true},
	{prog: "tp_fib_table_lookup", arg: 1, typ: typeFlow, loses: "the routing table a route came from"},
	{prog: "tp_tcp_send_reset", arg: 1, typ: typeSKB, loses: "TCP resets sent"},
	{prog: "tp_icmp_send", arg: 0, typ: typeSKB, loses: "ICMP errors sent", quiet: true},
	{prog: "tp_module_load", arg: 0, typ: typeModule, loses: "kernel modules that arrive later", quiet: true},
}

// percpuHook is how the tracepoint backend learns of new legacy tables.
var percpuHook = hook{prog: "tp_percpu_alloc_percpu", loses: "that legacy tables are replaced", quiet: true}

// fentryHooks are what the fentry backend has besides the tracepoints.
var fentryHooks = []hook{
	{prog: "nf_hook_slow_in", arg: 0, typ: typeSKB, loses: "the netfilter hook a packet died in"},
	{prog: "nf_hook_slow_out", arg: 0, typ: typeSKB, loses: "netfilter verdicts"},
	{prog: "ipt_do_table_in", module: "ip_tables", arg: 1, typ: typeSKB, loses: "which iptables-legacy rules matched"},
	{prog: "ip6t_do_table_in", module: "ip6_tables", arg: 1, typ: typeSKB, loses: "which ip6tables-legacy rules matched"},
	{prog: "xt_replace_table_in", module: "x_tables", arg: 0, typ: "xt_table", loses: "that legacy tables are replaced: their rules are not told"},
	{prog: "ipt_do_table_out", module: "ip_tables", arg: 1, typ: typeSKB, loses: "verdicts of iptables-legacy tables"},
	{prog: "ip6t_do_table_out", module: "ip6_tables", arg: 1, typ: typeSKB, loses: "verdicts of ip6tables-legacy tables"},
	{prog: "nft_do_chain_in", module: modNFT, arg: 0, typ: typePktinfo, loses: "the nft chain a packet died in"},
	{prog: "nft_do_chain_out", module: modNFT, arg: 0, typ: typePktinfo, loses: "verdicts of nft chains"},
	{prog: "nf_conntrack_in_out", module: modCT, arg: 0, typ: typeSKB, loses: "conntrack state"},
	{prog: "ip_route_input_slow_out", arg: 0, typ: typeSKB, loses: "IPv4 route decisions"},
	{prog: "ip6_route_input_out", arg: 0, typ: typeSKB, loses: "IPv6 route decisions"},
	{prog: "fib_validate_source_out", arg: 0, typ: typeSKB, loses: "reverse path filter results (the drop itself is seen)"},
	{prog: "ip_forward_in", arg: 0, typ: typeSKB, loses: "IPv4 forwarding"},
	{prog: "ip6_forward_in", arg: 0, typ: typeSKB, loses: "IPv6 forwarding"},
	{prog: "neigh_resolve_output_in", arg: 1, typ: typeSKB, loses: "neighbour state"},
	{prog: "br_handle_frame_in", module: modBridge, arg: 0, typ: typeSKBPtr, loses: "packets entering a bridge"},
	{prog: "br_forward_in", module: modBridge, arg: 1, typ: typeSKB, loses: "packets forwarded by a bridge"},
	{prog: "br_pass_frame_up_in", module: modBridge, arg: 0, typ: typeSKB, loses: "packets a bridge passes up"},
	{prog: "vxlan_xmit_in", module: "vxlan", arg: 0, typ: typeSKB, loses: "VXLAN encapsulation by function"},
	{prog: "vxlan_rcv_in", module: "vxlan", arg: 1, typ: typeSKB, loses: "VXLAN decapsulation by function"},
	{prog: "geneve_xmit_in", module: "geneve", arg: 0, typ: typeSKB, loses: "Geneve encapsulation by function"},
	{prog: "geneve_udp_encap_recv_in", module: "geneve", arg: 1, typ: typeSKB, loses: "Geneve decapsulation by function"},
	{prog: "ip_tunnel_xmit_in", module: "ip_tunnel", arg: 0, typ: typeSKB, loses: "IPIP and GRE encapsulation by function"},
	{prog: "ip_tunnel_rcv_in", module: "ip_tunnel", arg: 1, typ: typeSKB, loses: "IPIP and GRE decapsulation by function"},
	{prog: "sit_tunnel_xmit_in", module: "sit", arg: 0, typ: typeSKB, loses: "encapsulation of IPv6 in IPv4 by function"},
	{prog: "ipip6_rcv_in", module: "sit", arg: 0, typ: typeSKB, loses: "decapsulation of IPv6 in IPv4 by function"},
	{prog: "ip6_tnl_xmit_in", module: "ip6_tunnel", arg: 0, typ: typeSKB, loses: "encapsulation in IPv6 by function"},
	{prog: "ip6_tnl_rcv_in", module: "ip6_tunnel", arg: 1, typ: typeSKB, loses: "decapsulation in IPv6 by function"},
	{prog: "wg_xmit_in", module: modWireGuard, arg: 0, typ: typeSKB, loses: "packets that WireGuard sends, once they are encrypted"},
	{prog: "__skb_gso_segment_out", module: modWireGuard, beside: "wg_xmit", arg: 0, typ: typeSKB, loses: "what becomes of large packets that WireGuard cuts"},
	{prog: "wg_allowedips_lookup_src_out", module: modWireGuard, arg: 1, typ: typeSKB, loses: "packets that WireGuard refuses for their source"},
	{prog: "__dev_queue_xmit_out", arg: 0, typ: typeSKB, loses: "results of queueing"},
	{prog: "tcp_v4_rcv_in", arg: 0, typ: typeSKB, loses: "TCP delivery", essential: true},
	{prog: "tcp_v4_rcv_out", arg: 0, typ: typeSKB, loses: "the end of TCP delivery"},
	{prog: "tcp_v6_rcv_in", module: "ipv6", arg: 0, typ: typeSKB, loses: "TCP delivery over IPv6"},
	{prog: "tcp_v6_rcv_out", module: "ipv6", arg: 0, typ: typeSKB, loses: "the end of TCP delivery over IPv6"},
	{prog: "udp_queue_rcv_skb_in", arg: 1, typ: typeSKB, loses: "UDP delivery"},
	{prog: "udpv6_queue_rcv_skb_in", module: "ipv6", arg: 1, typ: typeSKB, loses: "UDP delivery over IPv6"},
	{prog: "icmp_rcv_in", arg: 0, typ: typeSKB, loses: "ICMP delivery"},
	{prog: "icmpv6_rcv_in", module: "ipv6", arg: 0, typ: typeSKB, loses: "ICMPv6 delivery"},
	{prog: "sctp_rcv_in", module: "sctp", arg: 0, typ: typeSKB, loses: "SCTP delivery", quiet: true},
	{prog: "tcp_v4_send_reset_in", arg: 1, typ: typeSKB, loses: "TCP resets sent where no socket is"},
	{prog: "tcp_v6_send_reset_in", module: "ipv6", arg: 1, typ: typeSKB, loses: "TCP resets sent over IPv6 where no socket is"},
	{prog: "__icmp_send_in", arg: 0, typ: typeSKB, loses: "ICMP errors sent"},
	{prog: "icmp6_send_in", module: "ipv6", arg: 0, typ: typeSKB, loses: "ICMPv6 errors sent"},
	{prog: "nf_send_reset_in", module: "nf_reject_ipv4", arg: 2, typ: typeSKB, loses: "resets sent by REJECT"},
	{prog: "nf_send_reset6_in", module: "nf_reject_ipv6", arg: 2, typ: typeSKB, loses: "resets sent by REJECT over IPv6"},
}

// relocationModules are the modules whose types our own structures stand for.
var relocationModules = []string{"nf_conntrack", "x_tables", "nf_tables", "bridge", modWireGuard}

// programs is a set of loaded programs and where they hang.
type programs struct {
	kern    *kernel.Kernel
	spec    *ebpf.CollectionSpec
	coll    *ebpf.Collection
	late    []*ebpf.Collection
	links   []link.Link
	hung    map[string]bool // programs attached
	missed  []Missed
	waiting []hook // function not there yet: its module may still be loaded
	verbose func(string)
}

// Missed is a hook that could not be had, and whether that is worth a word.
type Missed struct {
	model.MissedHook
	Quiet bool // its absence is normal
}

// ErrRefused means that this kernel does not let us use a kind of program at
// all: the backend is not available here, whatever the hook.
var ErrRefused = errors.New("refused by the kernel")

// ErrPolicy means that the kernel would, but the node's policy does not let us.
var ErrPolicy = errors.New("operation not permitted (policy of this node)")

// errMissing is a function or tracepoint that this kernel does not have.
var errMissing = errors.New("not in this kernel")

// target names what a program hangs on, as people write it.
func target(p *ebpf.ProgramSpec) string {
	switch p.AttachType {
	case ebpf.AttachTraceFEntry:
		return "fentry/" + p.AttachTo
	case ebpf.AttachTraceFExit:
		return "fexit/" + p.AttachTo
	default:
		return "tp_btf/" + p.AttachTo
	}
}

// check asks the running kernel whether a hook can be had: is the function
// there, and does the packet stand where the program looks for it?
func check(k *kernel.Kernel, h hook, p *ebpf.ProgramSpec) error {
	if p.AttachType == ebpf.AttachTraceRawTp {
		if _, err := k.TracepointArgs(p.AttachTo); err != nil {
			return fmt.Errorf("tracepoint %s: %w", p.AttachTo, errMissing)
		}
		return nil
	}
	var mods []string
	if h.module != "" {
		mods = []string{h.module}
	}
	if h.beside != "" {
		if _, _, err := k.FindFunc(h.beside, mods...); err != nil {
			return fmt.Errorf("function %s: %w", h.beside, errMissing)
		}
	}
	fn, _, err := k.FindFunc(p.AttachTo, mods...)
	if err != nil {
		return fmt.Errorf("function %s: %w", p.AttachTo, errMissing)
	}
	proto, ok := fn.Type.(*btf.FuncProto)
	if !ok || len(proto.Params) <= h.arg {
		return fmt.Errorf("function %s: takes %d arguments, the packet was expected as number %d", p.AttachTo, len(proto.Params), h.arg+1)
	}
	if got := pointee(proto.Params[h.arg].Type); h.typ != typeNone && got != h.typ {
		return fmt.Errorf("function %s: argument %d is %q, expected %q", p.AttachTo, h.arg+1, got, h.typ)
	}
	return nil
}

// pointee names the structure a pointer type leads to: "sk_buff" for struct
// sk_buff *, "sk_buff*" for a pointer to that, "void" and "" for what is none.
func pointee(t btf.Type) string {
	ptr, ok := btf.UnderlyingType(t).(*btf.Pointer)
	if !ok {
		return ""
	}
	switch to := btf.UnderlyingType(ptr.Target).(type) {
	case *btf.Struct:
		return to.Name
	case *btf.Fwd:
		return to.Name
	case *btf.Pointer:
		return pointee(to) + "*"
	case *btf.Void:
		return "void"
	}
	return ""
}

// loadPrograms loads, as one collection, the hooks of the plan that this
// kernel has. extra names programs that are loaded but attached by the caller.
func loadPrograms(k *kernel.Kernel, spec *ebpf.CollectionSpec, plan []hook, extra []string, verbose, took func(string)) (*programs, error) {
	a := &programs{kern: k, spec: spec, verbose: verbose, hung: make(map[string]bool)}
	chosen := a.choose(plan)
	took("probe the hooks")
	for _, h := range plan {
		if h.essential && !slices.ContainsFunc(chosen, func(c hook) bool { return c.prog == h.prog }) {
			return nil, fmt.Errorf("hook %s: %w", target(spec.Programs[h.prog]), errMissing)
		}
	}
	for _, name := range extra {
		chosen = append(chosen, hook{prog: name})
	}
	coll, chosen, err := a.load(chosen, nil)
	if err != nil {
		return nil, err
	}
	took("load the programs")
	a.coll = coll
	if err := a.attach(coll, chosen, extra); err != nil {
		a.Close()
		return nil, err
	}
	took("attach them")
	return a, nil
}

// trim lets go of what is not loaded again: the programs of a backend take some
// megabytes. Those that wait for a module stay, and those that later names.
func (a *programs) trim(later []hook) {
	stays := make(map[string]bool)
	for _, h := range append(later, a.waiting...) {
		stays[h.prog] = true
	}
	for name, p := range a.spec.Programs {
		if !stays[name] {
			p.Instructions = nil
		}
	}
}

// choose keeps the hooks that can be had and notes why for the others.
func (a *programs) choose(plan []hook) []hook {
	var chosen []hook
	for _, h := range plan {
		p := a.spec.Programs[h.prog]
		err := check(a.kern, h, p)
		if err == nil {
			chosen = append(chosen, h)
			continue
		}
		if errors.Is(err, errMissing) && h.module != "" {
			a.waiting = append(a.waiting, h)
		}
		a.miss(h, err)
	}
	return chosen
}

func (a *programs) miss(h hook, err error) {
	m := model.MissedHook{Hook: target(a.spec.Programs[h.prog]), Why: fmt.Sprintf("%v; without it not seen: %s", err, h.loses)}
	// a module that is not loaded cannot touch packets either
	quiet := h.quiet || (errors.Is(err, errMissing) && h.module != "")
	a.missed = append(a.missed, Missed{m, quiet})
	a.verbose("left out " + m.Hook + ": " + m.Why)
}

// load makes one collection of the hooks. A hook that the verifier refuses is
// left out, found by loading each alone; everything refused is ErrRefused.
func (a *programs) load(hooks []hook, maps map[string]*ebpf.Map) (*ebpf.Collection, []hook, error) {
	coll, err := a.loadOnce(hooks, maps)
	if err == nil {
		return coll, hooks, nil
	}
	first := err
	var good []hook
	for _, h := range hooks {
		one, err := a.loadOnce([]hook{h}, maps)
		if err != nil {
			if h.essential || errors.Is(err, unix.EPERM) {
				return nil, nil, loadError(err)
			}
			a.miss(h, loadError(err))
			continue
		}
		one.Close()
		good = append(good, h)
	}
	if len(good) == len(hooks) || len(good) == 0 {
		return nil, nil, loadError(first)
	}
	coll, err = a.loadOnce(good, maps)
	if err != nil {
		return nil, nil, loadError(err)
	}
	return coll, good, nil
}

func (a *programs) loadOnce(hooks []hook, maps map[string]*ebpf.Map) (*ebpf.Collection, error) {
	sub := a.spec.Copy()
	sub.Programs = make(map[string]*ebpf.ProgramSpec, len(hooks))
	for _, h := range hooks {
		sub.Programs[h.prog] = a.spec.Programs[h.prog].Copy()
	}
	var extra []*btf.Spec
	for _, m := range relocationModules {
		if s, err := a.kern.ModuleBTF(m); err == nil {
			extra = append(extra, s)
		}
	}
	return ebpf.NewCollectionWithOptions(sub, ebpf.CollectionOptions{
		MapReplacements: maps,
		Cache:           a.kern.Cache(),
		Programs:        ebpf.ProgramOptions{ExtraRelocationTargets: extra},
	})
}

// loadError puts the verifier's last line, where there is one, into one line.
func loadError(err error) error {
	var ve *ebpf.VerifierError
	if errors.As(err, &ve) && len(ve.Log) > 0 {
		last := ve.Log[len(ve.Log)-1]
		if strings.HasPrefix(last, "processed ") && len(ve.Log) > 1 {
			last = ve.Log[len(ve.Log)-2]
		}
		return fmt.Errorf("%w: %v: %s", ErrRefused, errors.Unwrap(ve), strings.TrimSpace(last))
	}
	if errors.Is(err, unix.EPERM) {
		// the limit on locked memory was lifted: it is policy, whatever
		// the library suggests
		return fmt.Errorf("%w: %w", ErrRefused, ErrPolicy)
	}
	return fmt.Errorf("%w: %w", ErrRefused, err)
}

// attach hangs the programs in, in the plan's order, but entry points last:
// nothing is followed before everything that would see it is there.
func (a *programs) attach(coll *ebpf.Collection, hooks []hook, skip []string) error {
	order := make([]hook, len(hooks))
	copy(order, hooks)
	sort.SliceStable(order, func(i, j int) bool { return !order[i].essential && order[j].essential })
	for _, h := range order {
		if slices.Contains(skip, h.prog) {
			continue
		}
		l, err := link.AttachTracing(link.TracingOptions{Program: coll.Programs[h.prog]})
		if err == nil {
			a.links = append(a.links, l)
			a.hung[h.prog] = true
			continue
		}
		if h.essential {
			return fmt.Errorf("attach %s: %w: %w", target(a.spec.Programs[h.prog]), ErrRefused, err)
		}
		a.miss(h, fmt.Errorf("attach: %w", err))
	}
	return nil
}

// arrived attaches what was waiting for a kernel module. It gives the number
// of new hooks.
func (a *programs) arrived(module string) (int, error) {
	var now, still []hook
	for _, h := range a.waiting {
		if h.module == module {
			now = append(now, h)
		} else {
			still = append(still, h)
		}
	}
	if len(now) == 0 {
		return 0, nil
	}
	a.waiting = still
	before := len(a.links)
	chosen := a.choose(now)
	if len(chosen) == 0 {
		return 0, fmt.Errorf("module %s: loaded, but none of its functions can be attached", module)
	}
	coll, chosen, err := a.loadLate(chosen)
	if err != nil {
		return 0, fmt.Errorf("module %s: %w", module, err)
	}
	a.late = append(a.late, coll)
	if err := a.attach(coll, chosen, nil); err != nil {
		return 0, fmt.Errorf("module %s: %w", module, err)
	}
	for _, h := range chosen {
		a.forgive(target(a.spec.Programs[h.prog]))
	}
	return len(a.links) - before, nil
}

// more attaches hooks that came to matter after the start.
func (a *programs) more(hooks []hook) error {
	chosen := a.choose(hooks)
	if len(chosen) == 0 {
		return nil
	}
	coll, chosen, err := a.load(chosen, a.coll.Maps)
	if err != nil {
		return err
	}
	a.late = append(a.late, coll)
	return a.attach(coll, chosen, nil)
}

// attached tells whether a program of the plan is loaded and hangs in.
func (a *programs) attached(prog string) bool { return a.hung[prog] }

// moduleInit bounds the wait for a module to finish its initialisation.
const moduleInit = time.Second

// loadLate loads hooks in a module that has just arrived. The kernel announces
// a module before it has initialised it, and refuses programs on its functions
// until then (btf_try_get_module, kernel/bpf/btf.c).
func (a *programs) loadLate(hooks []hook) (*ebpf.Collection, []hook, error) {
	for end := time.Now().Add(moduleInit); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if coll, err := a.loadOnce(hooks, a.coll.Maps); err == nil {
			return coll, hooks, nil
		}
	}
	return a.load(hooks, a.coll.Maps)
}

// forgive takes a hook off the list of the missed: it is attached after all.
func (a *programs) forgive(name string) {
	kept := a.missed[:0]
	for _, m := range a.missed {
		if m.Hook != name {
			kept = append(kept, m)
		}
	}
	a.missed = kept
}

// skipped counts how often the kernel left a program out, for any packet, since
// it was running on that CPU already: a task was interrupted or preempted in the
// middle of it (kernel/bpf/trampoline.c: __bpf_prog_enter_recur, since 5.12).
func (a *programs) skipped() uint64 {
	var n uint64
	for _, c := range append([]*ebpf.Collection{a.coll}, a.late...) {
		for _, p := range c.Programs {
			if s, err := p.Stats(); err == nil { // not counted before 5.12
				n += s.RecursionMisses
			}
		}
	}
	return n
}

// Close detaches everything. Detaching fentry takes seconds on kernels before
// 7.x: print first, close after.
func (a *programs) Close() error {
	var errs []error
	for _, l := range a.links {
		errs = append(errs, l.Close())
	}
	a.links = nil
	for _, c := range a.late {
		c.Close()
	}
	if a.coll != nil {
		a.coll.Close()
		a.coll = nil
	}
	return errors.Join(errs...)
}
