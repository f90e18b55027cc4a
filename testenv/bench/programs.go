// SPDX-License-Identifier: Apache-2.0

// BPF programs: which ones a process has, which others are attached on this
// machine, and what the kernel's own statistics say each of them costs.

package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// ProgramCost is what one program took while unrelated UDP traffic ran.
type ProgramCost struct {
	Program   string  `json:"program"`
	Type      string  `json:"type"`
	Runs      uint64  `json:"runs"`
	PerPacket float64 `json:"runs_per_packet"`
	NSPerRun  float64 `json:"ns_per_run"`
	NSPacket  float64 `json:"ns_per_packet"`
	// Counting is what an empty program of the type took a run, measured the
	// same way: the two clock reads and the call. 0: not measured.
	Counting float64 `json:"ns_counting"`
	// Share is the program's own time of the CPU time that a packet takes
	// untraced.
	Share float64 `json:"share"`
}

// Own is what a packet pays for a program, the counting taken off.
func (c ProgramCost) Own() float64 { return max(0, c.NSPacket-c.PerPacket*c.Counting) }

// Calibrate takes the cost of counting, read off empty programs, from others'
// costs, and puts them in relation to what an untraced packet takes.
func Calibrate(costs, empty []ProgramCost, nsUntraced float64) {
	for i := range costs {
		c := &costs[i]
		var ns, runs float64
		for _, e := range empty {
			if e.Type == c.Type {
				ns, runs = ns+e.NSPerRun*float64(e.Runs), runs+float64(e.Runs)
			}
		}
		if runs > 0 {
			c.Counting = ns / runs
		}
		c.Share = c.Own() / nsUntraced
	}
}

// fdValues reads one field out of the fdinfo of all files a process has open
// (kernel/bpf/syscall.c: bpf_prog_show_fdinfo, bpf_link_show_fdinfo).
func fdValues(pid int, field string) ([]uint32, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fdinfo")
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list the files of process %d: %w", pid, err)
	}
	var values []uint32
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue // closed meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("look at an open file of process %d: %w", pid, err)
		}
		for line := range strings.Lines(string(text)) {
			name, rest, _ := strings.Cut(line, ":")
			if name != field {
				continue
			}
			v, err := strconv.ParseUint(strings.TrimSpace(rest), 10, 32)
			if err != nil {
				return nil, fmt.Errorf("open file %s of process %d: %s: %w", f.Name(), pid, field, err)
			}
			values = append(values, uint32(v))
		}
	}
	slices.Sort(values)
	return slices.Compact(values), nil
}

// programsOf opens the programs of a process.
func programsOf(pid int) (map[ebpf.ProgramID]*ebpf.Program, error) {
	ids, err := fdValues(pid, "prog_id")
	if err != nil {
		return nil, err
	}
	progs := map[ebpf.ProgramID]*ebpf.Program{}
	for _, id := range ids {
		p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
		if errors.Is(err, os.ErrNotExist) {
			continue // unloaded meanwhile
		}
		if err != nil {
			closeAll(progs)
			return nil, fmt.Errorf("open BPF program %d: %w", id, err)
		}
		progs[ebpf.ProgramID(id)] = p
	}
	return progs, nil
}

func closeAll(progs map[ebpf.ProgramID]*ebpf.Program) {
	for _, p := range progs {
		p.Close()
	}
}

// programName is a program's whole name: the kernel keeps 15 letters of it, its
// BTF all.
func programName(p *ebpf.Program) (string, error) {
	info, err := p.Info()
	if err != nil {
		return "", fmt.Errorf("ask for a BPF program's name: %w", err)
	}
	if funcs, err := info.FuncInfos(); err == nil && len(funcs) > 0 {
		return funcs[0].Func.Name, nil
	}
	return info.Name, nil
}

// watching are the types of programs that can slow others' traffic down.
var watching = []ebpf.ProgramType{
	ebpf.Tracing, ebpf.Netfilter, ebpf.Kprobe, ebpf.TracePoint, ebpf.RawTracepoint, ebpf.SchedCLS, ebpf.XDP, ebpf.LSM,
}

// strangers counts the programs on this machine that belong to nobody here:
// other traces that run at the same time spoil the measurement.
func strangers(own []int) (int, error) {
	mine := map[ebpf.ProgramID]bool{}
	for _, pid := range own {
		ids, err := fdValues(pid, "prog_id")
		if err != nil {
			return 0, err
		}
		for _, id := range ids {
			mine[ebpf.ProgramID(id)] = true
		}
	}
	count := 0
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return count, nil
		}
		if err != nil {
			return 0, fmt.Errorf("list BPF programs: %w", err)
		}
		id = next
		if mine[id] {
			continue
		}
		p, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("open BPF program %d: %w", id, err)
		}
		if slices.Contains(watching, p.Type()) {
			count++
		}
		p.Close()
	}
}

// Costs has the kernel count what every program of a tool takes while unrelated
// UDP traffic runs and the traced flow idles, as when tools are compared. The counting itself slows the programs down a little
// (kernel.bpf_stats_enabled; two clock reads a run): no rate is told here.
func (n *Node) Costs(ctx context.Context, tool Tool, d time.Duration) (costs []ProgramCost, err error) {
	stopIdle := n.keepIdle(ctx)
	defer func() { err = stopIdle(err) }()
	r, err := tool.start(ctx, n)
	if err != nil {
		return nil, err
	}
	defer func() {
		_, stopErr := r.Stop()
		err = errors.Join(err, stopErr)
	}()
	progs, err := programsOf(r.PID())
	if err != nil {
		return nil, err
	}
	defer closeAll(progs)
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		return nil, fmt.Errorf("have the kernel count what BPF programs take: %w", err)
	}
	defer stats.Close()
	before, err := statsOf(progs)
	if err != nil {
		return nil, err
	}
	s, err := n.Measure(ctx, UDP, d)
	if err != nil {
		return nil, err
	}
	after, err := statsOf(progs)
	if err != nil {
		return nil, err
	}
	return programCosts(progs, before, after, s.Units)
}

func statsOf(progs map[ebpf.ProgramID]*ebpf.Program) (map[ebpf.ProgramID]*ebpf.ProgramStats, error) {
	all := map[ebpf.ProgramID]*ebpf.ProgramStats{}
	for id, p := range progs {
		s, err := p.Stats()
		if err != nil {
			return nil, fmt.Errorf("read the statistics of BPF program %d: %w", id, err)
		}
		all[id] = s
	}
	return all, nil
}

// programCosts gives the programs that ran, the most expensive first.
func programCosts(progs map[ebpf.ProgramID]*ebpf.Program, before, after map[ebpf.ProgramID]*ebpf.ProgramStats, packets float64) ([]ProgramCost, error) {
	var costs []ProgramCost
	for id, p := range progs {
		runs := after[id].RunCount - before[id].RunCount
		if runs == 0 {
			continue
		}
		name, err := programName(p)
		if err != nil {
			return nil, err
		}
		ns := float64(after[id].Runtime - before[id].Runtime)
		costs = append(costs, ProgramCost{Program: name, Type: p.Type().String(), Runs: runs,
			PerPacket: float64(runs) / packets, NSPerRun: ns / float64(runs), NSPacket: ns / packets})
	}
	slices.SortFunc(costs, func(a, b ProgramCost) int {
		if a.NSPacket != b.NSPacket {
			if a.NSPacket > b.NSPacket {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Program, b.Program)
	})
	return costs, nil
}
