// SPDX-License-Identifier: Apache-2.0

package xt

// Matches that look at nothing in the packet: comment, time, cpu, cluster.

import (
	"fmt"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// decodeComment reads struct xt_comment_info (xt_comment.h): 256 bytes, of which
// the last is a NUL.
func decodeComment(e ext) (matchBody, bool) {
	text := e.str(0, 255)
	return matchBody{
		opts:    " --comment " + quote(text),
		comment: text,
		eval:    func(*packet.Packet) packet.Answer { return packet.Yes },
	}, true
}

// decodeTime reads struct xt_time_info (xt_time.h). Which clock a packet was
// seen at is not in a packet.Packet.
func decodeTime(e ext) (matchBody, bool) {
	const (
		wholeDay    = 24*60*60 - 1
		allDays     = 0xfffffffe
		allWeekdays = 0xfe
	)
	var o options
	if from, to := e.u32(8), e.u32(12); from != 0 || to != wholeDay {
		o.add("--timestart %s --timestop %s", clock(from), clock(to))
	}
	if days := e.u32(16); days != allDays {
		var list []string
		for i := 1; i <= 31; i++ {
			if days&(1<<i) != 0 {
				list = append(list, fmt.Sprint(i))
			}
		}
		o.add("--monthdays %s", strings.Join(list, ","))
	}
	if days := e.u8(20); days != allWeekdays {
		o.add("--weekdays %s", names(uint32(days>>1), []string{"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"}))
	}
	for off, option := range []string{0: "--datestart", 4: "--datestop"} {
		if date := e.u32(off); option != "" && date != 0 {
			o.add("%s %s", option, time.Unix(int64(date), 0).UTC().Format("2006-01-02T15:04:05"))
		}
	}
	o.flag(e.u8(21)&1 != 0, "--kerneltz")
	o.flag(e.u8(21)&2 != 0, "--contiguous")
	return matchBody{opts: o.String()}, true
}

func clock(seconds uint32) string {
	return fmt.Sprintf("%02d:%02d:%02d", seconds/3600, seconds/60%60, seconds%60)
}

// decodeCPU reads struct xt_cpu_info (xt_cpu.h).
func decodeCPU(e ext) (matchBody, bool) {
	var o options
	o.neg(e.u32(4) != 0, "--cpu %d", e.u32(0))
	return matchBody{opts: o.String()}, true
}

// decodeCluster reads struct xt_cluster_match_info (xt_cluster.h).
func decodeCluster(e ext) (matchBody, bool) {
	var o options
	o.neg(e.u32(12)&1 != 0, "--cluster-local-nodemask 0x%08x --cluster-total-nodes %d --cluster-hash-seed 0x%08x",
		e.u32(4), e.u32(0), e.u32(8))
	return matchBody{opts: o.String()}, true
}
