// SPDX-License-Identifier: Apache-2.0

package xt

// Questions about a packet that several matches ask.

import (
	"net/netip"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// Protocol numbers (IPPROTO_*, include/uapi/linux/in.h and in6.h).
const (
	protoICMP    = 1
	protoTCP     = 6
	protoUDP     = 17
	protoDCCP    = 33
	protoESP     = 50
	protoAH      = 51
	protoICMPv6  = 58
	protoSCTP    = 132
	protoMH      = 135
	protoUDPLite = 136
)

// flip inverts an answer.
func flip(a packet.Answer, inverted bool) packet.Answer {
	if inverted {
		return a.Not()
	}
	return a
}

// or is the answer of two questions of which one has to hold.
func or(a, b packet.Answer) packet.Answer { return a.Not().And(b.Not()).Not() }

// transport tells whether the packet has a transport header of the protocol for
// matches to look at: later fragments have none.
func transport(p *packet.Packet, proto uint8) packet.Answer {
	if p.Proto != proto {
		return packet.No
	}
	return headed(p)
}

// headed tells whether the packet is no later fragment. One whose ports or ICMP
// type were seen is none.
func headed(p *packet.Packet) packet.Answer {
	if !p.Fragment.Known && (p.SrcPort.Known || p.DstPort.Known || p.ICMPType.Known || p.TCPFlags.Known) {
		return packet.Yes
	}
	return p.Fragment.Is(false)
}

// within asks whether a fact lies in a range.
func within[T uint8 | uint16 | uint32](f packet.Fact[T], lo, hi T) packet.Answer {
	if lo == 0 && hi == ^T(0) {
		return packet.Yes // whatever it is
	}
	return f.Holds(func(v T) bool { return v >= lo && v <= hi })
}

// masked asks whether an address lies in a network given by address and mask,
// the way the kernel does: every bit of the mask has to be equal.
func masked(a, network, mask netip.Addr) packet.Answer {
	if mask.IsUnspecified() {
		return packet.Of(network.IsUnspecified())
	}
	if !a.IsValid() {
		return packet.Unknown
	}
	a = sameLength(a, network)
	if a.BitLen() != network.BitLen() {
		return packet.No
	}
	x, y, m := a.AsSlice(), network.AsSlice(), mask.AsSlice()
	for i := range m {
		if (x[i]^y[i])&m[i] != 0 {
			return packet.No
		}
	}
	return packet.Yes
}

// between asks whether an address lies in a range.
func between(a, lo, hi netip.Addr) packet.Answer {
	if !a.IsValid() {
		return packet.Unknown
	}
	a = sameLength(a, lo)
	return packet.Of(a.BitLen() == lo.BitLen() && a.Compare(lo) >= 0 && a.Compare(hi) <= 0)
}

// sameLength takes an IPv4-mapped address for the IPv4 one where the rule is of
// IPv4.
func sameLength(a, like netip.Addr) netip.Addr {
	if like.Is4() {
		return a.Unmap()
	}
	return a
}

// markIs asks for the masked mark.
func markIs(f packet.Fact[uint32], mark, mask uint32) packet.Answer {
	if mask == 0 {
		return packet.Of(mark == 0)
	}
	return f.Holds(func(v uint32) bool { return v&mask == mark })
}

// tracked tells whether the packet belongs to a connection: an invalid or
// untracked one does not.
func tracked(p *packet.Packet) packet.Answer {
	return p.CT.State.Holds(func(s string) bool {
		return s == packet.StateNew || s == packet.StateEstablished || s == packet.StateRelated
	})
}
