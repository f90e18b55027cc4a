// SPDX-License-Identifier: Apache-2.0

package nft

// This file finds out what the loads of a rule mean, statement by statement:
// which header they look into follows from the protocols matched before. As nft
// does when it lists rules, it leaves out matches that another one implies
// (`meta l4proto tcp` before `tcp dport`), and only those, so that the text
// loaded again gives the same rule. The behaviour is that of nftables 1.0.6;
// the tests compare with it.

// deducer knows what the statements so far told of the packet.
type deducer struct {
	family string
	layers [baseCount]protoID
	// stacked are the link-layer headers below the one in layers.
	stacked  []protoID
	icmp     int // ICMP type matched; 0: none
	inConcat bool

	deps implied
}

// implied are the matches of a protocol that a later one may make superfluous,
// by the layer above the field they look at.
type implied struct {
	by   [baseCount + 1]*matchStatement
	icmp int
	prev *matchStatement // the statement just before
}

func newDeducer(family string) *deducer {
	d := &deducer{family: family}
	layer, id := homeProtocol(family)
	d.layers[layer] = id
	return d
}

// finish deduces for all statements of a rule and gives those left.
func (d *deducer) finish(list []statement) []statement {
	var done []statement
	for _, s := range list {
		m, isMatch := s.(*matchStatement)
		if !isMatch {
			s.finish(d)
			done = append(done, s)
			// What has an effect may not be passed by packets that an implied
			// match before it would have stopped.
			d.deps = implied{}
			continue
		}
		for _, part := range m.split(d) {
			done = append(done, part)
		}
	}
	kept := done[:0]
	for _, s := range done {
		if m, isMatch := s.(*matchStatement); !isMatch || !m.dropped {
			kept = append(kept, s)
		}
	}
	return kept
}

// mixed tells whether the family's chains see more than one network protocol.
func (d *deducer) mixed() bool {
	switch d.family {
	case FamilyInet, FamilyBridge, FamilyNetdev:
		return true
	}
	return false
}

// slot is the place of the match implied by a load of a layer.
func (i *implied) slot(layer protoBase) int {
	if i.by[layer] == nil && layer == baseTransport && i.by[baseInner] != nil {
		return int(baseInner)
	}
	return int(layer)
}

func (i *implied) get(layer protoBase) *matchStatement { return i.by[i.slot(layer)] }

// release drops the match implied by a load of a layer.
func (i *implied) release(layer protoBase) {
	s := i.slot(layer)
	if i.by[s] == nil {
		return
	}
	i.by[s].dropped = true
	if i.by[s] == i.prev {
		i.prev = nil
	}
	i.by[s] = nil
}

// store remembers a match of a field at a layer, which loads of the layer above
// may imply. The types of an echo are not kept: both directions have the same
// fields.
func (i *implied) store(m *matchStatement, layer protoBase) {
	left, right := m.expr.left, m.expr.right
	if left.kind == nodePayload && right.kind == nodeValue && right.bits == bitsPerByte {
		typ := int(right.num.Int64())
		switch left.proto {
		case protoICMP:
			if typ == icmpEchoReply {
				typ = icmpEcho
			}
			i.icmp = typ
			if typ == icmpEcho {
				return
			}
		case protoICMP6:
			i.icmp = typ
			if typ == icmp6Echo || typ == icmp6EchoReply {
				return
			}
		}
	}
	i.by[layer+1] = m
}

// imply drops the match that a load makes superfluous.
func (d *deducer) imply(n *node) {
	if n.proto == protoNone {
		return
	}
	if dep := d.deps.get(n.layer); dep != nil && d.implies(dep.expr, n) {
		d.deps.release(n.layer)
	}
}

// implies tells whether a load implies an earlier match.
func (d *deducer) implies(dep *node, n *node) bool {
	left := dep.left
	fromPayload := left.kind == nodePayload
	if d.mixed() && fromPayload {
		// `ip protocol tcp` restricts to IPv4 where other families pass too.
		if left.layer == baseNetwork && (left.proto == protoIP || left.proto == protoIP6) && n.layer == baseTransport {
			return false
		}
		if dep.op == opEq && n.layer == left.layer {
			switch {
			case n.link:
				return false
			case n.layer == baseLink:
				return impliesLink(dep)
			}
		}
	}
	if n.layer != baseTransport || !fromPayload || left.layer != baseTransport {
		return true
	}
	if left.proto == protoICMP || left.proto == protoICMP6 {
		return n.field != nil && n.field.icmp != noICMP && left.proto == n.proto && d.deps.icmp == n.field.icmp
	}
	return true
}

// impliesLink tells whether a link-layer load implies an earlier match of the
// same layer: `vlan id` implies `ether type 8021q` and nothing else.
func impliesLink(dep *node) bool {
	if dep.left.proto == protoVLAN {
		return false
	}
	if dep.left.proto == protoEth && dep.right.kind == nodeValue && dep.right.bits == 16 {
		return dep.right.num.Uint64() == etherVLAN
	}
	return true
}

const etherVLAN = 0x8100

// header finds the header a payload load looks into and how many bits lie
// before it in its layer.
func (d *deducer) header(n *node) (*protocol, protoID, uint) {
	id := d.layers[n.layer]
	if id == protoNone || id == protoMixed || id == protoUnknown {
		return nil, protoNone, 0
	}
	top := protocols[id]
	if n.layer != baseLink || len(d.stacked) == 0 || n.offset < top.length {
		return top, id, 0
	}
	var skip uint
	for _, below := range d.stacked {
		p := protocols[below]
		if n.offset-skip < p.length {
			return p, below, skip
		}
		skip += p.length
	}
	return top, id, skip
}

// fits tells whether a field is there for the ICMP type matched so far.
func (d *deducer) fits(f *field) bool {
	return f.icmp == noICMP || d.icmp == 0 || d.icmp == f.icmp
}

// complete names the field of a payload load, if the header is known.
func (d *deducer) complete(n *node) {
	p, id, skip := d.header(n)
	if p == nil {
		return
	}
	for i := range p.fields {
		f := &p.fields[i]
		if f.offset+skip == n.offset && f.bits == n.bits && d.fits(f) {
			n.proto, n.field, n.typ = id, f, f.typ
			return
		}
	}
}

// matched draws the conclusions from a field of a header that has a value.
func (d *deducer) matched(n *node, value *node) {
	if !n.link {
		return
	}
	below := d.layers[n.layer]
	number := value.num.Uint64()
	id := protocols[below].at(number)
	if id == protoNone {
		switch below {
		case protoICMP:
			d.icmp = int(number)
			if number == icmpEchoReply {
				d.icmp = icmpEcho
			}
		case protoICMP6:
			d.icmp = int(number)
			if number == icmp6EchoReply {
				d.icmp = icmp6Echo
			}
		}
		return
	}
	layer := protocols[id].layer
	if layer == protocols[below].layer && layer == baseLink {
		d.stacked = append(d.stacked, below)
	}
	d.layers[layer] = id
}

// matchedMeta draws the conclusions from a property of the packet.
func (d *deducer) matchedMeta(key MetaKey, value *node) {
	number := value.number().Uint64()
	home, start := homeProtocol(d.family)
	known := func(id protoID) protoID {
		if id == protoNone {
			return protoUnknown
		}
		return id
	}
	switch key {
	case MetaIiftype:
		const arphrdEther = 1
		if d.family == FamilyBridge {
			return
		}
		d.layers[baseLink] = protoUnknown
		if number == arphrdEther {
			d.layers[baseLink] = protoEth
		}
	case MetaNfproto:
		id := protocols[start].at(number)
		if home == baseNetwork {
			id = protoNone
			if n, err := familyNumber(d.family); err == nil && uint64(n) == number {
				id = start
			}
		} else if id == protoNone {
			// bridge and netdev tables have other links; the numbers of inet do
			id = protocols[protoMixed].at(number)
			if d.family != FamilyInet {
				id = protoNone
			}
		}
		d.layers[baseNetwork] = known(id)
	case MetaL4proto:
		d.layers[baseTransport] = known(protocols[protoService].at(number))
	case MetaProtocol:
		if d.family == FamilyNetdev || d.family == FamilyBridge {
			d.layers[baseNetwork] = known(protocols[start].at(number))
		}
	}
}

// matchedCT draws the conclusions from a property of the connection.
func (d *deducer) matchedCT(key CTKey, value *node) {
	layer := key.base()
	if key != CTProtocol && key != CTL3proto || d.layers[layer] == protoNone {
		return
	}
	if id := protocols[d.layers[layer]].at(value.number().Uint64()); id != protoNone {
		d.layers[layer+1] = id
	}
}

// mayDrop tells whether a match of a property makes the match of the network
// protocol before it superfluous. Where several network protocols pass, only
// ICMP implies one.
func (d *deducer) mayDrop(expr *node) bool {
	dep := d.deps.get(baseNetwork)
	if dep == nil {
		return true
	}
	proto, ok := networkOf(dep.expr)
	if !ok {
		return true
	}
	switch d.family {
	case FamilyIP, FamilyIP6:
		return familyName(proto) == d.family
	case FamilyInet, FamilyNetdev, FamilyBridge:
	default:
		return true
	}
	if expr.left.kind != nodeMeta || expr.left.meta != MetaL4proto {
		return true
	}
	const icmp, icmp6 = 1, 58
	switch expr.right.number().Uint64() {
	case icmp:
		return proto != protoIPv6
	case icmp6:
		return proto != protoIPv4
	}
	return false
}

// networkOf tells which network protocol a match is about, if it is about one:
// NFPROTO_IPV4, NFPROTO_IPV6 or 0 for others.
func networkOf(m *node) (uint8, bool) {
	if m.right.kind != nodeValue {
		return 0, false
	}
	number := m.right.number().Uint64()
	switch {
	case m.left.kind == nodeMeta && m.left.meta == MetaNfproto:
		return uint8(number), true
	case m.left.kind == nodeMeta && m.left.meta == MetaProtocol,
		m.left.kind == nodePayload && m.left.layer == baseLink && m.left.typ == typeEtherType:
		switch protocols[protoEth].at(number) {
		case protoIP:
			return protoIPv4, true
		case protoIP6:
			return protoIPv6, true
		}
		return 0, true
	}
	return 0, false
}
