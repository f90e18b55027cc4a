// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"testing"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// ranges is a version of a rule set with one set of ranges, here of single keys.
func ranges(handle uint64, flags uint32, keys ...byte) *Ruleset {
	s := &Set{Name: "s", Handle: handle, Flags: flags, KeyLen: 1}
	for _, k := range keys {
		s.Elements = append(s.Elements, Element{Key: []byte{k}, KeyEnd: []byte{k}})
	}
	s.buildIndex()
	return &Ruleset{Tables: []*Table{{Family: "ip", Name: "t", Handle: 7, Sets: []*Set{s}, sets: map[string]*Set{"s": s}}}}
}

// Sets of ranges are settled later than the commit that changed them: what is in
// one only before or only after it is not known until then.
func TestUnsettledSets(t *testing.T) {
	unsettled := ranges(1, SetInterval, 1)
	unsettled.Tables[0].Sets[0].Unsettled = true
	for _, c := range []struct {
		name          string
		before, after *Ruleset
		elements      int  // of unsettled sets
		one, two, six bool // of which keys is it known whether they are in
	}{
		{"nothing changed", ranges(1, SetInterval, 1, 2), ranges(1, SetInterval, 1, 2), -1, true, true, true},
		{"one came", ranges(1, SetInterval, 1), ranges(1, SetInterval, 1, 2), 2, true, false, true},
		{"one went", ranges(1, SetInterval, 1, 2), ranges(1, SetInterval, 1), 1, true, false, true},
		{"a new set", ranges(2, SetInterval, 1, 2), ranges(1, SetInterval, 1, 2), 2, false, false, false},
		{"versions in between were not read", nil, ranges(1, SetInterval, 1, 2), 2, false, false, false},
		{"it was not settled before", unsettled, ranges(1, SetInterval, 1), 1, false, false, false},
		{"a set without ranges follows the generation", ranges(1, 0, 1), ranges(1, 0, 1, 2), -1, true, true, true},
	} {
		if got := c.after.Unsettle(c.before); got != c.elements {
			t.Errorf("%s: %d elements are not settled, want %d", c.name, got, c.elements)
		}
		s := c.after.Tables[0].Sets[0]
		for key, want := range map[byte]bool{1: c.one, 2: c.two, 6: c.six} {
			k := given([]byte{key})
			found, answer := s.candidates(k)
			if got := s.settled(k, found, answer); got != want || answer == packet.Unknown {
				t.Errorf("%s: key %d is settled: %v (%s), want %v", c.name, key, got, answer, want)
			}
		}
	}
}

// An element with a limit or quota of its own may say no though the key is there.
func TestElementThatMayBreak(t *testing.T) {
	for _, c := range []struct {
		exprs []Expr
		want  bool
	}{{nil, false}, {[]Expr{Counter{}}, false}, {[]Expr{Counter{}, Limit{}}, true}, {[]Expr{Quota{}}, true}, {[]Expr{Connlimit{}}, true}} {
		if got := (&Element{Exprs: c.exprs}).mayBreak(); got != c.want {
			t.Errorf("%v: %v", c.exprs, got)
		}
	}
}

// A rule asks for an interface's index: the packet's own, whatever the name stood for
// when the rules were read.
func TestInterfaceIndex(t *testing.T) {
	w := &walker{rs: &Ruleset{}}
	if got := w.index(packet.Known("cali1"), packet.Known[uint32](6)); !got.complete() || got.value[0] != 6 {
		t.Errorf("index %+v, want 6", got)
	}
	if got := w.index(packet.Known("cali1"), packet.Fact[uint32]{}); got.complete() {
		t.Errorf("an index that is not known: %+v", got)
	}
}
