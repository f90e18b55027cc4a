// SPDX-License-Identifier: Apache-2.0

package legacy

// This file tells what a table would do with a packet, where the kernel could
// not be watched doing it. A match that cannot be evaluated leaves both ways
// open; both are followed, and what they agree on is still certain. Nothing is
// rounded: a walk that depends on what was not seen gives its alternatives.

import (
	"fmt"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
	"github.com/pathtrace/pathtrace/tracer/ruleset/xt"
)

// Limits of a walk.
const (
	maxForks     = 16
	maxWalkSteps = 1 << 18
)

// Step is an entry that matches.
type Step struct {
	Ordinal int
	Certain bool // false: it depends on something that was not seen
}

// Outcome is one way a walk can end.
type Outcome struct {
	Steps    []Step // one way there; policies and ends of chains included
	Deciding int    // ordinal of the entry that decides
	Verdict  string // accept, drop, reject, queue, stolen, stop; "" where the target's verdict is not known
	// Packet is the packet as it leaves the table: with the marks set in it.
	// Marks on which the ways there do not agree are unknown.
	Packet packet.Packet
}

// Walk is what a table makes of a packet.
type Walk struct {
	Outcomes []Outcome // all ways it can end, one for each deciding entry
	Unknown  []string  // what could not be evaluated: "limit of filter/FORWARD rule 3"
	Complete bool      // false: there are more ways than were followed
}

// Certain is the outcome if there can be no other. Its last step is certain then,
// whatever the ones before.
func (w Walk) Certain() (Outcome, bool) {
	if !w.Complete || len(w.Outcomes) != 1 {
		return Outcome{}, false
	}
	o := w.Outcomes[0]
	o.Steps = slices.Clone(o.Steps)
	o.Steps[len(o.Steps)-1].Certain = true
	return o, true
}

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
	w := &walker{t: t, policy: policy, seen: map[string]bool{}, result: Walk{Complete: true}}
	w.todo = []state{{at: start, p: *p, certain: true}}
	for len(w.todo) > 0 {
		last := len(w.todo) - 1
		s := w.todo[last]
		w.todo = w.todo[:last]
		for s.run(w) {
		}
	}
	return w.result, nil
}

// walker follows the states still to be followed.
type walker struct {
	t      *Table
	policy int
	todo   []state
	seen   map[string]bool // forks taken, by state
	forks  int
	steps  int
	result Walk
}

// state is a packet on its way.
type state struct {
	at      int
	stack   []int // callers
	p       packet.Packet
	steps   []Step
	certain bool
}

// run does one entry. It is false at the end of the walk.
func (s *state) run(w *walker) bool {
	if w.steps++; w.steps > maxWalkSteps {
		w.result.Complete = false
		return false
	}
	answer, unknown := w.t.evaluate(s.at, &s.p)
	switch answer {
	case packet.No:
		s.at++
		return true
	case packet.Unknown:
		w.note(unknown)
		return s.fork(w)
	}
	return s.take(w, s.certain)
}

// fork follows an entry that may or may not match. One that changes nothing
// needs no second way.
func (s *state) fork(w *walker) bool {
	if w.t.idle(s.at, &s.p) {
		s.steps = append(s.steps, Step{Ordinal: s.at})
		s.at++
		return true
	}
	key := s.key()
	if w.seen[key] {
		return false // another way came by here in the same state: it ends as that one does
	}
	w.seen[key] = true
	if !w.mayFork() {
		return false
	}
	s.certain = false
	other := *s
	other.at++
	other.stack, other.steps = slices.Clone(s.stack), slices.Clone(s.steps)
	w.todo = append(w.todo, other)
	return s.take(w, false)
}

// mayFork counts a fork, and tells whether there may be another.
func (w *walker) mayFork() bool {
	if w.forks++; w.forks > maxForks {
		w.result.Complete = false
		return false
	}
	return true
}

// key names what the rest of a walk depends on.
func (s *state) key() string {
	return fmt.Sprint(s.at, s.stack, s.p.Mark, s.p.CT.Mark, s.p.TOS, s.p.TTL)
}

// take lets the entry match and goes where it leads (net/ipv4/netfilter/
// ip_tables.c, ipt_do_table). It is false at the end of the walk.
func (s *state) take(w *walker, certain bool) bool {
	e := &w.t.Entries[s.at]
	s.steps = append(s.steps, Step{Ordinal: s.at, Certain: certain})
	switch e.Action {
	case Jump:
		if len(s.stack) >= w.t.depth {
			return s.end(w, "drop")
		}
		s.stack = append(s.stack, s.at)
		s.at = e.Target
	case Goto, Next:
		s.at = e.Target
	case Return:
		n := len(s.stack)
		if n == 0 {
			s.at = w.policy
			return true
		}
		s.at, s.stack = s.stack[n-1]+1, s.stack[:n-1]
	case Extend:
		return s.extend(w)
	default:
		return s.end(w, actionVerdict(e.Action))
	}
	return true
}

// extend lets an extension do its work. What it would decide may not be known;
// then it may also let the packet go on.
func (s *state) extend(w *walker) bool {
	verdict, ends, goesOn := w.t.ending(s.at)
	if ends {
		if goesOn {
			w.note([]string{w.t.targetName(s.at) + " of " + w.t.where(s.at)})
			s.certain = false
		}
		s.end(w, verdict)
	}
	if !goesOn || ends && !w.mayFork() {
		return false
	}
	target := w.t.target(s.at)
	target.Apply(&s.p)
	s.at++
	return true
}

// end notes an outcome, once for each deciding entry. It is false, for run.
func (s *state) end(w *walker, verdict string) bool {
	i := slices.IndexFunc(w.result.Outcomes, func(o Outcome) bool { return o.Deciding == s.at })
	if i < 0 {
		w.result.Outcomes = append(w.result.Outcomes,
			Outcome{Steps: slices.Clone(s.steps), Deciding: s.at, Verdict: verdict, Packet: s.p})
		return false
	}
	o := &w.result.Outcomes[i].Packet
	o.Mark, o.CT.Mark = agreed(o.Mark, s.p.Mark), agreed(o.CT.Mark, s.p.CT.Mark)
	o.TOS, o.TTL = agreed(o.TOS, s.p.TOS), agreed(o.TTL, s.p.TTL)
	return false
}

// agreed is a fact on which two ways agree, else unknown.
func agreed[T comparable](a, b packet.Fact[T]) packet.Fact[T] {
	if a != b {
		return packet.Fact[T]{}
	}
	return a
}

// note adds to what could not be evaluated.
func (w *walker) note(what []string) {
	for _, u := range what {
		if !slices.Contains(w.result.Unknown, u) {
			w.result.Unknown = append(w.result.Unknown, u)
		}
	}
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
