// SPDX-License-Identifier: Apache-2.0

package tracer

// This file attaches what tells who changes the node (bpf/node.bpf.c) and hands
// it to tracer/watch. It is a collection of its own: whatever of it a kernel
// lacks or refuses, packets are followed all the same.

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/kernel"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/watch"
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

// deedsOf are the kinds of deeds by the program that tells them.
var deedsOf = map[string]watch.Kind{
	"send_signal": watch.SignalSent, "exit_process": watch.AgentEnded, "change_flags": watch.LinkFlags,
	"fib4_delete": watch.RouteChanged, "replace_table": watch.TableReplaced, "write_sysctl": watch.SysctlWritten,
}

// doers is the attached collection.
type doers struct {
	att    *attachment
	reader *ringbuf.Reader
	known  map[uint32]bool // namespaces the kernel half knows
}

// openDoers attaches what this backend and kernel have.
func openDoers(k *kernel.Kernel, functions bool, verbose, took func(string)) (*doers, error) {
	spec, err := bpf.LoadNode()
	if err != nil {
		return nil, fmt.Errorf("committed BPF object: %w", err)
	}
	plan := slices.Clone(doerTracepoints)
	if functions {
		plan = append(plan, doerFunctions...)
	}
	d := &doers{known: make(map[uint32]bool)}
	if d.att, err = newAttachment(k, spec, plan, nil, verbose, took); err != nil {
		return nil, err
	}
	d.att.trim(nil)
	if d.reader, err = ringbuf.NewReader(d.att.coll.Maps["changes"]); err != nil {
		return nil, errors.Join(fmt.Errorf("ring buffer: %w", err), d.Close())
	}
	for _, name := range watch.Agents() {
		var key bpf.AgentName
		for i := range name {
			key.Comm[i] = int8(name[i])
		}
		if err := d.att.coll.Maps["agents"].Put(key, uint8(1)); err != nil {
			return nil, errors.Join(fmt.Errorf("agents: %w", err), d.Close())
		}
	}
	return d, nil
}

// kinds are the deeds that are seen, or will be once their module is loaded.
func (d *doers) kinds() (kinds []watch.Kind) {
	for prog, kind := range deedsOf {
		if d.att.attached(prog) {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// listen has the kernel half tell of some namespaces.
func (d *doers) listen(namespaces ...uint32) error {
	for _, ns := range namespaces {
		if d.known[ns] {
			continue
		}
		if err := d.att.coll.Maps["namespaces"].Put(ns, uint8(1)); err != nil {
			return fmt.Errorf("watch netns %d: %w", ns, err)
		}
		d.known[ns] = true
	}
	return nil
}

// take gives the deeds that were told since the last time.
func (d *doers) take(c clock) (deeds []watch.Deed, err error) {
	var rec ringbuf.Record
	for d.reader.AvailableBytes() > 0 {
		d.reader.SetDeadline(time.Now())
		err := d.reader.ReadInto(&rec)
		if errors.Is(err, unix.ETIMEDOUT) || isTimeout(err) {
			break
		}
		if err != nil {
			return deeds, fmt.Errorf("ring buffer of changes: %w", err)
		}
		var raw bpf.Change
		if err := binary.Read(bytes.NewReader(rec.RawSample), binary.NativeEndian, &raw); err != nil {
			return deeds, fmt.Errorf("ring buffer of changes: %w", err)
		}
		deeds = append(deeds, newDeed(&raw, c))
	}
	return deeds, nil
}

// counted is how many deeds the kernel half had no room for.
func (d *doers) counted() (uint64, error) {
	var c bpf.NodeCounters
	if err := d.att.coll.Variables["node_stats"].Get(&c); err != nil {
		return 0, fmt.Errorf("count lost changes: %w", err)
	}
	return c.Lost, nil
}

// Close detaches.
func (d *doers) Close() error {
	var errs []error
	if d.reader != nil {
		errs = append(errs, d.reader.Close())
	}
	return errors.Join(append(errs, d.att.Close())...)
}

var deedKinds = map[uint8]watch.Kind{
	bpf.ChangeLink: watch.LinkFlags, bpf.ChangeRoute: watch.RouteChanged, bpf.ChangeTable: watch.TableReplaced,
	bpf.ChangeSysctl: watch.SysctlWritten, bpf.ChangeSignal: watch.SignalSent, bpf.ChangeExit: watch.AgentEnded,
}

// newDeed reads what the kernel half wrote.
func newDeed(c *bpf.Change, clock clock) watch.Deed {
	d := watch.Deed{Time: clock.wall(c.Time), Kind: deedKinds[c.Kind], Netns: c.Netns, Set: c.Set != 0, Index: c.Index, Value: c.Value,
		Before: int(c.Before), After: int(c.After), Age: time.Duration(c.Age) * time.Second,
		Victim: watch.Process{PID: c.Victim, Comm: cString(c.VictimComm[:])},
		By:     model.By{PID: c.By.Pid, Comm: cString(c.By.Comm[:]), ParentPID: c.By.Ppid, Parent: cString(c.By.Pcomm[:])}}
	d.By.Container, d.By.Unit = watch.InCgroup(cString(c.By.Cgroup[:]))
	switch d.Kind {
	case watch.RouteChanged:
		d.Prefix = prefixOfChange(c)
	case watch.SysctlWritten:
		d.Name = sysctlPath(c)
	default:
		d.Name = cString(c.Name[0][:])
		d.Family = map[uint8]string{unix.AF_INET: "ip", unix.AF_INET6: "ip6", unix.NFPROTO_ARP: "arp"}[c.Family]
	}
	return d
}

// prefixOfChange is the destination of a route; the words hold an address as the
// packet does.
func prefixOfChange(c *bpf.Change) netip.Prefix {
	var raw [16]byte
	for i, word := range c.Addr {
		binary.NativeEndian.PutUint32(raw[4*i:], word)
	}
	if c.Family == unix.AF_INET6 {
		return netip.PrefixFrom(netip.AddrFrom16(raw), int(c.Bits))
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte(raw[:4])), int(c.Bits))
}

// sysctlPath puts a path below /proc/sys together of its parts, the last first.
func sysctlPath(c *bpf.Change) string {
	var parts []string
	for i := range c.Name {
		part := cString(c.Name[i][:])
		if part == "" || part == "sys" || part == "/" {
			break
		}
		parts = append(parts, part)
	}
	slices.Reverse(parts)
	return strings.TrimPrefix(path.Join(parts...), "/")
}
