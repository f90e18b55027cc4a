// SPDX-License-Identifier: Apache-2.0

package program

// This file finds processes by what they hold open: a socket, a program, its link.
// That takes a look at every open file of every process, so it is done for findings
// only, and not for longer than a while.

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

const (
	// longestLook is how long the files of processes are looked at.
	longestLook = time.Second
	// mostHolders and mostPins is how many are told.
	mostHolders, mostPins = 3, 2
	// mostObjects is how many objects of the bpf file system are looked at.
	mostObjects = 2000
)

// SocketOwner is the process that has a socket, by the socket's inode; ok is false if
// none was found.
func (h Host) SocketOwner(inode uint64) (owner Holder, ok bool) {
	want := fmt.Sprintf("socket:[%d]", inode)
	h.files(func(pid int, _, target string) bool {
		if target == want {
			owner, ok = Holder{pid, h.comm(pid)}, true
		}
		return !ok
	})
	return owner, ok
}

// TunOwners are the processes of a network namespace that hold a tun or tap device of it
// open, by its name (tun_chr_show_fdinfo, drivers/net/tun.c, 6.12); not more than
// mostHolders.
func (h Host) TunOwners(netns uint32, name string) (all []Holder) {
	h.files(func(pid int, fd, target string) bool {
		if !strings.HasSuffix(target, "/net/tun") || slices.ContainsFunc(all, func(have Holder) bool { return have.PID == pid }) {
			return true
		}
		info, err := os.ReadFile(fmt.Sprintf("%s/%d/fdinfo/%s", h.proc, pid, fd))
		if err == nil && valueOf(string(info), "iff") == name && h.inNamespace(pid, netns) {
			all = append(all, Holder{pid, h.comm(pid)})
		}
		return len(all) < mostHolders
	})
	return all
}

// StateOf is what a process does, as /proc/PID/status words it: "S (sleeping)"; "" if it
// has ended.
func (h Host) StateOf(pid int) string {
	raw, err := os.ReadFile(fmt.Sprintf("%s/%d/status", h.proc, pid))
	if err != nil {
		return ""
	}
	return valueOf(string(raw), "State")
}

// valueOf is the value that the first line of a name has in a file of "name: value" lines;
// "" if there is none.
func valueOf(text, name string) string {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// Whose fills in who holds programs, and, where nobody does, as what they are pinned.
func (h Host) Whose(programs []Program) {
	if !slices.ContainsFunc(programs, func(p Program) bool { return p.ID != 0 }) {
		return
	}
	whole := h.files(func(pid int, fd, target string) bool {
		if !strings.HasPrefix(target, "anon_inode:bpf") {
			return true
		}
		info, err := os.ReadFile(fmt.Sprintf("%s/%d/fdinfo/%s", h.proc, pid, fd))
		if err != nil {
			return true // closed since
		}
		for i := range programs {
			if p := &programs[i]; p.ID != 0 && len(p.Holders) < mostHolders && holds(string(info), p.ID) &&
				!slices.ContainsFunc(p.Holders, func(have Holder) bool { return have.PID == pid }) {
				p.Holders = append(p.Holders, Holder{pid, h.comm(pid)})
			}
		}
		return true
	})
	for i := range programs {
		programs[i].Unsearched = !whole && len(programs[i].Holders) == 0
	}
	if slices.ContainsFunc(programs, func(p Program) bool { return p.ID != 0 && len(p.Holders) == 0 }) {
		h.pins(programs)
	}
}

// holds tells whether a file's fdinfo is that of a program or of a link that keeps it
// attached (bpf_prog_show_fdinfo, bpf_link_show_fdinfo, kernel/bpf/syscall.c, 6.12).
func holds(fdinfo string, id uint32) bool {
	return valueOf(fdinfo, "prog_id") == strconv.FormatUint(uint64(id), 10)
}

// InNamespace lists the processes of a network namespace.
func (h Host) InNamespace(netns uint32) (all []int) {
	until := time.Now().Add(longestLook)
	for _, pid := range h.processes() {
		if time.Now().After(until) {
			return all
		}
		if h.inNamespace(pid, netns) {
			all = append(all, pid)
		}
	}
	return all
}

func (h Host) inNamespace(pid int, netns uint32) bool {
	var st unix.Stat_t
	return unix.Stat(fmt.Sprintf("%s/%d/ns/net", h.proc, pid), &st) == nil && uint32(st.Ino) == netns
}

func (h Host) processes() (all []int) {
	entries, err := os.ReadDir(h.proc)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

// files goes through the open files of all processes but this one's while each says so;
// whole tells that the time was enough for all of them.
func (h Host) files(each func(pid int, fd, target string) bool) (whole bool) {
	until, self := time.Now().Add(longestLook), os.Getpid()
	for _, pid := range h.processes() {
		dir := fmt.Sprintf("%s/%d/fd", h.proc, pid)
		entries, err := os.ReadDir(dir)
		if err != nil || pid == self {
			continue // ended
		}
		for _, e := range entries {
			target, err := os.Readlink(filepath.Join(dir, e.Name()))
			switch {
			case err == nil && !each(pid, e.Name(), target):
				return true
			case time.Now().After(until):
				return false
			}
		}
	}
	return true
}

// comm is a process' name.
func (h Host) comm(pid int) string {
	raw, err := os.ReadFile(fmt.Sprintf("%s/%d/comm", h.proc, pid))
	if err != nil {
		return "a process that has ended"
	}
	return strings.TrimSpace(string(raw))
}

// pins looks for programs among what is pinned.
func (h Host) pins(programs []Program) {
	seen := 0
	_ = filepath.WalkDir(h.root+"/sys/fs/bpf", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Type()&fs.ModeSymlink != 0 {
			return nil // what cannot be looked at tells nothing
		}
		if seen++; seen > mostObjects {
			return fs.SkipAll
		}
		id, ok := pinned(path)
		for i := range programs {
			if p := &programs[i]; ok && p.ID == id && len(p.Pins) < mostPins {
				p.Pins = append(p.Pins, path)
			}
		}
		return nil
	})
}

// pinned is the program of a pinned program or link.
func pinned(path string) (id uint32, ok bool) {
	if prog, err := ebpf.LoadPinnedProgram(path, &ebpf.LoadPinOptions{ReadOnly: true}); err == nil {
		defer prog.Close()
		info, err := prog.Info()
		if err != nil {
			return 0, false
		}
		program, ok := info.ID()
		return uint32(program), ok
	}
	l, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		return 0, false
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return 0, false
	}
	return uint32(info.Program), true
}
