// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"testing"
	"time"
)

// A CPU that is taken away while the clocks are read leaves the packets' times right.
func TestClockTakenAway(t *testing.T) {
	const offset = int64(1_700_000_000 * time.Second)
	for away := range 6 { // before which of the first readings the CPU is gone
		now, reading := int64(time.Hour), 0
		read := func() int64 {
			now += int64(time.Microsecond)
			if reading == away {
				now += int64(500 * time.Millisecond)
			}
			reading++
			return now
		}
		c := relate(read, func() int64 { return read() + offset })
		if got, want := c.Wall(uint64(now)), time.Unix(0, now+offset); got.Sub(want).Abs() > 2*time.Microsecond {
			t.Errorf("away before reading %d: told %v, it was %v", away, got, want)
		}
	}
}

func TestClock(t *testing.T) {
	c := NewClock()
	before := time.Now()
	told := c.Wall(c.Now())
	after := time.Now()
	if told.Before(before.Add(-time.Millisecond)) || told.After(after.Add(time.Millisecond)) {
		t.Errorf("told %v, it was between %v and %v", told, before, after)
	}
}
