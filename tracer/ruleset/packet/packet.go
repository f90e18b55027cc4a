// SPDX-License-Identifier: Apache-2.0

// Package packet is what a rule can be asked about: a packet as a hook saw it,
// and the three answers a match can give. It lies between the decoders (xt,
// nft), which ask, and the inference, which fills it with what the kernel told.
package packet

import "net/netip"

// Answer is what a match says of a packet.
type Answer uint8

// Answers. Unknown means that what the match looks at was not seen; it is never
// rounded to one of the others.
const (
	No Answer = iota
	Yes
	Unknown
)

// Of is Yes or No.
func Of(ok bool) Answer {
	if ok {
		return Yes
	}
	return No
}

// Not turns Yes and No round; Unknown stays.
func (a Answer) Not() Answer {
	switch a {
	case Yes:
		return No
	case No:
		return Yes
	}
	return Unknown
}

// And is the answer of two matches that both have to hold: one No decides.
func (a Answer) And(b Answer) Answer {
	switch {
	case a == No || b == No:
		return No
	case a == Unknown || b == Unknown:
		return Unknown
	}
	return Yes
}

func (a Answer) String() string {
	return [...]string{"no", "yes", "unknown"}[a]
}

// Fact is a value that may not have been seen.
type Fact[T comparable] struct {
	Value T
	Known bool
}

// Known is a fact that was seen.
func Known[T comparable](v T) Fact[T] { return Fact[T]{Value: v, Known: true} }

// Is asks whether the fact is v.
func (f Fact[T]) Is(v T) Answer {
	if !f.Known {
		return Unknown
	}
	return Of(f.Value == v)
}

// Holds asks a question about the fact's value.
func (f Fact[T]) Holds(ask func(T) bool) Answer {
	if !f.Known {
		return Unknown
	}
	return Of(ask(f.Value))
}

// Conntrack states as a packet sees them (enum ip_conntrack_info and nf_conn
// status, include/uapi/linux/netfilter/nf_conntrack_common.h).
const (
	StateNew         = "new"
	StateEstablished = "established"
	StateRelated     = "related"
	StateInvalid     = "invalid"
	StateUntracked   = "untracked"
)

// Tuple is one direction of a connection.
type Tuple struct {
	Src, Dst         netip.Addr
	SrcPort, DstPort uint16
}

// Conntrack is the connection a packet belongs to.
type Conntrack struct {
	State    Fact[string] // one of the states above
	Reply    Fact[bool]   // the packet runs in the reply direction
	Original Fact[Tuple]
	Answer   Fact[Tuple]  // the reply direction's tuple
	Status   Fact[uint32] // IPS_* bits
	Mark     Fact[uint32]
}

// Packet is a packet as one netfilter hook saw it. Addresses and ports are those
// at that moment, after the translations made so far.
type Packet struct {
	Family string // ip, ip6 or bridge
	Hook   string // PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING, INGRESS, EGRESS

	Src, Dst         netip.Addr
	Proto            uint8 // IPPROTO_*
	SrcPort, DstPort Fact[uint16]
	TCPFlags         Fact[uint8]
	ICMPType         Fact[uint8]
	ICMPCode         Fact[uint8]
	Length           Fact[uint32] // of the IP datagram, bytes
	TTL              Fact[uint8]  // or hop limit
	TOS              Fact[uint8]  // or traffic class
	Fragment         Fact[bool]   // a fragment that is not the first one

	In, Out         Fact[string] // interface names; known and "": the hook has none
	InIndex         Fact[uint32] // of In; a name may be given to another interface later
	OutIndex        Fact[uint32]
	PhysIn, PhysOut Fact[string] // bridge ports
	Mark            Fact[uint32]
	CT              Conntrack

	World World
}

// World answers what is not in the packet but on the node. Any of its answers
// may be Unknown, which is what the zero of an unimplemented method returns.
type World interface {
	// AddrType tells whether an address is of a type, one of unicast, local,
	// broadcast, anycast, multicast, blackhole, unreachable, prohibit (as the
	// addrtype match and nft's fib expression ask); dev limits it to an
	// interface, "" to none.
	AddrType(addr netip.Addr, kind, dev string) Answer
	// IPSet tells whether an element is in an ipset. dirs are the flags of the
	// match from the first dimension on: true takes the packet's source.
	IPSet(name string, dirs []bool, p *Packet) Answer
	// ReversePath tells whether the way back to the packet's source leads out of
	// the interface it came in by (rpfilter; loose: any interface will do).
	ReversePath(p *Packet, loose, useMark bool) Answer
}
