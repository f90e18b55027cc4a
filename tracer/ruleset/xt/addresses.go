// SPDX-License-Identifier: Apache-2.0

package xt

// Matches on addresses: addrtype, iprange, and what stands below IP: mac,
// pkttype, realm (net/netfilter/xt_addrtype.c, xt_iprange.c, ...).

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// addrTypes are the names by RTN_* number (include/uapi/linux/rtnetlink.h).
func addrTypes() []string {
	return []string{"UNSPEC", "UNICAST", "LOCAL", "BROADCAST", "ANYCAST", "MULTICAST", "BLACKHOLE",
		"UNREACHABLE", "PROHIBIT", "THROW", "NAT", "XRESOLVE"}
}

// Bits of the type masks and of revision 1's flags (xt_addrtype.h).
const (
	addrUnspec      = 1 << 0
	addrUnicast     = 1 << 1
	addrLocal       = 1 << 2
	addrBroadcast   = 1 << 3
	addrAnycast     = 1 << 4
	addrMulticast   = 1 << 5
	addrBlackhole   = 1 << 6
	addrUnreachable = 1 << 7
	addrProhibit    = 1 << 8

	addrInvSrc   = 1 << 0
	addrInvDst   = 1 << 1
	addrLimitIn  = 1 << 2
	addrLimitOut = 1 << 3
)

// addrtype is an addrtype match.
type addrtype struct {
	six      bool
	src, dst uint16
	flags    uint32
}

// decodeAddrtype reads struct xt_addrtype_info, which has a word per inversion,
// and _v1, which has flags (xt_addrtype.h).
func decodeAddrtype(e ext) (matchBody, bool) {
	a := addrtype{six: e.Family == FamilyIPv6, src: e.u16(0), dst: e.u16(2)}
	if e.rev == 1 {
		a.flags = e.u32(4)
	} else {
		if e.u32(4) != 0 {
			a.flags |= addrInvSrc
		}
		if e.u32(8) != 0 {
			a.flags |= addrInvDst
		}
	}
	var o options
	if a.src != 0 {
		o.neg(a.flags&addrInvSrc != 0, "--src-type %s", names(uint32(a.src), addrTypes()))
	}
	if a.dst != 0 {
		o.neg(a.flags&addrInvDst != 0, "--dst-type %s", names(uint32(a.dst), addrTypes()))
	}
	o.flag(a.flags&addrLimitIn != 0, "--limit-iface-in")
	o.flag(a.flags&addrLimitOut != 0, "--limit-iface-out")
	return matchBody{opts: o.String(), eval: a.eval}, true
}

func (a addrtype) eval(p *packet.Packet) packet.Answer {
	dev := packet.Known("")
	switch {
	case a.flags&addrLimitIn != 0:
		dev = p.In
	case a.flags&addrLimitOut != 0:
		dev = p.Out
	}
	answer := packet.Yes
	if a.src != 0 {
		answer = answer.And(flip(a.typed(p, p.Src, a.src, dev), a.flags&addrInvSrc != 0))
	}
	if a.dst != 0 {
		answer = answer.And(flip(a.typed(p, p.Dst, a.dst, dev), a.flags&addrInvDst != 0))
	}
	return answer
}

func (a addrtype) typed(p *packet.Packet, addr netip.Addr, mask uint16, dev packet.Fact[string]) packet.Answer {
	if !addr.IsValid() {
		return packet.Unknown
	}
	if a.six || addr.Is6() {
		return typed6(p, addr, mask, dev)
	}
	// Of an IPv4 address exactly one type holds; the routing table never gives
	// the types that are left out (inet_addr_type, net/ipv4/fib_frontend.c).
	return anyType(p, addr, mask&(addrUnicast|addrLocal|addrBroadcast|addrAnycast|addrMulticast|
		addrBlackhole|addrUnreachable|addrProhibit), dev)
}

// typed6 follows match_type6 (net/netfilter/xt_addrtype.c): what the address
// itself tells has to hold for every bit, the route's type for one.
func typed6(p *packet.Packet, addr netip.Addr, mask uint16, dev packet.Fact[string]) packet.Answer {
	unicast := !addr.IsMulticast() && !addr.IsUnspecified() && !addr.Is4In6()
	switch {
	case mask&addrMulticast != 0 && !addr.IsMulticast(),
		mask&addrUnicast != 0 && !unicast,
		mask&addrUnspec != 0 && !addr.IsUnspecified():
		return packet.No
	}
	const routed = addrLocal | addrAnycast | addrUnreachable
	if mask&routed == 0 {
		return packet.Yes
	}
	return anyType(p, addr, mask&routed, dev)
}

func anyType(p *packet.Packet, addr netip.Addr, mask uint16, dev packet.Fact[string]) packet.Answer {
	if mask == 0 {
		return packet.No
	}
	if p.World == nil || !dev.Known {
		return packet.Unknown
	}
	a := packet.No
	for i, name := range addrTypes() {
		if mask&(1<<i) != 0 {
			a = or(a, p.World.AddrType(addr, strings.ToLower(name), dev.Value))
		}
	}
	return a
}

// decodeIPRange reads struct xt_iprange_mtinfo (xt_iprange.h).
func decodeIPRange(e ext) (matchBody, bool) {
	if !e.addressed() {
		return matchBody{}, false
	}
	const (
		hasSrc = 1 << 0
		hasDst = 1 << 1
		invSrc = 1 << 4
		invDst = 1 << 5
	)
	flags := e.u8(64)
	srcLo, srcHi, dstLo, dstHi := e.addr(0), e.addr(16), e.addr(32), e.addr(48)
	var o options
	if flags&hasSrc != 0 {
		o.neg(flags&invSrc != 0, "--src-range %s-%s", addrText(srcLo), addrText(srcHi))
	}
	if flags&hasDst != 0 {
		o.neg(flags&invDst != 0, "--dst-range %s-%s", addrText(dstLo), addrText(dstHi))
	}
	return matchBody{opts: o.String(), eval: func(p *packet.Packet) packet.Answer {
		a := packet.Yes
		if flags&hasSrc != 0 {
			a = a.And(flip(between(p.Src, srcLo, srcHi), flags&invSrc != 0))
		}
		if flags&hasDst != 0 {
			a = a.And(flip(between(p.Dst, dstLo, dstHi), flags&invDst != 0))
		}
		return a
	}}, true
}

// decodeMAC reads struct xt_mac_info (xt_mac.h). Hardware addresses are not seen.
func decodeMAC(e ext) (matchBody, bool) {
	var octets []string
	for _, b := range e.data[:6] {
		octets = append(octets, fmt.Sprintf("%02x", b))
	}
	var o options
	o.neg(e.u32(8) != 0, "--mac-source %s", strings.Join(octets, ":"))
	return matchBody{opts: o.String()}, true
}

// decodePkttype reads struct xt_pkttype_info (xt_pkttype.h); types are PACKET_*
// of include/uapi/linux/if_packet.h.
func decodePkttype(e ext) (matchBody, bool) {
	kind, ok := nameOf(e.u32(0), []string{"unicast", "broadcast", "multicast", "otherhost"})
	if !ok {
		kind = fmt.Sprint(int32(e.u32(0)))
	}
	var o options
	o.neg(e.u32(4) != 0, "--pkt-type %s", kind)
	return matchBody{opts: o.String()}, true
}

// decodeRealm reads struct xt_realm_info (xt_realm.h). Realms print as numbers:
// their names stand in a file that the node need not have.
func decodeRealm(e ext) (matchBody, bool) {
	var o options
	o.neg(e.u8(8) != 0, "--realm %s", valueMask(e.u32(0), e.u32(4)))
	return matchBody{opts: o.String()}, true
}
