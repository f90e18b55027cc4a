// SPDX-License-Identifier: Apache-2.0

package cause

// The cause interface-down: an interface that the packet needed is switched off.

import (
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/watch"
)

// interfaceDown: an interface that the packet needed is switched off, or was when
// it died. Its routes went with it, so the packet may die far from it, and by
// another reason.
func interfaceDown(q *inquiry) *claim {
	if q.d.Hook != "" || q.p.Outcome == model.Delivered {
		return nil // a packet filter killed it, whatever the links; or it came by them
	}
	netns, l, role := q.downOnTheWay()
	if l == nil {
		return q.routeWentWithLink()
	}
	where := q.linkPlace(netns)
	c := &claim{subject: l.Name, summary: fmt.Sprintf("interface %s of %s is set down: %s", l.Name, where, role), evidence: []string{"ip link: " + linkWords(l)}}
	_, _, exact := q.mem.history.wasDown(netns, uint32(l.Index), diedAt(q.p))
	if l.Up {
		c.summary = fmt.Sprintf("interface %s of %s was set down when the packet came: %s", l.Name, where, role)
		c.evidence[0] += ": it is up again by now"
	}
	c.evidence = append(c.evidence, q.died())
	c.certain = exact || q.result(model.StageQdisc) == "ENETDOWN"
	if !c.certain {
		c.missing = append(c.missing, "that it was down already when the packet died: its state was read right after")
	}
	inside := ""
	if netns != q.state.Node() {
		inside = "in the pod: "
	}
	c.fix = []string{inside + "ip link set " + l.Name + " up", "see who sets it down, or it will happen again: ip monitor link"}
	if strings.HasPrefix(l.Name, "cali") {
		c.fix = append(c.fix, "its route went with it: Felix puts it back, or delete the calico-node pod of this node")
	}
	q.whoSetDown(c, netns, l)
	return c
}

// linkPlace is whose an interface is.
func (q *inquiry) linkPlace(netns uint32) string {
	switch name := q.placeName(netns); {
	case netns == q.state.Node():
		return "this node"
	case name != "":
		return name
	}
	return "a pod"
}

// isDown tells whether a link is down, or was when the packet died.
func (q *inquiry) isDown(netns uint32, l *node.Link) bool {
	down, known, _ := q.mem.history.wasDown(netns, uint32(l.Index), diedAt(q.p))
	if known {
		return down
	}
	return !l.Up
}

// routeWentWithLink: the interface is up again, but the packet died for want of
// the route that went with it.
func (q *inquiry) routeWentWithLink() *claim {
	if q.p.Outcome == model.LeftNode || q.lacksRoute() == nil {
		return nil
	}
	dst := endsAt(q.p).Dst
	e := q.mem.history.lostRoute(q.d.Netns, dst, diedAt(q.p))
	if e == nil || e.What != model.LinkDown {
		return nil
	}
	l := q.link(e.Netns, int(e.IfIndex))
	if l == nil {
		return nil
	}
	c := &claim{subject: l.Name, certain: !e.Time.After(diedAt(q.p)), summary: fmt.Sprintf("interface %s of %s was set down, and the route to %s went with it and is not back", l.Name, q.linkPlace(e.Netns), dst)}
	c.evidence = []string{clocked(e), q.died()}
	if !c.certain {
		c.missing = []string{"that it was down already when the packet died: it was read of right after"}
	}
	c.fix = []string{"see who sets it down, or it will happen again: ip monitor link"}
	if strings.HasPrefix(l.Name, "cali") {
		c.fix = append(c.fix, "have Felix write its routes again: delete the calico-node pod of this node")
	} else {
		c.fix = append(c.fix, "have what keeps the route write it again")
	}
	q.whoSetDown(c, e.Netns, l)
	return c
}

// whoSetDown tells at the end who set a link down, and how often.
func (q *inquiry) whoSetDown(c *claim, netns uint32, l *node.Link) {
	history, now := &q.mem.history, l.Up
	c.settle = func(c *claim) {
		t := history.turns[linkKey{netns, uint32(l.Index)}]
		switch {
		case t == nil && now:
		case t == nil:
			c.missing = append(c.missing, "who set it down: it did not change while it was traced")
		default:
			c.tellTurns(l.Name, t)
		}
	}
}

// tellTurns puts into a claim how often a link was set down, and by whom.
func (c *claim) tellTurns(name string, t *turns) {
	if t.down == 0 {
		c.missing = append(c.missing, "who set it down: that was before it was traced")
		return
	}
	says := fmt.Sprintf("%s was set DOWN at %s", name, clock(t.first))
	if t.down > 1 {
		says = fmt.Sprintf("%s was set DOWN %d times and UP %d times between %s and %s, so it flaps", name, t.down, t.up, clock(t.first), clock(t.last))
		c.summary = strings.Replace(c.summary, " is set down", " is set down again and again", 1)
		c.summary = strings.Replace(c.summary, " was set down", " was set down again and again", 1)
	}
	var doers []string
	for i := range t.doers {
		doers = append(doers, watch.ByWords(&t.doers[i]))
	}
	if len(doers) > 0 {
		by := fmt.Sprintf(" by %s (pid %d)", t.doers[0].Comm, t.doers[0].PID)
		c.summary = strings.Replace(c.summary, " set down again and again", " set down again and again"+by, 1)
		if t.down == 1 {
			c.summary = strings.Replace(c.summary, " set down", " set down"+by, 1)
		}
		says += ": by " + strings.Join(doers, "; ")
	}
	c.evidence = append([]string{says}, c.evidence...)
	if t.unseen > 0 {
		c.missing = append(c.missing, "who set it down: "+times(t.unseen)+" that could not be seen with this backend")
	}
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// downOnTheWay looks for an interface that is down among those the packet came
// by or was to leave by.
func (q *inquiry) downOnTheWay() (netns uint32, l *node.Link, role string) {
	self := q.state.Node()
	if pod, ok := q.podOf(endsAt(q.p).Dst); ok && pod != q.d.Netns {
		if l := q.hostLink(pod); l != nil && q.isDown(self, l) {
			return self, l, fmt.Sprintf("it leads to the pod that has %s", endsAt(q.p).Dst)
		} else if l != nil {
			if s := q.peer(l); s != nil && q.isDown(pod, s.link) {
				return pod, s.link, fmt.Sprintf("it is that of the pod that has %s, behind %s", endsAt(q.p).Dst, l.Name)
			}
		}
	}
	last := q.lastSpot()
	if last == nil {
		return 0, nil, ""
	}
	if l := q.link(last.Netns, int(last.IfIndex)); l != nil {
		if q.isDown(last.Netns, l) {
			return last.Netns, l, "the packet died on it"
		}
		if peer := q.hostLink(last.Netns); last.Netns != self && peer != nil && q.isDown(self, peer) {
			return self, peer, fmt.Sprintf("it is the other end of %s of %s", l.Name, last.Place)
		}
		below := max(l.VXLANDevice, l.Tunnel.Device)
		if under := q.link(last.Netns, below); below != 0 && under != nil && q.isDown(last.Netns, under) {
			return last.Netns, under, fmt.Sprintf("the tunnel %s runs over it", l.Name)
		}
	}
	// a local route leads by lo in name only: what it delivers does not leave by it
	if r := q.route(); r.IfIndex != 0 && r.Type != "local" {
		if l := q.link(q.d.Netns, int(r.IfIndex)); l != nil && !l.Loopback && q.isDown(q.d.Netns, l) {
			return q.d.Netns, l, "the packet was to leave by it"
		}
	}
	return q.uplinkDown()
}

// uplinkDown: there is no way to the destination, and a link that may have held
// one is down.
func (q *inquiry) uplinkDown() (netns uint32, l *node.Link, role string) {
	self := q.state.Node()
	if q.d.Netns != self || q.d.Stage != model.StageRoute && q.d.Stage != model.StageEncapsulate {
		return 0, nil, ""
	}
	if _, ok := q.routeTo(self, endsAt(q.p).Dst); ok && q.d.Stage == model.StageRoute {
		return 0, nil, ""
	}
	l = q.findLink(self, func(l *node.Link) bool {
		return q.isDown(self, l) && !l.Loopback && l.Master == 0 && (l.Kind == "" || l.Kind == "veth" && len(l.Addrs) > 0 && !strings.HasPrefix(l.Name, "cali") || l.Kind == "bond")
	})
	if l == nil {
		return 0, nil, ""
	}
	return self, l, fmt.Sprintf("no route to %s is left", endsAt(q.p).Dst)
}

// lastSpot is the last hop with an interface.
func (q *inquiry) lastSpot() *model.Hop {
	if q.d.IfIndex != 0 {
		return &model.Hop{Netns: q.d.Netns, Place: q.d.Place, Interface: q.d.Interface, IfIndex: q.d.IfIndex}
	}
	return lastHop(q.p, func(h *model.Hop) bool { return h.IfIndex != 0 && h.Netns != 0 })
}

// linkWords is a link as `ip link` prints it, as far as it matters.
func linkWords(l *node.Link) string {
	flags := "DOWN"
	switch {
	case l.Up && l.Carrier:
		flags = "UP,LOWER_UP"
	case l.Up:
		flags = "NO-CARRIER,UP"
	}
	return fmt.Sprintf("%s <%s> mtu %d", l.Name, flags, l.MTU)
}
