// SPDX-License-Identifier: Apache-2.0

package xt

// Targets that only tell somebody of the packet, which walks on: LOG, NFLOG,
// AUDIT, TRACE, LED, IDLETIMER, RATEEST.

import (
	"fmt"
	"strings"
)

// decodeLOG reads struct xt_log_info (xt_LOG.h).
func decodeLOG(e ext) (targetBody, bool) {
	const warning = 4 // the level that is not printed
	var o options
	if prefix := e.str(2, 30); prefix != "" {
		o.add("--log-prefix %s", quote(prefix))
	}
	if level := e.u8(0); level != warning {
		o.add("--log-level %d", level)
	}
	flags := e.u8(1)
	o.flag(flags&0x01 != 0, "--log-tcp-sequence")
	o.flag(flags&0x02 != 0, "--log-tcp-options")
	o.flag(flags&0x04 != 0, "--log-ip-options")
	o.flag(flags&0x08 != 0, "--log-uid")
	o.flag(flags&0x20 != 0, "--log-macdecode")
	return targetBody{opts: o.String()}, true
}

// decodeNFLOG reads struct xt_nflog_info (xt_NFLOG.h).
func decodeNFLOG(e ext) (targetBody, bool) {
	var o options
	if prefix := e.str(12, 64); prefix != "" {
		o.add("--nflog-prefix %s", quote(prefix))
	}
	if group := e.u16(4); group != 0 {
		o.add("--nflog-group %d", group)
	}
	switch size := e.u32(0); {
	case e.u16(8)&1 != 0:
		o.add("--nflog-size %d", size)
	case size != 0:
		o.add("--nflog-range %d", size)
	}
	if threshold := e.u16(6); threshold != 0 {
		o.add("--nflog-threshold %d", threshold)
	}
	return targetBody{opts: o.String()}, true
}

// decodeAUDIT reads struct xt_audit_info (xt_AUDIT.h).
func decodeAUDIT(e ext) (targetBody, bool) {
	kind, ok := nameOf(e.u8(0), []string{"accept", "drop", "reject"})
	return targetBody{opts: " --type " + kind}, ok
}

// decodeTRACE has nothing to read.
func decodeTRACE(ext) (targetBody, bool) { return targetBody{}, true }

// decodeLED reads struct xt_led_info (xt_LED.h). The kernel's name of the trigger
// has a prefix that iptables leaves out.
func decodeLED(e ext) (targetBody, bool) {
	id := strings.TrimPrefix(e.str(0, 27), "netfilter-")
	var o options
	o.add(`--led-trigger-id "%s"`, strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(id))
	if delay := int32(e.u32(28)); delay != 0 { // -1 is for ever, which prints as a number
		o.add("--led-delay %d", delay)
	}
	o.flag(e.u8(27) != 0, "--led-always-blink")
	return targetBody{opts: o.String()}, true
}

// decodeIDLETIMER reads struct idletimer_tg_info and _v1 (xt_IDLETIMER.h).
func decodeIDLETIMER(e ext) (targetBody, bool) {
	var o options
	o.add("--timeout %d --label %s", e.u32(0), e.str(4, 28))
	o.flag(e.rev == 1 && e.u8(33) == 1, "--alarm")
	return targetBody{opts: o.String()}, true
}

// decodeRATEEST reads struct xt_rateest_target_info (xt_RATEEST.h): the interval
// is 2^n quarters of a second, the averaging time 2^m of those.
func decodeRATEEST(e ext) (targetBody, bool) {
	interval, log := int8(e.u8(16)), e.u8(17)
	if interval < -2 || interval > 3 || log > 31 { // net/core/gen_estimator.c
		return targetBody{}, false
	}
	every := uint32(1000000<<(interval+2)) / 4
	return targetBody{opts: fmt.Sprintf(" --rateest-name %s --rateest-interval %s --rateest-ewmalog %s",
		e.str(0, nameSize), microseconds(every), microseconds(every<<log))}, true
}

func microseconds(t uint32) string {
	switch {
	case t >= 1000000:
		return fmt.Sprintf("%.1fs", float64(t)/1000000)
	case t >= 1000:
		return fmt.Sprintf("%.1fms", float64(t)/1000)
	}
	return fmt.Sprintf("%dus", t)
}
