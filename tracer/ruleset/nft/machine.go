// SPDX-License-Identifier: Apache-2.0

package nft

// This file holds the registers of a walk: bytes of which each bit is known or
// not, and what the computing and comparing expressions make of them
// (net/netfilter/nft_cmp.c, nft_bitwise.c, nft_byteorder.c, nft_range.c).

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// datum is a value some bits of which may not be known; those are 0 in value.
type datum struct {
	value, known []byte
	// ask answers whether an unknown value is a given one; nil: not known.
	ask func([]byte) packet.Answer
	// absent: there is no such value, and loading it ends the rule.
	absent bool
}

// given is a value known in full.
func given(b []byte) datum { return datum{value: b, known: bytes.Repeat([]byte{0xff}, len(b))} }

// hidden is a value of which nothing is known.
func hidden(size int) datum { return datum{value: make([]byte, size), known: make([]byte, size)} }

// native is a number of four bytes in host order.
func native(v uint32) datum { return given(binary.NativeEndian.AppendUint32(nil, v)) }

// number turns a number that may not have been seen to a datum of host order.
func number(f packet.Fact[uint32]) datum {
	return fact(f, slotSize, func(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) })
}

// seen turns a datum of four bytes to a number, if all of it is known.
func (d datum) seen() packet.Fact[uint32] {
	if len(d.value) != slotSize || !d.complete() {
		return packet.Fact[uint32]{}
	}
	return packet.Known(binary.NativeEndian.Uint32(d.value))
}

// fact turns a fact to a datum of the given size.
func fact[T comparable](f packet.Fact[T], size int, bytes func(T) []byte) datum {
	if !f.Known {
		return hidden(size)
	}
	return given(bytes(f.Value))
}

// complete tells whether all bits are known.
func (d datum) complete() bool {
	for _, k := range d.known {
		if k != 0xff {
			return false
		}
	}
	return true
}

// registers are those of one rule.
type registers struct {
	value, known [regSlots * slotSize]byte
	ask          [regSlots]func([]byte) packet.Answer
}

// store puts a datum into a register; what it does not fill of its last slot is
// zero, as the kernel has it.
func (r *registers) store(reg Reg, d datum) {
	at := int(reg) * slotSize
	for i, b := range d.value {
		if at+i >= len(r.value) {
			return
		}
		r.value[at+i], r.known[at+i] = b, d.known[i]
	}
	for i := at + len(d.value); i%slotSize != 0 && i < len(r.value); i++ {
		r.value[i], r.known[i] = 0, 0xff
	}
	for s := int(reg); s < regSlots && s*slotSize < at+len(d.value); s++ {
		r.ask[s] = nil
	}
	r.ask[reg] = d.ask
}

// load takes so many bytes from a register on; false when there are not as many.
func (r *registers) load(reg Reg, size int) (datum, bool) {
	at := int(reg) * slotSize
	if reg < 0 || size < 0 || at+size > len(r.value) {
		return datum{}, false
	}
	return datum{
		value: slices.Clone(r.value[at : at+size]), known: slices.Clone(r.known[at : at+size]), ask: r.ask[reg],
	}, true
}

// is asks whether a datum is a value.
func (d datum) is(v []byte) packet.Answer {
	if len(v) > len(d.value) {
		return packet.Unknown
	}
	for i := range v {
		if (d.value[i]^v[i])&d.known[i] != 0 {
			return packet.No
		}
	}
	if (datum{known: d.known[:len(v)]}).complete() {
		return packet.Yes
	}
	if d.ask != nil {
		return d.ask(v)
	}
	return packet.Unknown
}

// compare asks whether a datum compares so to a value: as the kernel, byte by
// byte from the first one on.
func (d datum) compare(op Op, v []byte) packet.Answer {
	switch op {
	case OpEq:
		return d.is(v)
	case OpNeq:
		return d.is(v).Not()
	}
	if !d.complete() || len(v) > len(d.value) {
		return packet.Unknown
	}
	c := bytes.Compare(d.value[:len(v)], v)
	return packet.Of(op == OpLt && c < 0 || op == OpLte && c <= 0 || op == OpGt && c > 0 || op == OpGte && c >= 0)
}

// within asks whether a datum lies in a range.
func (d datum) within(from, to []byte) packet.Answer {
	return d.compare(OpGte, from).And(d.compare(OpLte, to))
}

// bitwise computes. It is false for what is not known here.
func (r *registers) bitwise(e Bitwise) bool {
	d, ok := r.load(e.Src, int(e.Len))
	if !ok {
		return false
	}
	d.ask = nil
	switch e.Op {
	case BitwiseMaskXor:
		for i := range d.value {
			d.value[i] = d.value[i]&e.Mask[i] ^ e.Xor[i]
			d.known[i] |= ^e.Mask[i]
		}
	case BitwiseLshift, BitwiseRshift:
		d = shift(d, e)
	default:
		other := given(e.Data)
		if e.Src2 != RegNone {
			if other, ok = r.load(e.Src2, int(e.Len)); !ok {
				return false
			}
		}
		if len(other.value) < len(d.value) {
			return false
		}
		join(d, other, e.Op)
	}
	r.store(e.Dst, d)
	return true
}

// shift shifts a number of four bytes of host order.
func shift(d datum, e Bitwise) datum {
	if len(d.value) != slotSize || len(e.Data) != slotSize || !d.complete() {
		return hidden(len(d.value))
	}
	v, by := binary.NativeEndian.Uint32(d.value), binary.NativeEndian.Uint32(e.Data)
	if e.Op == BitwiseLshift {
		return native(v << by)
	}
	return native(v >> by)
}

// join computes AND, OR or XOR of two values in place. A bit is known where both
// are, or where one alone decides.
func join(d, other datum, op uint32) {
	for i := range d.value {
		a, b, ka, kb := d.value[i], other.value[i], d.known[i], other.known[i]
		switch op {
		case BitwiseAnd:
			d.value[i], d.known[i] = a&b, ka&kb|ka&^a|kb&^b
		case BitwiseOr:
			d.value[i], d.known[i] = a|b, ka&kb|ka&a|kb&b
		default:
			d.value[i], d.known[i] = a^b, ka&kb
		}
		d.value[i] &= d.known[i]
	}
}

// byteorder turns bytes round in units.
func (r *registers) byteorder(e Byteorder) bool {
	d, ok := r.load(e.Src, int(e.Len))
	if !ok || int(e.Size) > len(d.value) {
		return false
	}
	d.ask = nil
	for i := 0; i+int(e.Size) <= len(d.value); i += int(e.Size) {
		slices.Reverse(d.value[i : i+int(e.Size)])
		slices.Reverse(d.known[i : i+int(e.Size)])
	}
	r.store(e.Dst, d)
	return true
}

// candidates are the elements that a key some bits of which are not known may
// fall on. all tells whether it falls on one of them for sure.
func (s *Set) candidates(key datum) (found []*Element, answer packet.Answer) {
	if key.complete() {
		if e := s.Find(key.value); e != nil {
			return []*Element{e}, packet.Yes
		}
		return nil, packet.No
	}
	answer = packet.No
	for _, sp := range s.all() {
		if sp.first == nil {
			found = append(found, sp.elem)
			answer = packet.Yes // the catch-all element takes the rest
			continue
		}
		switch a := key.mayLie(sp); a {
		case packet.No:
		case packet.Yes:
			return []*Element{sp.elem}, packet.Yes
		default:
			found = append(found, sp.elem)
			if answer == packet.No {
				answer = packet.Unknown
			}
		}
	}
	return found, answer
}

// mayLie asks whether a key lies in a span.
func (d datum) mayLie(sp span) packet.Answer {
	if sp.single() {
		return d.is(sp.first)
	}
	// A leading byte that is known and outside decides.
	for i := range sp.first {
		if d.known[i] != 0xff || sp.first[i] != sp.last[i] {
			break
		}
		if d.value[i] != sp.first[i] {
			return packet.No
		}
	}
	return packet.Unknown
}
