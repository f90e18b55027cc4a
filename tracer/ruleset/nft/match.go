// SPDX-License-Identifier: Apache-2.0

package nft

// This file finishes matches: it gives constants the types of what they are
// compared to, turns masks into prefixes, flags and fields that are no whole
// bytes, splits comparisons that were merged, and joins two into a range.

import "math/big"

// matchStatement is a match, or a look-up in a verdict map.
type matchStatement struct {
	expr    *node
	dropped bool
}

func (m *matchStatement) finish(*deducer) {}

func (m *matchStatement) write(p *printer) string { return p.node(m.expr) }

// split finishes the match and gives the matches it stands for: nft compares
// neighbouring fields at once.
func (m *matchStatement) split(d *deducer) []*matchStatement {
	if m.expr.kind == nodeCompare && m.expr.left.kind == nodePayload {
		if parts := d.payloadMatch(m.expr, m.expr.left); parts != nil {
			d.deps.prev = nil
			return parts
		}
	} else {
		var parts []*matchStatement
		if m.expr, parts = d.resolveMatch(m.expr, m); parts != nil {
			d.deps.prev = nil
			return parts
		}
	}
	if prev := d.deps.prev; prev != nil {
		if op, ok := joins(prev.expr, m.expr); ok {
			prev.dropped = true
			r := m.expr.right
			m.expr = &node{kind: nodeCompare, op: op, left: m.expr.left, right: &node{
				kind: nodeRange, typ: r.typ, order: r.order, left: prev.expr.right, right: r,
			}}
		}
	}
	d.deps.prev = m
	return []*matchStatement{m}
}

// joins tells whether two comparisons after one another are a range.
func joins(first, second *node) (operator, bool) {
	if first.kind != nodeCompare || second.kind != nodeCompare {
		return 0, false
	}
	inner := func(n *node) *node {
		if n.kind == nodeSwap {
			return n.left
		}
		return n
	}
	if inner(first.left).kind != inner(second.left).kind {
		return 0, false
	}
	switch {
	case first.op == opGte && second.op == opLte:
		return opEq, true
	case first.op == opLt && second.op == opGt:
		return opNeq, true
	}
	return 0, false
}

// resolveMatch finishes anything but a comparison of plain payload. It gives
// the parts when it turned out to be one.
func (d *deducer) resolveMatch(n *node, m *matchStatement) (*node, []*matchStatement) {
	if n.kind != nodeCompare {
		return d.resolve(n), nil
	}
	n.left = d.resolve(n.left)
	d.typeRight(n)
	n.right = d.resolve(n.right)
	switch n.left.kind {
	case nodeCT:
		d.property(n, m, n.left.ct.Key.base(), n.left.ct.Key == CTProtocol || n.left.ct.Key == CTL3proto)
	case nodeMeta:
		d.property(n, m, n.left.meta.base(), n.left.meta.link())
	case nodeBinary:
		return d.masked(n)
	}
	return n, nil
}

// typeRight gives what stands right of a comparison the type of the left.
func (d *deducer) typeRight(n *node) {
	switch {
	case n.right.kind == nodeSet:
		n.right.describe(n.left)
	case n.left.kind == nodeConcat && n.right.kind == nodeConcat:
		for i := range min(len(n.left.items), len(n.right.items)) {
			n.right.items[i].setType(n.left.items[i].typ, n.left.items[i].order)
		}
	default:
		n.right.setType(n.left.typ, n.left.order)
	}
}

// describe tells a set's node what its keys are compared to.
func (n *node) describe(key *node) {
	n.typ, n.order, n.bits = key.typ, key.order, key.bits
	n.items = key.items
	if key.kind != nodeConcat {
		n.items = nil
	}
}

// property finishes the match of a property of packet or connection.
func (d *deducer) property(n *node, m *matchStatement, layer protoBase, link bool) {
	if n.op != opEq || n.right.kind == nodeRange || n.right.kind == nodeSet {
		return
	}
	if link && n.right.kind == nodeValue {
		if n.left.kind == nodeMeta {
			d.matchedMeta(n.left.meta, n.right)
		} else {
			d.matchedCT(n.left.ct.Key, n.right)
		}
	}
	if layer >= baseTransport {
		return
	}
	if d.deps.get(layer) != nil && d.mayDrop(n) {
		d.deps.release(layer)
	}
	if link {
		d.deps.store(m, layer)
	}
}

// payloadMatch finishes a comparison of payload. It gives the parts when it was
// a comparison with a constant, else nil.
func (d *deducer) payloadMatch(n, payload *node) []*matchStatement {
	if (n.op == opEq || n.op == opNeq) && n.right.kind == nodeValue {
		return d.splitPayload(n, payload)
	}
	if n.right.kind == nodeSet && (n.op == opEq || n.op == opNeq) {
		d.echoSet(n.right.set, payload)
	}
	d.complete(payload)
	d.typeRight(n)
	d.imply(payload)
	return nil
}

// echoSet learns the ICMP type of `icmp type { echo-request, echo-reply }`,
// which nft writes before the fields of an echo.
func (d *deducer) echoSet(s *Set, payload *node) {
	if !s.Anonymous() || len(s.Elements) == 0 || len(s.Elements[0].Key) != 1 {
		return
	}
	id := d.layers[payload.layer]
	if payload.layer != baseTransport || payload.bits != bitsPerByte || payload.offset != 0 || d.icmp != 0 ||
		id != protoICMP && id != protoICMP6 {
		return
	}
	keys := sortedElements(s, nil)
	d.icmp = int(keys[0].Key[0])
}

// splitPayload splits a comparison of adjacent fields into one for each.
func (d *deducer) splitPayload(n, payload *node) []*matchStatement {
	var parts []*matchStatement
	value, left := n.right, n.right.bits
	for _, piece := range d.expand(payload) {
		v := &node{kind: nodeValue, typ: piece.typ, bits: piece.bits}
		left -= min(left, piece.bits)
		v.num = new(big.Int).Rsh(value.num, left)
		v.num.And(v.num, ones(piece.bits))
		right := v
		if piece.field != nil && piece.bits < piece.field.bits {
			v.num.Lsh(v.num, piece.field.bits-piece.bits)
			v.bits = piece.field.bits
			right = &node{kind: nodePrefix, typ: piece.typ, left: v, length: piece.bits}
		}
		m := &matchStatement{expr: &node{kind: nodeCompare, op: n.op, left: piece, right: right}}
		layer := piece.layer
		if n.op == opEq && right.kind == nodeValue {
			d.matched(piece, v)
			if next := protocols[d.layers[layer]].at(v.num.Uint64()); piece.link && next != protoNone && protocols[next].layer == layer {
				layer-- // the next header is of the same layer
			}
		}
		d.imply(piece)
		if n.op == opEq && piece.link {
			d.deps.store(m, layer)
		}
		parts = append(parts, m)
	}
	return parts
}

// expand splits a load into the fields it covers; what is left stays raw.
func (d *deducer) expand(n *node) []*node {
	var parts []*node
	offset, bits := n.offset, n.bits
	p, id, skip := d.header(n)
	if p != nil {
		for i := range p.fields {
			f := &p.fields[i]
			if f.offset+skip != offset || !d.fits(f) {
				continue
			}
			part := &node{
				kind: nodePayload, layer: n.layer, offset: offset, bits: min(f.bits, bits),
				proto: id, field: f, typ: f.typ, link: f.key,
			}
			parts = append(parts, part)
			offset, bits = offset+part.bits, bits-part.bits
			if bits == 0 {
				return parts
			}
		}
	}
	raw := &node{kind: nodePayload, typ: typeHex, layer: n.layer, offset: offset, bits: bits}
	raw.guessPort()
	return append(parts, raw)
}

// resolve finishes a node that is no comparison and gives what it became.
func (d *deducer) resolve(n *node) *node {
	if n == nil {
		return nil
	}
	switch n.kind {
	case nodeMap:
		if n.left.kind == nodeBinary && n.left.left.kind == nodePayload {
			if inner, shift, ok := d.trim(n.left); ok {
				n.left = inner
				n.right.cutBits(shift, inner.bits)
			}
		}
		n.left = d.resolve(n.left)
		n.right.describe(n.left)
	case nodeConcat:
		was := d.inConcat
		d.inConcat = true
		for i := range n.items {
			n.items[i] = d.resolve(n.items[i])
		}
		d.inConcat = was
	case nodeSwap:
		n.left = d.resolve(n.left)
		n.typ, n.order = n.left.typ, hostOrder-n.left.order
	case nodeBinary:
		return d.resolveBinary(n)
	case nodeValue:
		n.split = true
	case nodePayload:
		d.complete(n)
		d.imply(n)
	case nodeOption:
		d.implyOption(n)
	case nodeCT:
		d.typeCT(n)
	case nodeRange:
		n.left, n.right = d.resolve(n.left), d.resolve(n.right)
	case nodePrefix, nodeLoad:
		n.left = d.resolve(n.left)
	}
	return n
}

// resolveBinary finishes a computation.
func (d *deducer) resolveBinary(n *node) *node {
	n.left = d.resolve(n.left)
	switch n.op {
	case opLshift, opRshift:
		n.right.setType(typeInteger, hostOrder)
	default:
		n.right.setType(n.left.typ, n.left.order)
	}
	if d.inConcat && n.op == opAnd && n.left.kind == nodePayload && n.right.kind == nodeValue {
		if inner, _, ok := d.trim(n); ok {
			d.complete(inner)
			d.imply(inner)
			return inner
		}
	}
	n.right = d.resolve(n.right)
	n.typ, n.order = n.left.typ, n.left.order
	return n
}

// implyOption drops the match that an option implies.
func (d *deducer) implyOption(n *node) {
	switch n.ext.Op {
	case ExthdrTCPOpt, ExthdrSCTP:
		d.deps.release(baseTransport)
	case ExthdrIPv6, ExthdrIPv4:
		d.deps.release(baseNetwork)
	}
}

// typeCT gives addresses and ports of a connection the type that the protocols
// matched before tell.
func (d *deducer) typeCT(n *node) {
	switch n.ct.Key {
	case CTSrc, CTDst:
		switch d.layers[baseNetwork] {
		case protoIP:
			n.typ, n.bits, n.ctNet = typeIPAddr, 32, "ip "
		case protoIP6:
			n.typ, n.bits, n.ctNet = typeIP6Addr, 128, "ip6 "
		}
	case CTProtoSrc, CTProtoDst:
		if d.layers[baseTransport] != protoNone {
			n.typ = typeService
		}
	}
}
