// SPDX-License-Identifier: Apache-2.0

package iptnft

// This file reads tests of the transport header into the matches tcp, udp, icmp
// and icmp6.

import (
	"encoding/binary"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
)

// side is a port's place in struct xt_tcp and xt_udp (xt_tcpudp.h): the bit of
// its negation (XT_TCP_INV_SRCPT, DSTPT), and its range at 4 bytes a side.
type side int

const (
	source      side = 0
	destination side = 1
)

func (s side) at() int       { return int(s) * 4 }
func (s side) invert() uint8 { return 1 << s }

// Offsets in struct xt_tcp, and bits of its invflags.
const (
	tcpSize     = 12
	tcpMask     = 9
	tcpFlags    = 10
	tcpInverted = 11
	tcpInvFlags = 1 << 2

	udpSize     = 10
	udpInverted = 8
)

// ports is the match of a protocol with ports being filled.
type ports struct {
	blob     []byte
	inverted int // offset of invflags
}

// ports finds the rule's match of its protocol, or adds one: all that a rule
// says of one header is one match, wherever it says it.
func (l *line) ports() ports {
	name, size, inverted := "tcp", tcpSize, tcpInverted
	if l.head.only() == protoUDP {
		name, size, inverted = "udp", udpSize, udpInverted
	}
	for i := range l.matches {
		if m := &l.matches[i]; m.name == name && m.revision == 0 && len(m.blob) >= size {
			m.blob = slices.Clone(m.blob) // the rule set's
			return ports{m.blob, inverted}
		}
	}
	blob := make([]byte, size)
	binary.NativeEndian.PutUint16(blob[source.at()+2:], 0xffff)
	binary.NativeEndian.PutUint16(blob[destination.at()+2:], 0xffff)
	l.add(match{name: name, blob: blob})
	return ports{blob, inverted}
}

// narrow adds a condition on a port. Two ranges make a smaller one, which is how
// nft writes one with two comparisons; nothing can be added to a negation.
func (p ports) narrow(s side, lo, hi uint16, inverted bool) bool {
	first, last := p.blob[s.at():], p.blob[s.at()+2:]
	oldLo, oldHi := binary.NativeEndian.Uint16(first), binary.NativeEndian.Uint16(last)
	fresh := oldLo == 0 && oldHi == 0xffff
	if p.blob[p.inverted]&s.invert() != 0 || inverted && !fresh {
		return false
	}
	lo, hi = max(lo, oldLo), min(hi, oldHi)
	if lo > hi {
		return false
	}
	binary.NativeEndian.PutUint16(first, lo)
	binary.NativeEndian.PutUint16(last, hi)
	if inverted {
		p.blob[p.inverted] |= s.invert()
	}
	return true
}

// readPort reads --sport or --dport.
func readPort(s side) func(*line, test) bool {
	return func(l *line, t test) bool {
		if t.mask != nil {
			return false
		}
		lo := binary.BigEndian.Uint16(t.data)
		hi, inverted := lo, t.op == nft.OpNeq
		switch {
		case t.to != nil:
			hi = binary.BigEndian.Uint16(t.to)
		case t.op == nft.OpLte:
			lo = 0
		case t.op == nft.OpGte:
			hi = 0xffff
		case t.op == nft.OpLt && lo > 0:
			lo, hi = 0, lo-1
		case t.op == nft.OpGt && lo < 0xffff:
			lo, hi = lo+1, 0xffff
		case t.op == nft.OpLt || t.op == nft.OpGt:
			return false // no port at all
		}
		return lo <= hi && l.ports().narrow(s, lo, hi, inverted)
	}
}

// readPorts reads both ports in one. iptables before 1.8.11 writes two negations
// so, although the kernel then lets a packet pass that differs in one of them
// only; the rule prints as it was meant, like in iptables-nft-save.
func readPorts(l *line, t test) bool {
	if !t.equality() || t.mask != nil {
		return false
	}
	p := l.ports()
	src, dst := binary.BigEndian.Uint16(t.data), binary.BigEndian.Uint16(t.data[2:])
	inverted := t.op == nft.OpNeq
	return p.narrow(source, src, src, inverted) && p.narrow(destination, dst, dst, inverted)
}

// readFlags reads --tcp-flags. The two bits of congestion notification have no
// name in it, so the rule must leave them alone.
func readFlags(l *line, t test) bool {
	const named = 0x3f
	if !t.equality() || t.mask == nil || (t.mask[0]|t.data[0])&^named != 0 {
		return false
	}
	p := l.ports()
	if p.blob[tcpMask] != 0 || p.blob[p.inverted]&tcpInvFlags != 0 {
		return false
	}
	p.blob[tcpMask], p.blob[tcpFlags] = t.mask[0], t.data[0]
	if t.op == nft.OpNeq {
		p.blob[p.inverted] |= tcpInvFlags
	}
	return true
}

// readICMP reads --icmp-type, of a type or a type with a code, into struct
// ipt_icmp or ip6t_icmp (netfilter_ipv4/ip_tables.h): type, range of codes,
// invflags.
func readICMP(name string) func(*line, test) bool {
	return func(l *line, t test) bool {
		if !t.equality() || t.mask != nil {
			return false
		}
		blob := []byte{t.data[0], 0, 0xff, 0}
		if len(t.data) > 1 {
			blob[1], blob[2] = t.data[1], t.data[1]
		}
		if t.op == nft.OpNeq {
			blob[3] = 1
		}
		l.add(match{name: name, blob: blob})
		return true
	}
}
