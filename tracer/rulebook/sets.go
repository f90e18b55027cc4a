// SPDX-License-Identifier: Apache-2.0

package rulebook

// This file remembers what ipsets were found to hold over time. They have no
// generation, so nothing tells that one changed: what a packet met is known only if
// the answer about it was the same in the last reading before and the first one
// behind it. sets_ahead.go has a reading made before the first packet comes.

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pathtrace/pathtrace/tracer/ruleset/ipset"
	facts "github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

const (
	// What packets asked is asked again, so that the reading before the next one
	// is not long ago: so often, for so long after the last that asked, and no more
	// than so many questions.
	freshEvery = 250 * time.Millisecond
	freshFor   = 30 * time.Second
	mostFresh  = 64
	// keptQuestions bounds the questions that are remembered, keptAnswers how often
	// the answer to one may have changed: a packet is told within seconds.
	keptQuestions = 4096
	keptAnswers   = 8
)

// setAsker answers for the ipsets of one network namespace, as they are now.
type setAsker interface {
	// Set tells a set's type.
	Set(name string) (ipset.Set, error)
	Contains(set string, e ipset.Element) (facts.Answer, error)
	// Test asks lists of sets, too.
	Test(set string, dirs []bool, p *facts.Packet) (facts.Answer, error)
}

// setDoor lets fn ask the ipsets of one network namespace.
type setDoor func(fn func(setAsker) error) error

// setAsk is what a rule asks an ipset about a packet.
type setAsk struct {
	set    string
	dirs   []bool
	packet *facts.Packet
}

// setQuestion is what is asked of the packet: packets that do not differ in what
// the set looks at ask the same.
type setQuestion struct {
	set     string
	element ipset.Element
	whole   string // of a list, whose sets may look at anything
}

// setAnswers are the answers to a question over time.
type setAnswers struct {
	history[facts.Answer]
	asked uint64 // when a packet did last
	ahead bool   // asked before any packet did
}

// setMemory is what is known of the ipsets of one network namespace.
type setMemory struct {
	door    setDoor
	now     func() uint64 // CLOCK_MONOTONIC, ns
	leave   *leave        // nil: as often as is asked
	verbose func(string)
	kinds   map[string]setKind // by name
	kept    map[setQuestion]*setAnswers
	fresh   map[setQuestion]*setAnswers // those of kept that packets asked of late
	ticked  uint64
	ahead
	// filled are sets that rules change: what the packet did not find before it may
	// have put there itself, and what expired meanwhile as well.
	filled map[string]bool
	failed bool // what went wrong was told
}

// setKind is a set's type, and when it was looked at last.
type setKind struct {
	ipset.Set
	looked uint64
}

func newSetMemory(door setDoor, now func() uint64, leave *leave, verbose func(string)) *setMemory {
	return &setMemory{door: door, now: now, leave: leave, verbose: verbose, kinds: make(map[string]setKind),
		kept: make(map[setQuestion]*setAnswers), fresh: make(map[setQuestion]*setAnswers), filled: make(map[string]bool)}
}

// answer tells whether a packet was in a set on its way through a table; Unknown
// unless that is sure.
func (m *setMemory) answer(a setAsk, p passed) facts.Answer {
	if m.filled[a.set] {
		return facts.Unknown
	}
	q, formed := m.question(a)
	if m.isOld(a.set, q, formed, p.end) {
		m.visit(func(v *setVisit) error { return v.ask(a) })
		q, formed = m.question(a)
	}
	if formed != facts.Yes {
		return formed
	}
	r := m.kept[q]
	if r == nil {
		return facts.Unknown
	}
	r.asked = m.now()
	if q.whole == "" { // a list is not asked more often than it has to: that holds it
		m.fresh[q] = r
	}
	if met := r.at(passed{begin: p.begin, end: p.end}); met.sure != nil {
		return met.sure.rules
	}
	return facts.Unknown
}

// isOld tells that a set has to be asked again about a packet that was gone at a
// time.
func (m *setMemory) isOld(set string, q setQuestion, formed facts.Answer, end uint64) bool {
	kind, known := m.kinds[set]
	if !known || formed != facts.Yes {
		return !known || m.now()-kind.looked >= uint64(freshEvery)
	}
	r := m.kept[q]
	return r == nil || r.looked < end
}

// question is what a set looks at of a packet; Unknown if that is not known, Yes if
// the set has to be asked.
func (m *setMemory) question(a setAsk) (setQuestion, facts.Answer) {
	q := setQuestion{set: a.set}
	kind, known := m.kinds[a.set]
	if !known {
		return q, facts.Unknown
	}
	if kind.List() {
		p := a.packet
		q.whole = fmt.Sprint(a.dirs, p.Family, p.Src, p.Dst, p.Proto, p.SrcPort, p.DstPort, p.ICMPType, p.ICMPCode, p.Fragment, p.In, p.Out, p.Mark)
		return q, facts.Yes
	}
	var formed facts.Answer
	q.element, formed = kind.Element(a.dirs, a.packet)
	return q, formed
}

// tick asks again what packets asked of late, and ahead what was not asked yet.
func (m *setMemory) tick() {
	now := m.now()
	if now-m.ticked < uint64(freshEvery) {
		return
	}
	m.ticked = now
	due := append(m.dueFresh(now), m.dueAhead(now)...)
	if len(due) == 0 && m.ready() {
		return
	}
	m.visit(func(v *setVisit) error {
		var errs []error
		for _, q := range due {
			errs = append(errs, v.again(q))
		}
		return errors.Join(append(errs, v.prepare(time.Now().Add(aheadTick)))...)
	})
}

// dueFresh lists what packets asked of late and was not asked since a while, the
// latest first.
func (m *setMemory) dueFresh(now uint64) []setQuestion {
	maps.DeleteFunc(m.fresh, func(_ setQuestion, r *setAnswers) bool { return now-r.asked >= uint64(freshFor) })
	latest := slices.SortedFunc(maps.Keys(m.fresh), func(a, b setQuestion) int { return cmp.Compare(m.fresh[b].asked, m.fresh[a].asked) })
	return slices.DeleteFunc(latest[:min(len(latest), mostFresh)], func(q setQuestion) bool { return now-m.fresh[q].looked < uint64(freshEvery) })
}

// visit asks, unless asking took too much of the time.
func (m *setMemory) visit(fn func(*setVisit) error) {
	if !m.leave.given() {
		return
	}
	began := time.Now()
	err := m.door(func(s setAsker) error { return fn(&setVisit{m, s}) })
	m.leave.spent(time.Since(began))
	if err != nil && !m.failed {
		m.verbose(fmt.Sprintf("ask ipsets: %v", err))
	}
	m.failed = err != nil
}

// forget drops what is known of a set that is gone, or is another one now.
func (m *setMemory) forget(set string) {
	delete(m.kinds, set)
	of := func(q setQuestion, _ *setAnswers) bool { return q.set == set }
	maps.DeleteFunc(m.kept, of)
	maps.DeleteFunc(m.fresh, of)
	m.ahead.forget(set)
}

// makeRoom drops, where too many questions are remembered, the half of them that
// packets asked longest ago.
func (m *setMemory) makeRoom() {
	if len(m.kept) < keptQuestions {
		return
	}
	var asked []setQuestion
	for q, r := range m.kept {
		if !r.ahead {
			asked = append(asked, q)
		}
	}
	slices.SortFunc(asked, func(a, b setQuestion) int { return cmp.Compare(m.kept[a].asked, m.kept[b].asked) })
	for _, q := range asked[:len(asked)/2] {
		delete(m.kept, q)
		delete(m.fresh, q)
	}
}

// setVisit asks sets one after the other.
type setVisit struct {
	*setMemory
	asker setAsker
}

// ask asks about a packet.
func (v *setVisit) ask(a setAsk) error {
	if err := v.look(a.set); err != nil {
		return err
	}
	q, formed := v.question(a)
	if formed != facts.Yes {
		return nil
	}
	return v.note(q, func() (facts.Answer, error) {
		if q.whole != "" {
			return v.asker.Test(a.set, a.dirs, a.packet)
		}
		return v.asker.Contains(q.set, q.element)
	})
}

// again asks what was asked before.
func (v *setVisit) again(q setQuestion) error {
	if err := v.look(q.set); err != nil || v.kept[q] == nil {
		return err
	}
	return v.note(q, func() (facts.Answer, error) { return v.asker.Contains(q.set, q.element) })
}

// look learns a set's type, which says what it can be asked. While rules name a set
// it stays of its type, or of one that looks at the same (ip_set_core.c,
// ip_set_swap): it is enough to look now and then. A set that was made anew, as
// another one, is not the one that was asked before.
func (v *setVisit) look(set string) error {
	was, known := v.kinds[set]
	if known && v.now()-was.looked < uint64(freshEvery) {
		return nil
	}
	is, err := v.asker.Set(set)
	if err != nil {
		v.setMemory.forget(set)
		return err
	}
	if known && was.Set != is {
		v.setMemory.forget(set)
	}
	v.kinds[set] = setKind{is, v.now()}
	return nil
}

// note reads the answer to a question and remembers it.
func (v *setVisit) note(q setQuestion, read func() (facts.Answer, error)) error {
	m := moment{after: v.now()}
	in, err := read()
	m.before, m.stamp = v.now(), stamp{uint64(in) + 1, 0} // equal answers are one version
	if err != nil {
		v.setMemory.forget(q.set)
		return err
	}
	r := v.kept[q]
	if r == nil {
		v.makeRoom()
		r = &setAnswers{}
		v.kept[q] = r
	}
	if !r.still(m) {
		r.read(m, m, in, false, false)
		r.forget(keptAnswers)
	}
	return nil
}
