// SPDX-License-Identifier: Apache-2.0

package xt

// Matches on single fields of the IP and TCP headers: length, tcpmss, tos, dscp,
// ecn, ttl, hl.

import (
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// decodeLength reads struct xt_length_info (xt_length.h).
func decodeLength(e ext) (matchBody, bool) {
	lo, hi, inverted := e.u16(0), e.u16(2), e.u8(4) != 0
	var o options
	o.neg(inverted, "--length %s", span(lo, hi))
	return matchBody{opts: o.String(), eval: func(p *packet.Packet) packet.Answer {
		return flip(within(p.Length, uint32(lo), uint32(hi)), inverted)
	}}, true
}

// decodeTCPMSSMatch reads struct xt_tcpmss_match_info (xt_tcpmss.h). TCP options
// are not seen.
func decodeTCPMSSMatch(e ext) (matchBody, bool) {
	var o options
	o.neg(e.u8(4) != 0, "--mss %s", span(e.u16(0), e.u16(2)))
	return matchBody{opts: o.String(), eval: func(p *packet.Packet) packet.Answer {
		return transport(p, protoTCP).And(packet.Unknown)
	}}, true
}

// decodeTOS0 reads struct ipt_tos_info: u8 tos, invert (Linux 2.6.24's ipt_tos.h).
func decodeTOS0(e ext) (matchBody, bool) {
	tos, inverted := e.u8(0), e.u8(1) != 0
	var o options
	o.neg(inverted, "--tos 0x%02x", tos)
	return matchBody{opts: o.String(), eval: func(p *packet.Packet) packet.Answer {
		return flip(p.TOS.Is(tos), inverted)
	}}, true
}

// decodeTOS reads struct xt_tos_match_info (xt_dscp.h).
func decodeTOS(e ext) (matchBody, bool) {
	mask, tos, inverted := e.u8(0), e.u8(1), e.u8(2) != 0
	var o options
	o.neg(inverted, "--tos 0x%02x/0x%02x", tos, mask)
	return matchBody{opts: o.String(), eval: func(p *packet.Packet) packet.Answer {
		return flip(p.TOS.Holds(func(v uint8) bool { return v&mask == tos }), inverted)
	}}, true
}

// decodeDSCP reads struct xt_dscp_info (xt_dscp.h).
func decodeDSCP(e ext) (matchBody, bool) {
	dscp, inverted := e.u8(0), e.u8(1) != 0
	var o options
	o.neg(inverted, "--dscp 0x%02x", dscp)
	return matchBody{opts: o.String(), eval: func(p *packet.Packet) packet.Answer {
		return flip(p.TOS.Holds(func(v uint8) bool { return v>>2 == dscp }), inverted)
	}}, true
}

// TCP flags of explicit congestion notification.
const (
	tcpECE = 0x40
	tcpCWR = 0x80
)

// decodeECN reads struct xt_ecn_info (xt_ecn.h).
func decodeECN(e ext) (matchBody, bool) {
	const (
		ip  = 0x01
		ece = 0x10
		cwr = 0x20
	)
	ops, inv, ect := e.u8(0), e.u8(1), e.u8(2)
	var o options
	if ops&ece != 0 {
		o.neg(inv&ece != 0, "--ecn-tcp-ece")
	}
	if ops&cwr != 0 {
		o.neg(inv&cwr != 0, "--ecn-tcp-cwr")
	}
	if ops&ip != 0 {
		o.neg(inv&ip != 0, "--ecn-ip-ect %d", ect)
	}
	return matchBody{opts: o.String(), eval: func(p *packet.Packet) packet.Answer {
		a := packet.Yes
		if ops&ip != 0 {
			a = a.And(flip(p.TOS.Holds(func(v uint8) bool { return v&3 == ect }), inv&ip != 0))
		}
		for bit, flag := range map[uint8]uint8{ece: tcpECE, cwr: tcpCWR} {
			if ops&bit != 0 {
				set := p.TCPFlags.Holds(func(f uint8) bool { return f&flag != 0 })
				a = a.And(transport(p, protoTCP)).And(flip(set, inv&bit != 0))
			}
		}
		return a
	}}, true
}

// decodeTTL reads struct ipt_ttl_info (ipt_ttl.h).
func decodeTTL(e ext) (matchBody, bool) { return decodeHops(e, "--ttl") }

// decodeHL reads struct ip6t_hl_info (ip6t_hl.h).
func decodeHL(e ext) (matchBody, bool) { return decodeHops(e, "--hl") }

// decodeHops reads mode and hops: equal, not equal, less, greater.
func decodeHops(e ext, option string) (matchBody, bool) {
	mode, hops := e.u8(0), e.u8(1)
	if mode > 3 {
		return matchBody{}, false
	}
	var o options
	o.neg(mode == 1, "%s-%s %d", option, []string{"eq", "eq", "lt", "gt"}[mode], hops)
	return matchBody{opts: o.String(), eval: func(p *packet.Packet) packet.Answer {
		return p.TTL.Holds(func(v uint8) bool {
			return []bool{v == hops, v != hops, v < hops, v > hops}[mode]
		})
	}}, true
}
