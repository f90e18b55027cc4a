// SPDX-License-Identifier: Apache-2.0

package nft

// This file makes statements of a rule's expressions: it follows what is in the
// registers, so that a load, a mask and a comparison become one match.

import (
	"fmt"
	"math/big"
)

// statement is what a rule does at one point.
type statement interface {
	// finish finds out types and names; the statements before have been.
	finish(d *deducer)
	// write gives the text; "" is nothing at all.
	write(p *printer) string
}

// assembler makes statements of expressions.
type assembler struct {
	rule  *Rule
	table *Table
	regs  [regSlots]*node
	out   []statement
}

// statements gives what a rule is made of. Expressions that fit nowhere, such
// as a comparison of a register that nothing was loaded to, stay as they are.
func statements(t *Table, r *Rule) []statement {
	a := &assembler{rule: r, table: t}
	for _, e := range r.Exprs {
		if s := a.add(e); s != nil {
			a.out = append(a.out, s)
		}
	}
	return a.out
}

// get gives what is in a register, for use at one place.
func (a *assembler) get(r Reg) *node {
	if r < 0 || int(r) >= regSlots {
		return nil
	}
	return a.regs[r].clone()
}

func (a *assembler) put(r Reg, n *node) {
	if r >= 0 && int(r) < regSlots {
		a.regs[r] = n
	}
}

// opaque writes an expression with what is known of it.
func opaque(e Expr) statement { return plainText(opaqueText(e)) }

// opaqueText is how an expression is written that has no text of nft's.
func opaqueText(e Expr) string {
	switch e := e.(type) {
	case Match:
		return fmt.Sprintf("xt match %q", e.Name)
	case Target:
		return fmt.Sprintf("xt target %q", e.Name)
	case Opaque:
		return fmt.Sprintf("[ %s <%d bytes> ]", e.Name, len(e.Data))
	}
	return fmt.Sprintf("[ %s ]", e.Kind())
}

// add takes one expression and gives the statement it completes; nil when it
// only changed registers.
func (a *assembler) add(e Expr) statement {
	switch e := e.(type) {
	case Cmp:
		return a.compare(e)
	case Range:
		return a.inRange(e)
	case Lookup:
		return a.lookup(e)
	case Bitwise:
		return a.bitwise(e)
	case Byteorder:
		if n := a.get(e.Src); n != nil {
			a.put(e.Dst, &node{kind: nodeSwap, typ: typeInvalid, left: n, bits: n.bits})
			return nil
		}
		return opaque(e)
	case Immediate:
		if e.Dst == RegVerdict {
			return verdictStatement{verdict: e.Verdict}
		}
		a.put(e.Dst, valueOf(e.Data))
		return nil
	}
	if n, dst := load(e); n != nil {
		if h, ok := e.(Hash); ok && !h.Symmetric {
			if n.left = a.take(h.Src, uint(h.Len)*bitsPerByte); n.left == nil {
				return opaque(e)
			}
		}
		a.put(dst, n)
		return nil
	}
	return a.act(e)
}

// compare joins a comparison with what is in the register.
func (a *assembler) compare(e Cmp) statement {
	left, right := a.get(e.Src), valueOf(e.Data)
	if left == nil {
		return opaque(e)
	}
	switch {
	case left.bits > right.bits && left.typ.class != classString:
		right.num.Lsh(right.num, left.bits-right.bits)
		length := right.bits
		right.bits = left.bits
		right = &node{kind: nodePrefix, typ: typeInvalid, left: right, length: length, bits: left.bits}
	case left.bits > 0 && left.bits < right.bits:
		left = a.take(e.Src, right.bits)
		if left == nil || left.kind != nodeConcat {
			return opaque(e)
		}
		right = splitValue(left, e.Data)
	}
	return &matchStatement{expr: &node{kind: nodeCompare, op: operator(e.Op), left: left, right: right}}
}

// splitValue cuts a constant into the parts of a concatenation, each padded to
// four bytes.
func splitValue(like *node, data []byte) *node {
	c := &node{kind: nodeConcat, typ: typeInvalid}
	for _, part := range like.items {
		size := min((part.bits+bitsPerByte-1)/bitsPerByte, uint(len(data)))
		c.items = append(c.items, valueOf(data[:size]))
		data = data[min(padded(size), uint(len(data))):]
	}
	return c
}

// padded rounds bytes up to whole registers.
func padded(size uint) uint { return (size + slotSize - 1) &^ (slotSize - 1) }

// inRange joins a range with what is in the register.
func (a *assembler) inRange(e Range) statement {
	left := a.get(e.Src)
	if left == nil {
		return opaque(e)
	}
	right := &node{kind: nodeRange, typ: typeInvalid, left: valueOf(e.From), right: valueOf(e.To)}
	return &matchStatement{expr: &node{kind: nodeCompare, op: operator(e.Op), left: left, right: right}}
}

// take gives what is in a register and those behind it, so many bits in all: one
// load, or a concatenation of several.
func (a *assembler) take(r Reg, bits uint) *node {
	first := a.get(r)
	if first == nil || first.bits >= bits {
		return first
	}
	c := &node{kind: nodeConcat, typ: typeInvalid, bits: bits}
	for left := int(bits); left > 0; {
		n := a.get(r)
		if n == nil {
			return nil
		}
		c.items = append(c.items, n)
		size := max(padded((n.bits+bitsPerByte-1)/bitsPerByte), slotSize)
		left -= int(size) * bitsPerByte
		r += Reg(size / slotSize)
	}
	return c
}

// lookup joins a set with the key in the register.
func (a *assembler) lookup(e Lookup) statement {
	set := a.table.Set(e.Set)
	if set == nil {
		return opaque(e)
	}
	left := a.take(e.Src, uint(set.KeyLen)*bitsPerByte)
	if left == nil {
		return opaque(e)
	}
	right := &node{kind: nodeSet, typ: typeInvalid, set: set}
	if e.Dst == RegNone {
		op := opEq
		if e.Invert {
			op = opNeq
		}
		return &matchStatement{expr: &node{kind: nodeCompare, op: op, left: left, right: right}}
	}
	m := &node{kind: nodeMap, typ: typeInvalid, left: left, right: right, bits: uint(set.DataLen) * bitsPerByte}
	if t := typesByID[set.DataType]; t != nil {
		m.typ, m.order = t, t.order
	}
	if e.Dst == RegVerdict {
		return &matchStatement{expr: m}
	}
	a.put(e.Dst, m)
	return nil
}

// bitwise turns the kernel's mask and xor into the operators a person writes.
func (a *assembler) bitwise(e Bitwise) statement {
	n := a.get(e.Src)
	if n == nil {
		return opaque(e)
	}
	binary := func(op operator, v *node) *node {
		return &node{kind: nodeBinary, op: op, typ: n.typ, order: n.order, left: n, right: v, bits: n.bits}
	}
	switch e.Op {
	case BitwiseLshift, BitwiseRshift:
		shift := valueOf(e.Data)
		shift.order, shift.typ = hostOrder, typeInteger
		a.put(e.Dst, binary(opLshift+operator(e.Op-BitwiseLshift), shift))
		return nil
	case BitwiseAnd, BitwiseOr, BitwiseXor:
		other := a.get(e.Src2)
		if e.Src2 == RegNone {
			other = valueOf(e.Data)
		}
		if other == nil {
			return opaque(e)
		}
		a.put(e.Dst, binary([]operator{opAnd, opOr, opXor}[e.Op-BitwiseAnd], other))
		return nil
	case BitwiseMaskXor:
		and, xor, or := splitMask(e.Mask, e.Xor)
		if and.num.Cmp(ones(n.bits)) != 0 || n.bits == 0 {
			n = binary(opAnd, and)
		}
		if xor.num.Sign() != 0 {
			n = binary(opXor, xor)
		}
		if or.num.Sign() != 0 {
			n = binary(opOr, or)
		}
		a.put(e.Dst, n)
		return nil
	}
	return opaque(e)
}

// splitMask finds and, xor and or such that (v & mask) ^ x is
// ((v & and) ^ xor) | or: a bit that is masked out and set again was or'ed in.
func splitMask(mask, x []byte) (and, xor, or *node) {
	and, xor = valueOf(mask), valueOf(x)
	o := new(big.Int).AndNot(xor.num, and.num)
	xor.num.And(xor.num, and.num)
	and.num.Or(and.num, o)
	or = &node{kind: nodeValue, typ: typeInvalid, num: o, bits: xor.bits}
	return and, xor, or
}
