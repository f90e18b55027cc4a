// SPDX-License-Identifier: Apache-2.0

package rulebook

import (
	"testing"
)

// made is a history of versions that are told by a letter, as looks and reads make it.
type made struct{ history[string] }

func (m *made) look(at uint64, s stamp) bool { return m.still(moment{at, at, s, 0}) }

func (m *made) readAt(at uint64, s stamp, rules string, follows bool) {
	look := moment{at, at + 1, s, 0}
	m.read(look, moment{at + 2, at + 3, s, 0}, rules, follows, false)
}

// told is what is known of a packet, in letters: "A" for sure, "A|B" one of the
// two, "A?B" something between them, "?" nothing.
func (m *made) told(p passed) string {
	got := m.at(p)
	name := func(v *version[string]) string {
		if v == nil {
			return ""
		}
		return v.rules
	}
	switch {
	case got.sure != nil:
		return got.sure.rules
	case got.only:
		return name(got.before) + "|" + name(got.after)
	}
	return name(got.before) + "?" + name(got.after)
}

// A packet is told by the version that is known to have stood all the while, and
// by no other: not by what was read later, not by what was read before and stood
// no more, not by equal rules that others stood between.
func TestWhichVersion(t *testing.T) {
	one, two, three := stamp{1, 0}, stamp{2, 0}, stamp{3, 0}
	var byTime, put, gap made
	byTime.readAt(10, one, "A", false)
	byTime.look(20, one)
	byTime.readAt(30, two, "B", true)
	byTime.look(40, two)

	put.readAt(10, one, "A", false)
	put.readAt(30, three, "A", false) // put back: what stood as 2 was not seen

	gap.readAt(10, one, "A", false)
	gap.readAt(30, three, "C", false)
	for _, c := range []struct {
		name string
		in   *made
		p    passed
		want string
	}{
		{"between two looks that found it", &byTime, passed{begin: 15, end: 16}, "A"},
		{"before it was read", &byTime, passed{begin: 5, end: 6}, "?A"},
		{"behind the last look", &byTime, passed{begin: 41, end: 42}, "B?"},
		{"replaced about then", &byTime, passed{begin: 25, end: 26}, "A|B"},
		{"replaced while it was there", &byTime, passed{begin: 19, end: 32}, "A|B"},
		{"the clock does not matter to what bears the name", &byTime, passed{begin: 41, end: 42, first: one, final: one}, "A"},
		{"a name that was never read", &byTime, passed{begin: 25, end: 26, first: three, final: three}, "A?B"},
		{"one name as it came, the next as it went", &byTime, passed{begin: 25, end: 26, first: one, final: two}, "A|B"},
		{"replaced twice while it was there", &gap, passed{begin: 25, end: 26, first: one, final: three}, "A?C"},
		{"others stood between equal rules", &put, passed{begin: 25, end: 26}, "A?A"},
		{"it met those others", &put, passed{begin: 25, end: 26, first: two, final: two}, "A?A"},
		{"equal rules, by name", &put, passed{begin: 99, end: 99, first: three, final: three}, "A"},
	} {
		if got := c.in.told(c.p); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// What has no name of its own stands from one read to the next only if the reader
// says that nothing can have come and gone.
func TestNamelessVersions(t *testing.T) {
	var m made
	weak := stamp{0, 7}
	m.read(moment{10, 11, weak, 0}, moment{12, 13, weak, 0}, "A", false, false)
	if m.look(20, weak) {
		t.Error("a look is taken for a read where it tells no name")
	}
	if got := m.told(passed{begin: 15, end: 15}); got != "A?" {
		t.Errorf("behind the read: %s", got)
	}
	m.read(moment{30, 31, weak, 0}, moment{32, 33, weak, 0}, "A", false, true)
	if got := m.told(passed{begin: 15, end: 15}); got != "A" || len(m.versions) != 1 {
		t.Errorf("read again, nothing can have come and gone: %s in %d versions", got, len(m.versions))
	}
	m.read(moment{50, 51, weak, 0}, moment{52, 53, weak, 0}, "A", false, false)
	if got := m.told(passed{begin: 45, end: 45}); got != "A?A" {
		t.Errorf("read again, something may have come and gone: %s", got)
	}
}

// A version may have been read before it was what it came to be: packets are told by
// the reading that was made before them.
func TestVersionThatSettles(t *testing.T) {
	var m made
	one := stamp{1, 0}
	m.readAt(10, one, "early", false)
	m.settle(moment{100, 101, one, 0}, moment{102, 103, one, 0}, "settled")
	for at, want := range map[uint64]string{5: "early", 50: "early", 99: "early", 110: "settled", 1000: "settled"} {
		if got := m.told(passed{begin: at, end: at, first: one, final: one}); got != want {
			t.Errorf("at %d: %s, want %s", at, got, want)
		}
	}
	if got := m.told(passed{begin: 50, end: 51}); got != "early" {
		t.Errorf("by time: %s", got)
	}
	if !m.look(200, one) || m.told(passed{begin: 150, end: 150}) != "settled" {
		t.Error("the settled version is not looked at on")
	}
}

func TestForgottenVersions(t *testing.T) {
	var m made
	for i := uint64(1); i <= 20; i++ {
		m.readAt(10*i, stamp{i, 0}, string(rune('a'+i-1)), i > 1)
		m.forget(3)
	}
	if len(m.versions) != 3 || m.versions[0].follows {
		t.Errorf("%d versions are kept, the oldest follows: %v", len(m.versions), m.versions[0].follows)
	}
	if got := m.told(passed{begin: 5, end: 5, first: stamp{4, 0}, final: stamp{4, 0}}); got != "?r" {
		t.Errorf("one that is forgotten: %s", got)
	}
}
