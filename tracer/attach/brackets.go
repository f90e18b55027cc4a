// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/journey"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// Without fentry a netfilter hook is a black box: a packet goes in, and
// either comes out or is freed by nf_hook_slow(). BPF netfilter links (Linux
// 6.4) are put between whatever hangs at the hook:
//
//	pass_0 | raw -300 | pass_1 | conntrack -200 | pass_2 | mangle -150 | ... | pass_last
//
// They let every packet go on. The one a packet passed last names what
// dropped it; each further one passed is a verdict "accept" of what lies
// between. Links live in the namespace they were made in and vanish with the
// process; they are no rules and change no verdict.

const (
	numberedBrackets = 8 // pass_0 to pass_7 of tracepoint.bpf.c
	lastBracket      = journey.LastBracket
	// The two extreme priorities are refused by the kernel (net/netfilter/
	// nf_bpf_link.c: bpf_nf_check_pf_and_hooks), and so is any that is taken
	// (net/netfilter/core.c: nf_hook_entries_grow): conntrack confirms at
	// the last two.
	firstPriority = math.MinInt32 + 1
	lastPriority  = math.MaxInt32 - 2
	// How many neighbouring priorities are tried when one is taken, by
	// another trace of the same node, say.
	neighbours = 8
)

type hookKey struct {
	netns uint32
	pf    uint8
	hook  uint8
}

// hookGroups is what hangs at one hook: groups[i] lies between bracket i and
// the next one, the last group behind all brackets.
type hookGroups struct {
	groups [][]journey.Table
	behind []journey.Table
}

// Brackets are the links of all namespaces that matter.
type Brackets struct {
	links  map[uint32][]link.Link // by namespace
	groups map[hookKey]hookGroups
	done   map[uint32]bool
	want   []uint32 // namespaces the flow got to that have none yet
	use    bool     // this backend has brackets
	ns     *node.Namespaces
	unsure map[uint32]error       // of those that have some: why it is not known whether IPVS hangs there
	now    map[uint32]hookListing // what hangs there now, asked for after a drop
	first  map[uint32][]node.Hook // what hung there when the links were placed
	// tables names what stands alone behind a link, for the kernel half to look
	// at its rules; "": nothing any more.
	tables map[bpf.BracketKey]string
}

// hookListing is what hung at a namespace's hooks at some time.
type hookListing struct {
	at    uint64 // when it began (kernel clock)
	hooks []node.Hook
	err   error
}

func newBrackets(ns *node.Namespaces, use bool) *Brackets {
	return &Brackets{ns: ns, links: make(map[uint32][]link.Link), groups: make(map[hookKey]hookGroups), done: make(map[uint32]bool), use: use, unsure: make(map[uint32]error), now: make(map[uint32]hookListing), first: make(map[uint32][]node.Hook), tables: make(map[bpf.BracketKey]string)}
}

// Reached notes that the flow got to a namespace of this node.
func (b *Brackets) Reached(netns uint32) {
	if b.use && !b.done[netns] {
		b.done[netns] = true
		b.want = append(b.want, netns)
	}
}

// wanted gives the namespaces to place brackets in, once.
func (b *Brackets) wanted() []uint32 {
	w := b.want
	b.want = nil
	for _, in := range w {
		delete(b.done, in)
	}
	return w
}

// bracketPrograms are the programs that add() hangs in.
func bracketPrograms() []string {
	names := []string{"pass_last"}
	for i := 0; i < numberedBrackets; i++ {
		names = append(names, numbered(i))
	}
	return names
}

// numbered names one of the brackets that have a number.
func numbered(i int) string { return fmt.Sprintf("pass_%d", i) }

// errNoLinks means a kernel before 6.4, or one without BPF netfilter links.
var errNoLinks = errors.New("kernel has no BPF netfilter links (Linux 6.4+)")

// add places brackets in a namespace. Doing it twice does nothing.
func (b *Brackets) add(inode uint32, progs map[string]*ebpf.Program) error {
	if b.done[inode] {
		return nil
	}
	ns := b.ns
	hooks, unsure, err := listHooks(ns, inode)
	b.done[inode] = true // tried: not again for every packet
	if err != nil {
		return fmt.Errorf("netfilter hooks of %s: %w", ns.Place(inode), err)
	}
	if unsure != nil {
		b.unsure[inode] = unsure
	}
	b.first[inode] = hooks
	return ns.Do(inode, func() error {
		for _, f := range []struct {
			name string
			pf   uint8
		}{{"ip", unix.NFPROTO_IPV4}, {"ip6", unix.NFPROTO_IPV6}} {
			for hook := uint8(0); hook <= 4; hook++ {
				key := hookKey{inode, f.pf, hook}
				if err := b.bracket(key, hooksAt(hooks, f.name, int(hook)), progs); err != nil {
					return fmt.Errorf("netfilter link at %s %s of %s: %w", f.name, journey.HookName(hook), ns.Place(inode), err)
				}
			}
		}
		return nil
	})
}

// hookLister tells what hangs at hooks.
type hookLister interface {
	Hooks(netns uint32) ([]node.Hook, error)
	KnownHooks(netns uint32) ([]node.Hook, error)
	VirtualServices(netns uint32) ([]node.VirtualService, error)
}

// listHooks lists what hangs at a namespace's hooks, our own links aside. unsure is why
// it is not known whether IPVS hangs there: brackets are placed as if it did not then,
// and what it drops is put down to what runs beside it.
func listHooks(ns hookLister, inode uint32) (hooks []node.Hook, unsure, err error) {
	hooks, err = ns.Hooks(inode)
	if errors.Is(err, node.ErrNoHookDump) {
		// tables and chains are known all the same; conntrack's own hooks
		// are not, but where they would be
		hooks, err = ns.KnownHooks(inode)
		if len(hooks) > 0 {
			hooks = append(hooks, conntrackHooks()...)
		}
		var services []node.VirtualService
		services, unsure = ns.VirtualServices(inode)
		hooks = append(hooks, ipvsHooks(services)...)
	}
	return hooks, unsure, err
}

// Changed tells whether the tables at a hook are others now than those that the
// brackets were placed around: then no bracket proves anything. It lists those that
// were there and those that are: one that came or went since the packet died may
// have been there when it did. A rule added to a table changes nothing here.
func (b *Brackets) Changed(netns uint32, pf, hook uint8, at uint64) ([]journey.Table, bool) {
	l := b.listed(netns, at)
	if l.err != nil {
		return nil, false // the namespace went: what was there at the start is all that is known
	}
	family := "ip"
	if pf == unix.NFPROTO_IPV6 {
		family = "ip6"
	}
	g, _ := groupByPriority(hooksAt(l.hooks, family, int(hook)))
	is, was := g.tables(), b.groups[hookKey{netns, pf, hook}].tables()
	either := slices.Clone(was)
	for _, e := range is {
		if !slices.Contains(either, e) {
			either = append(either, e)
		}
	}
	return either, !slices.Equal(is, was)
}

var errNotListed = errors.New("no netfilter hooks were listed")

// listed is what hangs at a namespace's hooks, as it was found later than a time
// of the kernel's clock: what was listed before a packet died says nothing of then.
func (b *Brackets) listed(netns uint32, at uint64) hookListing {
	if !b.use {
		return hookListing{err: errNotListed}
	}
	l, ok := b.now[netns]
	if !ok || l.at <= at {
		l = hookListing{at: journey.Clock{}.Now()}
		l.hooks, _, l.err = listHooks(b.ns, netns) // only what has rules counts here, which IPVS has not
		b.now[netns] = l
	}
	return l
}

// Beside gives the chains at a hook of a device or bridge, those that were there
// when the links were placed and those that are now, in the order they run, and
// whether that is not the same. pf 0 asks for those of all such hooks.
func (b *Brackets) Beside(netns uint32, pf, hook uint8, dev string, at uint64) ([]journey.Table, bool) {
	l, was := b.listed(netns, at), besides(b.first[netns], pf, hook, dev)
	if l.err != nil {
		return was, false
	}
	is := besides(l.hooks, pf, hook, dev)
	either := slices.Clone(is)
	for _, e := range was {
		if !slices.Contains(either, e) {
			either = append(either, e)
		}
	}
	return either, !slices.Equal(is, was)
}

// besides picks what drops at a hook of a device or bridge. A chain whose devices
// are not known may be on any.
func besides(all []node.Hook, pf, hook uint8, dev string) (found []journey.Table) {
	for _, h := range all {
		device := h.Family == besideFamily(unix.NFPROTO_NETDEV)
		if !device && h.Family != besideFamily(unix.NFPROTO_BRIDGE) || h.Backend == "" && !strings.HasPrefix(h.Function, "ebt_") {
			continue
		}
		if pf != 0 && (h.Family != besideFamily(pf) || h.HookNum != int(hook) || device && h.Device != "" && h.Device != dev) {
			continue
		}
		e := journey.Table{Backend: h.Backend, Family: cmp.Or(h.TableFamily, h.Family), Table: h.Table, Chain: h.Chain, Function: h.Function}
		found = append(found, e)
	}
	return found
}

// besideFamily names the families of devices and bridges as a listing does.
func besideFamily(pf uint8) string {
	return map[uint8]string{unix.NFPROTO_NETDEV: "netdev", unix.NFPROTO_BRIDGE: "bridge"}[pf]
}

// tables are the entries that have rules, in the order they run.
func (g hookGroups) tables() []journey.Table {
	var out []journey.Table
	for _, group := range append(slices.Clone(g.groups), g.behind) {
		for _, e := range group {
			if e.Backend != "" {
				out = append(out, e)
			}
		}
	}
	return out
}

// conntrackHooks are where conntrack hangs if it is in use in a namespace
// (net/netfilter/nf_conntrack_proto.c; NF_IP_PRI_CONNTRACK and its confirmation,
// include/uapi/linux/netfilter_ipv4.h, netfilter_ipv6.h).
func conntrackHooks() []node.Hook {
	var all []node.Hook
	for _, family := range []string{"ip", "ip6"} {
		for _, h := range []struct {
			hook int
			prio int32
			fn   string
		}{{journey.PreRouting, -200, journey.AssumedConntrack}, {journey.LocalOut, -200, journey.AssumedConntrack}, {journey.LocalIn, math.MaxInt32 - 1, "nf_confirm"}, {journey.PostRouting, math.MaxInt32, "nf_confirm"}} {
			all = append(all, node.Hook{Family: family, HookNum: h.hook, Priority: h.prio, Function: h.fn})
		}
	}
	return all
}

// hooksAt picks the entries of one hook in the order the kernel calls them.
func hooksAt(all []node.Hook, family string, num int) []node.Hook {
	var at []node.Hook
	for _, h := range all {
		if h.Family == family && h.HookNum == num {
			at = append(at, h)
		}
	}
	sort.SliceStable(at, func(i, j int) bool { return at[i].Priority < at[j].Priority })
	return at
}

// bracket places the links of one hook. Where nothing hangs, only the ends of
// INPUT and OUTPUT get one: it is how deliveries are seen, and packets that
// wait in their own host for a neighbour.
func (b *Brackets) bracket(key hookKey, at []node.Hook, progs map[string]*ebpf.Program) error {
	g, prios := groupByPriority(at)
	if len(at) > 0 {
		if err := b.attach(key, firstPriority, +1, progs["pass_0"]); err != nil {
			return err
		}
	}
	for i := 1; i < len(g.groups); i++ {
		if err := b.attach(key, prios[i-1]+1, +1, progs[numbered(i)]); err != nil {
			return err
		}
	}
	if len(at) > 0 || key.hook == journey.LocalIn || key.hook == journey.LocalOut {
		if err := b.attach(key, lastPriority, -1, progs["pass_last"]); err != nil {
			return err
		}
	}
	for i, group := range g.groups {
		if table, ok := onlyLegacy(group); ok {
			b.tables[bracketKey(key, uint8(i))] = table
		}
	}
	b.groups[key] = g // only now: with a bracket missing they would be told wrongly
	return nil
}

func bracketKey(key hookKey, index uint8) bpf.BracketKey {
	return bpf.BracketKey{Netns: key.netns, Pf: key.pf, Hook: key.hook, Index: index}
}

// onlyLegacy gives the legacy table of a group that has no other. A nat table
// runs below nf_nat, where no link can part it from that.
func onlyLegacy(group []journey.Table) (string, bool) {
	name := ""
	for _, e := range group {
		switch {
		case e.Backend != node.BackendLegacy:
		case name != "" || e.Table == "nat":
			return "", false
		default:
			name = e.Table
		}
	}
	return name, name != ""
}

// tableFunctions run legacy tables (net/ipv4/netfilter/iptable_*.c and twins);
// mangle has one of its own.
func tableFunctions() []string {
	return []string{"ipt_do_table", "iptable_mangle_hook", "ip6t_do_table", "ip6table_mangle_hook"}
}

// groupByPriority gathers entries that no bracket can part: those of equal
// priority, those with no number between theirs, and BPF programs of others
// with whatever runs before them. The priorities are those of each group's
// last entry.
func groupByPriority(at []node.Hook) (hookGroups, []int32) {
	var g hookGroups
	var prios []int32
	for _, h := range at {
		e := journey.Table{Backend: h.Backend, Family: h.Family, Table: h.Table, Chain: h.Chain, Function: h.Function}
		if h.TableFamily != "" {
			e.Family = h.TableFamily
		}
		n := len(g.groups)
		switch {
		case h.Priority >= lastPriority:
			g.behind = append(g.behind, e)
		case n > 0 && h.Function == bpfHook:
			g.groups[n-1] = append(g.groups[n-1], e)
			if h.Priority == prios[n-1]+1 {
				prios[n-1]++ // where our bracket would stand: the next place is behind it
			}
		case n > 0 && (h.Priority <= prios[n-1]+1 || n == numberedBrackets):
			g.groups[n-1] = append(g.groups[n-1], e)
			prios[n-1] = h.Priority
		default:
			g.groups = append(g.groups, []journey.Table{e})
			prios = append(prios, h.Priority)
		}
	}
	return g, prios
}

// bpfHook is the function every BPF netfilter link hangs in (nf_bpf_link.c).
const bpfHook = "nf_hook_run_bpf"

// attach hangs a program in at a priority, or at the next free one.
func (b *Brackets) attach(key hookKey, prio, step int32, p *ebpf.Program) error {
	var err error
	for i := int32(0); i < neighbours; i++ {
		var l link.Link
		l, err = link.AttachNetfilter(link.NetfilterOptions{Program: p,
			ProtocolFamily: link.NetfilterProtocolFamily(key.pf), Hook: link.NetfilterInetHook(key.hook), Priority: prio + i*step})
		if err == nil {
			b.links[key.netns] = append(b.links[key.netns], l)
			return nil
		}
		if !errors.Is(err, unix.EBUSY) {
			break
		}
	}
	return fmt.Errorf("priority %d: %w", prio, err)
}

// position of a bracket among the groups: it stands before groups[position].
func (g hookGroups) position(index uint8) int {
	if index >= lastBracket {
		return len(g.groups)
	}
	return int(index) - 1
}

// Passed gives what lies between the bracket passed last (0: none) and the
// one passed now.
func (b *Brackets) Passed(netns uint32, pf, hook, after, upto uint8) []journey.Table {
	g, ok := b.groups[hookKey{netns, pf, hook}]
	if !ok || after == 0 {
		return nil
	}
	var out []journey.Table
	for i := g.position(after); i < g.position(upto) && i < len(g.groups); i++ {
		out = append(out, g.groups[i]...)
	}
	return out
}

// At gives what lies right behind a bracket.
func (b *Brackets) At(netns uint32, pf, hook, index uint8) []journey.Table {
	g, ok := b.groups[hookKey{netns, pf, hook}]
	if !ok {
		return nil
	}
	if i := g.position(index); i < len(g.groups) {
		return g.groups[i]
	}
	return g.behind
}

// count is how many links there are.
func (b *Brackets) count() int {
	n := 0
	for _, links := range b.links {
		n += len(links)
	}
	return n
}

// places lists the namespaces that have links.
func (b *Brackets) places() []uint32 { return slices.Collect(maps.Keys(b.links)) }

// release takes the links of a namespace out, and forgets what was there. A
// link keeps its namespace (net/netfilter/nf_bpf_link.c: bpf_nf_link_attach),
// and with it the interfaces of a pod that has ended.
func (b *Brackets) release(inode uint32) error {
	var errs []error
	for _, l := range b.links[inode] {
		errs = append(errs, l.Close())
	}
	delete(b.links, inode)
	delete(b.done, inode)
	delete(b.unsure, inode)
	delete(b.now, inode)
	delete(b.first, inode)
	for key, g := range b.groups {
		if key.netns != inode {
			continue
		}
		delete(b.groups, key)
		for i := range g.groups {
			b.tables[bracketKey(key, uint8(i))] = "" // nothing stands there any more
		}
	}
	return errors.Join(errs...)
}

// Close takes the links out.
func (b *Brackets) Close() error {
	var errs []error
	for _, in := range b.places() {
		errs = append(errs, b.release(in))
	}
	return errors.Join(errs...)
}
