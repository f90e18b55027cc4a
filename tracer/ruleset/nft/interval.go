// SPDX-License-Identifier: Apache-2.0

package nft

// This file brings the elements of a set into the order nft prints them in, and
// makes ranges of those that mark the begin and the end of one.

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/big"
	"slices"
)

// span is an element or a range of keys.
type span struct {
	first, last []byte // the same for a single key; nil for the catch-all element
	elem        *Element
}

// single tells whether the span is one key.
func (s span) single() bool { return bytes.Equal(s.first, s.last) }

// part is one part of a concatenated key, or the whole of another.
type part struct {
	typ   *datatype
	order order
	bits  uint
}

// size is the part's length in bytes, and with the padding behind it.
func (k part) size() (uint, uint) {
	size := (k.bits + bitsPerByte - 1) / bitsPerByte
	return size, padded(size)
}

// keyParts are the parts of a set's keys as the set itself tells.
func (s *Set) keyParts() []part {
	parts := partsOf(s.KeyType, s.KeyLen, s.FieldLens)
	if o, known := byteOrder(udata(s.userData, udataKeyOrder)); known && len(parts) == 1 && parts[0].typ.class != classString {
		parts[0].order = o
	}
	return parts
}

// dataParts are the parts of what a map's keys lead to.
func (s *Set) dataParts() []part {
	parts := partsOf(s.DataType, s.DataLen, nil)
	if o, known := byteOrder(udata(s.userData, udataDataOrder)); known && len(parts) == 1 && parts[0].typ.class != classString {
		parts[0].order = o
	}
	return parts
}

// Entries of a set's user data (libnftnl 1.2, enum nftnl_udata_set_types).
const (
	udataKeyOrder  = 0
	udataDataOrder = 1
)

// partsOf splits a type into parts; lens are those of a set's fields, if known.
func partsOf(id, length uint32, lens []uint32) []part {
	types := concatTypes(id)
	parts := make([]part, len(types))
	for i, t := range types {
		parts[i] = part{typ: t, order: t.order, bits: t.bits}
		if i < len(lens) {
			parts[i].bits = uint(lens[i]) * bitsPerByte
		}
	}
	if len(parts) == 1 {
		parts[0].bits = uint(length) * bitsPerByte
	}
	return parts
}

// byteOrder is the order that nft stored with a set of numbers.
func byteOrder(b []byte) (order, bool) {
	const host, network = 1, 2 // enum byteorder, nftables 1.0.6
	if len(b) != 4 {
		return 0, false
	}
	switch binary.NativeEndian.Uint32(b) {
	case host:
		return hostOrder, true
	case network:
		return netOrder, true
	}
	return 0, false
}

// ranged tells whether ranges are two elements each.
func (s *Set) ranged() bool {
	return s.Flags&SetInterval != 0 && !s.concatRanges()
}

// concatRanges tells whether ranges are one element with two keys.
func (s *Set) concatRanges() bool {
	return s.Flags&SetInterval != 0 && (len(s.FieldLens) > 1 || s.Flags&SetConcat != 0 || len(concatTypes(s.KeyType)) > 1)
}

// sortedElements gives a set's elements in nft's order. parts may be nil: the
// set's own.
func sortedElements(s *Set, parts []part) []*Element {
	if parts == nil {
		parts = s.keyParts()
	}
	list := make([]*Element, len(s.Elements))
	keys := make(map[*Element][]byte, len(s.Elements))
	for i := range s.Elements {
		list[i] = &s.Elements[i]
		keys[list[i]] = sortKey(s, list[i], parts)
	}
	if s.concatRanges() {
		return list // as the kernel lists them
	}
	slices.Reverse(list) // nft's sort puts the later one of two equals first
	slices.SortStableFunc(list, func(a, b *Element) int {
		return cmp.Or(compareBool(a.CatchAll, b.CatchAll), bytes.Compare(keys[a], keys[b]), compareBool(b.End, a.End))
	})
	return list
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// sortKey is what elements are sorted by: the number, or for concatenations and
// strings the bytes read from the last one on, which is how nft compares them.
func sortKey(s *Set, e *Element, parts []part) []byte {
	if e.Key == nil || s.Flags&SetInterval != 0 {
		return e.Key
	}
	key := e.Key
	switch {
	case len(parts) > 1:
		key = unpad(key, parts)
	case parts[0].typ.class == classBitmask:
		// nft has taken the flags apart and sorts by the first one
		v := bigOf(key)
		if parts[0].order == hostOrder {
			v = swapBytes(v, uint(len(key))*bitsPerByte)
		}
		return fill(new(big.Int).Lsh(big.NewInt(1), v.TrailingZeroBits()), uint(len(key)))
	case parts[0].order != hostOrder:
		return key
	}
	key = slices.Clone(key)
	slices.Reverse(key)
	return key
}

// unpad takes the padding out of a concatenated key.
func unpad(key []byte, parts []part) []byte {
	var out []byte
	for _, k := range parts {
		size, whole := k.size()
		if uint(len(key)) < size {
			return append(out, key...)
		}
		out = append(out, key[:size]...)
		key = key[min(whole, uint(len(key))):]
	}
	return out
}

// spans gives the elements of a set with ranges put together, in nft's order. A
// range without an end reaches to the last key there is.
func (s *Set) spans(parts []part) []span {
	list := sortedElements(s, parts)
	out := make([]span, 0, len(list))
	for i, e := range list {
		switch {
		case e.CatchAll:
			out = append(out, span{elem: e})
		case e.KeyEnd != nil:
			out = append(out, span{first: e.Key, last: e.KeyEnd, elem: e})
		case !s.ranged():
			out = append(out, span{first: e.Key, last: e.Key, elem: e})
		case !e.End:
			last := bytes.Repeat([]byte{0xff}, len(e.Key))
			if i+1 < len(list) && !list[i+1].CatchAll {
				last = before(list[i+1].Key)
			}
			out = append(out, span{first: e.Key, last: last, elem: e})
		}
	}
	return out
}

// before is the key just before another one.
func before(key []byte) []byte {
	v := new(big.Int).SetBytes(key)
	if v.Sign() > 0 {
		v.Sub(v, big.NewInt(1))
	}
	return v.FillBytes(make([]byte, len(key)))
}
