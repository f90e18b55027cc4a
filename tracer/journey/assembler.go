// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"sort"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// QuietAfterEnd is how long nothing more must come of a packet that has ended.
const QuietAfterEnd = 40 * time.Millisecond

// Assembler gathers events into journeys and lets a journey go as a packet
// once its fate is known.
type Assembler struct {
	cfg      Config
	w        *world
	active   map[uint64]*journey
	alias    map[uint64]uint64 // id of a segment, fragment or copy -> id of its packet
	byFlow   map[flowKey]map[uint64]*journey
	seenIDs  uint64
	number   uint64
	quiet    time.Duration // how long nothing more must come after an end
	linger   time.Duration // the same while a copy is still under way: longer than a neighbour is probed for (3 s)
	give     time.Duration // how long an unfinished packet is waited for
	frames   *frames
	unopened *unopened
}

// Config is what an assembler works with.
type Config struct {
	Places  Places
	Naming  Naming
	Tables  Tables
	Rules   Rules
	Wall    func(uint64) time.Time // of the kernel's clock
	NotOurs func(bpf.Tuple)        // told of tuples that turned out to be of another flow
	Module  func(name string)      // told of kernel modules that arrive
	Lossy   func() bool            // the kernel half has lost events: what has no end may have lost it
	SnapLen int                    // bytes of every packet that were asked for
}

func NewAssembler(cfg Config) *Assembler {
	w := &world{Places: cfg.Places, Naming: cfg.Naming, tables: cfg.Tables, rules: cfg.Rules, tracks: make(map[uint32]bool), ipvs: make(balances)}
	return &Assembler{cfg: cfg, w: w, unopened: &unopened{w: w, by: make(map[uint64]*journey)},
		active: make(map[uint64]*journey), frames: newFrames(cfg.SnapLen), alias: make(map[uint64]uint64), byFlow: make(map[flowKey]map[uint64]*journey),
		quiet: QuietAfterEnd, linger: 4 * time.Second, give: 10 * time.Second}
}

// Take takes one record of the ring buffer in.
func (a *Assembler) Take(raw []byte) error {
	if isFrame(raw) {
		return a.frames.add(raw)
	}
	e, err := Decode(raw)
	if err != nil {
		return err
	}
	if e.Kind == bpf.KindModule {
		a.cfg.Module(CString(e.module.Name[:]))
		return nil
	}
	e.bytes = a.frames.of(e.Frame)
	a.add(&e, time.Now())
	return nil
}

// Seen counts the packets that the kernel half handed out an id for and of which
// an event came through.
func (a *Assembler) Seen() uint64 { return a.seenIDs }

// Frames counts the hops that were told whose bytes never came, and those whose
// bytes end where a fragment could not be read.
func (a *Assembler) Frames() (lost, cut uint64) { return a.frames.lost, a.frames.cut }

// add takes one event.
func (a *Assembler) add(e *Record, now time.Time) {
	if e.Sealed != 0 && e.Sealed == e.Id {
		a.unopened.add(e, now)
		return
	}
	id := e.Id
	if to, ok := a.alias[id]; ok {
		id = to
	}
	j := a.active[id]
	if j == nil && e.Flags&(bpf.FlagNew|bpf.FlagCopy) == 0 {
		return // of a packet that was told already: its receiver lets go of it late
	}
	if j == nil && e.Kind == bpf.KindEnd {
		return // all else of it was lost: its id stays among those not seen
	}
	if j == nil && e.Kind == bpf.KindDrop && e.Flags&bpf.FlagCopy != 0 && a.w.Reason(e.drop.Reason) == "QUEUE_PURGE" {
		return // unread in a socket that closed: it was told as delivered
	}
	if j == nil && e.Flags&bpf.FlagNew != 0 {
		a.seenIDs++
		if e.Kind == bpf.KindDrop && (e.Netns == 0 || goesWithWhole(a.w.Symbol(e.drop.Location), a.w.Reason(e.drop.Reason))) {
			// Never seen on its way, and in no namespace any more: it lay in a
			// socket's queue since before the trace. Or GRO had put it to another
			// packet before anybody saw it, with which it goes.
			return
		}
	}
	if j == nil {
		if whole := a.wholeOf(e); whole != nil {
			a.alias[e.Id] = whole.id
			whole.parts = append(whole.parts, e.Id)
			j = whole
		} else {
			j = newJourney(e, now)
			j.counted = e.Flags&bpf.FlagNew != 0
			a.active[e.Id] = j
		}
	}
	began := j.own
	if e.Sealed != 0 {
		if outer := a.unopened.opened(e.Sealed); outer != nil {
			j.cameIn(outer)
		}
	}
	j.add(a.w, e, now)
	a.file(e.T, j)
	if j.own && !began {
		a.answer(j)
	}
}

// file makes a journey findable by a tuple it has had.
func (a *Assembler) file(t bpf.Tuple, j *journey) {
	k := keyOf(t, j.first.Ipid)
	if n := len(j.filed); n > 0 && j.filed[n-1] == k {
		return
	}
	j.filed = append(j.filed, k)
	m := a.byFlow[k]
	if m == nil {
		m = make(map[uint64]*journey)
		a.byFlow[k] = m
	}
	m[j.id] = j
}

// wholeOf finds the packet that a new skb is a part of: a segment of a GSO
// packet, a fragment, or a copy in a buffer of its own.
func (a *Assembler) wholeOf(e *Record) *journey {
	if e.Flags&bpf.FlagNew == 0 {
		return nil
	}
	if e.Flags&bpf.FlagFragment != 0 {
		// later fragments have no ports: the packet of these addresses with this IP id
		for _, j := range a.active {
			if j.first.Ipid == e.Ipid && j.first.T.Saddr == e.T.Saddr && j.first.T.Daddr == e.T.Daddr && j.first.T.Proto == e.T.Proto {
				return j
			}
		}
		return nil
	}
	if e.Ipid == 0 && e.T.Proto != unix.IPPROTO_TCP {
		return nil // nothing to know it by
	}
	m := a.byFlow[keyOf(e.T, e.Ipid)]
	for id, j := range m {
		if j.finished() {
			delete(m, id) // what comes now is another packet
			continue
		}
		if partOf(e, j) {
			return j
		}
	}
	return nil
}

// partOf compares a new skb with a packet under way on the same flow. Where
// packets begin (FlagOrigin) equal bytes are a packet of their own, sent again;
// only what is smaller than the other can be a part of it there.
func partOf(e *Record, j *journey) bool {
	f := &j.first
	origin := e.Flags&bpf.FlagOrigin != 0
	if j.finished() || e.L3len > f.L3len || origin && e.L3len == f.L3len && !mirrored(e, j) {
		return false
	}
	if e.T.Proto == unix.IPPROTO_TCP {
		// the same bytes in another buffer, or a segment cut out of them;
		// segments get the IP ids that follow
		return e.Seq-f.Seq < f.L3len && e.Ack == f.Ack && e.Ipid-f.Ipid < maxSegments &&
			e.TcpFlags&^(tcpFIN|tcpPSH) == f.TcpFlags&^(tcpFIN|tcpPSH)
	}
	// the same packet in another buffer, or its first fragment
	return e.Ipid != 0 && e.Ipid == f.Ipid
}

// maxSegments bounds how many packets a GSO packet is cut into: 64 KiB in
// segments of 536 bytes.
const maxSegments = 123

// Flags that only the last segment of a cut packet keeps.
const (
	tcpFIN = 0x01
	tcpPSH = 0x08
)

// finished tells that every skb of the journey arrived or died: what comes
// after is another packet.
func (j *journey) finished() bool {
	n := 0
	for _, c := range j.copies {
		if c.tap {
			continue
		}
		if !c.delivered && c.drop == nil {
			return false
		}
		n++
	}
	return n > 0
}

// open tells that a copy of it is under way whose end may change its fate.
func (j *journey) open() bool {
	open := false
	for _, c := range j.copies {
		if c.delivered || c.left {
			return false
		}
		if c.drop == nil && !c.ended && !c.foreign && !c.tap {
			open = true
		}
	}
	return open
}

// wait is how long nothing more must have come before it is told.
func (a *Assembler) wait(j *journey) time.Duration {
	switch {
	case !j.terminal:
		return a.give
	case j.open(), j.cut():
		return a.linger
	}
	return a.quiet
}

// Due takes out the packets whose fate is known and those waited for too
// long; all of them when closing. They come in the order they began.
func (a *Assembler) Due(now time.Time, closing bool) []*model.Packet {
	a.unopened.due(now, closing, a.cfg.Wall)
	var ready []*journey
	for _, j := range a.active {
		if closing || a.ready(j, now) {
			ready = append(ready, j)
		}
	}
	sort.Slice(ready, func(i, k int) bool { return ready[i].id < ready[k].id })
	var out []*model.Packet
	for _, j := range ready {
		a.forget(j)
		if j.tentative && j.own {
			a.cfg.NotOurs(j.first.T)
		}
		if j.counted && len(j.hops) == 0 && (j.own || j.first.Netns == 0) && !j.tentative {
			a.seenIDs-- // only events that tell nothing came through: lost
		}
		if !j.terminal && a.cfg.Lossy() {
			j.lost = true
		}
		if p := j.packet(a.number+1, a.cfg.Wall); p != nil {
			a.number++
			j.number = a.number
			a.frames.settle(p.Hops)
			a.w.rules.Explain(p)
			nameAddresses(a.w, p)
			out = append(out, p)
		}
	}
	return out
}

// Pending counts the packets of the flow whose fate is not known yet.
func (a *Assembler) Pending() int {
	n := 0
	for _, j := range a.active {
		if j.own && !j.tentative && !j.terminal {
			n++
		}
	}
	return n
}

// forget drops a journey and every way to find it.
func (a *Assembler) forget(j *journey) {
	delete(a.active, j.id)
	for _, k := range j.filed {
		if m := a.byFlow[k]; m != nil {
			delete(m, j.id)
			if len(m) == 0 {
				delete(a.byFlow, k)
			}
		}
	}
	for _, p := range j.parts {
		delete(a.alias, p)
	}
}

// flowKey finds the packets that a new skb may be a part of.
type flowKey struct {
	t    bpf.Tuple
	ipid uint16 // but for TCP, whose segments get ids of their own
}

func keyOf(t bpf.Tuple, ipid uint16) flowKey {
	if t.Proto == unix.IPPROTO_TCP {
		ipid = 0
	}
	return flowKey{t, ipid}
}
