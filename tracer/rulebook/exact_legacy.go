// SPDX-License-Identifier: Apache-2.0

package rulebook

// This file names the rules of legacy tables by the counters that rose.

import (
	"encoding/binary"

	"github.com/pathtrace/pathtrace/tracer/journey"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/nfnetlink"
	"github.com/pathtrace/pathtrace/tracer/ruleset/legacy"
	"github.com/pathtrace/pathtrace/tracer/ruleset/tell"
)

// ruling is what is known of the rules that one table or base chain applied.
type ruling = journey.Ruling

// legacyRuling: the event names the contents that the packet met, so that only a
// version of that very name is asked.
func (b *Book) legacyRuling(e *journey.Record) ruling {
	if e.Fn == journey.FnLink && e.Table.Matches == 0 && journey.VerdictName(uint32(e.Result)) == "drop" {
		return ruling{} // it died between the links before it came to this table
	}
	s := b.space(e.Netns)
	key := tableKey{nfnetlink.Family(e.Pf), journey.CString(e.Table.Table[:])}
	t := s.table(key)
	if t.address != e.Table.Address {
		// a module that came after the start is not found by its functions
		t.address, s.looked = e.Table.Address, 0
	}
	p := b.passedLegacy(e)
	m, late := meet(b, s, &t.history, p)
	if m.sure == nil {
		return doubt[*legacyRules]{passed: p, met: m, ask: func(l *legacyRules) ruling { return l.ruling(e) }, wall: b.wall, late: late}.ruling()
	}
	r := m.sure.rules
	if len(r.table.Entries) != int(e.Table.Number) || r.table.Size != e.Table.Size {
		return unknownRules("the table that was read has %d entries in %d bytes, the packet met one of %d in %d", len(r.table.Entries), r.table.Size, e.Table.Number, e.Table.Size)
	}
	return r.ruling(e)
}

// passedLegacy is the packet's way through a table whose event tells its contents:
// it would not have been told if they had been replaced meanwhile.
func (b *Book) passedLegacy(e *journey.Record) passed {
	name := b.read.legacyStamp(e.Table.Content, e.Table.Generation)
	return passed{begin: e.Ts, end: e.Ts, first: name, final: name, print: e.Table.Print}
}

// ruling orders what counted, once for each set of rules.
func (l *legacyRules) ruling(e *journey.Record) ruling {
	key := matchKey(e)
	if r, known := l.rulings[key]; known {
		return r
	}
	if len(l.rulings) >= keptRulings {
		clear(l.rulings)
	}
	r := orderRuling(l.table, e)
	l.rulings[key] = r
	return r
}

// matchKey is all of an event that a ruling depends on.
func matchKey(e *journey.Record) string {
	key := []byte{e.Hook, e.Fn}
	key = binary.NativeEndian.AppendUint32(key, uint32(e.Result))
	for i := range e.Table.M[:e.Table.Matches] {
		m := &e.Table.M[i]
		key = binary.NativeEndian.AppendUint32(key, uint32(m.Rule))
		key = binary.NativeEndian.AppendUint32(key, m.Count)
	}
	return string(key)
}

// orderRuling makes a way through the table of the counters that rose.
func orderRuling(t *legacy.Table, e *journey.Record) ruling {
	var matched []legacy.Match
	for _, m := range e.Table.M[:e.Table.Matches] {
		matched = append(matched, legacy.Match{Ordinal: int(m.Rule), Count: uint64(m.Count)})
	}
	path, err := t.Order(int(e.Hook)-1, matched)
	if err != nil {
		return unknownRules("%v", err)
	}
	r := ruling{Source: model.RuleExact}
	decided := -1
	for _, i := range t.Visible(path.Ordinals) {
		rule, err := tell.Legacy(t, i)
		if err != nil {
			return unknownRules("%v", err)
		}
		if i == path.Deciding {
			decided = len(r.Rules)
		}
		r.Rules = append(r.Rules, rule)
	}
	if decided >= 0 {
		r.Decided = &r.Rules[decided]
	}
	r.Ends = path.Verdict
	r.Queue = queueOf(r)
	kernel := journey.VerdictName(uint32(e.Result))
	if path.Verdict == "reject" && kernel == "drop" {
		r.Verdict = "reject"
	}
	if e.Fn == journey.FnLink {
		return r // the verdict at hand is of all that stands between two links
	}
	switch {
	case path.Inside && kernel != "drop":
		return unknownRules("the packet was let go, but nothing that matched lets it")
	case r.Verdict == "" && path.Verdict != "" && path.Verdict != kernel && !path.Inside:
		return unknownRules("the kernel's verdict is %s, that of the rules that matched %s", kernel, path.Verdict)
	}
	return r
}
