// SPDX-License-Identifier: Apache-2.0

package nft

// This file evaluates the expressions of a walk, one by one.

import (
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
	"github.com/pathtrace/pathtrace/tracer/ruleset/xt"
)

// eval does one expression. It is false at the end of the walk.
func (w *walker) eval(s *state, e Expr) bool {
	switch e := e.(type) {
	case Cmp:
		d, ok := s.regs.load(e.Src, len(e.Data))
		return s.answer(w, sureOf(ok, d.compare(e.Op, e.Data)), "comparison")
	case Range:
		d, ok := s.regs.load(e.Src, len(e.From))
		a := d.within(e.From, e.To)
		if e.Op == OpNeq {
			a = a.Not()
		}
		return s.answer(w, sureOf(ok, a), "range")
	case Lookup:
		return w.lookup(s, e)
	case Bitwise:
		if !s.regs.bitwise(e) {
			s.regs.store(e.Dst, hidden(int(e.Len)))
		}
		return true
	case Byteorder:
		if !s.regs.byteorder(e) {
			s.regs.store(e.Dst, hidden(int(e.Len)))
		}
		return true
	case Immediate:
		if e.Dst == RegVerdict {
			return s.verdict(w, e.Verdict)
		}
		s.regs.store(e.Dst, given(e.Data))
		return true
	case Numgen:
		return w.choose(s, e.Dst, e.Modulus, e.Offset, "numgen")
	case Hash:
		return w.choose(s, e.Dst, e.Modulus, e.Offset, "hash")
	}
	if d, dst, ok := w.load(s, e); ok {
		if d.absent {
			s.skip()
			return true
		}
		s.regs.store(dst, d)
		return true
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
			return payload(&s.p, e), e.Dst, true
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
		p := s.p // asked later on, when the state has changed
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
func (w *walker) lookup(s *state, e Lookup) bool {
	set := w.table.Set(e.Set)
	key, ok := datum{}, false
	if set != nil {
		key, ok = s.regs.load(e.Src, int(set.KeyLen))
	}
	if !ok {
		w.result.Complete = false
		return s.answer(w, packet.Unknown, "look-up in "+e.Set)
	}
	found, answer := set.candidates(key)
	if set.Flags&SetEval != 0 && answer != packet.Unknown {
		answer = packet.Unknown
	}
	if e.Dst == RegNone {
		if e.Invert {
			answer = answer.Not()
		}
		return s.answer(w, answer, "look-up in "+e.Set)
	}
	switch {
	case len(found) == 0 && answer == packet.No:
		s.skip()
		return true
	case len(found) == 1 && answer == packet.Yes:
		return s.take(w, e, set, found[0])
	}
	w.note(s, "look-up in "+e.Set)
	if answer != packet.Yes && !s.split(w) {
		return false
	}
	return w.each(s, e, set, found)
}

// each follows all elements a key may fall on.
func (w *walker) each(s *state, e Lookup, set *Set, found []*Element) bool {
	s.certain = false
	for _, elem := range found {
		if !w.mayFork() {
			return false
		}
		other := s.clone()
		if other.take(w, e, set, elem) {
			w.todo = append(w.todo, other)
		}
	}
	return false
}

// take uses an element of a map.
func (s *state) take(w *walker, e Lookup, set *Set, elem *Element) bool {
	s.set, s.elem = set, elem
	if e.Dst != RegVerdict {
		s.regs.store(e.Dst, given(elem.Data))
		return true
	}
	if elem.Verdict == nil {
		s.skip()
		return true
	}
	return s.verdict(w, *elem.Verdict)
}

// choose follows all numbers that a generator or a hash can give.
func (w *walker) choose(s *state, dst Reg, modulus, offset uint32, what string) bool {
	if modulus == 1 {
		s.regs.store(dst, native(offset))
		return true
	}
	w.note(s, what)
	if modulus > maxForks || w.forks+int(modulus) > maxForks {
		s.regs.store(dst, hidden(slotSize))
		return true
	}
	s.certain = false
	for i := range modulus {
		w.forks++
		other := s.clone()
		other.regs.store(dst, native(i+offset))
		w.todo = append(w.todo, other)
	}
	return false
}

// act does the expressions that do something.
func (w *walker) act(s *state, e Expr) bool {
	switch e := e.(type) {
	case Payload, Meta, CT:
		s.write(e)
		return true
	case Counter, Last, Log, Dup, FlowOffload, Exthdr:
		return true
	case Notrack:
		if !s.p.CT.State.Known || s.p.CT.State.Value == packet.StateNew {
			s.p.CT = packet.Conntrack{State: packet.Known(packet.StateUntracked)}
			s.ctMark = hidden(slotSize)
		}
		return true
	case Limit, Quota, Connlimit, TProxy:
		return s.answer(w, packet.Unknown, e.Kind())
	case Reject:
		s.matched()
		return w.end(s, "reject", false)
	case NAT:
		s.matched()
		return w.end(s, "accept", false)
	case Queue:
		s.matched()
		return w.end(s, "queue", false)
	case Fwd:
		s.matched()
		return w.end(s, "stolen", false)
	case Synproxy:
		return w.perhaps(s, e.Kind(), "stolen")
	case Objref:
		return w.object(s, e)
	case Dynset:
		return w.fill(s, e)
	case Match:
		p := s.p
		a := xt.DecodeMatch(w.xt, e.Name, uint8(e.Rev), e.Info).Eval(&p)
		return s.answer(w, a, "match "+e.Name)
	case Target:
		return w.target(s, e)
	}
	w.result.Complete = false // it may decide anything
	return s.answer(w, packet.Unknown, e.Kind())
}

// perhaps follows an expression that ends the walk or leaves the rule.
func (w *walker) perhaps(s *state, what, verdict string) bool {
	w.note(s, what)
	if !s.split(w) {
		return false
	}
	s.certain = false
	s.matched()
	return w.end(s, verdict, false)
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
			s.p.Mark = s.mark.seen()
		}
	case CT:
		if e.Key == CTMark {
			s.ctMark = mark(e.Src)
			s.p.CT.Mark = s.ctMark.seen()
		}
	case Payload:
		if d, ok := s.regs.load(e.Src, int(e.Len)); ok {
			rewrite(&s.p, e, d)
		}
	}
}

// object uses a stateful object: counters and helpers let everything pass,
// limits do not.
func (w *walker) object(s *state, e Objref) bool {
	const limit, quota, connlimit, synproxy = 4, 2, 5, 10
	kind := e.Type
	if e.Name == "" {
		set := w.table.Set(e.Set)
		if set == nil {
			return s.answer(w, packet.Unknown, "objects of "+e.Set)
		}
		kind = set.ObjectType
		if key, ok := s.regs.load(e.Src, int(set.KeyLen)); ok {
			if _, a := set.candidates(key); a != packet.Yes {
				return s.answer(w, a, "look-up in "+e.Set)
			}
		}
	}
	switch kind {
	case limit, quota, connlimit:
		return s.answer(w, packet.Unknown, objectWords(kind)+e.Name)
	case synproxy:
		return w.perhaps(s, "synproxy "+e.Name, "stolen")
	}
	return true
}

// fill puts the key into a set. It fails where the set is full, and where an
// expression with it (a limit) does not hold.
func (w *walker) fill(s *state, e Dynset) bool {
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
		return s.answer(w, packet.Unknown, "elements of "+e.Set)
	}
	return true
}

// target does a target of xtables.
func (w *walker) target(s *state, e Target) bool {
	t := xt.DecodeTarget(w.xt, e.Name, uint8(e.Rev), e.Info)
	switch t.Kind {
	case xt.Accept:
		s.matched()
		return w.end(s, "accept", false)
	case xt.Reject:
		s.matched()
		return w.end(s, "reject", false)
	case xt.Queue:
		s.matched()
		return w.end(s, "queue", false)
	case xt.Undecided:
		w.note(s, "target "+e.Name)
		s.certain = false
		other := s.clone()
		other.matched()
		w.end(&other, "", false)
	}
	mark, ctMark := s.p.Mark, s.p.CT.Mark
	t.Apply(&s.p)
	if s.p.Mark != mark || !mark.Known {
		s.mark = number(s.p.Mark)
	}
	if s.p.CT.Mark != ctMark || !ctMark.Known {
		s.ctMark = number(s.p.CT.Mark)
	}
	return true
}
