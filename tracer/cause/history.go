// SPDX-License-Identifier: Apache-2.0

package cause

// This file keeps how the node changed while it was traced: the state is asked
// after a packet died, and may be another one by then. All of it is bounded.

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
)

const (
	// maxChanges bounds the changes kept, the latest; of older ones only those of
	// links are counted.
	maxChanges  = 2048
	maxTurns    = 512
	maxDoers    = 4
	shownRoutes = 5
	// readLate is how much later than it happened a change may be dated whose
	// time is that of our reading of it.
	readLate = 250 * time.Millisecond
)

// history of a node.
type history struct {
	changes []model.NodeEvent // in order of arrival, which is nearly that of time
	turns   map[linkKey]*turns
}

// linkKey names a link.
type linkKey struct {
	netns, index uint32
}

// turns counts how often a link was set up and down.
type turns struct {
	down, up    int
	first, last time.Time // set down
	doers       []model.By
	unseen      int // times set down by nobody that was seen
}

func newHistory() history { return history{turns: make(map[linkKey]*turns)} }

// note takes a change.
func (h *history) note(e *model.NodeEvent) {
	if len(h.changes) >= maxChanges {
		h.changes = slices.Delete(h.changes, 0, maxChanges/4)
	}
	h.changes = append(h.changes, *e)
	if e.What != model.LinkDown && e.What != model.LinkUp {
		return
	}
	key := linkKey{e.Netns, e.IfIndex}
	t := h.turns[key]
	if t == nil {
		if len(h.turns) >= maxTurns {
			return
		}
		t = &turns{}
		h.turns[key] = t
	}
	t.note(e)
}

func (t *turns) note(e *model.NodeEvent) {
	times := max(1, e.Times)
	if e.What == model.LinkUp {
		t.up += times
		return
	}
	t.down += times
	if t.first.IsZero() {
		t.first = e.Time
	}
	t.last = e.Time
	if e.By == nil {
		t.unseen += times
		return
	}
	same := func(b model.By) bool { return b.PID == e.By.PID && b.Comm == e.By.Comm }
	if !slices.ContainsFunc(t.doers, same) && len(t.doers) < maxDoers {
		t.doers = append(t.doers, *e.By)
	}
}

// wasDown tells whether a link was down at some time; known is false where it did
// not change, and exact where what the kernel said of it leaves no doubt: a change
// was before we read of it.
func (h *history) wasDown(netns, index uint32, at time.Time) (down, known, exact bool) {
	var before, after *model.NodeEvent
	for i := range h.changes {
		e := &h.changes[i]
		if e.Netns != netns || e.IfIndex != index || e.What != model.LinkDown && e.What != model.LinkUp {
			continue
		}
		if e.Time.After(at) {
			after = e
			break
		}
		before = e
	}
	doubt := after != nil && !after.Time.After(at.Add(late(after)))
	switch {
	case doubt && after.What == model.LinkDown:
		return true, true, false
	case before != nil:
		return before.What == model.LinkDown, true, !doubt
	case after != nil:
		return after.What == model.LinkUp, true, !doubt
	}
	return false, false, false
}

// late is how much too late a change may be dated.
func late(e *model.NodeEvent) time.Duration {
	if e.Precise {
		return 0
	}
	return readLate
}

// lostRoute is the change that took the route to an address away, unless it, or
// one as good, came back: the longest such route. The changes after at are of no
// matter.
func (h *history) lostRoute(netns uint32, addr netip.Addr, at time.Time) *model.NodeEvent {
	var found *model.NodeEvent
	var longest netip.Prefix
	for i := range h.changes {
		e := &h.changes[i]
		if e.Netns != netns || e.Time.After(at.Add(late(e))) {
			continue
		}
		switch e.What {
		case model.RouteAdded, model.RouteReplaced:
			if found != nil && !e.Time.After(at) && e.Prefix.Contains(addr) && e.Prefix.Bits() >= longest.Bits() {
				found = nil
			}
		case model.RouteDeleted, model.LinkDown, model.LinkDeleted:
			for _, p := range taken(e) {
				if p.Contains(addr) && (found == nil || p.Bits() >= longest.Bits()) {
					found, longest = e, p
				}
			}
		}
	}
	return found
}

// taken are the routes that a change took away.
func taken(e *model.NodeEvent) []netip.Prefix {
	if e.What == model.RouteDeleted {
		return []netip.Prefix{e.Prefix}
	}
	return e.Routes
}

// last is the latest change up to a time that fits.
func (h *history) last(at time.Time, fits func(e *model.NodeEvent) bool) *model.NodeEvent {
	for i := range slices.Backward(h.changes) {
		if e := &h.changes[i]; !e.Time.After(at.Add(late(e))) && fits(e) {
			return e
		}
	}
	return nil
}

// diedAt is when a packet was seen last.
func diedAt(p *model.Packet) time.Time {
	if n := len(p.Hops); n > 0 {
		return p.Time.Add(time.Duration(p.Hops[n-1].AtNS))
	}
	return p.Time
}

// clocked is a change as evidence: when and what.
func clocked(e *model.NodeEvent) string { return clock(e.Time) + " " + e.Text }

// clock is a time as outputs print it.
func clock(t time.Time) string { return t.Format("15:04:05.000") }

// changedBy adds to a claim the latest change that fits, from before the packet
// died.
func (q *inquiry) changedBy(c *claim, fits func(e *model.NodeEvent) bool) {
	if e := q.mem.history.last(diedAt(q.p), fits); e != nil {
		c.evidence = append(c.evidence, clocked(e))
	}
}

// sysctlSet fits the changes of some sysctls, by their paths below net/.
func sysctlSet(netns uint32, paths ...string) func(e *model.NodeEvent) bool {
	return func(e *model.NodeEvent) bool {
		if e.What != model.SysctlChanged || e.Netns != netns {
			return false
		}
		object := strings.TrimPrefix(e.Object, "net.")
		return slices.ContainsFunc(paths, func(p string) bool { return object == strings.NewReplacer("/", ".", ".", "/").Replace(p) })
	}
}
