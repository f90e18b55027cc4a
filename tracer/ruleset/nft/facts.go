// SPDX-License-Identifier: Apache-2.0

package nft

// This file answers the loads of a walk from what is known of the packet
// (net/netfilter/nft_payload.c, nft_meta.c, nft_ct.c, nft_fib*.c).

import (
	"encoding/binary"
	"net/netip"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// Numbers of protocols with ports, and of ICMP (IPPROTO_*).
const (
	ipTCP, ipUDP, ipUDPLite, ipSCTP, ipDCCP, ipICMP, ipICMP6 = 6, 17, 136, 132, 33, 1, 58
)

// headerSize is how much of a header is made up: what lies behind is not known.
const headerSize = 64

// header makes up a header of the packet with the bits that are known.
func header(p *packet.Packet, base uint32) datum {
	h := hidden(headerSize)
	switch {
	case base == BaseNetwork && p.Family == FamilyIP:
		header4(h, p)
	case base == BaseNetwork && p.Family == FamilyIP6:
		header6(h, p)
	case base == BaseTransport:
		if p.Fragment.Is(true) == packet.Yes {
			h.absent = true
			return h
		}
		if p.Fragment.Is(false) == packet.Yes {
			headerTransport(h, p)
		}
	}
	return h
}

// put sets known bytes of a header.
func (d datum) put(at int, b ...byte) {
	for i, v := range b {
		d.value[at+i], d.known[at+i] = v, 0xff
	}
}

// putAddr sets an address, if it is known.
func (d datum) putAddr(at int, a netip.Addr) {
	if a.IsValid() {
		d.put(at, a.AsSlice()...)
	}
}

func header4(h datum, p *packet.Packet) {
	h.value[0], h.known[0] = 0x40, 0xf0
	if p.TOS.Known {
		h.put(1, p.TOS.Value)
	}
	if p.Length.Known && p.Length.Value <= 0xffff {
		h.put(2, byte(p.Length.Value>>8), byte(p.Length.Value))
	}
	if p.Fragment.Is(false) == packet.Yes {
		h.known[6], h.known[7] = 0x1f, 0xff // the offset is 0; the flags are not known
	}
	if p.TTL.Known {
		h.put(8, p.TTL.Value)
	}
	h.put(9, p.Proto)
	h.putAddr(12, p.Src)
	h.putAddr(16, p.Dst)
}

func header6(h datum, p *packet.Packet) {
	h.value[0], h.known[0] = 0x60, 0xf0
	if p.TOS.Known {
		h.value[0], h.known[0] = 0x60|p.TOS.Value>>4, 0xff
		h.value[1], h.known[1] = p.TOS.Value<<4, 0xf0
	}
	const fixed = 40
	if p.Length.Known && p.Length.Value >= fixed && p.Length.Value <= 0xffff {
		h.put(4, byte((p.Length.Value-fixed)>>8), byte(p.Length.Value-fixed))
	}
	if p.TTL.Known {
		h.put(7, p.TTL.Value)
	}
	h.putAddr(8, p.Src)
	h.putAddr(24, p.Dst)
}

func headerTransport(h datum, p *packet.Packet) {
	switch p.Proto {
	case ipTCP, ipUDP, ipUDPLite, ipSCTP, ipDCCP:
		if p.SrcPort.Known {
			h.put(0, byte(p.SrcPort.Value>>8), byte(p.SrcPort.Value))
		}
		if p.DstPort.Known {
			h.put(2, byte(p.DstPort.Value>>8), byte(p.DstPort.Value))
		}
		if p.Proto == ipTCP && p.TCPFlags.Known {
			h.put(13, p.TCPFlags.Value)
		}
	case ipICMP, ipICMP6:
		if p.ICMPType.Known {
			h.put(0, p.ICMPType.Value)
		}
		if p.ICMPCode.Known {
			h.put(1, p.ICMPCode.Value)
		}
	}
}

// payload loads from the packet.
func payload(p *packet.Packet, e Payload) datum {
	h := header(p, e.Base)
	if h.absent {
		return datum{absent: true}
	}
	if e.Offset+e.Len > headerSize {
		return hidden(int(e.Len))
	}
	return datum{value: h.value[e.Offset : e.Offset+e.Len], known: h.known[e.Offset : e.Offset+e.Len]}
}

// rewrite changes the packet as a write of payload does: what is written with a
// value not known becomes unknown.
func rewrite(p *packet.Packet, e Payload, d datum) {
	h := header(p, e.Base)
	if h.absent || e.Offset+e.Len > headerSize {
		return
	}
	copy(h.value[e.Offset:], d.value)
	copy(h.known[e.Offset:], d.known)
	sure := func(at, size int) bool { return (datum{known: h.known[at : at+size]}).complete() }
	addr := func(at, size int) netip.Addr {
		if !sure(at, size) {
			return netip.Addr{}
		}
		a, _ := netip.AddrFromSlice(h.value[at : at+size])
		return a
	}
	octet := func(at int) packet.Fact[uint8] {
		return packet.Fact[uint8]{Value: h.value[at] & h.known[at], Known: sure(at, 1)}
	}
	port := func(at int) packet.Fact[uint16] {
		return packet.Fact[uint16]{Value: binary.BigEndian.Uint16(h.value[at:]), Known: sure(at, 2)}
	}
	switch {
	case e.Base == BaseNetwork && p.Family == FamilyIP:
		p.TOS, p.TTL = octet(1), octet(8)
		p.Src, p.Dst = addr(12, 4), addr(16, 4)
	case e.Base == BaseNetwork && p.Family == FamilyIP6:
		p.TOS = packet.Fact[uint8]{}
		if sure(0, 1) && h.known[1]&0xf0 == 0xf0 {
			p.TOS = packet.Known(h.value[0]<<4 | h.value[1]>>4)
		}
		p.TTL = octet(7)
		p.Src, p.Dst = addr(8, 16), addr(24, 16)
	case e.Base == BaseTransport && p.Proto != ipICMP && p.Proto != ipICMP6:
		p.SrcPort, p.DstPort = port(0), port(2)
	}
}

// property loads metadata of the packet.
func (w *walker) property(s *state, key MetaKey) datum {
	p := &s.Packet
	name := func(f packet.Fact[string]) datum {
		return fact(f, 16, func(s string) []byte { return append([]byte(s), make([]byte, max(0, 16-len(s)))...)[:16] })
	}
	switch key {
	case MetaMark:
		return s.mark
	case MetaL4proto:
		if p.Family == FamilyIP || p.Family == FamilyIP6 {
			return given([]byte{p.Proto})
		}
	case MetaNfproto:
		return given([]byte{w.proto})
	case MetaProtocol:
		switch p.Family {
		case FamilyIP:
			return given([]byte{0x08, 0x00})
		case FamilyIP6:
			return given([]byte{0x86, 0xdd})
		}
	case MetaIifname:
		return name(p.In)
	case MetaOifname:
		return name(p.Out)
	case MetaIif:
		return w.index(p.In, p.InIndex)
	case MetaOif:
		return w.index(p.Out, p.OutIndex)
	case MetaLen:
		if w.proto == protoIPv4 || w.proto == protoIPv6 {
			return number(p.Length)
		}
	}
	f, ok := metaFields[key]
	if !ok {
		return hidden(slotSize)
	}
	return hidden(int(f.bits+bitsPerByte-1) / bitsPerByte)
}

// index is the index of an interface: the packet's own, or where that was not
// seen, as of when the rule set was read; 0 for a hook that has none.
func (w *walker) index(f packet.Fact[string], index packet.Fact[uint32]) datum {
	switch {
	case index.Known:
		return native(index.Value)
	case !f.Known:
		return hidden(4)
	case f.Value == "":
		return native(0)
	case w.rs.names != nil:
		for i, name := range w.rs.names.links {
			if name == f.Value {
				return native(uint32(i))
			}
		}
	}
	return hidden(4)
}

// stateBits are nft's for the states of a connection (NF_CT_STATE_BIT,
// linux/netfilter/nf_conntrack_common.h).
var stateBits = map[string]uint32{
	packet.StateInvalid: 1, packet.StateEstablished: 2, packet.StateRelated: 4, packet.StateNew: 8, packet.StateUntracked: 64,
}

// connection loads a property of the packet's connection.
func connection(s *state, e CT) datum {
	p := &s.Packet
	if e.Key == CTState {
		return fact(p.CT.State, 4, func(s string) []byte { return binary.NativeEndian.AppendUint32(nil, stateBits[s]) })
	}
	// Other properties need a connection; without one the rule ends.
	if f := p.CT.State; f.Known && (f.Value == packet.StateInvalid || f.Value == packet.StateUntracked) {
		return datum{absent: true}
	}
	switch e.Key {
	case CTDirection:
		return fact(p.CT.Reply, 1, func(reply bool) []byte {
			if reply {
				return []byte{1}
			}
			return []byte{0}
		})
	case CTStatus:
		return number(p.CT.Status)
	case CTMark:
		return s.ctMark
	case CTProtocol:
		return given([]byte{p.Proto})
	case CTL3proto:
		if p.Family == FamilyIP6 {
			return given([]byte{protoIPv6})
		}
		return given([]byte{protoIPv4})
	case CTSrc, CTDst, CTProtoSrc, CTProtoDst, CTSrcIP, CTDstIP, CTSrcIP6, CTDstIP6:
		return tupleOf(p, e)
	}
	bits := ctFields[e.Key].bits
	return hidden(max(int(bits)/bitsPerByte, 1))
}

// tupleOf loads an address or a port of one direction of the connection.
func tupleOf(p *packet.Packet, e CT) datum {
	tuple := p.CT.Original
	if e.Direction == 1 {
		tuple = p.CT.Answer
	}
	addr := func(pick func(packet.Tuple) netip.Addr, size int) datum {
		if !tuple.Known {
			return hidden(size)
		}
		b := pick(tuple.Value).AsSlice()
		if len(b) != size {
			return datum{absent: true} // the key asks for the other family
		}
		return given(b)
	}
	size := 4
	if p.Family == FamilyIP6 {
		size = 16
	}
	src, dst := func(t packet.Tuple) netip.Addr { return t.Src }, func(t packet.Tuple) netip.Addr { return t.Dst }
	port := func(pick func(packet.Tuple) uint16) datum {
		return fact(tuple, 2, func(t packet.Tuple) []byte { return binary.BigEndian.AppendUint16(nil, pick(t)) })
	}
	switch e.Key {
	case CTSrc:
		return addr(src, size)
	case CTDst:
		return addr(dst, size)
	case CTSrcIP:
		return addr(src, 4)
	case CTDstIP:
		return addr(dst, 4)
	case CTSrcIP6:
		return addr(src, 16)
	case CTDstIP6:
		return addr(dst, 16)
	case CTProtoSrc:
		return port(func(t packet.Tuple) uint16 { return t.SrcPort })
	}
	return port(func(t packet.Tuple) uint16 { return t.DstPort })
}

// route answers a look-up of a route with what the node knows.
func route(p *packet.Packet, e FIB) datum {
	size := 4
	switch {
	case e.Flags&FIBPresent != 0:
		size = 1
	case e.Result == FIBOifname:
		size = 16
	}
	d := hidden(size)
	if p.World == nil {
		return d
	}
	switch e.Result {
	case FIBAddrType:
		d.ask = func(v []byte) packet.Answer { return addrType(p, e, v) }
	case FIBOif, FIBOifname:
		if e.Flags&FIBSaddr == 0 {
			return d
		}
		way := p.World.ReversePath(p, e.Flags&FIBIif == 0, e.Flags&FIBMark != 0)
		switch {
		case way == packet.No:
			return given(make([]byte, size))
		case way == packet.Yes && size == 1:
			return given([]byte{1})
		case way == packet.Yes:
			d.ask = func(v []byte) packet.Answer {
				if isZero(v) {
					return packet.No
				}
				return packet.Unknown
			}
		}
	}
	return d
}

func isZero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}

// addrType asks whether the packet's source or destination is of a type, given
// by its number.
func addrType(p *packet.Packet, e FIB, number []byte) packet.Answer {
	if len(number) != slotSize {
		return packet.Unknown
	}
	addr, dev := p.Src, packet.Known("")
	if e.Flags&FIBDaddr != 0 {
		addr = p.Dst
	}
	switch {
	case e.Flags&FIBIif != 0:
		dev = p.In
	case e.Flags&FIBOifFlag != 0:
		dev = p.Out
	}
	if !dev.Known || !addr.IsValid() {
		return packet.Unknown
	}
	v := uint64(binary.NativeEndian.Uint32(number))
	for _, s := range symbolsFIBAddr {
		if s.value == v {
			return p.World.AddrType(addr, s.word, dev.Value)
		}
	}
	return packet.Unknown
}
