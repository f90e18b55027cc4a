// SPDX-License-Identifier: Apache-2.0

// How much memory a trace may take: it runs on nodes that are short of it.

package main

import (
	"os"
	"runtime/debug"
)

// garbagePercent is how much garbage may stand beside what lives: half of it, not
// all of it again. A limit of so many bytes (SetMemoryLimit) would be no good:
// where a node's rules fill it, Go collects all the time, and packets are told
// many seconds late.
const garbagePercent = 50

// saveMemory has garbage collected early. Who set Go's own variable is let have it.
func saveMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbagePercent)
	}
}
