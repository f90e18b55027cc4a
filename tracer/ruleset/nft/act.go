// SPDX-License-Identifier: Apache-2.0

package nft

// This file makes statements of the expressions that do something.

// act makes the statement of an expression that is neither load nor match.
func (a *assembler) act(e Expr) statement {
	switch e := e.(type) {
	case Payload, Meta, CT, Exthdr:
		return a.set(e)
	case Reject:
		return &rejectStatement{reject: e}
	case NAT:
		return a.nat(e)
	case TProxy:
		return a.tproxy(e)
	case Dup:
		return a.dup(e)
	case Fwd:
		return a.fwd(e)
	case Queue:
		return a.queue(e)
	case Objref:
		return a.objref(e)
	case Dynset:
		return a.dynset(e)
	}
	if text, ok := actionText(e); ok {
		return plainText(text)
	}
	return opaque(e)
}

// set makes the statements that write: to the packet, its metadata, its
// connection, an option.
func (a *assembler) set(e Expr) statement {
	switch e := e.(type) {
	case Payload:
		if value := a.get(e.Src); value != nil {
			return &payloadStatement{target: payloadNode(e), value: value}
		}
	case Meta:
		f, known := metaFields[e.Key]
		if value := a.get(e.Src); value != nil && known {
			value.setType(f.typ, f.order)
			return &assignStatement{target: metaText(e.Key, f), value: value}
		}
	case CT:
		f, known := ctFields[e.Key]
		if value := a.get(e.Src); value != nil && known {
			value.setType(f.typ, f.order)
			return &assignStatement{target: ctText(e, f, ""), value: value, events: e.Key == CTEventmask}
		}
	case Exthdr:
		n := optionNode(e)
		if e.Src == RegNone {
			n.ext.Present = true
			return &stripStatement{option: n}
		}
		if value := a.get(e.Src); value != nil {
			value.setType(n.typ, n.order)
			return &assignStatement{option: n, value: value}
		}
	}
	return opaque(e)
}

// nat joins a translation with the addresses and ports in the registers.
func (a *assembler) nat(e NAT) statement {
	s := &natStatement{nat: e, family: e.Family, prefix: e.Flags&natNetmap != 0}
	if a.rule.Family != FamilyInet {
		s.family = 0
	}
	addrType := typeIP6Addr
	if e.Family == protoIPv4 {
		addrType = typeIPAddr
	}
	var ok bool
	if s.addr, ok = a.span(e.AddrMin, e.AddrMax, addrType); !ok {
		return opaque(e)
	}
	if s.addr != nil && s.addr.kind == nodeRange {
		s.addr = rangeToPrefix(s.addr)
	}
	if s.addr != nil && s.addr.kind == nodeMap && mapsAddressTo(s.addr.right.set, addrType.bits) {
		// The map gives more than an address: the family has to be said, and
		// what else there is does not come from other registers.
		s.family = e.Family
		return s
	}
	if s.ports, ok = a.span(e.PortMin, e.PortMax, typeService); !ok {
		return opaque(e)
	}
	return s
}

// natNetmap is NF_NAT_RANGE_NETMAP (linux/netfilter/nf_nat.h).
const natNetmap = 1 << 6

// span takes a value, or a range when the last register is another one.
func (a *assembler) span(first, last Reg, t *datatype) (*node, bool) {
	if first == RegNone {
		return nil, true
	}
	n := a.get(first)
	if n == nil {
		return nil, false
	}
	n.setType(t, t.order)
	if last == RegNone || last == first {
		return n, true
	}
	if n.kind == nodeMap {
		return n, true // both registers are of the map's data
	}
	end := a.get(last)
	if end == nil {
		return nil, false
	}
	end.setType(t, t.order)
	return &node{kind: nodeRange, typ: t, left: n, right: end}, true
}

// mapsAddressTo tells whether a map's data are more than one address: a range,
// or an address with a port.
func mapsAddressTo(s *Set, addrBits uint) bool {
	bits := uint(s.DataLen) * bitsPerByte
	return bits == 2*addrBits || bits == addrBits+32 || bits == 2*(addrBits+32)
}

func (a *assembler) tproxy(e TProxy) statement {
	s := &tproxyStatement{family: e.Family, inet: a.rule.Family == FamilyInet}
	t := typeIPAddr
	if e.Family == protoIPv6 {
		t = typeIP6Addr
	}
	var ok1, ok2 bool
	s.addr, ok1 = a.span(e.Addr, RegNone, t)
	s.port, ok2 = a.span(e.Port, RegNone, typeService)
	if !ok1 || !ok2 {
		return opaque(e)
	}
	return s
}

func (a *assembler) dup(e Dup) statement {
	t := typeIPAddr
	if a.rule.Family == FamilyIP6 {
		t = typeIP6Addr
	}
	addr, ok1 := a.span(e.Addr, RegNone, t)
	dev, ok2 := a.span(e.Dev, RegNone, typeIfindex)
	if !ok1 || !ok2 {
		return opaque(e)
	}
	return &dupStatement{word: "dup", addr: addr, dev: dev}
}

func (a *assembler) fwd(e Fwd) statement {
	t, word := typeIPAddr, "fwd ip"
	if e.Family == protoIPv6 {
		t, word = typeIP6Addr, "fwd ip6"
	}
	addr, ok1 := a.span(e.Addr, RegNone, t)
	dev, ok2 := a.span(e.Dev, RegNone, typeIfindex)
	if !ok1 || !ok2 {
		return opaque(e)
	}
	if addr == nil {
		word = "fwd"
	}
	return &dupStatement{word: word, addr: addr, dev: dev}
}

func (a *assembler) queue(e Queue) statement {
	s := &queueStatement{queue: e}
	if e.Src != RegNone {
		if s.number = a.get(e.Src); s.number == nil {
			return opaque(e)
		}
	}
	return s
}

func (a *assembler) objref(e Objref) statement {
	if e.Name != "" {
		return plainText(objectWords(e.Type) + quote(e.Name))
	}
	set := a.table.Set(e.Set)
	if set == nil {
		return opaque(e)
	}
	key := a.take(e.Src, uint(set.KeyLen)*bitsPerByte)
	if key == nil {
		return opaque(e)
	}
	m := &node{kind: nodeMap, typ: typeString, left: key, right: &node{kind: nodeSet, typ: typeInvalid, set: set}}
	return &assignStatement{words: objectWords(set.ObjectType), value: m}
}

func (a *assembler) dynset(e Dynset) statement {
	set := a.table.Set(e.Set)
	if set == nil {
		return opaque(e)
	}
	s := &dynsetStatement{dynset: e, set: set}
	if s.key = a.take(e.Key, uint(set.KeyLen)*bitsPerByte); s.key == nil {
		return opaque(e)
	}
	types := concatTypes(set.KeyType)
	if s.key.kind == nodeConcat && len(types) == len(s.key.items) {
		for i, t := range types {
			s.key.items[i].setType(t, t.order)
		}
	} else {
		s.key.setType(types[0], types[0].order)
	}
	if e.Data != RegNone {
		if s.data = a.get(e.Data); s.data == nil {
			return opaque(e)
		}
		if t := typesByID[set.DataType]; t != nil {
			s.data.setType(t, t.order)
		}
	}
	for _, inner := range e.Exprs {
		text, ok := actionText(inner)
		if !ok {
			text = opaqueText(inner)
		}
		s.inner = append(s.inner, text)
	}
	return s
}
