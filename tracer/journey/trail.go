// SPDX-License-Identifier: Apache-2.0

package journey

// The hops of a packet and when each was.

import (
	"slices"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// trail is the hops of a packet, in the order of their times.
type trail struct {
	hops  []model.Hop
	times []uint64 // ns of each hop, CLOCK_MONOTONIC
}

// push adds the hop of an event.
func (t *trail) push(e *Record, h model.Hop) { t.put(len(t.hops), e.Ts, h) }

// insert puts a hop that is told late where it belongs in time.
func (t *trail) insert(e *Record, h model.Hop) {
	i := len(t.hops)
	for i > 0 && t.times[i-1] > e.Ts {
		i--
	}
	t.put(i, e.Ts, h)
}

func (t *trail) put(at int, ts uint64, h model.Hop) {
	t.hops = slices.Insert(t.hops, at, h)
	t.times = slices.Insert(t.times, at, ts)
}

// lastHop is nil where there is none.
func (t *trail) lastHop() *model.Hop {
	if len(t.hops) == 0 {
		return nil
	}
	return &t.hops[len(t.hops)-1]
}

func (t *trail) lastStage(s model.Stage) bool {
	h := t.lastHop()
	return h != nil && h.Stage == s
}
