// SPDX-License-Identifier: Apache-2.0

package cause

// The cause calico-node-restart: a program that keeps the node's network ended
// while it was traced, and routes went. And routes that went otherwise, where a
// default route takes the packets away.

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
)

const (
	// A route that goes so long before its keeper's end, or after it, may have
	// gone because of it: BIRD takes its routes away before it ends, and a new one
	// cleans up what it does not know.
	beforeEnd = 5 * time.Second
	afterEnd  = 30 * time.Second
)

// agentRestart: the route that the packet needed went when its keeper ended.
func agentRestart(q *inquiry) *claim {
	dst := endsAt(q.p).Dst
	gone, end := q.restarted(q.d.Netns, dst, diedAt(q.p))
	if gone == nil {
		return nil
	}
	c := q.lacksRoute()
	if c == nil {
		return nil
	}
	q.blame(c, "packets to "+dst.String(), gone, end)
	return c
}

// agentRestartBack: the same of the route back, without which a source check
// refuses the packet.
func agentRestartBack(q *inquiry) *claim {
	src := endsAt(q.p).Src
	gone, end := q.restarted(q.d.Netns, src, diedAt(q.p))
	if gone == nil {
		return nil
	}
	c := q.refusedSource()
	if c == nil {
		return nil
	}
	q.blame(c, "the way back to "+src.String(), gone, end)
	return c
}

// lacksRoute is the claim of a packet that found no route, or one that eats it.
func (q *inquiry) lacksRoute() *claim {
	if q.base != nil {
		return q.found("blackhole-route", "no-route")
	}
	if c := blackhole(q); c != nil {
		return c
	}
	return noRoute(q)
}

// refusedSource is the claim of a packet that a source check refused.
func (q *inquiry) refusedSource() *claim {
	if q.base != nil {
		return q.found("calico-rpf", "rp-filter")
	}
	if c := calicoReversePath(q); c != nil {
		return c
	}
	return reversePath(q)
}

// found is a copy of what was found before, if it is one of these.
func (q *inquiry) found(codes ...string) *claim {
	if !slices.Contains(codes, q.base.code) {
		return nil
	}
	c := *q.base
	c.evidence, c.missing = slices.Clone(c.evidence), slices.Clone(c.missing)
	return &c
}

// reconsider looks at a claim of a missing route again when the trace is over. A
// packet may be told before the change that it died of: the machine is busy.
func (c *Collector) reconsider(k *kase) {
	q := &inquiry{p: k.first, d: k.first.Drop, state: c.state, start: &c.start, mem: &c.mem, base: k.claim}
	if len(c.mem.history.changes) == 0 || q.d == nil || q.lacksRoute() == nil && q.refusedSource() == nil {
		return
	}
	for _, cause := range causes {
		if cause.code != "interface-down" && cause.code != "calico-node-restart" {
			continue
		}
		if found := cause.find(q); found != nil {
			found.code, found.direction = cause.code, k.claim.direction
			k.claim = found
			return
		}
	}
}

// restartAstray: the same, where the packet left by a shorter route.
func restartAstray(q *inquiry, p *peer) *claim {
	gone, end := q.restarted(q.state.Node(), p.far.Addr(), p.first.Time)
	if gone == nil || !q.leftElsewhere(gone) {
		return nil
	}
	c := q.astrayClaim(p, gone)
	q.blame(c, "packets to "+p.far.Addr().String(), gone, end)
	return c
}

// routeAstray: the route was deleted, and the packet left by a shorter one.
func routeAstray(q *inquiry, p *peer) *claim {
	gone := q.mem.history.lostRoute(q.state.Node(), p.far.Addr(), p.first.Time)
	if gone == nil || gone.What != model.RouteDeleted || !q.leftElsewhere(gone) {
		return nil
	}
	return q.astrayClaim(p, gone)
}

// leftElsewhere tells whether the packet left by another interface than that of
// the route which is gone.
func (q *inquiry) leftElsewhere(gone *model.NodeEvent) bool {
	last := lastHop(q.p, func(h *model.Hop) bool {
		return h.Stage == model.StageRoute && h.Route != nil && h.Netns == q.state.Node()
	})
	return last != nil && last.Route.IfIndex != 0 && gone.IfIndex != 0 && last.Route.IfIndex != gone.IfIndex
}

func (q *inquiry) astrayClaim(p *peer, gone *model.NodeEvent) *claim {
	c := &claim{subject: gone.Object, summary: fmt.Sprintf("the route %s was deleted, and packets to %s leave by a shorter one instead", gone.Object, p.far.Addr())}
	if gone.By != nil {
		c.summary = strings.Replace(c.summary, "deleted", fmt.Sprintf("deleted by %s (pid %d)", gone.By.Comm, gone.By.PID), 1)
	}
	c.evidence = []string{clocked(gone)}
	if w := q.wayFor(q.state.Node(), p.far.Addr()); w.fib != nil {
		c.evidence = append(c.evidence, "the way to it now: "+w.words())
	}
	c.missing = []string{"what became of the packets on that way"}
	c.fix = []string{"see that what keeps the route runs and is well: calico-node (felix, bird) or flanneld on this node", "watch who deletes it: ip monitor route"}
	return c
}

// restarted finds the route to an address that went, and the end of an agent that
// it may have gone with.
func (q *inquiry) restarted(netns uint32, to netip.Addr, at time.Time) (gone, end *model.NodeEvent) {
	gone = q.mem.history.lostRoute(netns, to, at)
	if gone == nil || gone.What != model.RouteDeleted {
		return nil, nil
	}
	end = q.mem.history.last(at.Add(beforeEnd), func(e *model.NodeEvent) bool {
		after := gone.Time.Sub(e.Time)
		return e.What == model.ProcessExit && after > -beforeEnd && after < afterEnd
	})
	if end == nil {
		return nil, nil
	}
	return gone, end
}

// keeps tells whether a route is one that Calico's agents keep, or was deleted by
// the very process that ended.
func keeps(gone, end *model.NodeEvent) bool {
	return gone.Protocol == protoBIRD || gone.Protocol == protoFelix || gone.By != nil && gone.By.PID == end.PID
}

// blame turns a claim of a missing route into one of its keeper's end. who depends
// on the route.
func (q *inquiry) blame(c *claim, who string, gone, end *model.NodeEvent) {
	c.subject = fmt.Sprintf("%s %d", end.Object, end.PID)
	c.summary = fmt.Sprintf("%s, and the route %s, needed for %s, went with it", summaryOf(end), gone.Object, who)
	says := []string{clocked(end)}
	if text := clocked(gone); !slices.Contains(c.evidence, text) {
		says = append(says, text)
	}
	c.evidence = append(says, c.evidence...)
	if !keeps(gone, end) {
		c.certain = false
		c.missing = append(c.missing, "that the route went because of it: it is not marked as Calico's, and another process deleted it")
	}
	c.fix = []string{"see why it ended: kubectl -n calico-system logs ds/calico-node --previous (kube-system in older installations); Flannel: -n kube-flannel logs ds/kube-flannel-ds --previous"}
	if end.By != nil {
		c.fix = append(c.fix, fmt.Sprintf("see why %s ends it", end.By.Comm))
	}
	c.fix = append(c.fix, "see that it is back, and its routes: ip route; if not: delete the calico-node pod of this node")
	history, from := &q.mem.history, end.Time.Add(-beforeEnd)
	c.settle = func(c *claim) { c.tellGone(history.goneSince(gone.Netns, from)) }
}

// summaryOf is the end of a process in short: "calico-node (pid 7) was ended by
// SIGKILL from oom (pid 9)".
func summaryOf(end *model.NodeEvent) string {
	says := fmt.Sprintf("%s (pid %d) ended", end.Object, end.PID)
	if end.Signal != "" {
		says = fmt.Sprintf("%s (pid %d) was ended by %s", end.Object, end.PID, end.Signal)
	}
	if end.By != nil {
		says += fmt.Sprintf(" from %s (pid %d)", end.By.Comm, end.By.PID)
	}
	return says
}

// goneSince lists the routes deleted since some time.
func (h *history) goneSince(netns uint32, from time.Time) (routes []string) {
	for i := range h.changes {
		e := &h.changes[i]
		if e.What == model.RouteDeleted && e.Netns == netns && !e.Time.Before(from) && !slices.Contains(routes, e.Object) {
			routes = append(routes, e.Object)
		}
	}
	return routes
}

func (c *claim) tellGone(routes []string) {
	shown := routes[:min(len(routes), shownRoutes)]
	says := "routes that went: " + strings.Join(shown, ", ")
	if more := len(routes) - len(shown); more > 0 {
		says += fmt.Sprintf(" and %d more", more)
	}
	c.evidence = append(c.evidence, says)
}
