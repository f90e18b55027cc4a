// SPDX-License-Identifier: Apache-2.0

package legacy

// This file tells whether two reads of a table show the same rules.

import (
	"crypto/sha256"
	"encoding/binary"
)

// Fingerprint is equal for two tables with the same rules in the same places,
// whatever they have counted.
func (t *Table) Fingerprint() [sha256.Size]byte {
	t.printing.Do(func() { t.print = t.hash() })
	return t.print
}

func (t *Table) hash() [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte(t.Family + " " + t.Name))
	var hooks []byte
	hooks = binary.NativeEndian.AppendUint32(hooks, t.ValidHooks)
	for i := range t.HookEntry {
		hooks = binary.NativeEndian.AppendUint32(hooks, t.HookEntry[i])
		hooks = binary.NativeEndian.AppendUint32(hooks, t.Underflow[i])
	}
	h.Write(hooks)
	from := 0
	for i := range t.Entries {
		at := int(t.Entries[i].Offset) + t.layout.counts
		h.Write(t.blob[from:at])
		from = at + 16 // struct xt_counters
	}
	h.Write(t.blob[from:])
	return [sha256.Size]byte(h.Sum(nil))
}
