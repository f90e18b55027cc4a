// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/attach"
)

// A flow may be faster than anybody can read, or than a node should spend on
// reading it. The kernel half then follows only so many new packets in a window
// (bpf/track.h: over_quota) and counts the rest. How many is a matter of what user
// space keeps up with and of what that costs: the quota falls as the ring buffer
// fills, or as this process takes more than its share of a CPU for packets that
// filled the quota, and rises again while neither is near.

const (
	window       = (1 << attach.WindowShift) * time.Nanosecond
	startPerSec  = 3000 // new packets a second, at first
	mostPerSec   = 20000
	fewestPerSec = 100
	// cpuShare is how much of one CPU this process may take for a flow that could
	// do with less, and dearPerSec what is followed whatever it costs: a few
	// hundred packets tell a fault, also where one costs ten times as much.
	cpuShare   = 0.5
	dearPerSec = 500
)

// pace is the quota and how it is found.
type pace struct {
	perSecond int  // 0: no limit
	fixed     bool // asked for by the user
	last      load // at the last look
}

// load is what the trace has come to at a time.
type load struct {
	at           time.Time
	filled, size int           // of the ring buffer, in bytes, right now
	packets      int           // followed so far
	cpu          time.Duration // this process took so far
}

// newPace takes what the user asked for: packets a second, 0 as many as can be
// told, -1 all.
func newPace(asked int) pace {
	switch {
	case asked < 0:
		return pace{fixed: true}
	case asked > 0:
		return pace{perSecond: asked, fixed: true}
	}
	return pace{perSecond: startPerSec}
}

// quota is the number of packets in one window.
func (p pace) quota() uint64 {
	if p.perSecond == 0 {
		return 0
	}
	return uint64(max(1, p.perSecond*int(window/time.Millisecond)/1000))
}

// due tells that it is time for another look at the load.
func (p *pace) due(now time.Time) bool {
	return !p.fixed && now.Sub(p.last.at) >= window
}

// adapt looks at the load, once a window, and tells whether the quota changed.
func (p *pace) adapt(l load) bool {
	was := p.perSecond
	took := float64(l.cpu-p.last.cpu) / float64(l.at.Sub(p.last.at))
	// what is spent on anything else would not become less
	used := float64(l.packets-p.last.packets)/l.at.Sub(p.last.at).Seconds() > 0.75*float64(p.perSecond)
	first := p.last.at.IsZero()
	p.last = l
	switch {
	case l.filled > l.size/4:
		p.perSecond = max(fewestPerSec, p.perSecond/2)
	case l.filled > l.size/16:
		p.perSecond = max(fewestPerSec, p.perSecond*7/8)
	case !first && took > cpuShare && used:
		p.perSecond = min(p.perSecond, max(dearPerSec, p.perSecond*7/8))
	case l.filled < l.size/64 && (first || took < 0.75*cpuShare):
		p.perSecond = min(mostPerSec, p.perSecond*17/16)
	}
	return p.perSecond != was
}

// load looks at what the trace has come to.
func (t *Tracer) load(now time.Time) load {
	l := load{at: now, packets: int(t.told.packets.Load()) + t.asm.Pending()}
	l.filled, l.size = t.att.Ring().Filled()
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err == nil { // it cannot fail for this process
		l.cpu = time.Duration(used.Utime.Nano() + used.Stime.Nano())
	}
	return l
}
