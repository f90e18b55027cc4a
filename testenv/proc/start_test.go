// SPDX-License-Identifier: Apache-2.0

// The start time is the one the kernel counts by, and does not change while a
// process works: an owner that seemed another one would lose what it uses.

package proc

import (
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// userHZ is what /proc counts a second as (USER_HZ).
const userHZ = 100

func TestStartTime(t *testing.T) {
	now := func() uint64 {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
			t.Fatal(err)
		}
		return uint64(ts.Nano() / int64(time.Second/userHZ))
	}
	before := now()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	after := now()
	// the kernel rounds down, and so do we
	if start, err := StartTime(cmd.Process.Pid); err != nil || start+1 < before || start > after+1 {
		t.Errorf("started at tick %d, %v; it was between %d and %d", start, err, before, after)
	}
}
