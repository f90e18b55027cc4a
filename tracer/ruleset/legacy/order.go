// SPDX-License-Identifier: Apache-2.0

package legacy

// This file rebuilds the way a packet took from what the kernel tells of it: the
// rules whose counters rose, without their order. The walk of ipt_do_table
// (net/ipv4/netfilter/ip_tables.c) is repeated from the hook's first entry; a
// rule that counted is followed, one that did not is passed over. Only a walk
// that uses up all counts, and passes over nothing that matches every packet,
// explains them; what cannot be explained is an error, never a guess.
//
// A rule in a chain that is entered twice may have matched either time, so
// there the walk is tried both ways.

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/ruleset/xt"
)

// Errors of Order.
var (
	// ErrUnexplained: no walk from that hook makes exactly these counters rise:
	// the table was replaced, or packets were mixed.
	ErrUnexplained = errors.New("no single walk explains the rules that counted")
	// ErrAmbiguous: several walks do, and they end at different rules.
	ErrAmbiguous = errors.New("several walks explain the rules that counted")
)

// Match is an entry whose counter rose, and by how much.
type Match struct {
	Ordinal int
	Count   uint64 // packets: 1, or more if the chain was entered more than once
}

// Path is the way of one packet through a table. It explains counters, it does
// not know what became of the packet: a caller who knows must check that Verdict
// agrees, and may believe Inside only of a packet that died in the table.
type Path struct {
	Ordinals []int  // entries that matched, in order; policies and ends of chains included
	Deciding int    // ordinal of the entry that decided; -1 if none did (see Inside)
	Verdict  string // accept, drop, reject, queue, stolen, stop; "" if the target's verdict is not known
	// Inside: the packet was dropped in between: by a match of a rule behind
	// the last of Ordinals (an unreadable header: hotdrop), which counts
	// nowhere. Or by that last rule's target, if Suspect says so.
	Inside  bool
	Suspect bool // Inside: the last rule's target may also have dropped it
	// Ambiguous: another order explains the counters as well; it ends alike.
	Ambiguous bool
}

// Limits of the search. A walk of a big table takes one step an entry. Two
// walks are enough to know that the order is not certain; the end hardly
// depends on it, since only one entry of a walk can end it.
const (
	maxSteps = 1 << 19
	maxWalks = 2
)

// Order finds the way that a packet took from a hook's first entry on, given the
// entries that counted it, in any order. It fails with ErrUnexplained or
// ErrAmbiguous.
func (t *Table) Order(hook int, matched []Match) (Path, error) {
	start, err := t.Start(hook)
	if err != nil {
		return Path{}, err
	}
	s, err := t.search(hook, matched)
	if err == nil {
		s.walk(start, nil)
		err = s.agree()
	}
	if err != nil {
		return Path{}, fmt.Errorf("%s table %s at %s: %w", t.Family, t.Name, HookName(hook), err)
	}
	p := s.found[0]
	p.Ambiguous = len(s.found) > 1 || s.full()
	return p, nil
}

// Visible keeps of a path what people know: rules and policies, not the ends
// of chains.
func (t *Table) Visible(ordinals []int) []int {
	return slices.DeleteFunc(slices.Clone(ordinals), func(i int) bool {
		return t.Entries[i].Kind != KindRule && t.Entries[i].Kind != KindPolicy
	})
}

// search is the state of one search for walks.
type search struct {
	t      *Table
	policy int
	left   map[int]uint64    // counts not yet explained, by ordinal
	calls  map[string]uint64 // how often left's entries can still lead into a chain
	total  uint64
	path   []int
	steps  int
	found  []Path
}

func (t *Table) search(hook int, matched []Match) (*search, error) {
	policy, err := t.Policy(hook)
	if err != nil {
		return nil, err
	}
	s := &search{t: t, policy: policy, left: make(map[int]uint64, len(matched)), calls: map[string]uint64{}}
	for _, m := range matched {
		if m.Ordinal < 0 || m.Ordinal >= len(t.Entries) {
			return nil, fmt.Errorf("entry %d counted, the table has %d: %w", m.Ordinal, len(t.Entries), ErrUnexplained)
		}
		if m.Count > maxSteps || s.total > maxSteps {
			return nil, fmt.Errorf("entry %d counted %d packets: %w", m.Ordinal, m.Count, ErrUnexplained)
		}
		s.left[m.Ordinal] += m.Count
		s.total += m.Count
		if e := &t.Entries[m.Ordinal]; e.Action == Jump || e.Action == Goto {
			s.calls[t.Entries[e.Target].Chain] += m.Count
		}
	}
	return s, nil
}

// walk goes on from entry i with the callers on the stack, and notes every way
// to an end that explains all counts. It leaves the state as it was.
func (s *search) walk(i int, stack []int) {
	for ; ; i++ {
		if s.steps++; s.full() || len(s.found) == maxWalks {
			return
		}
		e := &s.t.Entries[i]
		switch {
		case s.total == 0:
			s.lost(i)
			return
		case s.left[i] > 0:
			s.take(i, stack)
			if e.always || !s.again(i) {
				return
			}
		case e.always:
			return // it would have counted
		}
	}
}

// full tells that the search has taken too long to go on.
func (s *search) full() bool { return s.steps > maxSteps }

// again tells whether a later visit of its chain could still explain the whole
// count of entry i, so that this visit may pass it over.
func (s *search) again(i int) bool {
	return s.calls[s.t.Entries[i].Chain] >= s.left[i]
}

// take lets entry i match and goes where it leads.
func (s *search) take(i int, stack []int) {
	e := &s.t.Entries[i]
	s.left[i]--
	s.total--
	s.path = append(s.path, i)
	if e.Action == Jump || e.Action == Goto {
		chain := s.t.Entries[e.Target].Chain
		s.calls[chain]--
		defer func() { s.calls[chain]++ }()
	}
	s.follow(i, stack)
	s.path = s.path[:len(s.path)-1]
	s.total++
	s.left[i]++
}

// follow is what ipt_do_table does once an entry has matched.
func (s *search) follow(i int, stack []int) {
	e := &s.t.Entries[i]
	switch e.Action {
	case Jump:
		if len(stack) >= s.t.depth {
			s.end(i, "drop")
			return
		}
		s.walk(e.Target, append(slices.Clip(stack), i))
	case Goto, Next:
		s.walk(e.Target, stack)
	case Return:
		if n := len(stack); n > 0 {
			s.walk(stack[n-1]+1, stack[:n-1])
			return
		}
		s.walk(s.policy, nil)
	case Extend:
		s.extend(i, stack)
	default:
		s.end(i, actionVerdict(e.Action))
	}
}

// extend goes on after entry i whose target is an extension.
func (s *search) extend(i int, stack []int) {
	verdict, ends, goesOn := s.t.ending(i)
	switch {
	case s.total > 0 && goesOn:
		s.walk(i+1, stack)
	case s.total > 0:
	case ends && goesOn && s.t.fussyFrom(i+1):
		s.lost(i + 1) // the target or what comes behind it
	case ends:
		s.end(i, verdict)
	default:
		s.walk(i+1, stack)
	}
}

// ending tells how a walk goes on after an extension: whether it may end there,
// with which verdict, and whether it may go on.
func (t *Table) ending(i int) (verdict string, ends, goesOn bool) {
	switch t.target(i).Kind {
	case xt.Continue:
		return "", false, true
	case xt.Accept:
		return "accept", true, false
	case xt.Reject:
		return "reject", true, false
	case xt.Queue:
		return "queue", true, false
	}
	return "", true, true
}

// mayDrop tells whether an extension that lets packets go on may yet drop one,
// as those do that rewrite headers and fail. All but these may.
func (t *Table) mayDrop(i int) bool {
	never := []string{
		"AUDIT", "CHECKSUM", "CLASSIFY", "CONNMARK", "CONNSECMARK", "CT", "HMARK", "IDLETIMER", "LED", "LOG",
		"MARK", "NFLOG", "NOTRACK", "RATEEST", "SECMARK", "SET", "TEE", "TRACE",
	}
	return !slices.Contains(never, t.targetName(i))
}

// end notes a walk that ends with a verdict, if it explains all counts.
func (s *search) end(i int, verdict string) {
	if s.total == 0 {
		s.add(Path{Ordinals: slices.Clone(s.path), Deciding: i, Verdict: verdict})
	}
}

// add notes a walk unless it is the one known already.
func (s *search) add(p Path) {
	for _, f := range s.found {
		if slices.Equal(f.Ordinals, p.Ordinals) && f.Deciding == p.Deciding {
			return
		}
	}
	s.found = append(s.found, p)
}

// lost notes a walk that can only have ended inside a rule: all counts are
// explained, and the walk goes on at entry i. One of the entries that it can
// reach without another count must be able to drop a packet by itself.
func (s *search) lost(i int) {
	p := Path{Ordinals: slices.Clone(s.path), Deciding: -1, Verdict: "drop", Inside: true}
	if n := len(s.path); n > 0 {
		last := s.path[n-1]
		p.Suspect = s.t.Entries[last].Action == Extend && s.t.mayDrop(last)
	}
	if p.Suspect || s.t.fussyFrom(i) {
		s.add(p)
	}
}

// fussyFrom tells whether a walk at entry i meets a match that may drop the
// packet before it meets an entry that matches every packet.
func (t *Table) fussyFrom(i int) bool {
	for ; i < len(t.Entries); i++ {
		switch e := &t.Entries[i]; {
		case e.fussy:
			return true
		case e.always:
			return false
		}
	}
	return false
}

// agree checks that there is a walk and that all of them end alike.
func (s *search) agree() error {
	switch {
	case len(s.found) == 0 && s.full():
		return fmt.Errorf("%s: gave up after %d steps: %w", s.name(), maxSteps, ErrUnexplained)
	case len(s.found) == 0:
		return fmt.Errorf("%s: %w", s.name(), ErrUnexplained)
	}
	for _, p := range s.found[1:] {
		if p.Deciding != s.found[0].Deciding || p.Inside != s.found[0].Inside {
			return fmt.Errorf("%s: %w", s.name(), ErrAmbiguous)
		}
	}
	return nil
}

// name lists what counted, for an error.
func (s *search) name() string {
	const most = 8
	all := make([]Match, 0, len(s.left))
	for i, n := range s.left {
		all = append(all, Match{i, n})
	}
	slices.SortFunc(all, func(a, b Match) int { return cmp.Compare(a.Ordinal, b.Ordinal) })
	text := fmt.Sprintf("%d entries counted", len(all))
	for n, m := range all {
		if n == most {
			return text + ", ..."
		}
		text += fmt.Sprintf("%s%s (%d)", map[bool]string{true: ": ", false: ", "}[n == 0], s.t.where(m.Ordinal), m.Count)
	}
	return text
}
