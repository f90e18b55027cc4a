// SPDX-License-Identifier: Apache-2.0

package program

// This file reads which programs are attached to a cgroup and those above it. They see
// what the sockets of the processes in it send and get.

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Host is where the host's file systems are.
type Host struct {
	proc string // /proc
	root string // "" or where the host's root is mounted
}

// NewHost is the host whose /proc is mounted there.
func NewHost(proc string) Host {
	return Host{proc: proc, root: strings.TrimSuffix(proc, "/proc")}
}

// Cgroups is the root of the cgroups of version 2: alone, or beside those of version 1.
func (h Host) Cgroups() (string, error) {
	for _, at := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var sfs unix.Statfs_t
		if err := unix.Statfs(h.root+at, &sfs); err == nil && sfs.Type == unix.CGROUP2_SUPER_MAGIC {
			return h.root + at, nil
		}
	}
	return "", errNoCgroups
}

var errNoCgroups = errors.New("no cgroups of version 2 are mounted at /sys/fs/cgroup")

// CgroupOf is the cgroup of a process, "" if it has ended.
func (h Host) CgroupOf(pid int) (string, error) {
	raw, err := os.ReadFile(fmt.Sprintf("%s/%d/cgroup", h.proc, pid))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(raw)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			if strings.Contains(path, "/..") {
				return "", fmt.Errorf("cgroup of process %d: %s is outside of this process' cgroup namespace", pid, path)
			}
			return path, nil
		}
	}
	return "", nil
}

// Calls are the system calls that a program may refuse, or give another address: then
// there is no packet.
const Calls = "calls"

// cgroupSides are the attachments that see packets, and those that see such calls.
var cgroupSides = map[string]map[string]ebpf.AttachType{
	Ingress: {Ingress: ebpf.AttachCGroupInetIngress},
	Egress:  {Egress: ebpf.AttachCGroupInetEgress},
	Calls: {"socket": ebpf.AttachCGroupInetSockCreate, "connect4": ebpf.AttachCGroupInet4Connect, "connect6": ebpf.AttachCGroupInet6Connect,
		"sendmsg4": ebpf.AttachCGroupUDP4Sendmsg, "sendmsg6": ebpf.AttachCGroupUDP6Sendmsg},
}

// queryEffective asks for what runs on a cgroup, wherever it is attached
// (BPF_F_QUERY_EFFECTIVE, include/uapi/linux/bpf.h).
const queryEffective = 1

// OnCgroup lists the programs that run for the sockets of a cgroup: its own and those
// that it has from above.
func (h Host) OnCgroup(path, side string) (all []Program, err error) {
	root, err := h.Cgroups()
	if err != nil {
		return nil, err
	}
	sides := cgroupSides[side]
	for _, name := range slices.Sorted(maps.Keys(sides)) {
		found, err := attachedTo(root, path, sides[name])
		if err != nil {
			return nil, err
		}
		for i := range found {
			found[i].Side = name
			if err := found[i].describe(); err != nil {
				return nil, err
			}
		}
		all = append(all, found...)
	}
	return all, nil
}

// attachedTo lists what runs for a cgroup as one kind of attachment, from it upwards.
func attachedTo(root, path string, as ebpf.AttachType) (all []Program, err error) {
	running, err := query(filepath.Join(root, path), as, queryEffective)
	if err != nil || len(running) == 0 {
		return nil, err
	}
	for at := path; ; at = filepath.Dir(at) {
		own, err := query(filepath.Join(root, at), as, 0)
		if err != nil {
			return nil, err
		}
		for _, p := range own {
			if slices.ContainsFunc(running, func(r link.AttachedProgram) bool { return r.ID == p.ID }) {
				id, _ := p.LinkID()
				all = append(all, Program{How: Cgroup, Where: at, ID: uint32(p.ID), Link: uint32(id)})
			}
		}
		if at == "/" || at == "." {
			return all, nil
		}
	}
}

// query asks one cgroup; one that is gone has none.
func query(dir string, as ebpf.AttachType, flags uint32) ([]link.AttachedProgram, error) {
	file, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	found, err := link.QueryPrograms(link.QueryOptions{Target: int(file.Fd()), Attach: as, QueryFlags: flags})
	if errors.Is(err, unix.EINVAL) {
		return nil, nil // a kernel without CONFIG_CGROUP_BPF, or without this attachment
	}
	if err != nil {
		return nil, fmt.Errorf("programs of cgroup %s: %w", dir, err)
	}
	return found.Programs, nil
}
