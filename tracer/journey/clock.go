// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"time"

	"golang.org/x/sys/unix"
)

// Clock relates the kernel's CLOCK_MONOTONIC to wall time.
type Clock struct{ offset int64 }

// NewClock reads both clocks. The relation is off by no more than the narrowest of
// its readings took: some microseconds.
func NewClock() Clock {
	return relate(func() int64 { return int64(Clock{}.Now()) }, func() int64 { return time.Now().UnixNano() })
}

// relations is how often the two clocks are read together.
const relations = 16

// relate reads the wall clock between two looks at the other one, and keeps the
// narrowest reading: a CPU that is taken away in between, for half a second in an
// emulated machine, would put every packet of the trace wrong by as much.
func relate(mono, wall func() int64) Clock {
	var c Clock
	narrowest := int64(-1)
	for range relations {
		before := mono()
		w := wall()
		if took := mono() - before; narrowest < 0 || took < narrowest {
			narrowest = took
			c.offset = w - (before + took/2)
		}
	}
	return c
}

func (Clock) Now() uint64 {
	var ts unix.Timespec
	// cannot fail for this clock and a valid pointer
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return uint64(ts.Nano())
}

func (c Clock) Wall(mono uint64) time.Time { return time.Unix(0, int64(mono)+c.offset) }
