// SPDX-License-Identifier: Apache-2.0

package legacy

// This file keeps bytes in little room. Nearly all of a table is zeros: names of
// interfaces that a rule does not ask for, the rest of a comment's 256 bytes. So
// only units that are not zero are kept, behind a bitmap that tells which they
// are, a byte for eight units. No unit is needed to find another, so a single one
// is read without the rest.

import "math/bits"

const (
	unitLen  = 4
	groupLen = 8 * unitLen // what one byte of a bitmap stands for
)

// bitmapLen is the length of the bitmap of so many bytes.
func bitmapLen(n int) int { return (n + groupLen - 1) / groupLen }

// pack appends bytes, a whole number of units, without their zeros.
func pack(to, from []byte) []byte {
	bitmap := len(to)
	for range bitmapLen(len(from)) {
		to = append(to, 0)
	}
	for ; len(from) > 0; bitmap++ {
		group := from[:min(groupLen, len(from))]
		from = from[len(group):]
		for i := 0; i < len(group); i += unitLen {
			if u := group[i : i+unitLen]; u32(u) != 0 {
				to[bitmap] |= 1 << (i / unitLen)
				to = append(to, u...)
			}
		}
	}
	return to
}

// unpack fills a buffer, a whole number of units, with the first of n bytes that
// were packed.
func unpack(to, from []byte, n int) {
	clear(to)
	at := bitmapLen(n)
	for g, b := range from[:bitmapLen(len(to))] {
		for ; b != 0; b &= b - 1 {
			unit := g*groupLen + bits.TrailingZeros8(b)*unitLen
			if unit >= len(to) {
				return
			}
			copy(to[unit:unit+unitLen], from[at:at+unitLen])
			at += unitLen
		}
	}
}

// packedLen is how many bytes n that were packed take.
func packedLen(from []byte, n int) int {
	units := 0
	for _, b := range from[:bitmapLen(n)] {
		units += bits.OnesCount8(b)
	}
	return bitmapLen(n) + units*unitLen
}

// unitAt is one unit of n bytes that were packed.
func unitAt(from []byte, n, unit int) uint32 {
	group, bit := unit/8, byte(1)<<(unit%8)
	if from[group]&bit == 0 {
		return 0
	}
	before := bits.OnesCount8(from[group] & (bit - 1))
	for _, b := range from[:group] {
		before += bits.OnesCount8(b)
	}
	return u32(from[bitmapLen(n)+before*unitLen:])
}
