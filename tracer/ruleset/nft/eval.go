// SPDX-License-Identifier: Apache-2.0

package nft

// This file evaluates the expressions of a walk, one by one.

import (
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
	"github.com/pathtrace/pathtrace/tracer/ruleset/xt"
	"slices"
)

// eval does one expression.
func (w *walker) eval(s *state, e Expr) next {
	switch e := e.(type) {
	case Cmp:
		d, ok := s.regs.load(e.Src, len(e.Data))
		return w.answer(s, sureOf(ok, d.compare(e.Op, e.Data)), "comparison")
	case Range:
		d, ok := s.regs.load(e.Src, len(e.From))
		a := d.within(e.From, e.To)
		if e.Op == OpNeq {
			a = a.Not()
		}
		return w.answer(s, sureOf(ok, a), "range")
	case Lookup:
		return w.lookup(s, e)
	case Bitwise:
		if !s.regs.bitwise(e) {
			s.regs.store(e.Dst, hidden(int(e.Len)))
		}
		return next{}
	case Byteorder:
		if !s.regs.byteorder(e) {
			s.regs.store(e.Dst, hidden(int(e.Len)))
		}
		return next{}
	case Immediate:
		if e.Dst == RegVerdict {
			return w.verdict(s, e.Verdict)
		}
		s.regs.store(e.Dst, given(e.Data))
		return next{}
	case Numgen:
		return w.choose(s, e.Dst, e.Modulus, e.Offset, "numgen")
	case Hash:
		return w.choose(s, e.Dst, e.Modulus, e.Offset, "hash")
	}
	if d, dst, ok := w.load(s, e); ok {
		if d.absent {
			s.skip()
			return next{}
		}
		s.regs.store(dst, d)
		return next{}
	}
	return w.act(s, e)
}

// sureOf is the answer if there was something to ask.
func sureOf(ok bool, a packet.Answer) packet.Answer {
	if !ok {
		return packet.Unknown
	}
	return a
}

// load gives what an expression puts into a register.
func (w *walker) load(s *state, e Expr) (datum, Reg, bool) {
	switch e := e.(type) {
	case Payload:
		if e.Dst >= 0 {
			return payload(&s.Packet, e), e.Dst, true
		}
	case Meta:
		if e.Dst >= 0 {
			return w.property(s, e.Key), e.Dst, true
		}
	case CT:
		if e.Dst >= 0 {
			return connection(s, e), e.Dst, true
		}
	case FIB:
		p := s.Packet // asked later on, when the state has changed
		return route(&p, e), e.Dst, true
	case Exthdr:
		if e.Dst >= 0 {
			return hidden(max(int(e.Len), 1)), e.Dst, true
		}
	default:
		if n, dst := load(e); n != nil && dst >= 0 {
			return hidden(max(int(n.bits)/bitsPerByte, 1)), dst, true
		}
	}
	return datum{}, RegNone, false
}

// lookup searches a set. Sets that packets fill are not as they were read any
// more when the packet comes.
func (w *walker) lookup(s *state, e Lookup) next {
	set := w.table.Set(e.Set)
	if elem := s.find; elem != nil {
		s.find = nil
		return w.take(s, e, set, elem)
	}
	key, ok := datum{}, false
	if set != nil {
		key, ok = s.regs.load(e.Src, int(set.KeyLen))
	}
	if !ok {
		w.Incomplete()
		return w.answer(s, packet.Unknown, "look-up in "+e.Set)
	}
	found, answer := set.candidates(key)
	if answer == packet.Yes && slices.ContainsFunc(found, (*Element).mayBreak) {
		answer = packet.Unknown
	}
	if (set.Flags&(SetEval|SetTimeout) != 0 || !set.settled(key, found, answer)) && answer != packet.Unknown { // its elements come and go by themselves
		answer = packet.Unknown
	}
	if e.Dst == RegNone {
		if e.Invert {
			answer = answer.Not()
		}
		return w.answer(s, answer, "look-up in "+e.Set)
	}
	switch {
	case len(found) == 0 && answer == packet.No:
		s.skip()
		return next{}
	case len(found) == 1 && answer == packet.Yes:
		return w.take(s, e, set, found[0])
	}
	w.note(s, "look-up in "+e.Set)
	return s.each(found, answer)
}

// each follows all elements a key may fall on, and none if that may be.
func (s *state) each(found []*Element, answer packet.Answer) next {
	s.Certain = false
	return next{Ended: true, Forks: func(yield func(state) bool) {
		if answer != packet.Yes && !yield(s.skipped()) {
			return
		}
		for _, elem := range found {
			other := s.clone()
			other.expr-- // the look-up
			other.find = elem
			if !yield(other) {
				return
			}
		}
	}}
}

// take uses an element of a map.
func (w *walker) take(s *state, e Lookup, set *Set, elem *Element) next {
	s.set, s.elem = set, elem
	if e.Dst != RegVerdict {
		s.regs.store(e.Dst, given(elem.Data))
		return next{}
	}
	if elem.Verdict == nil {
		s.skip()
		return next{}
	}
	return w.verdict(s, *elem.Verdict)
}

// choose follows all numbers that a generator or a hash can give.
func (w *walker) choose(s *state, dst Reg, modulus, offset uint32, what string) next {
	if modulus == 1 {
		s.regs.store(dst, native(offset))
		return next{}
	}
	w.note(s, what)
	if int(modulus) > w.Left() {
		s.regs.store(dst, hidden(slotSize))
		return next{}
	}
	s.Certain = false
	return next{Ended: true, Forks: func(yield func(state) bool) {
		for i := range modulus {
			other := s.clone()
			other.regs.store(dst, native(i+offset))
			if !yield(other) {
				return
			}
		}
	}}
}

// act does the expressions that do something.
func (w *walker) act(s *state, e Expr) next {
	switch e := e.(type) {
	case Payload, Meta, CT:
		s.write(e)
		return next{}
	case Counter, Last, Log, Dup, FlowOffload, Exthdr:
		return next{}
	case Notrack:
		if !s.Packet.CT.State.Known || s.Packet.CT.State.Value == packet.StateNew {
			s.Packet.CT = packet.Conntrack{State: packet.Known(packet.StateUntracked)}
			s.ctMark = hidden(slotSize)
		}
		return next{}
	case Limit, Quota, Connlimit, TProxy:
		return w.answer(s, packet.Unknown, e.Kind())
	case Reject:
		return w.ends(s, "reject")
	case NAT:
		return w.ends(s, "accept")
	case Queue:
		return w.ends(s, "queue")
	case Fwd:
		return w.ends(s, "stolen")
	case Synproxy:
		return w.perhaps(s, e.Kind(), "stolen")
	case Objref:
		return w.object(s, e)
	case Dynset:
		return w.fill(s, e)
	case Match:
		p := s.Packet
		a := xt.DecodeMatch(w.xt, e.Name, uint8(e.Rev), e.Info).Eval(&p)
		return w.answer(s, a, "match "+e.Name)
	case Target:
		return w.target(s, e)
	}
	w.Incomplete() // it may decide anything
	return w.answer(s, packet.Unknown, e.Kind())
}

// perhaps follows an expression that lets its rule decide or leaves it.
func (w *walker) perhaps(s *state, what, verdict string) next {
	w.note(s, what)
	s.Certain = false
	other := s.skipped()
	s.matched()
	return w.EndOr(&s.Way, verdict, other)
}

// write changes the packet, its mark or its connection's.
func (s *state) write(e Expr) {
	mark := func(src Reg) datum {
		d, ok := s.regs.load(src, slotSize)
		if !ok {
			return hidden(slotSize)
		}
		return datum{value: d.value, known: d.known}
	}
	switch e := e.(type) {
	case Meta:
		if e.Key == MetaMark {
			s.mark = mark(e.Src)
			s.Packet.Mark = s.mark.seen()
		}
	case CT:
		if e.Key == CTMark {
			s.ctMark = mark(e.Src)
			s.Packet.CT.Mark = s.ctMark.seen()
		}
	case Payload:
		if d, ok := s.regs.load(e.Src, int(e.Len)); ok {
			rewrite(&s.Packet, e, d)
		}
	}
}

// object uses a stateful object: counters and helpers let everything pass,
// limits do not.
func (w *walker) object(s *state, e Objref) next {
	const limit, quota, connlimit, synproxy = 4, 2, 5, 10
	kind := e.Type
	if e.Name == "" {
		set := w.table.Set(e.Set)
		if set == nil {
			return w.answer(s, packet.Unknown, "objects of "+e.Set)
		}
		kind = set.ObjectType
		if key, ok := s.regs.load(e.Src, int(set.KeyLen)); ok {
			if _, a := set.candidates(key); a != packet.Yes {
				return w.answer(s, a, "look-up in "+e.Set)
			}
		}
	}
	switch kind {
	case limit, quota, connlimit:
		return w.answer(s, packet.Unknown, objectWords(kind)+e.Name)
	case synproxy:
		return w.perhaps(s, "synproxy "+e.Name, "stolen")
	}
	return next{}
}

// fill puts the key into a set. It fails where the set is full, and where an
// expression with it (a limit) does not hold.
func (w *walker) fill(s *state, e Dynset) next {
	set := w.table.Set(e.Set)
	full := set == nil || set.Size > 0 && len(set.Elements) >= int(set.Size)
	for _, inner := range e.Exprs {
		switch inner.(type) {
		case Counter, Last:
		default:
			full = true
		}
	}
	if full || e.Op == DynsetDelete || e.Invert {
		return w.answer(s, packet.Unknown, "elements of "+e.Set)
	}
	return next{}
}

// target does a target of xtables.
func (w *walker) target(s *state, e Target) next {
	t := xt.DecodeTarget(w.xt, e.Name, uint8(e.Rev), e.Info)
	switch t.Kind {
	case xt.Accept:
		return w.ends(s, "accept")
	case xt.Reject:
		return w.ends(s, "reject")
	case xt.Queue:
		return w.ends(s, "queue")
	case xt.Undecided:
		w.note(s, "target "+e.Name)
		s.Certain = false
		other := s.clone()
		other.apply(t)
		s.matched()
		return w.EndOr(&s.Way, "", other)
	}
	s.apply(t)
	return next{}
}

// apply changes the packet as a target of xtables does.
func (s *state) apply(t xt.Target) {
	mark, ctMark := s.Packet.Mark, s.Packet.CT.Mark
	t.Apply(&s.Packet)
	if s.Packet.Mark != mark || !mark.Known {
		s.mark = number(s.Packet.Mark)
	}
	if s.Packet.CT.Mark != ctMark || !ctMark.Known {
		s.ctMark = number(s.Packet.CT.Mark)
	}
}
