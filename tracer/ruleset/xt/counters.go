// SPDX-License-Identifier: Apache-2.0

package xt

// Matches that count, remember or throw dice: statistic, recent, quota, nfacct.
// What they say of a packet depends on those before it: all answer Unknown.

import "fmt"

// decodeStatistic reads struct xt_statistic_info (xt_statistic.h). Probabilities
// are in parts of 2^31.
func decodeStatistic(e ext) (matchBody, bool) {
	not := ""
	if e.u16(2)&1 != 0 {
		not = " !"
	}
	switch e.u16(0) {
	case 0:
		return matchBody{opts: fmt.Sprintf(" --mode random%s --probability %.11f", not, float64(e.u32(4))/(1<<31))}, true
	case 1:
		return matchBody{opts: fmt.Sprintf(" --mode nth%s --every %d --packet %d", not, e.u32(4)+1, e.u32(8))}, true
	}
	return matchBody{}, false
}

// decodeRecent reads struct xt_recent_mtinfo and _v1, which adds a mask
// (xt_recent.h).
func decodeRecent(e ext) (matchBody, bool) {
	const (
		check = 1 << iota
		set
		update
		remove
		ttl
		reap
	)
	if e.rev == 1 && !e.addressed() {
		return matchBody{}, false
	}
	var o options
	do := e.u8(8)
	if e.u8(9) != 0 {
		o.WriteString(" !")
	}
	o.flag(do&set != 0, "--set")
	o.flag(do&check != 0, "--rcheck")
	o.flag(do&update != 0, "--update")
	o.flag(do&remove != 0, "--remove")
	if seconds := e.u32(0); seconds != 0 {
		o.add("--seconds %d", int32(seconds))
	}
	o.flag(do&reap != 0, "--reap")
	if hits := e.u32(4); hits != 0 {
		o.add("--hitcount %d", int32(hits))
	}
	o.flag(do&ttl != 0, "--rttl")
	o.add("--name %s", e.str(10, 200))
	if e.rev == 1 {
		o.add("--mask %s", addrText(e.addr(212)))
	}
	o.flag(e.u8(210) == 0, "--rsource")
	o.flag(e.u8(210) == 1, "--rdest")
	return matchBody{opts: o.String()}, true
}

// decodeQuota reads struct xt_quota_info (xt_quota.h).
func decodeQuota(e ext) (matchBody, bool) {
	var o options
	o.neg(e.u32(0)&1 != 0, "--quota %d", e.u64(8))
	return matchBody{opts: o.String()}, true
}

// decodeNFAcct reads struct xt_nfacct_match_info and _v1 (xt_nfacct.h). It counts,
// and holds for every packet, unless its object has a quota.
func decodeNFAcct(e ext) (matchBody, bool) {
	// The two blanks are iptables-save's own.
	return matchBody{opts: " --nfacct-name  " + quote(e.str(0, 32))}, true
}
