// SPDX-License-Identifier: Apache-2.0

package xt

// The rest of what rules know of connections: matches helper, connlabel,
// connbytes, connlimit and ipvs, targets CT, NOTRACK, SECMARK and CONNSECMARK.
// Counters, labels and helpers are not in a packet.Packet: all answer Unknown.

import (
	"fmt"
	"math/bits"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// connected is the answer of a match whose fact is not seen but that never holds
// without a connection, inverted or not.
func connected(p *packet.Packet) packet.Answer { return tracked(p).And(packet.Unknown) }

// decodeHelper reads struct xt_helper_info (xt_helper.h).
func decodeHelper(e ext) (matchBody, bool) {
	var o options
	o.neg(e.u32(0) != 0, "--helper %s", quote(e.str(4, 30)))
	return matchBody{opts: o.String()}, true
}

// decodeConnlabel reads struct xt_connlabel_mtinfo (xt_connlabel.h). Labels print
// as numbers: their names stand in a file that the node need not have.
func decodeConnlabel(e ext) (matchBody, bool) {
	var o options
	o.neg(e.u16(2)&1 != 0, `--label "%d"`, e.u16(0))
	o.flag(e.u16(2)&2 != 0, "--set")
	return matchBody{opts: o.String()}, true
}

// decodeConnbytes reads struct xt_connbytes_info (xt_connbytes.h). A range whose
// end is below its beginning is a negated one.
func decodeConnbytes(e ext) (matchBody, bool) {
	from, to := e.u64(0), e.u64(8)
	mode, ok := nameOf(e.u8(16), []string{"packets", "bytes", "avgpkt"})
	side, ok2 := nameOf(e.u8(17), []string{"original", "reply", "both"})
	if !ok || !ok2 {
		return matchBody{}, false
	}
	inverted := from > to
	if inverted {
		from, to = to, from
	}
	value := fmt.Sprint(from)
	if to != 0 && to != ^uint64(0) {
		value += fmt.Sprintf(":%d", to)
	}
	var o options
	o.neg(inverted, "--connbytes %s --connbytes-mode %s --connbytes-dir %s", value, mode, side)
	return matchBody{opts: o.String(), eval: connected}, true
}

// decodeConnlimit reads struct xt_connlimit_info (xt_connlimit.h).
func decodeConnlimit(e ext) (matchBody, bool) {
	if !e.addressed() {
		return matchBody{}, false
	}
	const (
		inverted  = 1 << 0
		byAddress = 1 << 1 // of the destination; else of the source
	)
	flags, prefix := e.u32(20), e.bits()
	for off := 0; off < e.bits()/8; off += 4 {
		prefix -= bits.Len32(^e.be32(off))
	}
	var o options
	if flags&inverted != 0 {
		o.add("--connlimit-upto %d", e.u32(16))
	} else {
		o.add("--connlimit-above %d", e.u32(16))
	}
	o.add("--connlimit-mask %d", prefix)
	if e.rev >= 1 {
		o.flag(flags&byAddress != 0, "--connlimit-daddr")
		o.flag(flags&byAddress == 0, "--connlimit-saddr")
	}
	return matchBody{opts: o.String()}, true
}

// decodeIPVS reads struct xt_ipvs_mtinfo (xt_ipvs.h).
func decodeIPVS(e ext) (matchBody, bool) {
	const (
		property = 1 << iota
		proto
		vaddr
		vport
		direction
		method
		vportctl
	)
	inv, flags := e.u8(38), e.u8(39)
	if !e.addressed() {
		return matchBody{}, false
	}
	var o options
	option := func(bit uint8, format string, value any) {
		if flags&bit != 0 {
			o.neg(inv&bit != 0, format, value)
		}
	}
	if flags == property {
		o.neg(inv&property != 0, "--ipvs")
	}
	option(proto, "--vproto %d", e.u8(34))
	option(vaddr, "--vaddr %s", addrMask(e.addr(0), e.addr(16)))
	option(vport, "--vport %d", e.be16(32))
	if flags&direction != 0 {
		o.flag(inv&direction != 0, "--vdir REPLY")
		o.flag(inv&direction == 0, "--vdir ORIGINAL")
	}
	// IP_VS_CONN_F_MASQ, TUNNEL, DROUTE (include/uapi/linux/ip_vs.h).
	way, ok := map[uint8]string{0: "MASQ", 2: "IPIP", 3: "GATE"}[e.u8(35)]
	if !ok {
		way = "UNKNOWN"
	}
	option(method, "--vmethod %s", way)
	option(vportctl, "--vportctl %d", e.be16(36))
	return matchBody{opts: o.String()}, true
}

// Bits of struct xt_ct_target_info's flags (xt_CT.h).
const (
	ctNotrack = 1 << iota
	ctNotrackAlias
	ctZoneOriginal
	ctZoneReply
	ctZoneMark
)

// decodeCT reads struct xt_ct_target_info and _v1 (xt_CT.h).
func decodeCT(e ext) (targetBody, bool) {
	flags := e.u16(0)
	if flags&ctNotrackAlias != 0 {
		return targetBody{alias: "NOTRACK"}, true
	}
	var o options
	o.flag(flags&ctNotrack != 0, "--notrack")
	if helper := e.str(12, 16); helper != "" {
		o.add("--helper %s", helper)
	}
	if e.rev >= 1 {
		if timeout := e.str(28, 32); timeout != "" {
			o.add("--timeout %s", timeout)
		}
	}
	if events := e.u32(4); events != 0 { // enum ip_conntrack_events
		o.add("--ctevents %s", names(events, []string{"new", "related", "destroy", "reply", "assured",
			"protoinfo", "helper", "mark", "natseqinfo", "secmark"}))
	}
	if events := e.u32(8); events != 0 { // enum ip_conntrack_expect_events
		o.add("--expevents %s", names(events, []string{"new"}))
	}
	if zone := e.u16(2); flags&ctZoneMark != 0 || zone != 0 {
		o.add("%s", ctZone(flags, zone))
	}
	return targetBody{opts: o.String()}, true
}

func ctZone(flags, zone uint16) string {
	option := "--zone"
	switch flags & (ctZoneOriginal | ctZoneReply) {
	case ctZoneOriginal:
		option += "-orig"
	case ctZoneReply:
		option += "-reply"
	}
	if flags&ctZoneMark != 0 {
		return option + " mark"
	}
	return fmt.Sprintf("%s %d", option, zone)
}

// decodeNOTRACK has nothing to read.
func decodeNOTRACK(ext) (targetBody, bool) { return targetBody{}, true }

// decodeSECMARK reads struct xt_secmark_target_info and _v1 (xt_SECMARK.h). Its
// only mode is SELinux's.
func decodeSECMARK(e ext) (targetBody, bool) {
	off := 8
	if e.rev == 1 {
		off = 1
	}
	if e.u8(0) != 1 {
		return targetBody{}, false
	}
	return targetBody{opts: " --selctx " + e.str(off, 256)}, true
}

// decodeCONNSECMARK reads struct xt_connsecmark_target_info (xt_CONNSECMARK.h).
func decodeCONNSECMARK(e ext) (targetBody, bool) {
	mode, ok := nameOf(e.u8(0), []string{"", "--save", "--restore"})
	return targetBody{opts: " " + mode}, ok
}
