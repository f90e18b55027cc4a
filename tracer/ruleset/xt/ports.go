// SPDX-License-Identifier: Apache-2.0

package xt

// Matches on ports and TCP flags: tcp, udp, udplite and multiport
// (net/netfilter/xt_tcpudp.c, xt_multiport.c).

import (
	"strings"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// portRange is a range of ports that may be inverted.
type portRange struct {
	lo, hi   uint16
	inverted bool
}

// text adds the option unless the range is any port.
func (r portRange) text(o *options, option string) {
	if r.lo != 0 || r.hi != 0xffff {
		o.neg(r.inverted, "%s %s", option, span(r.lo, r.hi))
	}
}

func (r portRange) holds(port packet.Fact[uint16]) packet.Answer {
	return flip(within(port, r.lo, r.hi), r.inverted)
}

// Bits of struct xt_tcp's invflags (xt_tcpudp.h); those for ports are struct
// xt_udp's too.
const (
	tcpInvSport  = 1 << 0
	tcpInvDport  = 1 << 1
	tcpInvFlags  = 1 << 2
	tcpInvOption = 1 << 3
)

// decodeTCP reads struct xt_tcp (xt_tcpudp.h).
func decodeTCP(e ext) (matchBody, bool) {
	inv := e.u8(11)
	src := portRange{e.u16(0), e.u16(2), inv&tcpInvSport != 0}
	dst := portRange{e.u16(4), e.u16(6), inv&tcpInvDport != 0}
	option, mask, want := e.u8(8), e.u8(9), e.u8(10)
	var o options
	src.text(&o, "--sport")
	dst.text(&o, "--dport")
	if option != 0 || inv&tcpInvOption != 0 {
		o.neg(inv&tcpInvOption != 0, "--tcp-option %d", option)
	}
	if mask != 0 || inv&tcpInvFlags != 0 {
		o.neg(inv&tcpInvFlags != 0, "--tcp-flags %s %s", tcpFlags(mask), tcpFlags(want))
	}
	return matchBody{opts: o.String(), eval: func(p *packet.Packet) packet.Answer {
		flags := p.TCPFlags.Holds(func(f uint8) bool { return f&mask == want })
		if mask == 0 {
			flags = packet.Of(want == 0)
		}
		a := transport(p, protoTCP).And(src.holds(p.SrcPort)).And(dst.holds(p.DstPort)).
			And(flip(flags, inv&tcpInvFlags != 0))
		if option != 0 { // the header's options are not seen
			a = a.And(packet.Unknown)
		}
		return a
	}}, true
}

// tcpFlags names flags in the order of their bits; the two highest have no name
// in iptables 1.8.9 and cannot be in a rule it made.
func tcpFlags(f uint8) string {
	if f&0x3f == 0 {
		return "NONE"
	}
	return names(uint32(f), []string{"FIN", "SYN", "RST", "PSH", "ACK", "URG"})
}

// decodeUDP reads struct xt_udp (xt_tcpudp.h).
func decodeUDP(e ext) (matchBody, bool) { return decodeUDPLike(e, protoUDP) }

// decodeUDPLite reads the same struct for UDP-Lite.
func decodeUDPLite(e ext) (matchBody, bool) { return decodeUDPLike(e, protoUDPLite) }

func decodeUDPLike(e ext, proto uint8) (matchBody, bool) {
	inv := e.u8(8)
	src := portRange{e.u16(0), e.u16(2), inv&tcpInvSport != 0}
	dst := portRange{e.u16(4), e.u16(6), inv&tcpInvDport != 0}
	var o options
	src.text(&o, "--sport")
	dst.text(&o, "--dport")
	return matchBody{opts: o.String(), eval: func(p *packet.Packet) packet.Answer {
		return transport(p, proto).And(src.holds(p.SrcPort)).And(dst.holds(p.DstPort))
	}}, true
}

// decodeMultiport reads struct xt_multiport and xt_multiport_v1 (xt_multiport.h):
// up to 15 ports; in revision 1 one whose flag is set begins a range that the
// next one ends.
func decodeMultiport(e ext) (matchBody, bool) {
	const most = 15
	side, count := e.u8(0), int(e.u8(1))
	option, ok := nameOf(side, []string{"--sports", "--dports", "--ports"})
	if !ok || count > most {
		return matchBody{}, false
	}
	var ranges []portRange
	var texts []string
	for i := 0; i < count; i++ {
		lo := e.u16(2 + 2*i)
		r := portRange{lo: lo, hi: lo}
		text := span(lo, lo)
		if e.rev == 1 && e.u8(32+i) != 0 {
			if i++; i == count {
				return matchBody{}, false // a range without an end
			}
			r.hi = e.u16(2 + 2*i)
			text += ":" + span(r.hi, r.hi)
		}
		ranges, texts = append(ranges, r), append(texts, text)
	}
	inverted := e.rev == 1 && e.u8(47) != 0
	var o options
	o.neg(inverted, "%s %s", option, strings.Join(texts, ","))
	return matchBody{opts: o.String(), eval: func(p *packet.Packet) packet.Answer {
		return headed(p).And(flip(anyPort(p, side, ranges), inverted))
	}}, true
}

// anyPort asks whether the source (side 0), destination (1) or either port (2)
// lies in one of the ranges.
func anyPort(p *packet.Packet, side uint8, ranges []portRange) packet.Answer {
	a := packet.No
	for _, r := range ranges {
		if side != 1 {
			a = or(a, within(p.SrcPort, r.lo, r.hi))
		}
		if side != 0 {
			a = or(a, within(p.DstPort, r.lo, r.hi))
		}
	}
	return a
}
