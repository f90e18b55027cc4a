// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"testing"
	"time"
)

// follow has a pace meet ten seconds of a flow: each packet followed costs so
// much CPU, other work takes a share, and the ring buffer is filled so far.
func follow(p *pace, flow int, each time.Duration, other float64, filled int) {
	l := load{at: time.Unix(1000, 0), size: 1 << 23, filled: filled}
	for range 75 {
		if p.due(l.at) {
			p.adapt(l)
		}
		followed := flow
		if p.perSecond > 0 {
			followed = min(flow, p.perSecond)
		}
		n := int(float64(followed) * window.Seconds())
		l.at = l.at.Add(window)
		l.packets += n
		l.cpu += time.Duration(n)*each + time.Duration(other*float64(window))
	}
}

// The quota settles where the reader keeps up and takes half a CPU at most, but
// for the few packets that are followed at any cost.
func TestPace(t *testing.T) {
	for _, c := range []struct {
		name        string
		asked, flow int
		each        time.Duration // of CPU, for a packet
		other       float64       // CPUs taken by other work
		filled      int           // bytes of 8 MiB in the ring buffer
		least, most int
	}{
		{"cheap packets, and all read", 0, 50000, 10 * time.Microsecond, 0, 0, mostPerSec, mostPerSec},
		{"half a CPU is 1,000 packets", 0, 50000, 500 * time.Microsecond, 0, 0, 650, 1100},
		{"a slow flow is let be", 0, 100, time.Millisecond, 0, 0, startPerSec, mostPerSec},
		{"other work is not the flow's", 0, 100, time.Millisecond, 1, 0, startPerSec, mostPerSec},
		{"dear packets are followed still", 0, 50000, 20 * time.Millisecond, 0, 0, dearPerSec, dearPerSec},
		{"what cannot be read is not followed", 0, 50000, 0, 0, 1 << 22, fewestPerSec, fewestPerSec},
		{"as asked", 7000, 50000, 20 * time.Millisecond, 1, 1 << 22, 7000, 7000},
		{"all", -1, 50000, 20 * time.Millisecond, 1, 1 << 22, 0, 0},
	} {
		p := newPace(c.asked)
		follow(&p, c.flow, c.each, c.other, c.filled)
		if p.perSecond < c.least || p.perSecond > c.most {
			t.Errorf("%s: %d packets a second, want %d to %d", c.name, p.perSecond, c.least, c.most)
		}
	}
}
