// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"fmt"
	"time"
)

// A flow may be faster than anybody can read. The kernel half then follows only
// so many new packets in a window (bpf/track.h: over_quota) and counts the rest.
// How many is a matter of what user space keeps up with: the quota falls as the
// ring buffer fills and rises again while it is nearly empty.

const (
	window       = (1 << 27) * time.Nanosecond // WINDOW_SHIFT
	startPerSec  = 3000                        // new packets a second, at first
	mostPerSec   = 20000
	fewestPerSec = 100
)

// pace is the quota and how it is found.
type pace struct {
	perSecond int  // 0: no limit
	fixed     bool // asked for by the user
	next      time.Time
}

// newPace takes what the user asked for: packets a second, 0 as many as can be
// read, -1 all.
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

// adapt looks at how full the ring buffer is, once a window, and tells whether
// the quota changed.
func (p *pace) adapt(now time.Time, filled, size int) bool {
	if p.fixed || now.Before(p.next) {
		return false
	}
	p.next = now.Add(window)
	was := p.perSecond
	switch {
	case filled > size/4:
		p.perSecond = max(fewestPerSec, p.perSecond/2)
	case filled > size/16:
		p.perSecond = max(fewestPerSec, p.perSecond*7/8)
	case filled < size/64:
		p.perSecond = min(mostPerSec, p.perSecond*17/16)
	}
	return p.perSecond != was
}

// setQuota hands the quota to the kernel half.
func (t *Tracer) setQuota() error {
	if err := t.att.coll.Variables["quota"].Set(t.pace.quota()); err != nil {
		return fmt.Errorf("set the quota of packets: %w", err)
	}
	return nil
}
