// SPDX-License-Identifier: Apache-2.0

package nft

// This file finishes comparisons under a mask: what nft writes as flags, as a
// prefix, or as a field that is no whole byte.

import "math/big"

// masked finishes a comparison whose left side is computed.
func (d *deducer) masked(n *node) (*node, []*matchStatement) {
	bin := n.left
	equal := n.op == opEq || n.op == opNeq
	switch {
	case bin.op == opAnd && equal && n.right.bitmask() && (n.right.kind == nodeValue):
		return flagMatch(n), nil
	case bin.op == opAnd && bin.left.mayPrefix() && n.right.kind == nodeValue && bin.right.kind == nodeValue:
		if length, ok := maskLength(bin.right.number(), bin.bits); ok {
			n.left = bin.left
			n.right = &node{kind: nodePrefix, typ: n.right.typ, order: n.right.order, left: n.right, length: length}
			return n, nil
		}
		fallthrough
	case bin.op == opAnd && bin.right.kind == nodeValue:
		return d.unmask(n)
	case bin.op == opRshift && bin.left.kind == nodeBinary && bin.left.op == opAnd && bin.right.kind == nodeValue:
		if inner, _, ok := d.trim(bin.left); ok {
			d.complete(inner)
			d.imply(inner)
			bin.left = inner
			bin.typ = inner.typ
			if bin.right.number().Sign() == 0 {
				n.left = inner
			}
			d.typeRight(n)
		}
	}
	return n, nil
}

// flagMatch writes a comparison of flags under a mask the short way.
func flagMatch(n *node) *node {
	bin := n.left
	switch {
	case n.right.num.Sign() == 0:
		n.left, n.right = bin.left, &node{kind: nodeList, typ: bin.right.typ, items: []*node{bin.right}}
		n.op = map[operator]operator{opNeq: opImplicit, opEq: opNone}[n.op]
		return n
	case bin.right.kind == nodeValue && single(bin.right.num) && bin.right.num.Cmp(n.right.num) == 0:
		return n
	}
	return &node{kind: nodeFlags, op: n.op, left: bin.left, items: []*node{n.right, bin.right}}
}

// single tells whether one bit is set.
func single(v *big.Int) bool {
	return v.Sign() > 0 && new(big.Int).And(v, new(big.Int).Sub(v, big.NewInt(1))).Sign() == 0
}

// unmask removes a mask that only cuts a field out of whole bytes.
func (d *deducer) unmask(n *node) (*node, []*matchStatement) {
	inner, shift, ok := d.trim(n.left)
	if !ok {
		return n, nil
	}
	n.left = inner
	n.right.cutBits(shift, inner.bits)
	if inner.kind == nodePayload {
		return n, d.payloadMatch(n, inner)
	}
	d.typeRight(n)
	return n, nil
}

// cutBits shifts constants to the place their field has.
func (n *node) cutBits(shift, bits uint) {
	switch n.kind {
	case nodeValue:
		n.num.Rsh(n.num, shift)
		n.bits = bits
	case nodeRange:
		n.left.cutBits(shift, bits)
		n.right.cutBits(shift, bits)
	case nodeSet:
		n.shift, n.cut = shift, bits
	}
}

// trim finds the field that a load under a mask is about: the load narrowed to
// it, and the bits right of it.
func (d *deducer) trim(bin *node) (*node, uint, bool) {
	load, mask := bin.left, bin.right
	if bin.op != opAnd || mask.kind != nodeValue || mask.num.Sign() == 0 {
		return nil, 0, false
	}
	low := mask.num.TrailingZeroBits()
	high := low
	for mask.num.Bit(int(high)) != 0 {
		high++
	}
	skip := (mask.bits+bitsPerByte-1)/bitsPerByte*bitsPerByte - high
	switch load.kind {
	case nodePayload:
		if bits, ok := d.fieldsAt(load, load.offset+skip, high-low); ok {
			load.offset += skip
			load.bits = bits
			return load, low, true
		}
	case nodeOption:
		if load.field != nil && load.ext.Op != ExthdrIPv4 {
			return nil, 0, false
		}
		if load.findOption(load.offset+skip, high-low) {
			return load, low, true
		}
	}
	return nil, 0, false
}

// fieldsAt tells whether one or more fields of the header are just as long as
// the bits given, and fewer than the load.
func (d *deducer) fieldsAt(load *node, offset, bits uint) (uint, bool) {
	p, _, skip := d.header(load)
	if p == nil {
		return 0, false
	}
	left, found := load.bits, uint(0)
	for i := range p.fields {
		f := &p.fields[i]
		if f.offset+skip != offset {
			continue
		}
		if f.bits >= left {
			return 0, false
		}
		left, offset, found = left-f.bits, offset+f.bits, found+f.bits
		if found == bits {
			return found, true
		}
	}
	return 0, false
}
