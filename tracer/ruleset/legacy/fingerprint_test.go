// SPDX-License-Identifier: Apache-2.0

package legacy

import "testing"

// Counters do not make a table another one; a rule's bytes and a hook's place do.
func TestFingerprint(t *testing.T) {
	table := func(change func(*Table)) [32]byte {
		l, _ := layouts(IPv4)
		tab := &Table{Family: IPv4, Name: "filter", layout: l, Entries: []Entry{{Offset: 0}, {Offset: 152}}, blob: make([]byte, 304)}
		change(tab)
		return tab.Fingerprint()
	}
	same := table(func(*Table) {})
	for _, c := range []struct {
		name   string
		change func(*Table)
		equal  bool
	}{
		{"packets counted by the second rule", func(t *Table) { t.blob[152+96] = 7 }, true},
		{"bytes counted by the first rule", func(t *Table) { t.blob[96+8] = 7 }, true},
		{"a source address", func(t *Table) { t.blob[0] = 10 }, false},
		{"the last byte", func(t *Table) { t.blob[303] = 1 }, false},
		{"another policy", func(t *Table) { t.Underflow[1] = 152 }, false},
		{"another name", func(t *Table) { t.Name = "raw" }, false},
	} {
		if got := table(c.change) == same; got != c.equal {
			t.Errorf("%s: equal %v, want %v", c.name, got, c.equal)
		}
	}
}
