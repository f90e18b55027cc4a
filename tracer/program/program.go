// SPDX-License-Identifier: Apache-2.0

// Package program tells which eBPF programs and tc filters may drop a packet: those on
// an interface, and those on the cgroups that a socket belongs to; and, as far as the
// kernel tells, whose they are. It only reads, and asks nothing that would load a
// module.
package program

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Ways a program or filter is attached.
const (
	TCFilter = "tc filter"
	TCX      = "tcx"
	Netkit   = "netkit"
	XDP      = "XDP"
	Cgroup   = "cgroup"
)

// Sides of an interface or cgroup, and the modes of XDP.
const (
	Ingress = "ingress"
	Egress  = "egress"
)

// Program is an eBPF program where it is attached, or a tc filter without one.
type Program struct {
	How   string // TCFilter, TCX, ...
	Side  string // Ingress or Egress; XDP: native, generic, offloaded; netkit: primary, peer
	Where string // name of the interface; path of the cgroup as its processes' /proc/PID/cgroup has it
	// Filter is, of a tc filter, what `tc filter show` calls it: "pref 7 bpf handle 0x1".
	Filter string
	// Harmless is a tc filter that is known not to drop: none of its actions is to.
	Harmless bool
	// Redirect is the interface that an action of it hands packets to instead (mirred
	// redirect, by index, in the same namespace); 0: none does.
	Redirect int

	ID   uint32 // the kernel's; 0: no eBPF program
	Name string // as it was loaded, at most 15 bytes
	Tag  string // truncated hash of its code
	Link uint32 // id of the bpf link that keeps it attached; 0: none, or not told
	UID  uint32 // who loaded it
	// Loaded is when it was; zero: not told.
	Loaded time.Time
	// Holders are processes that hold it or its link open, Pins its names in the bpf
	// file system.
	Holders []Holder
	// Unsearched: there was no time to look at all processes, and those that were hold
	// it not.
	Unsearched bool
	Pins       []string
}

// Holder is a process.
type Holder struct {
	PID  int
	Comm string
}

func (h Holder) String() string { return fmt.Sprintf("%s (pid %d)", h.Comm, h.PID) }

// Thing is what it is, in a few words: "tc filter pref 7 bpf with eBPF program guard
// (id 12, tag 9f…)".
func (p *Program) Thing() string {
	var parts []string
	if p.Filter != "" {
		parts = append(parts, "tc filter "+p.Filter)
	}
	if p.ID != 0 {
		name := p.Name
		if name == "" {
			name = "without a name"
		}
		words := fmt.Sprintf("eBPF program %s (id %d, tag %s)", name, p.ID, p.Tag)
		if p.Filter != "" {
			words = "with " + words
		}
		parts = append(parts, words)
	}
	return strings.Join(parts, " ")
}

// At is where it is attached: "tcx egress of cali123", "XDP (generic) on eth0".
func (p *Program) At() string {
	switch p.How {
	case TCFilter:
		return p.Side + " of " + p.Where
	case XDP:
		return "XDP (" + p.Side + ") of " + p.Where
	}
	return p.How + " " + p.Side + " of " + p.Where
}

// Owner is whose it is, as far as that can be seen; "" if nobody shows.
func (p *Program) Owner() string {
	var parts []string
	if len(p.Holders) > 0 {
		var names []string
		for _, h := range p.Holders {
			names = append(names, h.String())
		}
		parts = append(parts, "held by "+strings.Join(names, ", "))
	}
	if len(p.Pins) > 0 {
		parts = append(parts, "pinned as "+strings.Join(p.Pins, ", "))
	}
	if !p.Loaded.IsZero() {
		parts = append(parts, fmt.Sprintf("loaded by uid %d at %s", p.UID, p.Loaded.Format(time.DateTime)))
	}
	return strings.Join(parts, "; ")
}

// describe adds what the kernel tells of a program by its id. A program that has gone
// since keeps its id alone.
func (p *Program) describe() error {
	prog, err := ebpf.NewProgramFromID(ebpf.ProgramID(p.ID))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("program %d: %w", p.ID, err)
	}
	defer prog.Close()
	info, err := prog.Info()
	if err != nil {
		return fmt.Errorf("program %d: %w", p.ID, err)
	}
	p.Name, p.Tag = info.Name, info.Tag
	p.UID, _ = info.CreatedByUID()
	if since, ok := info.LoadTime(); ok {
		var now unix.Timespec
		if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) == nil {
			p.Loaded = time.Now().Add(since - time.Duration(now.Nano())).Truncate(time.Second)
		}
	}
	return nil
}
