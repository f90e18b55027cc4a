// SPDX-License-Identifier: Apache-2.0

// Package proc reads what the kernel says of a process, /proc/PID: when it
// began, which tells it from a later one of the same number, and its memory.
package proc

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// StartTime reads a process's start time, in clock ticks since boot. A process
// that is gone gives an error that is os.ErrNotExist.
func StartTime(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	end := strings.LastIndex(string(text), ")") // the command's name may hold anything
	fields := strings.Fields(string(text[end+1:]))
	if end < 0 || len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat has no start time", pid)
	}
	return strconv.ParseUint(fields[19], 10, 64) // field 22 of proc(5); what is left begins with field 3
}
