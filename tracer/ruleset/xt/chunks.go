// SPDX-License-Identifier: Apache-2.0

package xt

// Matches on the transports that know packet and chunk types: sctp and dccp
// (net/netfilter/xt_sctp.c, xt_dccp.c). Types and options are not in a
// packet.Packet, so rules on them answer Unknown where the ports do not decide.

import (
	"fmt"
	"math/bits"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// Bits of flags and invflags (xt_sctp.h, xt_dccp.h).
const (
	chunkSport  = 1 << 0
	chunkDport  = 1 << 1
	chunkTypes  = 1 << 2
	chunkOption = 1 << 3 // dccp only
)

// portsByFlag reads dpts and spts, which both structs begin with.
func portsByFlag(e ext, o *options, flags, inv uint32) (src, dst portRange) {
	src, dst = portRange{hi: 0xffff}, portRange{hi: 0xffff}
	if flags&chunkSport != 0 {
		src = portRange{e.u16(4), e.u16(6), inv&chunkSport != 0}
		o.neg(src.inverted, "--sport %s", span(src.lo, src.hi))
	}
	if flags&chunkDport != 0 {
		dst = portRange{e.u16(0), e.u16(2), inv&chunkDport != 0}
		o.neg(dst.inverted, "--dport %s", span(dst.lo, dst.hi))
	}
	return src, dst
}

// chunkEval decides by the ports; more tells that the rule looks further.
func chunkEval(proto uint8, src, dst portRange, more bool) func(*packet.Packet) packet.Answer {
	return func(p *packet.Packet) packet.Answer {
		a := transport(p, proto).And(src.holds(p.SrcPort)).And(dst.holds(p.DstPort))
		if more {
			a = a.And(packet.Unknown)
		}
		return a
	}
}

// chunk names an SCTP chunk type and its flags from bit 7 on (RFC 9260 and its
// extensions).
type chunk struct {
	name  string
	flags string
}

func chunkOf(kind int) (chunk, bool) {
	const none = "--------"
	c, ok := map[int]chunk{
		0: {"DATA", "----IUBE"}, 1: {"INIT", none}, 2: {"INIT_ACK", none}, 3: {"SACK", none},
		4: {"HEARTBEAT", none}, 5: {"HEARTBEAT_ACK", none}, 6: {"ABORT", "-------T"},
		7: {"SHUTDOWN", none}, 8: {"SHUTDOWN_ACK", none}, 9: {"ERROR", none},
		10: {"COOKIE_ECHO", none}, 11: {"COOKIE_ACK", none}, 12: {"ECN_ECNE", none},
		13: {"ECN_CWR", none}, 14: {"SHUTDOWN_COMPLETE", "-------T"}, 64: {"I_DATA", "----IUBE"},
		128: {"ASCONF_ACK", none}, 130: {"RE_CONFIG", none}, 132: {"PAD", none},
		192: {"FORWARD_TSN", none}, 193: {"ASCONF", none}, 194: {"I_FORWARD_TSN", none},
	}[kind]
	return c, ok
}

// decodeSCTP reads struct xt_sctp_info (xt_sctp.h).
func decodeSCTP(e ext) (matchBody, bool) {
	flags, inv := e.u32(284), e.u32(288)
	var o options
	src, dst := portsByFlag(e, &o, flags, inv)
	if flags&chunkTypes != 0 {
		how, ok := map[uint32]string{1: "any", 2: "all", 4: "only"}[e.u32(264)]
		count := e.u32(280)
		if !ok || count > 4 {
			return matchBody{}, false
		}
		o.neg(inv&chunkTypes != 0, "--chunk-types %s %s", how, chunkList(e, int(count)))
	}
	return matchBody{opts: o.String(), eval: chunkEval(protoSCTP, src, dst, flags&chunkTypes != 0)}, true
}

// chunkList prints the map of 256 chunk types at 8, with the flags asked for at
// 268: up to four of chunk type, flag, flag mask.
func chunkList(e ext, count int) string {
	set := func(i int) bool { return e.u32(8+i/32*4)&(1<<(i%32)) != 0 }
	n := 0
	for word := 0; word < 8; word++ {
		n += bits.OnesCount32(e.u32(8 + word*4))
	}
	switch n {
	case 0:
		return "NONE"
	case 256:
		return "ALL"
	}
	var list []string
	for i := 0; i < 256; i++ {
		if !set(i) {
			continue
		}
		c, _ := chunkOf(i) // iptables-save prints nothing for a type without a name
		text := c.name
		for f := 0; f < count; f++ {
			if off := 268 + 3*f; int(e.u8(off)) == i {
				text += chunkFlags(c, e.u8(off+1), e.u8(off+2))
			}
		}
		list = append(list, text)
	}
	return strings.Join(list, ",")
}

// chunkFlags prints the flags a mask asks for: capital for set, small for not.
func chunkFlags(c chunk, flags, mask uint8) string {
	if mask == 0 || c.flags == "" {
		return ""
	}
	text := ":"
	for bit := 7; bit >= 0; bit-- {
		switch letter := c.flags[7-bit : 8-bit]; {
		case mask&(1<<bit) == 0:
		case flags&(1<<bit) != 0:
			text += letter
		default:
			text += strings.ToLower(letter)
		}
	}
	return text
}

// decodeDCCP reads struct xt_dccp_info (xt_dccp.h); types are those of
// enum dccp_pkt_type (include/uapi/linux/dccp.h).
func decodeDCCP(e ext) (matchBody, bool) {
	flags, inv := uint32(e.u16(8)), uint32(e.u16(10))
	var o options
	src, dst := portsByFlag(e, &o, flags, inv)
	if flags&chunkTypes != 0 {
		o.neg(inv&chunkTypes != 0, "--dccp-types %s", names(uint32(e.u16(12)), []string{
			"REQUEST", "RESPONSE", "DATA", "ACK", "DATAACK", "CLOSEREQ", "CLOSE", "RESET", "SYNC", "SYNCACK", "INVALID"}))
	}
	if flags&chunkOption != 0 {
		o.neg(inv&chunkOption != 0, "--dccp-option %s", fmt.Sprint(e.u8(14)))
	}
	return matchBody{opts: o.String(), eval: chunkEval(protoDCCP, src, dst, flags&(chunkTypes|chunkOption) != 0)}, true
}
