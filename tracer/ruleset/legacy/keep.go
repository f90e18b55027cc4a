// SPDX-License-Identifier: Apache-2.0

package legacy

// This file is about what is kept of the kernel's bytes, once they were found to
// be a table: each entry packed (pack.go), of 100,000 rules with comments 10 MB
// instead of 49. The counters of an entry lie behind it, packed apart, since they
// tell no rule from another.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unsafe"

	"github.com/pathtrace/pathtrace/tracer/ruleset/xt"
)

// keep packs all entries, after they have been located. They are packed twice, to
// measure first: what is kept of a big table is then allocated once, as it is.
func (t *Table) keep(raw []byte) error {
	var p packer
	size := 0
	for i := range t.Entries {
		rule, counts := p.pack(t.layout, raw[t.Entries[i].Offset:t.end(i)])
		size += len(rule) + len(counts)
	}
	if size > math.MaxUint32 {
		return errors.New("too large")
	}
	t.packed = make([]byte, 0, size)
	for i := range t.Entries {
		t.Entries[i].at = uint32(len(t.packed))
		rule, counts := p.pack(t.layout, raw[t.Entries[i].Offset:t.end(i)])
		t.packed = append(append(t.packed, rule...), counts...)
	}
	return nil
}

// packer packs entries, one after the other, in the same room.
type packer struct{ plain, room []byte }

// pack gives an entry's packed bytes without its counters, and those.
func (p *packer) pack(lay layout, entry []byte) (rule, counts []byte) {
	at, behind := lay.counts, lay.counts+countsLen
	p.plain = append(append(p.plain[:0], entry[:at]...), entry[behind:]...)
	p.room = pack(p.room[:0], p.plain)
	n := len(p.room)
	p.room = pack(p.room, entry[at:behind])
	return p.room[:n], p.room[n:]
}

// end is the offset behind an entry.
func (t *Table) end(i int) uint32 {
	if i+1 < len(t.Entries) {
		return t.Entries[i+1].Offset
	}
	return t.Size
}

// kept is an entry's packed bytes and how many bytes without counters they stand
// for. What follows is not cut off.
func (t *Table) kept(i int) (packed []byte, n int) {
	e := &t.Entries[i]
	return t.packed[e.at:], int(t.end(i)-e.Offset) - countsLen
}

// entry gives an entry's header with its matches, and its target, as they were
// read but for the counters, which are zero.
func (t *Table) entry(i int) (head, target []byte) {
	packed, n := t.kept(i)
	raw, at := make([]byte, countsLen+n), t.layout.counts
	unpack(raw[countsLen:], packed, n)
	copy(raw[:at], raw[countsLen:])
	clear(raw[at : at+countsLen])
	begins := u16(raw[t.layout.target:])
	return raw[:begins:begins], raw[begins:]
}

// header decodes what an entry asks for besides its matches.
func (t *Table) header(i int) xt.Entry {
	var room [xt.EntrySizeIPv6]byte
	ip := room[:t.layout.ip]
	packed, n := t.kept(i)
	unpack(ip, packed, n)
	e, err := xt.DecodeEntry(t.Family, ip)
	if err != nil {
		panic(fmt.Sprintf("a header of the family's size: %v", err)) // Parse let no other family in
	}
	return e
}

// Counters are the packets and bytes that an entry had counted when the table
// was read, over all CPUs.
func (t *Table) Counters(ordinal int) (packets, bytes uint64) {
	packed, n := t.kept(ordinal)
	var counts [countsLen]byte
	unpack(counts[:], packed[packedLen(packed, n):], countsLen)
	return binary.NativeEndian.Uint64(counts[:]), binary.NativeEndian.Uint64(counts[8:])
}

// Held is about how many bytes of memory the table takes.
func (t *Table) Held() int { return len(t.packed) + len(t.Entries)*int(unsafe.Sizeof(Entry{})) }
