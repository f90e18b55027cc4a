// SPDX-License-Identifier: Apache-2.0

package tracer

import "testing"

// A rule that was not seen to match did not, if no program was left out between
// a look before the packet and one behind it. Looking asks the kernel for every
// program: one look serves all packets before it.
func TestAllRan(t *testing.T) {
	var clock, count uint64
	looks := 0
	b := &ruleBook{now: func() uint64 { return clock }, skipped: func() uint64 { looks++; return count }}
	if (&ruleBook{}).allRan(1) != true {
		t.Error("a backend that is never left out is taken for one that may be")
	}
	b.MarkSkips(10)
	for _, c := range []struct {
		name             string
		clock, count, at uint64
		want             bool
		looks            int // so far
	}{
		{"before any look", 11, 0, 5, false, 1},
		{"nothing left out", 20, 0, 15, true, 2},
		{"told by the same look", 21, 0, 16, true, 2},
		{"left out after it, maybe for it", 30, 3, 25, false, 3},
		{"long before that", 31, 3, 15, false, 3},
		{"after that", 40, 3, 35, true, 4},
	} {
		clock, count = c.clock, c.count
		if got := b.allRan(c.at); got != c.want || looks != c.looks {
			t.Errorf("%s: %v after %d looks, want %v after %d", c.name, got, looks, c.want, c.looks)
		}
	}
}
