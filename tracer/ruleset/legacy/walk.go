// SPDX-License-Identifier: Apache-2.0

package legacy

// This file tells what a table would do with a packet, where the kernel could
// not be watched doing it: it evaluates one entry; package walk follows the ways.

import (
	"slices"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
	"github.com/pathtrace/pathtrace/tracer/ruleset/walk"
	"github.com/pathtrace/pathtrace/tracer/ruleset/xt"
)

// A walk through a table. What matches is named by its ordinal; policies and
// ends of chains are steps, too.
type (
	Walk    = walk.Walk[int]
	Outcome = walk.Outcome[int]
	next    = walk.Next[state]
)

// Walk evaluates a packet from a hook's first entry on. The packet is not
// changed; what targets do to its marks is carried on within the walk. It fails
// if the table has no chain for the hook.
func (t *Table) Walk(p *packet.Packet, hook int) (Walk, error) {
	start, err := t.Start(hook)
	if err != nil {
		return Walk{}, err
	}
	policy, err := t.Policy(hook)
	if err != nil {
		return Walk{}, err
	}
	w := &walker{t: t, policy: policy}
	return w.Follow(state{Way: walk.From[int](p), at: start}, w.step, (*state).key), nil
}

// walker does the steps of a walk.
type walker struct {
	walk.Walker[state, int]
	t      *Table
	policy int
}

// state is a packet on its way.
type state struct {
	walk.Way[int]
	at      int
	matches bool  // on this way, whatever the entry at hand asks for
	stack   []int // callers
}

func (s *state) key() string { return s.Key(s.at, s.matches, s.stack) }

// step does one entry.
func (w *walker) step(s *state) next {
	if s.matches {
		s.matches = false
		return w.take(s)
	}
	answer, unknown := w.t.evaluate(s.at, &s.Packet)
	switch answer {
	case packet.No:
		s.at++
		return next{}
	case packet.Unknown:
		w.Note(unknown...)
		return w.fork(s)
	}
	return w.take(s)
}

// fork lets an entry match, and not match beside. One that changes nothing
// needs no second way.
func (w *walker) fork(s *state) next {
	if w.t.idle(s.at, &s.Packet) {
		s.Match(s.at, false)
		s.at++
		return next{}
	}
	s.Certain = false
	other := s.clone()
	other.at++
	s.matches = true
	return walk.Fork(other)
}

func (s *state) clone() state {
	c := *s
	c.Way, c.stack = s.Clone(), slices.Clone(s.stack)
	return c
}

// take lets the entry match and goes where it leads (net/ipv4/netfilter/
// ip_tables.c, ipt_do_table).
func (w *walker) take(s *state) next {
	e := &w.t.Entries[s.at]
	s.Match(s.at, true)
	switch e.Action {
	case Jump:
		if len(s.stack) >= w.t.depth {
			return w.End(&s.Way, "drop")
		}
		s.stack = append(s.stack, s.at)
		s.at = e.Target
	case Goto, Next:
		s.at = e.Target
	case Return:
		n := len(s.stack)
		if n == 0 {
			s.at = w.policy
			return next{}
		}
		s.at, s.stack = s.stack[n-1]+1, s.stack[:n-1]
	case Extend:
		return w.extend(s)
	default:
		return w.End(&s.Way, actionVerdict(e.Action))
	}
	return next{}
}

// extend lets an extension do its work. What it would decide may not be known;
// then it may also let the packet go on.
func (w *walker) extend(s *state) next {
	verdict, ends, goesOn := w.t.ending(s.at)
	if !goesOn {
		return w.End(&s.Way, verdict)
	}
	if !ends {
		w.pass(s)
		return next{}
	}
	w.Note(w.t.targetName(s.at) + " of " + w.t.where(s.at))
	s.Certain = false
	other := s.clone()
	w.pass(&other)
	return w.EndOr(&s.Way, verdict, other)
}

// pass goes on behind an extension.
func (w *walker) pass(s *state) {
	target := w.t.target(s.at)
	target.Apply(&s.Packet)
	s.at++
}

// evaluate asks an entry's conditions; of Unknown it tells which ones.
func (t *Table) evaluate(i int, p *packet.Packet) (packet.Answer, []string) {
	if t.Entries[i].always {
		return packet.Yes, nil
	}
	if t.misses(i, p) {
		return packet.No, nil
	}
	var unknown []string
	answer := t.header(i).Eval(p)
	if answer == packet.No {
		return packet.No, nil
	}
	if answer == packet.Unknown {
		unknown = append(unknown, "address, protocol or interface of "+t.where(i))
	}
	for ext := range t.matches(i) {
		switch t.match(ext).Eval(p) {
		case packet.No:
			return packet.No, nil
		case packet.Unknown:
			answer = packet.Unknown
			unknown = append(unknown, ext.name+" of "+t.where(i))
		}
	}
	return answer, unknown
}

// idle tells an entry that makes no difference to the rest of the walk.
func (t *Table) idle(i int, p *packet.Packet) bool {
	switch t.Entries[i].Action {
	case Next:
		return true
	case Extend:
		target := t.target(i)
		if target.Kind != xt.Continue {
			return false
		}
		after := *p
		target.Apply(&after)
		return after.Mark == p.Mark && after.CT == p.CT && after.TOS == p.TOS && after.TTL == p.TTL
	}
	return false
}
