// SPDX-License-Identifier: Apache-2.0

// How much memory a trace may take: it runs on nodes that are short of it.

package main

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// Half of what lives, not all of it again, is the garbage that may stand.
	garbagePercent = 50
	// What Go may take, in bytes, before it collects more often. The ring buffer's
	// mappings (16 MiB without packet bytes) and the program itself (some 18 MiB)
	// come on top of it: together less than 64 MiB.
	memoryLimit = 30 << 20
)

// saveMemory has garbage collected early. Who set Go's own variables is let have it.
func saveMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbagePercent)
	}
}

// limitMemory bounds a trace that is ready. Where what it has read of the node
// (large rule sets) fills most of the limit, the limit moves: collecting all the
// time would cost the node more than the memory.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	limit := int64(memoryLimit)
	if live[0].Value.Kind() == metrics.KindUint64 {
		limit = max(limit, 2*int64(live[0].Value.Uint64()))
	}
	debug.SetMemoryLimit(limit)
}
