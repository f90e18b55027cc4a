// SPDX-License-Identifier: Apache-2.0

// Package journey makes packets of what the kernel half tells: event by event a
// journey grows, and is told as a model.Packet once its fate is known.
//
//	record (event.go) -> journey (journey.go, steps.go, fate.go) -> model.Packet (assembler.go)
//
// What it has to ask about the node, its kernel and its rules are the interfaces
// Places, Naming, Tables and Rules.
package journey

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// Where packets are, as the journey has to know it.
type Places interface {
	// Belongs tells whether a network namespace is part of this node.
	Belongs(inode uint32) bool
	// Place is what people call a network namespace.
	Place(inode uint32) string
	// Uplink tells whether a device leads off the node: one of its own namespace, or one of
	// the machine's that a pod has.
	Uplink(netns, ifindex uint32) bool
	// Decrypts tells whether a device of that name is a tunnel that encrypts what it
	// carries (WireGuard): what comes up from it came through it.
	Decrypts(netns, ifindex uint32, name string) bool
	// Balances tells whether IPVS has a service in a network namespace. Asked only where a
	// rewrite looks like one of IPVS.
	Balances(netns uint32) bool
	// BalancedTo tells whether IPVS has an entry of a connection of that IP protocol, from
	// a client to a virtual address, that leads to a real server. Asked only of what a
	// namespace with a service sends itself.
	BalancedTo(netns uint32, proto uint8, client, virtual, real netip.AddrPort) bool
	// Node is the inode of the node's own network namespace.
	Node() uint32
	// Owner is what people call who has an address; "" not known.
	Owner(a netip.Addr) string
}

// Names of kernel things: drop reasons, addresses, functions.
type Naming interface {
	Reason(code uint32) string
	Symbol(addr uint64) string
	Function(fn uint8) string
	// Hidden tells that the kernel keeps its symbols' addresses to itself.
	Hidden() bool
	// RouteReason names a negative result of source validation.
	RouteReason(result int32) (reason string, isErrno bool)
	// FreesInChain tells that nft frees what it drops inside nft_do_chain().
	FreesInChain() bool
}

// Tables tells which tables lie between brackets of a hook (see
// brackets.go). Only the tracepoint backend has brackets.
type Tables interface {
	// Passed gives what lies between two brackets.
	Passed(netns uint32, pf, hook, after, upto uint8) []Table
	// At gives what lies right behind a bracket.
	At(netns uint32, pf, hook, index uint8) []Table
	// Changed lists a hook's tables if they are not those known at the start, as
	// they were found later than a time of the kernel's clock.
	Changed(netns uint32, pf, hook uint8, at uint64) ([]Table, bool)
	// Beside lists what hangs at a hook of a device or bridge, and whether that
	// changed since the start; pf 0: at all of them.
	Beside(netns uint32, pf, hook uint8, dev string, at uint64) ([]Table, bool)
	// Reached notes that the flow got to a namespace.
	Reached(netns uint32)
}

// copyState is one skb that carried the packet: the original, a clone, a
// segment. Its fate is its own; the packet's is drawn from all of them.
type copyState struct {
	number   int
	last     bpf.Event // last sighting
	foreign  bool      // last sighting was outside this node
	mirror   bool      // a copy that a rule made for somebody else: see mirror.go
	segment  bool      // carries a part of the packet: if it dies, the packet did not arrive whole
	fib      *bpf.EventRoute
	out      string // interface its last route leads to
	outIndex uint32
	came     string // interface it came in by last
	hookState
	tableState
	connection
	ending
}

// hookState is where in a netfilter hook a copy is.
type hookState struct {
	hook    uint8
	index   uint8     // last bracket passed in the hook it is in, +1
	bracket bpf.Event // the link it passed last, as it was there
	told    []string  // tables told by themselves since the last bracket
}

// tableState is the last table that told its verdict, and the rules behind it.
type tableState struct {
	table  model.Hop
	ruling Ruling
}

// connection is what conntrack said of a copy.
type connection struct {
	ct      *bpf.EventCt
	invalid bool // it looked at it and gave it no entry
}

// ending is how a copy ended, as far as it did.
type ending struct {
	delivered  bool
	left       bool
	ended      bool // freed in good order
	tap        bool // a packet socket's copy: its fate says nothing
	cut        bool // WireGuard cut it into segments: see sealed.go
	drop       *model.Drop
	dropRules  []model.Rule // those that led to its death, where no hop of a table tells them
	dropSource model.RuleSource
}

// journey is one packet on its way: events in, hops out.
type journey struct {
	id    uint64
	first bpf.Event
	trail
	copies    map[uint64]*copyState
	order     []uint64 // skbs in order of appearance
	tentative bool
	counted   bool // among the ids seen
	dir       uint8
	lost      bool
	answering
	own      bool // seen on this node at least once
	touched  time.Time
	terminal bool
	known
	carrier *model.Tunnel // that it came out of, where its encrypted packet was seen
}

// known is what a journey is found by.
type known struct {
	filed []flowKey // every key
	parts []uint64  // ids that turned out to be parts of it
}

func newJourney(e *Record, now time.Time) *journey {
	return &journey{id: e.Id, first: e.Event, copies: make(map[uint64]*copyState, 1), tentative: true, dir: e.Dir, touched: now}
}

// Rules tells which rules are behind a table's verdict.
type Rules interface {
	Ruling(e *Record) Ruling
	// Infer tells what rules it would have met where they were not seen.
	Infer(p Passage, verdict string) Ruling
	// Compared adds to the rules seen in an nft table those that only compare,
	// which nobody can see.
	Compared(p Passage, e *Record, r Ruling) Ruling
	// Explain says what the rule that ended a packet is for.
	Explain(p *model.Packet)
}

// world is what a journey asks about.
type world struct {
	Places
	Naming
	tables Tables
	rules  Rules
	tracks map[uint32]bool // namespaces in which conntrack was seen at work
	ipvs   balances
}

// add takes one event into the journey.
func (j *journey) add(w *world, e *Record, now time.Time) {
	j.touched = now
	// settled by NAT or conntrack; or disowned, when a port that NAT once gave
	// to the flow turns out to be another one's now
	j.tentative = e.Flags&bpf.FlagTentative != 0
	j.dir = e.Dir
	if e.Flags&bpf.FlagLost != 0 {
		j.lost = true
	}
	c := j.copyOf(e)
	// What was seen elsewhere last comes here no earlier than headers are looked
	// at: a buffer that was freed unseen may end here as another packet's.
	if e.Netns == 0 || c.foreign && !looked(e) {
		e.Netns = c.last.Netns
	}
	if e.Netns == 0 && !j.own {
		return // where it was is not known: what told has been lost
	}
	if e.Netns != 0 && !w.Belongs(e.Netns) {
		j.abroad(c, e)
		return
	}
	if !j.own {
		// what happened before it came to this node is not ours to tell
		j.own = true
		j.first = e.Event
	}
	if c.mirror {
		j.mirror(w, c, e)
		return
	}
	if c.foreign {
		*c = copyState{number: c.number, segment: c.segment}
	}
	j.changes(w, c, e)
	if step, ok := steps[e.Kind]; ok {
		step(j, w, c, e)
	}
	j.remember(c, e)
}

// copyOf finds the skb's state, or begins one.
func (j *journey) copyOf(e *Record) *copyState {
	c := j.copies[e.Skb]
	if c == nil {
		c = &copyState{number: len(j.order), segment: e.Id != j.id && e.L3len < j.first.L3len, mirror: mirrored(e, j)}
		c.tap = c.mirror
		j.copies[e.Skb] = c
		j.order = append(j.order, e.Skb)
	}
	return c
}

// abroad notes that the packet is outside this node: whatever happens to it
// there is not this node's doing.
func (j *journey) abroad(c *copyState, e *Record) {
	c.foreign = true
	c.left = j.own // it was here before: whatever the device, it led off the node
	if e.Kind == bpf.KindDrop || e.Kind == bpf.KindEnd || e.Kind == bpf.KindDeliver {
		c.ended = true
		j.terminal = true
	}
	c.last = e.Event
}

// remember keeps what later events of this skb are compared with.
func (j *journey) remember(c *copyState, e *Record) {
	if looked(e) {
		c.last = e.Event
	}
}

// looked tells whether the kernel half read the headers for an event, and so
// knows that it is of this packet.
func looked(e *Record) bool { return e.Kind != bpf.KindFib && e.Kind != bpf.KindEnd }

// changes adds the hops that no hook tells but two sightings do: addresses
// rewritten, a tunnel header put on or taken off.
func (j *journey) changes(w *world, c *copyState, e *Record) {
	if c.last.Id == 0 || e.Kind == bpf.KindFib || e.Kind == bpf.KindEnd {
		if c.number > 0 {
			j.sealedPart(e)
		}
		return
	}
	was, is := c.last.Flags&bpf.FlagEncap != 0, e.Flags&bpf.FlagEncap != 0
	switch {
	case is && !was:
		j.encapsulated(w, c, e)
	case was && !is && e.Kind != bpf.KindDecap && !j.lastStage(model.StageDecapsulate):
		h := j.hop(w, c, e, model.StageDecapsulate)
		h.Tunnel = TunnelOf(&c.last.Tun)
		h.Function = ""
		j.push(e, h)
	}
	if c.last.T != e.T && (e.Flags|c.last.Flags)&(bpf.FlagICMPError|bpf.FlagFragment) == 0 {
		h := j.hop(w, c, e, model.StageNAT)
		before, after := EndpointsOf(&c.last.T), EndpointsOf(&e.T)
		h.Before, h.After = &before, &after
		h.Function = ""
		if e.Hook != 0 {
			h.Hook = hookOf(e)
		}
		if w.ipvs.made(w, c, e, h) {
			h.NATBy = model.ByIPVS
		}
		j.push(e, h)
	}
}

// encapsulated completes the hop of a device's transmit function, or makes one where it was not seen.
func (j *journey) encapsulated(w *world, c *copyState, e *Record) {
	if h := j.lastHop(); h != nil && h.Stage == model.StageEncapsulate && h.Tunnel == nil {
		h.Tunnel = TunnelOf(&e.Tun)
		return
	}
	at := *e
	at.Netns, at.Ifindex, at.Ifname = c.last.Netns, c.last.Ifindex, c.last.Ifname
	h := j.hop(w, c, &at, model.StageEncapsulate)
	h.Tunnel = TunnelOf(&e.Tun)
	h.Function = ""
	j.push(e, h)
}

// hop makes a hop with what every event tells.
func (j *journey) hop(w *world, c *copyState, e *Record, stage model.Stage) model.Hop {
	return model.Hop{
		Stage: stage, Netns: e.Netns, Place: w.Place(e.Netns),
		Interface: CString(e.Ifname[:]), IfIndex: e.Ifindex, Function: w.Function(e.Fn),
		Mark: e.Mark, CTState: ConntrackState(e.Ct), SKB: skbName(e.Skb), Length: e.Len,
		CPU: e.Cpu, Copy: c.number, Frame: e.bytes,
	}
}

// packet turns the journey into what is told; nil when there is nothing to
// tell: never on this node, or never settled to be of the flow.
func (j *journey) packet(number uint64, wall func(uint64) time.Time) *model.Packet {
	if !j.own || j.tentative || len(j.hops) == 0 {
		return nil
	}
	e := &j.first
	ends := EndpointsOf(&e.T)
	p := &model.Packet{Type: "packet", ID: number, Direction: direction(j.dir), Time: wall(j.times[0]),
		Proto: protoName(e.T.Proto), Src: ends.Src, SrcPort: ends.SrcPort, Dst: ends.Dst, DstPort: ends.DstPort,
		Length: e.L3len, TTL: e.Ttl, Hops: j.hops, Lost: j.lost, OwnAnswer: j.ownAnswer()}
	if j.to != nil {
		p.AnswerTo = j.to.number
	}
	switch e.T.Proto {
	case unix.IPPROTO_TCP:
		p.TCPFlags = tcpFlags(e.TcpFlags)
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		p.ICMP = icmpName(e.T.Proto == unix.IPPROTO_ICMPV6, e.IcmpType, e.IcmpCode)
		if e.Flags&bpf.FlagICMPError == 0 {
			p.ICMPID, p.ICMPSeq = e.T.Sport, uint16(e.Seq)
		}
	}
	for i := range p.Hops {
		p.Hops[i].AtNS = int64(j.times[i] - j.times[0])
	}
	p.Outcome, p.Drop = j.fate()
	return p
}

func direction(d uint8) model.Direction {
	if d == bpf.DirReturn {
		return model.Return
	}
	return model.Forward
}
