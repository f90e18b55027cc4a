// SPDX-License-Identifier: Apache-2.0

package cause

// The cause loop: a packet comes back to the node that sent it on, until its TTL is
// used up, here or at the other one.

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// lowTTL is what traceroute and its like begin with, at most: that such a packet's
// TTL is used up is how it is meant.
const lowTTL = 30

// circles tells how often a packet came in by an interface of the node by which it
// had left before, and which one; 0: it did not. Copies are told apart, so that
// segments of one packet are not taken for it coming back.
func circles(p *model.Packet) (times int, at *model.Hop) {
	type spot struct {
		copy  int
		index uint32
	}
	left, back := map[spot]bool{}, map[spot]int{}
	for i := range p.Hops {
		h := &p.Hops[i]
		s := spot{h.Copy, h.IfIndex}
		switch {
		case h.Place != "node" || h.IfIndex == 0:
		case h.Stage == model.StageTransmit:
			left[s] = true
		case h.Stage == model.StageReceive && left[s]:
			left[s] = false
			back[s]++
			if back[s] > times {
				times, at = back[s], h
			}
		}
	}
	return times, at
}

// circled: the packet died, having come back.
func circled(q *inquiry) *claim {
	n, at := circles(q.p)
	if n == 0 || q.d.Hook != "" || q.p.Outcome == model.Delivered {
		return nil
	}
	if !q.usedUp() && n < 2 {
		return nil // it came back once, and died of something else
	}
	c := q.loopClaim(n, at)
	c.evidence = append([]string{q.died()}, c.evidence...)
	return c
}

// usedUp tells a packet that was passed on once too often (ip_forward,
// ip6_forward: IP_INHDR and an ICMP error, which may be held back by its rate
// limit).
func (q *inquiry) usedUp() bool {
	if strings.Contains(lastAnswer(q.p), "time-exceeded") || strings.Contains(lastAnswer(q.p), "ttl") {
		return true
	}
	return q.maybeIn("ip_forward*", "ip6_forward*") && (q.because("IP_INHDR") || q.p.TTL == 1 && q.d.Hook == "" && q.because("NOT_SPECIFIED", ""))
}

// loopClaim is the claim of a packet that came back, some times.
func (q *inquiry) loopClaim(n int, at *model.Hop) *claim {
	dst := endsAt(q.p).Dst
	other := q.behind(at)
	c := &claim{certain: true, subject: "loop " + at.Interface}
	c.summary = fmt.Sprintf("packets to %s circle between this node and %s until their TTL is used up: they came in by %s again after they had left by it", dst, other, at.Interface)
	c.evidence = []string{fmt.Sprintf("one packet left by %s and came in by it again %s; its TTL was %d when it was first seen", at.Interface, times(n), q.p.TTL)}
	if w := q.wayOf(at.Netns); w.leads(int(at.IfIndex)) {
		c.evidence = append(c.evidence, "this node sends it there: "+w.words())
	}
	q.tellNobody(c, dst)
	q.tellLostRouteOf(c, at.Netns, dst)
	c.fix = []string{"ip route get " + dst.String() + "   # on this node and on " + other + ": each holds the other for the one that has it",
		"if " + dst.String() + " is of this node's pods: see where its pod and its route are; a blackhole route for the node's block of pod addresses ends the circle, as Calico sets it",
		"if it is not: mend the route of " + other + " that leads it back here"}
	return c
}

// behind is who the packet was sent to by an interface: the other node of a tunnel,
// or the gateway of the route.
func (q *inquiry) behind(at *model.Hop) string {
	h := lastHop(q.p, func(h *model.Hop) bool {
		return h.Netns == at.Netns && (h.Stage == model.StageEncapsulate && h.Tunnel != nil || h.Stage == model.StageRoute && h.Route != nil && h.Route.IfIndex == at.IfIndex && h.Route.Gateway != "")
	})
	if h != nil && h.Route != nil && ofTable(h) {
		if w, hops := q.severalHops(at); hops > 1 || q.learned(w) != nil {
			h = nil
		}
	}
	switch {
	case h == nil:
		return "what is behind " + at.Interface
	case h.Tunnel != nil:
		return "node " + h.Tunnel.Dst.String()
	}
	return h.Route.Gateway
}

// tellNobody adds that no pod of this node has an address.
func (q *inquiry) tellNobody(c *claim, addr netip.Addr) {
	if _, ok := q.podOf(addr); ok {
		c.evidence = append(c.evidence, "a pod of this node has "+addr.String())
	} else if !q.holds(q.state.Node(), addr) {
		c.evidence = append(c.evidence, "neither this node nor a pod of it has "+addr.String())
	}
}

// loopAstray: it left for good, having come back; or somebody says that its TTL
// was used up, though it was large when it left.
func loopAstray(q *inquiry, p *peer) *claim {
	if times, at := circles(p.first); times > 0 {
		c := q.loopClaim(times, at)
		c.certain = times > 1 || ttlExceeded(p.icmp)
		tellExceeded(c, p)
		if !c.certain {
			c.missing = append(c.missing, "that it went on like that: it was seen to come back once")
		}
		return c
	}
	if !ttlExceeded(p.icmp) || p.first.TTL <= lowTTL {
		return nil
	}
	e := endsAt(q.p)
	c := &claim{subject: "loop beyond", summary: fmt.Sprintf("the TTL of packets to %s is used up beyond this node: they circle between %s and another router", e.Dst, routerWords(p))}
	c.evidence = []string{fmt.Sprintf("its TTL was %d when it was first seen", p.first.TTL)}
	tellExceeded(c, p)
	c.missing = []string{"between whom: it did not come back to this node"}
	c.fix = []string{"see the way: traceroute -n " + e.Dst.String(), "mend the routes of the two routers that are named there in turns"}
	return c
}

func ttlExceeded(icmp string) bool {
	return strings.Contains(icmp, "ttl-exceeded") || strings.Contains(icmp, "hop-limit-exceeded")
}

func tellExceeded(c *claim, p *peer) {
	if ttlExceeded(p.icmp) {
		c.evidence = append(c.evidence, fmt.Sprintf("%s came back from %s", p.icmp, routerWords(p)))
	}
}

func routerWords(p *peer) string {
	if p.icmpFrom.IsValid() && p.icmpFrom != p.far.Addr() {
		return p.icmpFrom.String()
	}
	return "a router"
}

// loopsBack makes a finding of replies that circle: they are nobody's request.
func loopsBack(c *Collector) (all []*found) {
	for _, x := range c.mem.exchanges.order {
		if x.circled == nil || x.worked() {
			continue
		}
		x.told = true
		q := &inquiry{p: x.circled, d: &model.Drop{}, state: c.state, start: &c.start, mem: &c.mem}
		times, at := circles(x.circled)
		claim := q.loopClaim(times, at)
		claim.certain = times > 1
		claim.direction = x.circled.Direction
		claim.missing = append(claim.missing, q.gaps...)
		all = append(all, &found{claim: claim, packets: len(x.ids), ids: x.ids})
	}
	return all
}
