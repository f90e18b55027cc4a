// SPDX-License-Identifier: Apache-2.0

package walk

// These tests follow packets through rules made up for them, which say of
// themselves whether they match.

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// rule is one that matches, or may (ask), and then does something: "accept" and
// "drop" end the way, "may drop" lets it go on perhaps, "mark" sets the mark to
// the rule's number, "clear" sets it to 0, "two" and "many" fork in 2 and 1000
// ways that go on, "back" goes to the first rule, "blind" stands for what is not
// understood; other words do nothing.
type rule struct {
	ask bool
	do  string
}

// script reads rules: "accept" or, if it may match only, "?accept".
func script(words string) []rule {
	var all []rule
	for word := range strings.SplitSeq(words, ",") {
		do, ask := strings.CutPrefix(word, "?")
		all = append(all, rule{ask, do})
	}
	return all
}

type state struct {
	Way[int]
	at      int
	matches bool
}

func (s state) clone() state {
	s.Way = s.Clone()
	return s
}

func (s *state) key() string { return s.Key(s.at, s.matches) }

// rules walk; made counts the forks that were made.
type rules struct {
	Walker[state, int]
	all  []rule
	made int
}

func (r *rules) step(s *state) Next[state] {
	if s.at == len(r.all) {
		s.Match(s.at, true)
		return r.End(&s.Way, "policy")
	}
	if r.all[s.at].ask && !s.matches {
		r.Note(fmt.Sprint("rule ", s.at))
		s.Certain, s.matches = false, true
		other := s.clone()
		other.at, other.matches = s.at+1, false
		return Fork(other)
	}
	s.matches = false
	s.Match(s.at, true)
	at := s.at
	s.at++
	return r.do(s, at)
}

func (r *rules) do(s *state, at int) Next[state] {
	switch do := r.all[at].do; do {
	case "may drop":
		s.Certain = false
		return r.EndOr(&s.Way, "drop", s.clone())
	case "mark":
		s.Packet.Mark = packet.Known(uint32(at + 1))
	case "clear":
		s.Packet.Mark = packet.Known(uint32(0))
	case "two":
		return r.fork(s, 2)
	case "many":
		return r.fork(s, 1000)
	case "back":
		s.at = 0
	case "blind":
		r.Incomplete()
	case "accept", "drop":
		return r.End(&s.Way, do)
	}
	return Next[state]{}
}

// fork parts in ways with different marks.
func (r *rules) fork(s *state, n int) Next[state] {
	s.Certain = false
	return Next[state]{Ended: true, Forks: func(yield func(state) bool) {
		for i := range n {
			r.made++
			other := s.clone()
			other.Packet.Mark = packet.Known(uint32(100 + i))
			if !yield(other) {
				return
			}
		}
	}}
}

// told writes a walk: each outcome's deciding rule, verdict and mark.
func told(w Walk[int]) string {
	var all []string
	for _, o := range w.Outcomes {
		mark := "?"
		if o.Packet.Mark.Known {
			mark = fmt.Sprint(o.Packet.Mark.Value)
		}
		all = append(all, fmt.Sprintf("%d %s mark %s", o.Deciding(), o.Verdict, mark))
	}
	if !w.Complete {
		all = append(all, "and more")
	}
	return strings.Join(all, ", ")
}

func TestFollow(t *testing.T) {
	tests := []struct {
		about, rules string
		want         string
		unknown      int
		steps        string // of the first outcome; * behind those that are not certain
	}{
		{"nothing is open", "mark,accept", "1 accept mark 1", 0, "0 1"},
		{"the policy", "mark", "1 policy mark 1", 0, "0 1"},
		{"a rule that may match", "mark,?accept,drop", "1 accept mark 1, 2 drop mark 1", 1, "0 1*"},
		{"both ways to one rule", "?log,accept", "1 accept mark 0", 1, "0* 1*"},
		{"both ways to one rule, not with one mark", "?mark,accept", "1 accept mark ?", 1, "0* 1*"},
		{"marks that are set behind", "?mark,clear,accept", "2 accept mark 0", 1, "0* 1* 2*"},
		{"three ways", "?accept,?accept,drop", "0 accept mark 0, 1 accept mark 0, 2 drop mark 0", 2, "0*"},
		{"a rule that may end the way", "may drop,accept", "0 drop mark 0, 1 accept mark 0", 0, "0"},
		{"several ways at once", "two,accept", "1 accept mark ?", 0, "0 1*"},
		{"as many open rules as may be", strings.Repeat("?log,", 16) + "accept", "16 accept mark 0", 16, starred(17)},
		{"too many open rules", strings.Repeat("?accept,", 17) + "drop", accepts(16) + ", and more", 17, "0*"},
		{"too many ways at once", "many,accept", "1 accept mark ?, and more", 0, "0 1*"},
		{"too many rules that may end the way", strings.Repeat("may drop,", 20) + "accept", "", 0, "0"},
		{"rules that are not understood", "blind,accept", "1 accept mark 0, and more", 0, "0 1"},
		{"a loop", "log,back", "and more", 0, ""},
		{"a loop that may be left", "?accept,back", "0 accept mark 0", 1, "0*"},
	}
	for _, test := range tests {
		r := &rules{all: script(test.rules)}
		p := &packet.Packet{Mark: packet.Known[uint32](0)}
		w := r.Follow(state{Way: From[int](p)}, r.step, (*state).key)
		if got := told(w); test.want != "" && got != test.want || test.want == "" && w.Complete {
			t.Errorf("%s: got %s, want %s", test.about, got, test.want)
		}
		if len(w.Unknown) != test.unknown {
			t.Errorf("%s: not evaluated: %q, want %d", test.about, w.Unknown, test.unknown)
		}
		if test.steps != "" && steps(w.Outcomes[0]) != test.steps {
			t.Errorf("%s: steps %s, want %s", test.about, steps(w.Outcomes[0]), test.steps)
		}
		if r.made > maxForks+1 {
			t.Errorf("%s: %d ways were made", test.about, r.made)
		}
		if p.Mark.Value != 0 {
			t.Errorf("%s: the packet was changed", test.about)
		}
	}
}

func steps(o Outcome[int]) string {
	var all []string
	for _, s := range o.Steps {
		all = append(all, fmt.Sprint(s.Match, map[bool]string{false: "*"}[s.Certain]))
	}
	return strings.Join(all, " ")
}

// starred are so many steps none of which is certain.
func starred(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprint(i, "*"))
	}
	return strings.Join(all, " ")
}

// accepts are outcomes by the first rules.
func accepts(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprint(i, " accept mark 0"))
	}
	return strings.Join(all, ", ")
}

func TestCertain(t *testing.T) {
	one := Outcome[int]{Steps: []Step[int]{{1, false}, {2, false}}, Verdict: "drop"}
	tests := []struct {
		about string
		w     Walk[int]
		want  bool
	}{
		{"one outcome", Walk[int]{Outcomes: []Outcome[int]{one}, Complete: true}, true},
		{"two", Walk[int]{Outcomes: []Outcome[int]{one, one}, Complete: true}, false},
		{"one of those followed", Walk[int]{Outcomes: []Outcome[int]{one}}, false},
		{"none", Walk[int]{Complete: true}, false},
	}
	for _, test := range tests {
		o, certain := test.w.Certain()
		if certain != test.want || certain && steps(o) != "1* 2" {
			t.Errorf("%s: %+v, %v", test.about, o, certain)
		}
		if one.Steps[1].Certain {
			t.Fatalf("%s: the walk was changed", test.about)
		}
	}
}

// way is an outcome by the last of steps, of which those below 0 are not certain.
func way(verdict string, mark uint32, match ...int) Outcome[int] {
	o := Outcome[int]{Verdict: verdict, Packet: packet.Packet{Mark: packet.Known(mark)}}
	for _, m := range match {
		o.Steps = append(o.Steps, Step[int]{max(m, -m), m > 0})
	}
	return o
}

func TestAgreement(t *testing.T) {
	tests := []struct {
		about          string
		ways           []Outcome[int]
		sure, deciding []int
		verdict        string
		mark           bool
	}{
		{"one way", []Outcome[int]{way("drop", 1, 1, -2, 3, 4)}, []int{1, 3}, []int{4}, "drop", true},
		{"one step", []Outcome[int]{way("drop", 1, 4)}, nil, []int{4}, "drop", true},
		{"one end", []Outcome[int]{way("drop", 1, 1, 2, 4), way("drop", 1, 1, 3, 4)}, []int{1}, []int{4}, "drop", true},
		{"two marks", []Outcome[int]{way("drop", 1, 1, 4), way("drop", 2, 1, 4)}, []int{1}, []int{4}, "drop", false},
		{"two verdicts", []Outcome[int]{way("drop", 1, 1, 4), way("reject", 1, 1, 4)}, []int{1}, []int{4}, "", true},
		{"two ends", []Outcome[int]{way("drop", 1, 1, 2, 4), way("drop", 1, 1, 5), way("drop", 1, 1, 4)}, []int{1}, []int{4, 5}, "drop", true},
	}
	for _, test := range tests {
		a := Walk[int]{Outcomes: test.ways}.Agreement()
		if !slices.Equal(a.Sure, test.sure) || !slices.Equal(a.Deciding, test.deciding) || a.Verdict != test.verdict || a.Packet.Mark.Known != test.mark {
			t.Errorf("%s: %+v", test.about, a)
		}
	}
}

func TestOnly(t *testing.T) {
	w := Walk[int]{Outcomes: []Outcome[int]{way("drop", 0, 1), way("accept", 0, 2), way("drop", 0, 3)}, Complete: true}
	drops := w.Only(func(verdict string) bool { return verdict == "drop" })
	if got := told(drops); got != "1 drop mark 0, 3 drop mark 0" {
		t.Errorf("got %s", got)
	}
	if len(w.Outcomes) != 3 || w.Outcomes[1].Verdict != "accept" {
		t.Errorf("the walk was changed: %s", told(w))
	}
}

func TestNamed(t *testing.T) {
	failed := fmt.Errorf("no such rule")
	name := func(m int) (string, error) {
		switch m {
		case 7:
			return "", nil // the end of a chain
		case 9:
			return "", failed
		}
		return fmt.Sprint("r", m), nil
	}
	tests := []struct {
		about string
		way   Outcome[int]
		want  []Step[string]
		err   error
	}{
		{"all certain", way("drop", 0, 1, 2), []Step[string]{{"r1", true}, {"r2", true}}, nil},
		{"a step that is not certain", way("drop", 0, 1, -2, 3), []Step[string]{{"r1", true}, {"r3", true}}, nil},
		{"a deciding step that is not certain", way("drop", 0, 1, -2), []Step[string]{{"r1", true}, {"r2", false}}, nil},
		{"a step that is not told", way("drop", 0, 7, 2), []Step[string]{{"r2", true}}, nil},
		{"no name for a step", way("drop", 0, 9, 2), nil, failed},
		{"no name for one that is not told anyway", way("drop", 0, -9, 2), []Step[string]{{"r2", true}}, nil},
	}
	for _, test := range tests {
		w, err := Named(Walk[int]{Outcomes: []Outcome[int]{test.way}, Unknown: []string{"limit"}, Complete: true}, name)
		if err != test.err {
			t.Errorf("%s: %v", test.about, err)
		}
		if err != nil {
			continue
		}
		if o := w.Outcomes[0]; !slices.Equal(o.Steps, test.want) || o.Verdict != "drop" || len(w.Unknown) != 1 || !w.Complete {
			t.Errorf("%s: %+v", test.about, w)
		}
	}
}

// TestKey: ways that go on differently have different keys.
func TestKey(t *testing.T) {
	a, b := From[int](&packet.Packet{}), From[int](&packet.Packet{TOS: packet.Known[uint8](0)})
	keys := map[string]string{}
	for about, key := range map[string]string{
		"chain c, rule 12": a.Key("c", 12), "chain c1, rule 2": a.Key("c1", 2), "another packet": b.Key("c", 12),
	} {
		if other, found := keys[key]; found {
			t.Errorf("%s has the key of %s", about, other)
		}
		keys[key] = about
	}
	a.Match(1, true)
	if _, found := keys[a.Key("c", 12)]; !found {
		t.Error("a step that is past makes another key")
	}
}
