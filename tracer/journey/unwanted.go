// SPDX-License-Identifier: Apache-2.0

package journey

// What is sent to all on a link, or to a group on it (mDNS, LLMNR, DHCP, NetBIOS), comes
// to many who have not asked for it: that one of them does not take it is no death.

import (
	"net/netip"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// SettleUnwanted takes a finished packet. One to a group or to all on the link that a
// receiver had no use for is told as delivered, and unwanted.
func SettleUnwanted(p *model.Packet) {
	if p.Outcome.Died() && p.Drop != nil && p.Drop.Hook == "" && toAllOnLink(p) && unasked(p.Drop) {
		p.Outcome, p.Drop, p.Unwanted = model.Delivered, nil, true
	}
}

// toAllOnLink tells a destination that is everybody's on the link: a link-local group
// (224.0.0.0/24, ff02::/16) or a broadcast address, as routing sees it.
func toAllOnLink(p *model.Packet) bool {
	if p.Dst.IsLinkLocalMulticast() || p.Dst == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return true
	}
	for i := range p.Hops {
		if r := p.Hops[i].Route; r != nil && r.Type == "broadcast" {
			return true
		}
	}
	return false
}

// unasked tells that the receiver let go of it for want of anybody who has joined the
// group or opened the port (net/ipv4/route.c: ip_route_input_mc; net/ipv4/udp.c:
// __udp4_lib_mcast_deliver; net/ipv4/icmp.c: icmp_rcv, icmp_echo_ignore_broadcasts;
// their IPv6 twins; 6.1 to 6.18).
func unasked(d *model.Drop) bool {
	if d.Reason != "" && d.Reason != "NOT_SPECIFIED" && d.Reason != "NO_SOCKET" && d.Reason != "INVALID_PROTO" {
		return false
	}
	for _, in := range []string{"ip_rcv_finish", "ip_route_input", "ip_sublist_rcv", "ip6_mc_input", "__udp4_lib_", "__udp6_lib_", "udp_", "udpv6_", "icmp_rcv", "icmpv6_rcv", "igmp_rcv"} {
		if strings.HasPrefix(d.Function, in) {
			return true
		}
	}
	return false
}
