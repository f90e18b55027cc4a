// SPDX-License-Identifier: Apache-2.0

package tracer

// This file reads what the kernel half tells of who changes the node, for
// tracer/watch.

import (
	"encoding/binary"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/attach"
	"github.com/pathtrace/pathtrace/tracer/journey"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/watch"
)

// deedsOf are the kinds of deeds by the program that tells them.
var deedsOf = map[string]watch.Kind{
	"send_signal": watch.SignalSent, "exit_process": watch.AgentEnded, "change_flags": watch.LinkFlags,
	"fib4_delete": watch.RouteChanged, "replace_table": watch.TableReplaced, "write_sysctl": watch.SysctlWritten,
}

// deedsHeard are the kinds of deeds that are told.
func deedsHeard(d *attach.Doers) (kinds []watch.Kind) {
	for prog, kind := range deedsOf {
		if d.Hears(prog) {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

var deedKinds = map[uint8]watch.Kind{
	bpf.ChangeLink: watch.LinkFlags, bpf.ChangeRoute: watch.RouteChanged, bpf.ChangeTable: watch.TableReplaced,
	bpf.ChangeSysctl: watch.SysctlWritten, bpf.ChangeSignal: watch.SignalSent, bpf.ChangeExit: watch.AgentEnded,
}

// newDeed reads what the kernel half wrote.
func newDeed(c *bpf.Change, clock journey.Clock) watch.Deed {
	d := watch.Deed{Time: clock.Wall(c.Time), Kind: deedKinds[c.Kind], Netns: c.Netns, Set: c.Set != 0, Index: c.Index, Value: c.Value,
		Before: int(c.Before), After: int(c.After), Age: time.Duration(c.Age) * time.Second,
		Victim: watch.Process{PID: c.Victim, Comm: journey.CString(c.VictimComm[:])},
		By:     model.By{PID: c.By.Pid, Comm: journey.CString(c.By.Comm[:]), ParentPID: c.By.Ppid, Parent: journey.CString(c.By.Pcomm[:])}}
	d.By.Container, d.By.Unit = watch.InCgroup(journey.CString(c.By.Cgroup[:]))
	switch d.Kind {
	case watch.RouteChanged:
		d.Prefix = prefixOfChange(c)
	case watch.SysctlWritten:
		d.Name = sysctlPath(c)
	default:
		d.Name = journey.CString(c.Name[0][:])
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
		part := journey.CString(c.Name[i][:])
		if part == "" || part == "sys" || part == "/" {
			break
		}
		parts = append(parts, part)
	}
	slices.Reverse(parts)
	return strings.TrimPrefix(path.Join(parts...), "/")
}
