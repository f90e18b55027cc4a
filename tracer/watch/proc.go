// SPDX-License-Identifier: Apache-2.0

package watch

// This file asks /proc about processes while they are there.

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// procDir is where processes are looked up: /proc, or the host's seen from a
// container.
type procDir string

// complete adds what /proc knows of a process, if it still is there. One of
// another name has got its number since, and tells nothing.
func (p procDir) complete(by *model.By) {
	dir := filepath.Join(string(p), strconv.FormatUint(uint64(by.PID), 10))
	name, ppid, ok := p.stat(dir)
	if !ok || name != by.Comm {
		return
	}
	if parent, _, ok := p.stat(filepath.Join(string(p), strconv.FormatUint(uint64(ppid), 10))); ok {
		by.ParentPID, by.Parent = ppid, parent
	}
	raw, err := os.ReadFile(filepath.Join(dir, "cgroup"))
	if err != nil {
		return // it has ended
	}
	for line := range strings.Lines(string(raw)) {
		by.Container, by.Unit = InCgroup(filepath.Base(strings.TrimSpace(line)))
		if by.Container != "" || by.Unit != "" {
			return
		}
	}
}

// stat reads name and parent of a process (proc_pid_stat(5)). The name stands in
// parentheses and may hold some itself.
func (p procDir) stat(dir string) (name string, ppid uint32, ok bool) {
	raw, err := os.ReadFile(filepath.Join(dir, "stat"))
	from, to := bytes.IndexByte(raw, '('), bytes.LastIndexByte(raw, ')')
	if err != nil || from < 0 || to < from {
		return "", 0, false
	}
	fields := strings.Fields(string(raw[to+1:]))
	if len(fields) < 2 {
		return "", 0, false
	}
	parent, err := strconv.ParseUint(fields[1], 10, 32)
	return string(raw[from+1 : to]), uint32(parent), err == nil
}

// running lists the processes with one of some names.
func (p procDir) running(names []string) map[uint32]bool {
	found := make(map[uint32]bool)
	entries, err := os.ReadDir(string(p))
	if err != nil {
		return found // then their age has to tell
	}
	for _, e := range entries {
		pid, err := strconv.ParseUint(e.Name(), 10, 32)
		if err != nil {
			continue
		}
		if name, _, ok := p.stat(filepath.Join(string(p), e.Name())); ok && slices.Contains(names, name) {
			found[uint32(pid)] = true
		}
	}
	return found
}

// containerDigits is the length of a container's id; people use the first 12.
const (
	containerDigits = 64
	shownDigits     = 12
)

// InCgroup reads the last part of a cgroup's path: a container's has its id, as
// such or as PREFIX-ID.scope, a systemd service's is NAME.service.
func InCgroup(name string) (container, unit string) {
	id := strings.TrimSuffix(name, ".scope")
	if i := strings.LastIndexAny(id, "-:"); i >= 0 {
		id = id[i+1:]
	}
	if len(id) == containerDigits && strings.Trim(id, "0123456789abcdef") == "" {
		return id, ""
	}
	if strings.HasSuffix(name, ".service") {
		return "", name
	}
	return "", ""
}

// ByWords is who did it, in a text: "netscript (pid 812, started by systemd)".
func ByWords(by *model.By) string {
	parts := []string{"pid " + strconv.FormatUint(uint64(by.PID), 10)}
	if by.Parent != "" {
		started := "started by " + by.Parent
		if by.ParentPID > 1 {
			started += " (pid " + strconv.FormatUint(uint64(by.ParentPID), 10) + ")"
		}
		parts = append(parts, started)
	}
	switch {
	case by.Container != "":
		parts = append(parts, "in container "+by.Container[:shownDigits])
	case by.Unit != "":
		parts = append(parts, "unit "+by.Unit)
	}
	return by.Comm + " (" + strings.Join(parts, ", ") + ")"
}
