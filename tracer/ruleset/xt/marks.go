// SPDX-License-Identifier: Apache-2.0

package xt

// The packet's mark and its connection's: matches mark and connmark, targets
// MARK, CONNMARK and HMARK. Calico and kube-proxy hang their decisions on them,
// so inference has to carry them on exactly.

import (
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// decodeMark0 reads struct xt_mark_info: unsigned long mark, mask; u8 invert
// (xt_mark.h before Linux 2.6.37).
func decodeMark0(e ext) (matchBody, bool) {
	return markMatch(uint32(e.u64(0)), uint32(e.u64(8)), e.u8(16) != 0), true
}

// decodeMark reads struct xt_mark_mtinfo1 (xt_mark.h).
func decodeMark(e ext) (matchBody, bool) {
	return markMatch(e.u32(0), e.u32(4), e.u8(8) != 0), true
}

func markMatch(mark, mask uint32, inverted bool) matchBody {
	return matchBody{
		opts: markOption(mark, mask, inverted),
		eval: func(p *packet.Packet) packet.Answer { return flip(markIs(p.Mark, mark, mask), inverted) },
	}
}

// decodeConnmark0 reads struct xt_connmark_info, laid out as xt_mark_info.
func decodeConnmark0(e ext) (matchBody, bool) {
	return connmarkMatch(uint32(e.u64(0)), uint32(e.u64(8)), e.u8(16) != 0), true
}

// decodeConnmark reads struct xt_connmark_mtinfo1 (xt_connmark.h).
func decodeConnmark(e ext) (matchBody, bool) {
	return connmarkMatch(e.u32(0), e.u32(4), e.u8(8) != 0), true
}

// connmarkMatch never holds without a connection, inverted or not
// (net/netfilter/xt_connmark.c, connmark_mt).
func connmarkMatch(mark, mask uint32, inverted bool) matchBody {
	return matchBody{
		opts: markOption(mark, mask, inverted),
		eval: func(p *packet.Packet) packet.Answer {
			return tracked(p).And(flip(markIs(p.CT.Mark, mark, mask), inverted))
		},
	}
}

func markOption(mark, mask uint32, inverted bool) string {
	var o options
	o.neg(inverted, "--mark %s", valueMask(mark, mask))
	return o.String()
}

// decodeMARK0 reads struct xt_mark_target_info: unsigned long mark.
func decodeMARK0(e ext) (targetBody, bool) {
	mark := uint32(e.u64(0))
	return targetBody{opts: fmt.Sprintf(" --set-mark 0x%x", mark), apply: setMark(mark, 0xffffffff)}, true
}

// decodeMARK1 reads struct xt_mark_target_info_v1: unsigned long mark; u8 mode,
// one of set, and, or.
func decodeMARK1(e ext) (targetBody, bool) {
	mark := uint32(e.u64(0))
	switch e.u8(8) {
	case 0:
		return targetBody{opts: fmt.Sprintf(" --set-mark 0x%x", mark), apply: setMark(mark, 0xffffffff)}, true
	case 1:
		return targetBody{opts: fmt.Sprintf(" --and-mark 0x%x", mark), apply: setMark(0, ^mark)}, true
	case 2:
		return targetBody{opts: fmt.Sprintf(" --or-mark 0x%x", mark), apply: setMark(mark, mark)}, true
	}
	return targetBody{}, false
}

// decodeMARK reads struct xt_mark_tginfo2 (xt_mark.h).
func decodeMARK(e ext) (targetBody, bool) {
	mark, mask := e.u32(0), e.u32(4)
	return targetBody{
		opts:  fmt.Sprintf(" --set-xmark 0x%x/0x%x", mark, mask),
		apply: setMark(mark, mask),
	}, true
}

// setMark zeroes the bits of mask and XORs mark in.
func setMark(mark, mask uint32) func(*packet.Packet) {
	return func(p *packet.Packet) { p.Mark = xmark(p.Mark, mark, mask) }
}

func xmark(old packet.Fact[uint32], mark, mask uint32) packet.Fact[uint32] {
	if mask == 0xffffffff {
		return packet.Known(mark)
	}
	if old.Known {
		old.Value = old.Value&^mask ^ mark
	}
	return old
}

// Modes of CONNMARK (xt_connmark.h).
const (
	connmarkSet = iota
	connmarkSave
	connmarkRestore
)

// decodeCONNMARK0 reads struct xt_connmark_target_info: unsigned long mark, mask;
// u8 mode.
func decodeCONNMARK0(e ext) (targetBody, bool) {
	c := connmark{ctmark: uint32(e.u64(0)), ctmask: uint32(e.u64(8)), mode: e.u8(16)}
	c.nfmask = c.ctmask
	var o options
	masked := func(option string) {
		// The blank behind the option is iptables-save's own.
		o.add("%s ", option)
		if c.ctmask != 0xffffffff {
			fmt.Fprintf(&o, "--mask 0x%x", c.ctmask)
		}
	}
	switch c.mode {
	case connmarkSet:
		o.add("--set-mark %s", valueMask(c.ctmark, c.ctmask))
	case connmarkSave:
		masked("--save-mark")
	case connmarkRestore:
		masked("--restore-mark")
	default:
		return targetBody{}, false
	}
	return targetBody{opts: o.String(), apply: c.apply}, true
}

// decodeCONNMARK reads struct xt_connmark_tginfo1 and tginfo2 (xt_connmark.h).
func decodeCONNMARK(e ext) (targetBody, bool) {
	c := connmark{ctmark: e.u32(0), ctmask: e.u32(4), nfmask: e.u32(8), mode: e.u8(12)}
	if e.rev == 2 {
		c.right, c.shift, c.mode = e.u8(12) != 0, e.u8(13), e.u8(14)
	}
	var o options
	switch c.mode {
	case connmarkSet:
		o.add("--set-xmark 0x%x/0x%x", c.ctmark, c.ctmask)
	case connmarkSave:
		o.add("--save-mark --nfmask 0x%x --ctmask 0x%x", c.nfmask, c.ctmask)
	case connmarkRestore:
		o.add("--restore-mark --nfmask 0x%x --ctmask 0x%x", c.nfmask, c.ctmask)
	default:
		return targetBody{}, false
	}
	if c.shift != 0 {
		side := "left"
		if c.right {
			side = "right"
		}
		o.add("--%s-shift-mark %d", side, c.shift)
	}
	return targetBody{opts: o.String(), apply: c.apply}, true
}

// connmark is what a CONNMARK target does.
type connmark struct {
	ctmark, ctmask, nfmask uint32
	mode                   uint8
	right                  bool
	shift                  uint8
}

func (c connmark) shifted(v uint32) uint32 {
	if c.right {
		return v >> c.shift
	}
	return v << c.shift
}

// apply follows connmark_tg_shift (net/netfilter/xt_connmark.c): nothing happens
// to a packet without a connection.
func (c connmark) apply(p *packet.Packet) {
	has := tracked(p)
	if has == packet.No {
		return
	}
	mark, ct := p.Mark, p.CT.Mark
	switch c.mode {
	case connmarkSet:
		if ct = xmark(ct, c.ctmark, c.ctmask); ct.Known {
			ct.Value = c.shifted(ct.Value)
		}
	case connmarkSave:
		ct = moved(ct, mark, c.ctmask, c.nfmask, c.shifted)
	case connmarkRestore:
		mark = moved(mark, ct, c.nfmask, c.ctmask, c.shifted)
	}
	if has == packet.Unknown { // it may have happened or not
		mark, ct = same(mark, p.Mark), same(ct, p.CT.Mark)
	}
	p.Mark, p.CT.Mark = mark, ct
}

// moved copies the bits of a mark that a mask keeps into another.
func moved(to, from packet.Fact[uint32], toMask, fromMask uint32, shift func(uint32) uint32) packet.Fact[uint32] {
	if !from.Known && fromMask != 0 {
		return packet.Fact[uint32]{}
	}
	return xmark(to, shift(from.Value&fromMask), toMask)
}

// same keeps a fact that both ways lead to.
func same(a, b packet.Fact[uint32]) packet.Fact[uint32] {
	if a == b {
		return a
	}
	return packet.Fact[uint32]{}
}

// Bits of struct xt_hmark_info's flags (xt_HMARK.h, enum).
const (
	hmarkSrcMask = 1 << iota
	hmarkDstMask
	hmarkSPI
	hmarkSPIMask
	hmarkSport
	hmarkDport
	hmarkSportMask
	hmarkDportMask
	hmarkProtoMask
	hmarkRandom
	hmarkModulus
	hmarkOffset
	hmarkCT
)

// decodeHMARK reads struct xt_hmark_info (xt_HMARK.h). The mark it sets is a hash
// that is not computed here.
func decodeHMARK(e ext) (targetBody, bool) {
	if !e.addressed() {
		return targetBody{}, false
	}
	flags := e.u32(40)
	var o options
	for _, part := range []struct {
		bit    uint32
		format string
		value  any
	}{
		{hmarkSrcMask, "--hmark-src-prefix %d", cidr(e, 0)},
		{hmarkDstMask, "--hmark-dst-prefix %d", cidr(e, 16)},
		{hmarkSportMask, "--hmark-sport-mask 0x%04x", e.be16(32)},
		{hmarkDportMask, "--hmark-dport-mask 0x%04x", e.be16(34)},
		{hmarkSPIMask, "--hmark-spi-mask 0x%08x", e.be32(32)},
		{hmarkSport, "--hmark-sport 0x%04x", e.be16(36)},
		{hmarkDport, "--hmark-dport 0x%04x", e.be16(38)},
		{hmarkSPI, "--hmark-spi 0x%08x", e.be32(36)},
		{hmarkProtoMask, "--hmark-proto-mask 0x%02x", e.u16(44)},
		{hmarkRandom, "--hmark-rnd 0x%08x", e.u32(48)},
		{hmarkModulus, "--hmark-mod %d", e.u32(52)},
		{hmarkOffset, "--hmark-offset %d", e.u32(56)},
	} {
		if flags&part.bit != 0 {
			o.add(part.format, part.value)
		}
	}
	o.flag(flags&hmarkCT != 0, "--hmark-tuple ct")
	return targetBody{opts: o.String(), apply: forgetMark}, true
}

// cidr is a mask's length, -1 if it has holes.
func cidr(e ext, off int) int {
	if n, ok := prefixLen(e.addr(off)); ok {
		return n
	}
	return -1
}

func forgetMark(p *packet.Packet) { p.Mark = packet.Fact[uint32]{} }
