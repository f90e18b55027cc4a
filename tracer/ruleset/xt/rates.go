// SPDX-License-Identifier: Apache-2.0

package xt

// Matches on rates: limit, hashlimit, rateest. They have a memory in the kernel
// that no rule set tells, so all answer Unknown.

import (
	"fmt"
)

// rateUnit is a unit that rates are told in.
type rateUnit struct {
	name    string
	seconds uint64
}

func rateUnits() []rateUnit {
	return []rateUnit{{"day", 24 * 60 * 60}, {"hour", 60 * 60}, {"min", 60}, {"sec", 1}}
}

// rateText prints a period, in parts of a second, in the unit that iptables
// chooses: the longest one that does not round too much away.
func rateText(period, scale uint64) (string, rateUnit) {
	units := rateUnits()
	if period == 0 {
		return "inf", rateUnit{}
	}
	i := 1
	for ; i < len(units); i++ {
		mult := units[i].seconds * scale
		if period > mult || mult/period < mult%period {
			break
		}
	}
	u := units[i-1]
	return fmt.Sprintf("%d/%s", u.seconds*scale/period, u.name), u
}

// Scales: parts of a second that a period is counted in (xt_limit.h,
// xt_hashlimit.h).
const (
	limitScale      = 10000
	hashlimitScale1 = 10000
	hashlimitScale  = 1000000
)

// decodeLimit reads struct xt_rateinfo (xt_limit.h).
func decodeLimit(e ext) (matchBody, bool) {
	const defaultBurst = 5
	text, _ := rateText(uint64(e.u32(0)), limitScale)
	var o options
	o.add("--limit %s", text)
	if burst := e.u32(4); burst != defaultBurst {
		o.add("--limit-burst %d", burst)
	}
	return matchBody{opts: o.String()}, true
}

// Bits of hashlimit's mode (xt_hashlimit.h).
const (
	hashDstIP = 1 << iota
	hashDstPort
	hashSrcIP
	hashSrcPort
	hashInvert
	hashBytes
	hashRateMatch
)

// hashlimit is struct hashlimit_cfg3, to which the older ones are widened.
type hashlimit struct {
	name                            string
	avg, burst                      uint64
	mode                            uint32
	size, max, gc, expire, interval uint32
	srcMask, dstMask                uint8
	scale                           uint64
}

// readHashlimit reads struct xt_hashlimit_mtinfo1, 2 and 3 (xt_hashlimit.h).
func readHashlimit(e ext) hashlimit {
	if e.rev == 1 {
		return hashlimit{
			name: e.str(0, nameSize), scale: hashlimitScale1,
			mode: e.u32(16), avg: uint64(e.u32(20)), burst: uint64(e.u32(24)),
			size: e.u32(28), max: e.u32(32), gc: e.u32(36), expire: e.u32(40),
			srcMask: e.u8(44), dstMask: e.u8(45),
		}
	}
	const nameMax = 255 // NAME_MAX; the rest is aligned to 8
	h := hashlimit{
		name: e.str(0, nameMax), scale: hashlimitScale,
		avg: e.u64(256), burst: e.u64(264), mode: e.u32(272),
		size: e.u32(276), max: e.u32(280), gc: e.u32(284), expire: e.u32(288),
	}
	if e.rev == 2 {
		h.srcMask, h.dstMask = e.u8(292), e.u8(293)
	} else {
		h.interval, h.srcMask, h.dstMask = e.u32(292), e.u8(296), e.u8(297)
	}
	return h
}

func decodeHashlimit(e ext) (matchBody, bool) {
	if !e.addressed() {
		return matchBody{}, false
	}
	h := readHashlimit(e)
	var o options
	expire := h.rate(&o)
	if mode := h.modes(); mode != "" {
		o.add("--hashlimit-mode %s", mode)
	}
	o.add("--hashlimit-name %s", h.name)
	unless := func(option string, value, common uint32) {
		if value != common {
			o.add("--hashlimit-%s %d", option, value)
		}
	}
	unless("htable-size", h.size, 0)
	unless("htable-max", h.max, 0)
	unless("htable-gcinterval", h.gc, 1000)
	unless("htable-expire", h.expire, expire)
	unless("srcmask", uint32(h.srcMask), uint32(e.bits()))
	unless("dstmask", uint32(h.dstMask), uint32(e.bits()))
	if e.rev == 3 && h.mode&hashRateMatch != 0 {
		o.add("--hashlimit-rate-match")
		unless("rate-interval", h.interval, 1)
	}
	return matchBody{opts: o.String()}, true
}

// modes keeps iptables' order, which is not that of the bits.
func (h hashlimit) modes() string {
	order := uint32(0)
	for i, bit := range []uint32{hashSrcIP, hashSrcPort, hashDstIP, hashDstPort} {
		if h.mode&bit != 0 {
			order |= 1 << i
		}
	}
	return names(order, []string{"srcip", "srcport", "dstip", "dstport"})
}

// rate prints the limit itself and gives the expiry, in milliseconds, that goes
// with it by default.
func (h hashlimit) rate(o *options) uint32 {
	option := "--hashlimit-upto"
	if h.mode&hashInvert != 0 {
		option = "--hashlimit-above"
	}
	if h.mode&hashBytes != 0 {
		return h.byteRate(o, option)
	}
	text, unit := rateText(h.avg, h.scale)
	o.add("%s %s --hashlimit-burst %d", option, text, h.burst)
	return uint32(unit.seconds * 1000)
}

// byteUnit is a unit of byte rates.
type byteUnit struct {
	name string
	size uint64
}

// byteRate prints a rate of bytes: the kernel keeps the cost of 16 bytes of which
// 2^32-1 make a second (xt_hashlimit.h, XT_HASHLIMIT_BYTE_SHIFT).
func (h hashlimit) byteRate(o *options, option string) uint32 {
	const shift, all = 4, uint64(0xffffffff)
	units := []byteUnit{{"m", 1 << 20}, {"k", 1 << 10}, {"", 1}}
	bytes := all
	if h.avg != 0 {
		bytes = all / h.avg
	}
	bytes = (bytes - 1) << shift
	unit := units[2]
	for _, u := range units[:2] {
		steps := uint64(uint32((bytes&^(u.size-1))>>shift) + 1)
		if bytes >= u.size && steps != 0 && all/steps == h.avg {
			unit = u
			break
		}
	}
	o.add("%s %d%sb/s", option, bytes/unit.size, unit.name)
	if h.burst == 0 {
		return 15 * 1000
	}
	bytes *= h.burst
	unit = units[2]
	for _, u := range units[:2] {
		if bytes >= u.size {
			unit = u
			break
		}
	}
	o.add("--hashlimit-burst %d%sb", bytes/unit.size, unit.name)
	return 60 * 1000
}

// Bits of struct xt_rateest_match_info's flags (xt_rateest.h).
const (
	rateestInvert = 1 << iota
	rateestAbsolute
	rateestRelative
	rateestDelta
	rateestBytes
	rateestPackets
)

// decodeRateestMatch reads struct xt_rateest_match_info (xt_rateest.h).
func decodeRateestMatch(e ext) (matchBody, bool) {
	flags := e.u16(32)
	mode, ok := nameOf(e.u16(34), []string{"", "eq", "lt", "gt"})
	if !ok {
		return matchBody{}, false
	}
	var o options
	o.flag(flags&rateestDelta != 0, "--rateest-delta")
	relative := flags&rateestRelative != 0
	if relative {
		o.add("--rateest1 %s", e.str(0, nameSize))
	} else {
		o.add("--rateest %s", e.str(0, nameSize))
	}
	part := func(name, first, second string) {
		tail := ""
		if flags&rateestDelta != 0 {
			o.add("--rateest-%s1 %s", name, first)
			tail = "2"
		}
		o.neg(flags&rateestInvert != 0, "--rateest-%s", mode)
		o.add("--rateest-%s%s", name, tail)
		if flags&(rateestAbsolute|rateestDelta) != 0 {
			o.add("%s", second)
		}
	}
	if flags&rateestBytes != 0 {
		part("bps", bitRate(e.u32(36)), bitRate(e.u32(44)))
	}
	if flags&rateestPackets != 0 {
		part("pps", fmt.Sprint(e.u32(40)), fmt.Sprint(e.u32(48)))
	}
	if relative {
		o.add("--rateest2 %s", e.str(16, nameSize))
	}
	return matchBody{opts: o.String()}, true
}

// bitRate prints bytes a second the way iptables 1.8 does.
func bitRate(bytes uint32) string {
	switch bits := float64(bytes) * 8; {
	case bits >= 1e9:
		return fmt.Sprintf("%.0fMbit", bits/1e6)
	case bits >= 1e6:
		return fmt.Sprintf("%.0fKbit", bits/1e3)
	default:
		return fmt.Sprintf("%.0fbit", bits)
	}
}
