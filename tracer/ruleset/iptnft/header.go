// SPDX-License-Identifier: Apache-2.0

package iptnft

// This file reads tests of the network header and of interfaces into the header
// that every xtables rule begins with, or into the ttl and hl matches.

import (
	"bytes"
	"encoding/binary"

	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
	"github.com/pathtrace/pathtrace/tracer/ruleset/xt"
)

// field is a header field that iptables has an option for.
type field struct {
	family string // "" : any
	base   uint32
	offset uint32
	size   int    // bytes compared at most
	least  int    // bytes compared at least
	proto  uint16 // of the rule, tests of the transport header; 0: any
	read   func(*line, test) bool
}

// covers tells whether a test is about the field.
func (f field) covers(l *line, p nft.Payload, t test) bool {
	return (f.family == "" || f.family == l.ctx.Family) && f.base == p.Base && f.offset == p.Offset &&
		len(t.data) >= f.least && len(t.data) <= f.size && (f.proto == 0 || f.proto == l.head.only())
}

// What the rows below are about, in short.
const (
	ip4       = nft.FamilyIP
	ip6       = nft.FamilyIP6
	network   = nft.BaseNetwork
	transport = nft.BaseTransport
)

// fields are those there are options for: offsets in struct iphdr (linux/ip.h),
// ipv6hdr (linux/ipv6.h), tcphdr, udphdr, icmphdr and icmp6hdr. An address with a
// prefix of whole bytes is compared by these bytes alone. Never written to after
// start.
var fields = [...]field{
	{ip4, network, 6, 2, 2, 0, readFragment},
	{ip4, network, 8, 1, 1, 0, readHops("ttl")},
	{ip4, network, 9, 1, 1, 0, readProtocol},
	{ip4, network, 12, 4, 1, 0, readAddress(0)},
	{ip4, network, 16, 4, 1, 0, readAddress(1)},
	{ip6, network, 6, 1, 1, 0, readProtocol},
	{ip6, network, 7, 1, 1, 0, readHops("hl")},
	{ip6, network, 8, 16, 1, 0, readAddress(0)},
	{ip6, network, 24, 16, 1, 0, readAddress(1)},
	{"", transport, 0, 2, 2, protoTCP, readPort(source)},
	{"", transport, 0, 2, 2, protoUDP, readPort(source)},
	{"", transport, 2, 2, 2, protoTCP, readPort(destination)},
	{"", transport, 2, 2, 2, protoUDP, readPort(destination)},
	{"", transport, 0, 4, 4, protoTCP, readPorts},
	{"", transport, 0, 4, 4, protoUDP, readPorts},
	{"", transport, 13, 1, 1, protoTCP, readFlags},
	{ip4, transport, 0, 2, 1, protoICMP, readICMP("icmp")},
	{ip6, transport, 0, 2, 1, protoICMPv6, readICMP("icmp6")},
}

// Protocols (linux/in.h, linux/in6.h).
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
)

// Bits of flags and invflags (IPT_F_FRAG, IPT_INV_*, netfilter_ipv4/ip_tables.h;
// IP6T_INV_* are the same).
const (
	flagFragment = 0x01

	invIn       = 0x01
	invOut      = 0x02
	invSrc      = 0x08
	invDst      = 0x10
	invFragment = 0x20
	invProto    = 0x40
)

// ifnameSize is IFNAMSIZ.
const ifnameSize = 16

// header is a struct ipt_ip or ip6t_ip6 being filled.
type header struct {
	blob []byte
	at   layout
	set  [4]bool // already asked for: source, destination, in, out
}

// layout are the offsets in it: two addresses and then their masks; two names of
// interfaces and then their masks.
type layout struct{ size, address, iface, proto, flags, inverted int }

func newHeader(family string) header {
	at := layout{size: xt.EntrySizeIPv4, address: 4, iface: 16, proto: 80, flags: 82, inverted: 83}
	if family == nft.FamilyIP6 {
		at = layout{size: xt.EntrySizeIPv6, address: 16, iface: 64, proto: 128, flags: 131, inverted: 132}
	}
	return header{blob: make([]byte, at.size), at: at}
}

// invert notes a negation.
func (h *header) invert(op nft.Op, bit uint8) {
	if op == nft.OpNeq {
		h.blob[h.at.inverted] |= bit
	}
}

// once claims a place of the header; false: the rule has asked for it before.
func (h *header) once(place int) bool {
	free := !h.set[place]
	h.set[place] = true
	return free
}

// proto is the protocol of the rule, 0 for any.
func (h *header) proto() uint16 { return binary.NativeEndian.Uint16(h.blob[h.at.proto:]) }

// only is the protocol that every packet of the rule has, 0 if there is none.
func (h *header) only() uint16 {
	if h.blob[h.at.inverted]&invProto != 0 {
		return 0
	}
	return h.proto()
}

// readAddress reads the source (0) or destination (1).
func readAddress(side int) func(*line, test) bool {
	return func(l *line, t test) bool {
		h := &l.head
		if !t.equality() || !h.once(side) {
			return false
		}
		mask := t.mask
		if mask == nil {
			mask = bytes.Repeat([]byte{0xff}, len(t.data))
		}
		size := h.at.address
		copy(h.blob[side*size:], t.data)
		copy(h.blob[(2+side)*size:], mask)
		h.invert(t.op, []uint8{invSrc, invDst}[side])
		return true
	}
}

// readProtocol reads -p. iptables has no word for protocol 0.
func readProtocol(l *line, t test) bool {
	h := &l.head
	if !t.equality() || t.mask != nil || t.data[0] == 0 {
		return false
	}
	if h.proto() != 0 { // nft says it twice where it needs it
		return h.only() == uint16(t.data[0]) && t.op == nft.OpEq
	}
	binary.NativeEndian.PutUint16(h.blob[h.at.proto:], uint16(t.data[0]))
	h.invert(t.op, invProto)
	return true
}

// readFragment reads -f: the offset of the fragment is not, or is, 0.
func readFragment(l *line, t test) bool {
	h := &l.head
	if !t.equality() || !bytes.Equal(t.mask, []byte{0x1f, 0xff}) || !bytes.Equal(t.data, []byte{0, 0}) {
		return false
	}
	if h.blob[h.at.flags]&flagFragment != 0 {
		return false
	}
	h.blob[h.at.flags] |= flagFragment
	if t.op == nft.OpEq {
		h.blob[h.at.inverted] |= invFragment
	}
	return true
}

// readInterface reads -i (0) or -o (1). A name is compared with its NUL; without
// it any name that begins so will do. iptables writes "! -i +", which matches
// nothing, as a name that no interface can have.
func readInterface(side int) func(*line, test) bool {
	const never = "INVAL/D"
	return func(l *line, t test) bool {
		h := &l.head
		if !t.equality() || t.mask != nil || len(t.data) > ifnameSize || !h.once(2+side) {
			return false
		}
		name, _, ended := bytes.Cut(t.data, []byte{0})
		asked := len(name) + 1 // the NUL counts
		switch {
		case len(name) == 0:
			return false
		case string(name) == never && ended && t.op == nft.OpEq:
			name, asked = []byte("+"), len("+")+1
			t.op = nft.OpNeq
		case !ended:
			asked = len(name)
		}
		at := h.at.iface + side*ifnameSize
		copy(h.blob[at:at+ifnameSize], name)
		copy(h.blob[at+2*ifnameSize:], bytes.Repeat([]byte{0xff}, min(asked, ifnameSize)))
		h.invert(t.op, []uint8{invIn, invOut}[side])
		return true
	}
}

// readHops reads a time to live or hop limit into struct ipt_ttl_info or
// ip6t_hl_info (netfilter_ipv4/ipt_ttl.h, netfilter_ipv6/ip6t_hl.h): mode, hops.
func readHops(name string) func(*line, test) bool {
	const equal, notEqual, less, greater = 0, 1, 2, 3
	return func(l *line, t test) bool {
		hops := t.data[0]
		if t.to != nil || t.mask != nil || t.op == nft.OpLte && hops == 0xff || t.op == nft.OpGte && hops == 0 {
			return false
		}
		mode := map[nft.Op]uint8{
			nft.OpEq: equal, nft.OpNeq: notEqual, nft.OpLt: less, nft.OpLte: less, nft.OpGt: greater, nft.OpGte: greater,
		}[t.op]
		switch t.op {
		case nft.OpLte:
			hops++
		case nft.OpGte:
			hops--
		}
		l.add(match{name: name, blob: []byte{mode, hops}})
		return true
	}
}
