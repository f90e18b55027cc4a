// SPDX-License-Identifier: Apache-2.0

package legacy

import (
	"encoding/binary"
	"testing"
)

// Counters do not make a table another one; a rule's bytes and a hook's place do.
func TestFingerprint(t *testing.T) {
	lay, _ := layouts(IPv4)
	table := func(change func(info, raw []byte)) (*Table, []byte, []byte) {
		info, raw := madeTable(t, IPv4, 2, "comment")
		change(info, raw)
		tab, err := Parse(IPv4, info, raw)
		if err != nil {
			t.Fatal(err)
		}
		return tab, info, raw
	}
	same, _, _ := table(func(_, _ []byte) {})
	second := int(same.Entries[2].Offset)
	for _, c := range []struct {
		name   string
		change func(info, raw []byte)
		equal  bool
	}{
		{"packets counted by the second rule", func(_, raw []byte) { raw[second+lay.counts] = 7 }, true},
		{"bytes counted by the first entry", func(_, raw []byte) { raw[lay.counts+8] = 7 }, true},
		{"a source address", func(_, raw []byte) { raw[second] = 10 }, false},
		{"the last byte", func(_, raw []byte) { raw[len(raw)-1] = 1 }, false},
		{"another policy", func(_, raw []byte) { // of INPUT
			drop := int32(verdictDrop)
			binary.NativeEndian.PutUint32(raw[lay.header+extHeader:], uint32(drop))
		}, false},
		{"another name", func(info, _ []byte) { copy(info, "raw\x00\x00\x00") }, false},
	} {
		got, info, raw := table(c.change)
		if equal := got.Fingerprint() == same.Fingerprint(); equal != c.equal {
			t.Errorf("%s: fingerprints equal %v, want %v", c.name, equal, c.equal)
		}
		if same.same(info, raw) != c.equal {
			t.Errorf("%s: same rules %v, want %v", c.name, !c.equal, c.equal)
		}
	}
}
