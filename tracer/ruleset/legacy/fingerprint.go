// SPDX-License-Identifier: Apache-2.0

package legacy

// This file tells whether two reads of a table show the same rules.

import (
	"bytes"
	"crypto/sha256"
)

// Fingerprint is equal for two tables with the same rules in the same places,
// whatever they have counted.
func (t *Table) Fingerprint() [sha256.Size]byte {
	t.printing.Do(func() { t.print = t.hash() })
	return t.print
}

func (t *Table) hash() [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte(t.Family))
	h.Write(t.info[:])
	for i := range t.Entries {
		packed, n := t.kept(i)
		h.Write(packed[:packedLen(packed, n)])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// same tells whether the kernel's bytes are of this table's rules, whatever they
// have counted. It keeps nothing of them.
func (t *Table) same(info, raw []byte) bool {
	if !bytes.Equal(info, t.info[:]) || uint64(len(raw)) != uint64(t.Size) {
		return false
	}
	var p packer
	for i := range t.Entries {
		// Entries tell how long they are: as long as all are equal, offsets are.
		rule, _ := p.pack(t.layout, raw[t.Entries[i].Offset:t.end(i)])
		if kept, _ := t.kept(i); !bytes.HasPrefix(kept, rule) {
			return false
		}
	}
	return true
}
