// SPDX-License-Identifier: Apache-2.0

package attach

// This file attaches what tells who changes the node (bpf/node.bpf.c). It is a collection of its own: whatever of it a kernel
// lacks or refuses, packets are followed all the same.

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/kernel"
)

// doerTracepoints serve every backend.
var doerTracepoints = []hook{
	{prog: "send_signal", loses: "who ends calico-node and its like", quiet: true},
	{prog: "exit_process", loses: "that calico-node and its like end", quiet: true},
}

// doerFunctions are what the fentry backend has besides. None of them is on the
// way of a packet.
var doerFunctions = []hook{
	{prog: "change_flags", arg: 0, typ: "net_device", loses: "who sets an interface up or down", quiet: true},
	{prog: "fib4_insert", arg: 2, typ: "fib_config", loses: "who adds routes", quiet: true},
	{prog: "fib4_delete", arg: 2, typ: "fib_config", loses: "who deletes routes", quiet: true},
	{prog: "fib6_insert", module: "ipv6", arg: 1, typ: "fib6_info", loses: "who adds routes of IPv6", quiet: true},
	{prog: "fib6_delete", module: "ipv6", arg: 0, typ: "fib6_info", loses: "who deletes routes of IPv6", quiet: true},
	{prog: "replace_table", module: "x_tables", arg: 0, typ: "xt_table", loses: "who replaces legacy tables", quiet: true},
	{prog: "write_sysctl", arg: 0, typ: "kiocb", loses: "who writes sysctls", quiet: true},
}

// Doers is the attached collection.
type Doers struct {
	programs *programs
	plan     []hook
	reader   *ringbuf.Reader
	known    map[uint32]bool // namespaces the kernel half knows
}

// OpenDoers attaches what this kernel has; functions tells whether functions may be
// attached, agents whose processes are told of.
func OpenDoers(k *kernel.Kernel, functions bool, agents []string, verbose, took func(string)) (*Doers, error) {
	spec, err := bpf.LoadNode()
	if err != nil {
		return nil, fmt.Errorf("committed BPF object: %w", err)
	}
	plan := slices.Clone(doerTracepoints)
	if functions {
		plan = append(plan, doerFunctions...)
	}
	d := &Doers{plan: plan, known: make(map[uint32]bool)}
	if d.programs, err = loadPrograms(k, spec, plan, nil, verbose, took); err != nil {
		return nil, err
	}
	d.programs.trim(nil)
	if d.reader, err = ringbuf.NewReader(d.programs.coll.Maps["changes"]); err != nil {
		return nil, errors.Join(fmt.Errorf("ring buffer: %w", err), d.Close())
	}
	for _, name := range agents {
		var key bpf.AgentName
		for i := range name {
			key.Comm[i] = int8(name[i])
		}
		if err := d.programs.coll.Maps["agents"].Put(key, uint8(1)); err != nil {
			return nil, errors.Join(fmt.Errorf("agents: %w", err), d.Close())
		}
	}
	return d, nil
}

// Listen has the kernel half tell of some namespaces.
func (d *Doers) Listen(namespaces ...uint32) error {
	for _, ns := range namespaces {
		if d.known[ns] {
			continue
		}
		if err := d.programs.coll.Maps["namespaces"].Put(ns, uint8(1)); err != nil {
			return fmt.Errorf("watch netns %d: %w", ns, err)
		}
		d.known[ns] = true
	}
	return nil
}

// Take gives the changes that were told since the last time.
func (d *Doers) Take() (changes []bpf.Change, err error) {
	var rec ringbuf.Record
	for d.reader.AvailableBytes() > 0 {
		d.reader.SetDeadline(time.Now())
		err := d.reader.ReadInto(&rec)
		if errors.Is(err, unix.ETIMEDOUT) || isTimeout(err) {
			break
		}
		if err != nil {
			return changes, fmt.Errorf("ring buffer of changes: %w", err)
		}
		var raw bpf.Change
		if err := binary.Read(bytes.NewReader(rec.RawSample), binary.NativeEndian, &raw); err != nil {
			return changes, fmt.Errorf("ring buffer of changes: %w", err)
		}
		changes = append(changes, raw)
	}
	return changes, nil
}

// Hears tells that a program hangs in.
func (d *Doers) Hears(prog string) bool { return d.programs.attached(prog) }

// Arrived attaches what was waiting for a kernel module.
func (d *Doers) Arrived(module string) error {
	_, err := d.programs.arrived(module)
	return err
}

// Lost is how many deeds the kernel half had no room for.
func (d *Doers) Lost() (uint64, error) {
	var c bpf.NodeCounters
	if err := d.programs.coll.Variables["node_stats"].Get(&c); err != nil {
		return 0, fmt.Errorf("count lost changes: %w", err)
	}
	return c.Lost, nil
}

// Close detaches.
func (d *Doers) Close() error {
	var errs []error
	if d.reader != nil {
		errs = append(errs, d.reader.Close())
	}
	return errors.Join(append(errs, d.programs.Close())...)
}
