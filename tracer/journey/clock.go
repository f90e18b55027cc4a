// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"time"

	"golang.org/x/sys/unix"
)

// Clock relates the kernel's CLOCK_MONOTONIC to wall time.
type Clock struct{ offset int64 }

func NewClock() Clock {
	var c Clock
	c.offset = time.Now().UnixNano() - int64(c.Now())
	return c
}

func (Clock) Now() uint64 {
	var ts unix.Timespec
	// cannot fail for this clock and a valid pointer
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return uint64(ts.Nano())
}

func (c Clock) Wall(mono uint64) time.Time { return time.Unix(0, int64(mono)+c.offset) }
