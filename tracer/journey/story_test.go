// SPDX-License-Identifier: Apache-2.0

package journey

// This file lets a test tell what the kernel half saw as a story, one sighting
// a line, and read what a user gets as one line a hop. Every sighting goes
// through the bytes of a ring buffer sample and decode(), as in real life.
//
//	       node (1)                          elsewhere (9)
//	 calicl   eth0 ------------------------- eth0
//	   |   \_ calisv
//	 eth0      eth0
//	client(2) server(3)

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// wire is a device in a namespace.
type wire struct {
	netns, ifindex uint32
	name           string
}

var (
	clientEth = wire{2, 2, "eth0"}
	calicl    = wire{1, 10, "calicl"}
	calisv    = wire{1, 11, "calisv"}
	serverEth = wire{3, 2, "eth0"}
	uplink    = wire{1, 2, "eth0"}
	vxlan0    = wire{1, 5, "vxlan0"}
	wg0       = wire{1, 6, "wireguard.cali"}
	tunl0     = wire{1, 7, "tunl0"}
	outside   = wire{9, 2, "eth0"}
	nowhere   = wire{}
)

// Hooks as event.h counts them: NF_INET_* + 1.
const (
	prerouting  = 1
	input       = 2
	forwardHook = 3
	output      = 4
	postrouting = 5
)

// names is the kernel of the stories: reasons and symbols get their numbers as
// they are first used.
type names struct {
	fns     map[uint8]string
	reasons []string
	symbols []string
	hidden  bool // as kptr_restrict=2 does
	inChain bool // nft frees inside nft_do_chain: Linux 6.7 and later
}

func (n *names) Reason(code uint32) string {
	if int(code) < len(n.reasons) {
		return n.reasons[code]
	}
	return fmt.Sprintf("reason %d", code)
}
func (n *names) Symbol(addr uint64) string {
	if i := addr - symbolBase; !n.hidden && i < uint64(len(n.symbols)) {
		return n.symbols[i]
	}
	return fmt.Sprintf("%#x", addr)
}
func (n *names) Function(fn uint8) string                { return n.fns[fn] }
func (n *names) Hidden() bool                            { return n.hidden }
func (n *names) RouteReason(result int32) (string, bool) { return ErrnoName(result), true }

func (n *names) FreesInChain() bool { return n.inChain }

const symbolBase = 0xffffffff81000000

func number(list *[]string, s string) int {
	if i := slices.Index(*list, s); i >= 0 {
		return i
	}
	*list = append(*list, s)
	return len(*list) - 1
}

// symbol gives the address of a symbol; "" is no frame.
func (n *names) symbol(s string) uint64 {
	if s == "" {
		return 0
	}
	return symbolBase + uint64(number(&n.symbols, s))
}

// fentryNames reads the object once for all tests; the names are never changed.
var fentryNames = sync.OnceValues(func() (map[uint8]string, error) {
	spec, err := bpf.LoadFentry()
	if err != nil {
		return nil, err
	}
	return FunctionNames(spec.Types)
})

// story is one trace.
type story struct {
	t      testing.TB
	names  *names
	tables laidOut
	asm    *Assembler
	now    time.Time
	ts     uint64
	ids    uint64
	lossy  bool
	others []bpf.Tuple // tuples found to be of another flow
}

func newStory(t testing.TB) *story {
	t.Helper()
	fns, err := fentryNames()
	if err != nil {
		t.Fatal(err)
	}
	s := &story{t: t, names: &names{fns: fns, inChain: true}, tables: laidOut{}, now: time.Unix(1000, 0), ts: 1e9}
	s.asm = NewAssembler(Config{Places: nodeMap{}, Naming: s.names, Tables: s.tables, Rules: noRules{},
		Wall:    func(mono uint64) time.Time { return time.Unix(0, int64(mono)) },
		NotOurs: func(tp bpf.Tuple) { s.others = append(s.others, tp) }, Module: func(string) {}, Lossy: func() bool { return s.lossy }})
	return s
}

// sample is a sighting before it becomes bytes.
type sample struct {
	bpf.Event
	table bpf.EventTable
	route bpf.EventRoute
	neigh bpf.EventNeigh
	ct    bpf.EventCt
	drop  bpf.EventDrop
}

func bytesOf[T any](v *T) []byte {
	return slices.Clone(unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)))
}

// raw is the sample as the ring buffer would give it.
func (s *sample) raw() []byte {
	s.table.E, s.route.E, s.neigh.E, s.ct.E, s.drop.E = s.Event, s.Event, s.Event, s.Event, s.Event
	switch s.Kind {
	case bpf.KindTable:
		return bytesOf(&s.table)
	case bpf.KindRoute, bpf.KindFib:
		return bytesOf(&s.route)
	case bpf.KindNeigh:
		return bytesOf(&s.neigh)
	case bpf.KindConntrack:
		return bytesOf(&s.ct)
	case bpf.KindDrop:
		return bytesOf(&s.drop)
	}
	return bytesOf(&s.Event)
}

// with changes a sighting before it is told.
type with func(*story, *sample)

// packet is one skb of a story.
type packet struct {
	s    *story
	e    bpf.Event // what the next sighting starts from
	told bool
}

// send begins a packet of a protocol between "address port" pairs, forward.
func (s *story) send(proto uint8, src, dst string, opts ...with) *packet {
	s.t.Helper()
	s.ids++
	p := &packet{s: s, e: bpf.Event{Id: s.ids, Skb: 0xff00 + s.ids<<8, Dir: bpf.DirForward, T: tupleOf(s.t, proto, src, dst),
		L3len: 84, Len: 84, Ttl: 64, Ipid: uint16(1000 * s.ids)}}
	x := &sample{Event: p.e}
	for _, o := range opts {
		o(s, x)
	}
	p.e = x.Event
	return p
}

// tupleOf reads "10.0.0.1 80" or "10.0.0.1".
func tupleOf(t testing.TB, proto uint8, src, dst string) bpf.Tuple {
	t.Helper()
	var tp bpf.Tuple
	end := func(s string) (words [4]uint32, port uint16) {
		addr, rest, _ := strings.Cut(s, " ")
		if rest != "" {
			if _, err := fmt.Sscan(rest, &port); err != nil {
				t.Fatalf("port of %q: %v", s, err)
			}
		}
		a := netip.MustParseAddr(addr)
		tp.Family = 4
		if a.Is6() {
			tp.Family = 6
		}
		for i, b := range a.AsSlice() { // network order, as x86 reads it
			words[i/4] |= uint32(b) << (8 * (i % 4))
		}
		return words, port
	}
	tp.Saddr, tp.Sport = end(src)
	tp.Daddr, tp.Dport = end(dst)
	tp.Proto = proto
	return tp
}

// see tells one sighting.
func (p *packet) see(kind uint8, fn bpf.Fn, at wire, opts ...with) *packet {
	p.s.t.Helper()
	p.s.ts += 1000
	x := &sample{Event: p.e}
	x.Ts, x.Kind, x.Fn = p.s.ts, kind, uint8(fn)
	x.Netns, x.Ifindex = at.netns, at.ifindex
	setName(x.Ifname[:], at.name)
	if !p.told {
		x.Flags |= bpf.FlagNew
		p.told = true
	}
	for _, o := range opts {
		o(p.s, x)
	}
	e, err := Decode(x.raw())
	if err != nil {
		p.s.t.Fatalf("decode: %v", err)
	}
	p.s.asm.add(&e, p.s.now)
	return p
}

func setName(to []int8, name string) {
	for i := range to {
		to[i] = 0
	}
	for i := 0; i < len(name); i++ {
		to[i] = int8(name[i])
	}
}

// become changes what all later sightings start from.
func (p *packet) become(opts ...with) *packet {
	x := &sample{Event: p.e}
	for _, o := range opts {
		o(p.s, x)
	}
	p.e = x.Event
	return p
}

// clone is another skb of the same packet, as the kernel half knows it by its head.
func (p *packet) clone() *packet {
	c := *p
	p.s.ids++
	c.e.Skb = 0xee00 + p.s.ids<<8
	c.told = true
	return c.become(flags(p.e.Flags)).copyFlag()
}

func (p *packet) copyFlag() *packet { p.e.Flags |= bpf.FlagCopy; return p }

// Short words for frequent sightings.
func (p *packet) xmit(at wire, o ...with) *packet {
	return p.see(bpf.KindTransmit, bpf.FentryFnFN_netDevStartXmit, at, o...)
}
func (p *packet) recv(at wire, o ...with) *packet {
	return p.see(bpf.KindReceive, bpf.FentryFnFN_netifReceiveSkb, at, o...)
}
func (p *packet) end(at wire, o ...with) *packet {
	return p.see(bpf.KindEnd, bpf.FentryFnFN_consumeSkb, at, o...)
}
func (p *packet) deliver(fn bpf.Fn, at wire, o ...with) *packet {
	return p.see(bpf.KindDeliver, fn, at, o...)
}
func (p *packet) kfree(reason, location string, at wire, o ...with) *packet {
	return p.see(bpf.KindDrop, bpf.FentryFnFN_kfreeSkb, at, append([]with{func(s *story, x *sample) {
		x.drop.Reason, x.drop.Location = uint32(number(&s.names.reasons, reason)), s.names.symbol(location)
	}}, o...)...)
}

// fromClient takes a packet from the client to the node's side of its pod.
func (p *packet) fromClient() *packet { return p.xmit(clientEth).recv(calicl) }

// toServer takes a packet over the server's veth and to its socket.
func (p *packet) toServer(fn bpf.Fn) *packet {
	return p.xmit(calisv).recv(serverEth).deliver(fn, serverEth)
}

// Options.
func flags(f uint8) with  { return func(_ *story, x *sample) { x.Flags = f } }
func flag(f uint8) with   { return func(_ *story, x *sample) { x.Flags |= f } }
func result(r int32) with { return func(_ *story, x *sample) { x.Result = r } }
func index(i uint8) with  { return func(_ *story, x *sample) { x.Index = i } }
func ct(c uint8) with     { return func(_ *story, x *sample) { x.Ct = c } }
func size(n uint32) with  { return func(_ *story, x *sample) { x.L3len, x.Len = n, n } }
func ipid(n uint16) with  { return func(_ *story, x *sample) { x.Ipid = n } }
func returning(_ *story, x *sample) {
	x.Dir = bpf.DirReturn
}
func icmp(typ, code uint8, id, seq uint16) with {
	return func(_ *story, x *sample) {
		x.IcmpType, x.IcmpCode, x.T.Sport, x.T.Dport, x.Seq = typ, code, id, id, uint32(seq)
	}
}
func tcp(f uint8, seq, ack uint32) with {
	return func(_ *story, x *sample) { x.TcpFlags, x.Seq, x.Ack = f, seq, ack }
}
func tuple(proto uint8, src, dst string) with {
	return func(s *story, x *sample) { x.T = tupleOf(s.t, proto, src, dst) }
}
func in(pf, hook uint8) with { return func(_ *story, x *sample) { x.Pf, x.Hook = pf, hook } }

// table is what KIND_TABLE tells; a chain makes it nft.
func table(name, chain string, family uint8, verdict int32) with {
	return func(_ *story, x *sample) {
		setName(x.table.Table[:], name)
		setName(x.table.Chain[:], chain)
		x.table.Family, x.Result = family, verdict
	}
}

// dropChain is the base chain that KIND_DROP found itself in.
func dropChain(table, chain string, family uint8) with {
	return func(_ *story, x *sample) {
		setName(x.drop.Table[:], table)
		setName(x.drop.Chain[:], chain)
		x.drop.Family = family
	}
}
func stack(frames ...string) with {
	return func(s *story, x *sample) {
		for i, f := range frames {
			x.drop.Stack[i] = s.names.symbol(f)
		}
	}
}
func route(number, typ uint8, dev wire, gw string, errno unix.Errno) with {
	return func(s *story, x *sample) {
		x.route.Table, x.route.Type, x.route.Oif, x.route.Error = uint32(number), typ, dev.ifindex, -int32(errno)
		setName(x.route.Oifname[:], dev.name)
		if gw != "" {
			x.route.GwFamily, x.route.Gw = unix.AF_INET, tupleOf(s.t, 0, gw, gw).Saddr
		}
	}
}
func vxlan(vni uint32, src, dst string) with {
	return func(s *story, x *sample) {
		t := tupleOf(s.t, unix.IPPROTO_UDP, src, dst)
		x.Flags |= bpf.FlagEncap
		x.Tun = bpf.Tunnel{Saddr: t.Saddr, Daddr: t.Daddr, Sport: t.Sport, Dport: t.Dport, Vni: vni, Family: t.Family, Kind: bpf.TunnelVXLAN}
	}
}

// told gives all packets that are due once nothing more comes.
func (s *story) told() []*model.Packet {
	s.now = s.now.Add(s.asm.give)
	return s.asm.Due(s.now, false)
}

// one gives the only packet of a story.
func (s *story) one() *model.Packet {
	s.t.Helper()
	ps := s.told()
	if len(ps) != 1 {
		s.t.Fatalf("told %d packets, want 1: %v", len(ps), lines(ps))
	}
	return ps[0]
}

func lines(ps []*model.Packet) []string {
	var out []string
	for _, p := range ps {
		out = append(out, fmt.Sprintf("%d %s", p.ID, p.Outcome))
		out = append(out, hops(p)...)
	}
	return out
}

// hops writes each hop as one line: stage, device@place, then what it adds.
func hops(p *model.Packet) []string {
	var out []string
	for _, h := range p.Hops {
		out = append(out, hopLine(&h))
	}
	return out
}

func hopLine(h *model.Hop) string {
	w := []string{string(h.Stage), h.Interface + "@" + h.Place}
	add := func(s string) {
		if s != "" {
			w = append(w, s)
		}
	}
	add(h.Hook)
	add(strings.TrimSpace(strings.Join([]string{h.Backend, h.Family, h.Table, h.Chain}, " ")))
	add(h.Verdict)
	if h.Queue != nil {
		add(fmt.Sprint(*h.Queue))
	}
	if h.CTState != "" {
		add("ct=" + h.CTState)
	}
	if r := h.Route; r != nil {
		add(strings.TrimSpace(fmt.Sprintf("%s table %d dev %s via %s %s", r.Type, r.Table, r.Interface, r.Gateway, r.Error)))
	}
	if n := h.Neighbor; n != nil {
		add(strings.TrimSpace(fmt.Sprintf("%s %s %s %s", n.Address, n.State, n.Interface, n.MAC)))
	}
	if h.Before != nil && h.After != nil {
		add(endsLine(h.Before) + " => " + endsLine(h.After))
		add(h.NATBy)
	}
	if t := h.Tunnel; t != nil {
		add(fmt.Sprintf("%s %d %s:%d > %s:%d", t.Kind, t.VNI, t.Src, t.SrcPort, t.Dst, t.DstPort))
	}
	add(h.Answer)
	add(h.Result)
	if h.Copy > 0 {
		add(fmt.Sprintf("copy %d", h.Copy))
	}
	return strings.Join(w, " ")
}

func endsLine(e *model.Endpoints) string {
	return fmt.Sprintf("%s:%d > %s:%d", e.Src, e.SrcPort, e.Dst, e.DstPort)
}

// wantHops compares hop by hop.
func wantHops(t *testing.T, p *model.Packet, want ...string) {
	t.Helper()
	if got := hops(p); !slices.Equal(got, want) {
		t.Errorf("hops:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func wantOutcome(t *testing.T, p *model.Packet, want model.Outcome) {
	t.Helper()
	if p.Outcome != want {
		t.Errorf("outcome %q, want %q; hops %q", p.Outcome, want, hops(p))
	}
	if died := want.Died(); died != (p.Drop != nil) {
		t.Errorf("outcome %q with drop %+v", p.Outcome, p.Drop)
	}
}

// noRules knows no rule set.
type noRules struct{}

func (noRules) Ruling(*Record) Ruling                          { return Ruling{} }
func (noRules) Infer(Passage, string) Ruling                   { return Ruling{} }
func (noRules) Compared(_ Passage, _ *Record, r Ruling) Ruling { return r }
func (noRules) Explain(*model.Packet)                          {}
