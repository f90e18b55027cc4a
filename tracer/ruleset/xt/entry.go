// SPDX-License-Identifier: Apache-2.0

package xt

// The part of a rule that every packet is compared with before its matches:
// addresses, interfaces, protocol, fragments.

import (
	"fmt"
	"net/netip"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// Sizes of struct ipt_ip (netfilter_ipv4/ip_tables.h) and struct ip6t_ip6
// (netfilter_ipv6/ip6_tables.h), bytes: how much DecodeEntry reads.
const (
	EntrySizeIPv4 = 84
	EntrySizeIPv6 = 136
)

// Bits of the entry's flags and invflags.
const (
	entryFragment = 1 << 0 // IPT_F_FRAG
	entryGoto     = 1 << 1 // IPT_F_GOTO
	entryProto6   = 1 << 0 // IP6T_F_PROTO
	entryGoto6    = 1 << 2 // IP6T_F_GOTO

	entryInvIn    = 0x01
	entryInvOut   = 0x02
	entryInvSrc   = 0x08
	entryInvDst   = 0x10
	entryInvFrag  = 0x20
	entryInvProto = 0x40
)

// Entry is the header of a legacy rule: struct ipt_ip or struct ip6t_ip6.
type Entry struct {
	Family           string // ip or ip6
	Src, SrcMask     netip.Addr
	Dst, DstMask     netip.Addr
	Proto            uint16 // IPPROTO_*; 0: any
	Goto             bool   // the rule's jump is a goto: it prints as -g
	in, out          device
	flags, inversion uint8
}

// DecodeEntry reads a rule's header, with which struct ipt_entry and ip6t_entry
// begin. It fails on a family other than ip and ip6, and on too few bytes.
func DecodeEntry(family string, data []byte) (Entry, error) {
	e := ext{Context: Context{Family: family}, data: data}
	size := 0
	switch family {
	case FamilyIPv4:
		size = EntrySizeIPv4
	case FamilyIPv6:
		size = EntrySizeIPv6
	default:
		return Entry{}, fmt.Errorf("rule header: family %q has none", family)
	}
	if len(data) < size {
		return Entry{}, fmt.Errorf("rule header of family %s: %d bytes, want %d", family, len(data), size)
	}
	if family == FamilyIPv4 {
		return Entry{
			Family: family,
			Src:    e.addr4(0), Dst: e.addr4(4), SrcMask: e.addr4(8), DstMask: e.addr4(12),
			in: e.device(16, 48), out: e.device(32, 64),
			Proto: e.u16(80), flags: e.u8(82), inversion: e.u8(83),
			Goto: e.u8(82)&entryGoto != 0,
		}, nil
	}
	return Entry{
		Family: family,
		Src:    e.addr6(0), Dst: e.addr6(16), SrcMask: e.addr6(32), DstMask: e.addr6(48),
		in: e.device(64, 96), out: e.device(80, 112),
		Proto: e.u16(128), flags: e.u8(131), inversion: e.u8(132),
		Goto: e.u8(131)&entryGoto6 != 0,
	}, nil
}

func (e Entry) inverted(bit uint8) bool { return e.inversion&bit != 0 }

// fragments tells whether the rule is one for later fragments (-f), which only
// IPv4 has.
func (e Entry) fragments() bool { return e.Family == FamilyIPv4 && e.flags&entryFragment != 0 }

// Text is the header as iptables-save prints it between chain and matches:
// "-s 10.0.0.0/8 -i cali+ -p tcp", "" if it asks for nothing.
func (e Entry) Text() string {
	var o options
	e.address(&o, "-s", e.Src, e.SrcMask, entryInvSrc)
	e.address(&o, "-d", e.Dst, e.DstMask, entryInvDst)
	if name := e.in.text(); name != "" {
		o.neg(e.inverted(entryInvIn), "-i %s", name)
	}
	if name := e.out.text(); name != "" {
		o.neg(e.inverted(entryInvOut), "-o %s", name)
	}
	if e.Proto != 0 {
		o.neg(e.inverted(entryInvProto), "-p %s", protocolName(e.Proto))
	}
	if e.fragments() {
		o.neg(e.inverted(entryInvFrag), "-f")
	}
	if o.Len() == 0 {
		return ""
	}
	return o.String()[1:]
}

// address leaves out what holds for every address; of IPv4 an address without a
// mask is still printed.
func (e Entry) address(o *options, option string, addr, mask netip.Addr, inv uint8) {
	shown := !mask.IsUnspecified() || e.Family == FamilyIPv4 && !addr.IsUnspecified()
	if shown || e.inverted(inv) {
		o.neg(e.inverted(inv), "%s %s%s", option, addrText(addr), maskText(mask))
	}
}

// text is the name that has to be equal, with + if it may go on.
func (d device) text() string {
	var name []byte
	for i, m := range d.mask {
		if m == 0 {
			if i > 0 && d.name[i-1] != 0 {
				name = append(name, '+')
			}
			break
		}
		if d.name[i] != 0 {
			name = append(name, d.name[i])
		}
	}
	return string(name)
}

// Eval asks whether a packet passes the header, as ip_packet_match
// (net/ipv4/netfilter/ip_tables.c) and ip6_packet_match (net/ipv6/netfilter/
// ip6_tables.c) do.
func (e Entry) Eval(p *packet.Packet) packet.Answer {
	a := flip(masked(p.Src, e.Src, e.SrcMask), e.inverted(entryInvSrc)).
		And(flip(masked(p.Dst, e.Dst, e.DstMask), e.inverted(entryInvDst))).
		And(flip(e.in.asked(p.In), e.inverted(entryInvIn))).
		And(flip(e.out.asked(p.Out), e.inverted(entryInvOut)))
	if e.Family == FamilyIPv6 {
		return a.And(e.proto6(p))
	}
	if e.Proto != 0 {
		a = a.And(flip(packet.Of(uint16(p.Proto) == e.Proto), e.inverted(entryInvProto)))
	}
	if e.fragments() {
		later := headed(p).Not()
		a = a.And(flip(later, e.inverted(entryInvFrag)))
	} else if e.inverted(entryInvFrag) {
		a = packet.No // inverted "no matter": the kernel lets nothing through
	}
	return a
}

// proto6 compares the protocol only where the rule's flag says so.
func (e Entry) proto6(p *packet.Packet) packet.Answer {
	if e.flags&entryProto6 == 0 {
		return packet.Yes
	}
	if uint16(p.Proto) == e.Proto {
		return packet.Of(!e.inverted(entryInvProto))
	}
	return packet.Of(e.Proto == 0 || e.inverted(entryInvProto))
}

// asked is Yes for a rule that takes any interface.
func (d device) asked(name packet.Fact[string]) packet.Answer {
	if d.mask == [nameSize]byte{} {
		return packet.Yes
	}
	return name.Holds(d.is)
}
