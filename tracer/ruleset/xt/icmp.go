// SPDX-License-Identifier: Apache-2.0

package xt

// Matches on ICMP type and code: icmp and icmp6 (net/ipv4/netfilter/ip_tables.c
// and net/ipv6/netfilter/ip6_tables.c, since Linux 6.8 net/netfilter/xt_tcpudp.c).

import (
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// anyICMPType is the type that stands for every type; in IPv4 only.
const anyICMPType = 0xff

// decodeICMP reads struct ipt_icmp (netfilter_ipv4/ip_tables.h).
func decodeICMP(e ext) (matchBody, bool) {
	return decodeICMPLike(e, protoICMP, "--icmp-type", e.u8(0) == anyICMPType)
}

// decodeICMP6 reads struct ip6t_icmp (netfilter_ipv6/ip6_tables.h).
func decodeICMP6(e ext) (matchBody, bool) {
	return decodeICMPLike(e, protoICMPv6, "--icmpv6-type", false)
}

// decodeICMPLike reads type, code[2] (a range) and invflags, of which bit 0 is
// known.
func decodeICMPLike(e ext, proto uint8, option string, every bool) (matchBody, bool) {
	kind, lo, hi, inverted := e.u8(0), e.u8(1), e.u8(2), e.u8(3)&1 != 0
	value := fmt.Sprint(kind)
	if lo != 0 || hi != 0xff {
		value += fmt.Sprintf("/%d", lo)
	}
	if every {
		value = "any"
	}
	var o options
	o.neg(inverted, "%s %s", option, value)
	return matchBody{opts: o.String(), eval: func(p *packet.Packet) packet.Answer {
		a := packet.Yes
		if !every {
			a = p.ICMPType.Is(kind).And(within(p.ICMPCode, lo, hi))
		}
		return transport(p, proto).And(flip(a, inverted))
	}}, true
}
