// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"time"

	"golang.org/x/sys/unix"
)

// clock relates the kernel's CLOCK_MONOTONIC to wall time.
type clock struct{ offset int64 }

func newClock() clock {
	var c clock
	c.offset = time.Now().UnixNano() - int64(c.now())
	return c
}

func (clock) now() uint64 {
	var ts unix.Timespec
	// cannot fail for this clock and a valid pointer
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return uint64(ts.Nano())
}

func (c clock) wall(mono uint64) time.Time { return time.Unix(0, int64(mono)+c.offset) }
