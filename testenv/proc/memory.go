// SPDX-License-Identifier: Apache-2.0

// What a process has in memory, for those who measure one.

package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Memory gives VmHWM and VmRSS of /proc/PID/status (proc(5)), in bytes: the most
// that was resident, and what is now. The kernel's own count at the end
// (ru_maxrss) would be no good: it begins with the parent's.
func Memory(pid int) (peak, resident int64, err error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		key, rest, _ := strings.Cut(line, ":")
		if key != "VmHWM" && key != "VmRSS" {
			continue
		}
		kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("/proc/%d/status: %w", pid, err)
		}
		if key == "VmHWM" {
			peak = kb << 10
		} else {
			resident = kb << 10
		}
	}
	if peak == 0 || resident == 0 {
		return 0, 0, fmt.Errorf("/proc/%d/status has no VmHWM or no VmRSS: the process has ended", pid)
	}
	return peak, resident, nil
}
