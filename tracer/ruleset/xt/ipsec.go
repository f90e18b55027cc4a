// SPDX-License-Identifier: Apache-2.0

package xt

// Matches on IPsec: esp, ah, ipcomp by their parameter indexes, and policy.
// Indexes and policies are not in a packet.Packet.

import (
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// indexRange prints a range of indexes unless it is all of them.
func indexRange(o *options, e ext, off int, inverted bool, option string) (every bool) {
	lo, hi := e.u32(off), e.u32(off+4)
	if lo == 0 && hi == 0xffffffff {
		return true
	}
	o.neg(inverted, "%s %s", option, span(lo, hi))
	return false
}

// decodeESP reads struct xt_esp (xt_esp.h).
func decodeESP(e ext) (matchBody, bool) {
	var o options
	inverted := e.u8(8)&1 != 0
	every := indexRange(&o, e, 0, inverted, "--espspi")
	return matchBody{opts: o.String(), eval: indexEval(protoESP, every, inverted)}, true
}

// indexEval answers only where the range is every index.
func indexEval(proto uint8, every, inverted bool) func(*packet.Packet) packet.Answer {
	return func(p *packet.Packet) packet.Answer {
		index := packet.Unknown
		if every {
			index = packet.Of(!inverted)
		}
		return transport(p, proto).And(index)
	}
}

// decodeAH reads struct ipt_ah (ipt_ah.h) and ip6t_ah (ip6t_ah.h), which also has
// the header's length and its reserved field.
func decodeAH(e ext) (matchBody, bool) {
	var o options
	if e.Family == FamilyIPv4 {
		inverted := e.u8(8)&1 != 0
		every := indexRange(&o, e, 0, inverted, "--ahspi")
		return matchBody{opts: o.String(), eval: indexEval(protoAH, every, inverted)}, true
	}
	inv := e.u8(13)
	indexRange(&o, e, 0, inv&1 != 0, "--ahspi")
	if size := e.u32(8); size != 0 || inv&2 != 0 {
		o.neg(inv&2 != 0, "--ahlen %d", size)
	}
	o.flag(e.u8(12) != 0, "--ahres")
	return matchBody{opts: o.String()}, true
}

// decodeIPComp reads struct xt_ipcomp (xt_ipcomp.h).
func decodeIPComp(e ext) (matchBody, bool) {
	var o options
	indexRange(&o, e, 0, e.u8(8)&1 != 0, "--ipcompspi")
	o.flag(e.u8(9) != 0, "--compres")
	return matchBody{opts: o.String()}, true
}

// decodePolicy reads struct xt_policy_info (xt_policy.h): up to four elements,
// flags, their number.
func decodePolicy(e ext) (matchBody, bool) {
	const (
		in = 1 << iota
		_
		none
		strict
	)
	flags, count := e.u16(304), int(e.u16(306))
	if count > 4 || !e.addressed() {
		return matchBody{}, false
	}
	var o options
	o.flag(flags&in != 0, "--dir in")
	o.flag(flags&in == 0, "--dir out")
	o.flag(flags&none != 0, "--pol none")
	o.flag(flags&none == 0, "--pol ipsec")
	o.flag(flags&strict != 0, "--strict")
	for i := 0; i < count; i++ {
		if i > 0 {
			o.add("--next")
		}
		policyElement(&o, e, 76*i)
	}
	return matchBody{opts: o.String()}, true
}

// policyElement reads struct xt_policy_elem: source, its mask, destination, its
// mask, index, request, protocol, mode, and a bit each for what is asked and what
// is negated. Bit fields count from the lowest bit on little-endian machines.
func policyElement(o *options, e ext, at int) {
	const (
		source = 1 << iota
		destination
		proto
		mode
		spi
		request
	)
	has, inv := e.u8(at+74), e.u8(at+75)
	put := func(bit uint8, option string) {
		if has&bit != 0 {
			o.neg(inv&bit != 0, "%s", option)
		}
	}
	way, ok := nameOf(e.u8(at+73), []string{"transport", "tunnel"})
	if !ok {
		way = "???"
	}
	put(request, fmt.Sprintf("--reqid %d", e.u32(at+68)))
	put(spi, fmt.Sprintf("--spi 0x%x", e.u32(at+64)))
	put(proto, "--proto "+systemProtocol(e.u8(at+72)))
	put(mode, "--mode "+way)
	put(destination, "--tunnel-dst "+addrMask(e.addr(at+32), e.addr(at+48)))
	put(source, "--tunnel-src "+addrMask(e.addr(at), e.addr(at+16)))
}
