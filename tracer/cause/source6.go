// SPDX-License-Identifier: Apache-2.0

package cause

// A source that is good for one link only: an IPv6 packet with a link-local source is not
// passed on, whatever the routes say.

import (
	"fmt"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// linkLocalSource: ip6_forward refuses it and answers "beyond scope of source address"
// (net/ipv6/ip6_output.c, 6.12; RFC 4291, 2.5.6).
func linkLocalSource(q *inquiry) *claim {
	src, answer := endsAt(q.p).Src, lastAnswer(q.p)
	told := answer == "icmp-beyond-scope"
	if !q.p.Outcome.Died() || q.d.Hook != "" || !src.Is6() || !src.IsLinkLocalUnicast() || !q.maybeIn("ip6_forward*") || !told && !q.because("IP_INADDRERRORS") {
		return nil
	}
	c := &claim{certain: told, subject: "link-local source " + src.String(), evidence: []string{q.died()}}
	c.summary = fmt.Sprintf("its source %s is link-local, good for one link only: no router passes that on, whatever route there is", src)
	if told {
		c.evidence = append(c.evidence, "the sender was told: "+answer)
	}
	c.fix = []string{"see which addresses the sender has, and which it would take: ip -6 addr; ip -6 route get " + endsAt(q.p).Dst.String() + ", there"}
	sender := lastHop(q.p, func(h *model.Hop) bool { return h.Stage == model.StageTransmit && h.Netns != q.d.Netns })
	if sender == nil {
		in := q.link(q.d.Netns, int(q.d.IfIndex))
		if in == nil || !in.Paired() || in.PeerNetns == 0 {
			return c
		}
		sender = &model.Hop{Netns: in.PeerNetns, IfIndex: uint32(in.PeerIndex)}
	}
	l := q.link(sender.Netns, int(sender.IfIndex))
	if l == nil {
		return c
	}
	where := q.stationWords(station{netns: sender.Netns, link: l})
	q.tellSources6(c, l, where)
	q.changedBy(c, func(e *model.NodeEvent) bool {
		return e.What == model.AddressDeleted && e.Netns == sender.Netns && e.Prefix.IsValid() && e.Prefix.Addr().Is6()
	})
	return c
}

// tellSources6 says which other IPv6 addresses the sender's interface has, and why it did
// not take one.
func (q *inquiry) tellSources6(c *claim, l *node.Link, where string) {
	bare := true
	for _, p := range l.Addrs {
		a := p.Addr()
		if !a.Is6() || a.IsLinkLocalUnicast() {
			continue
		}
		bare = false
		switch {
		case slices.Contains(l.Duplicate, a):
			c.evidence = append(c.evidence, fmt.Sprintf("ip addr: %s has %s, dadfailed tentative", where, a))
			c.summary += fmt.Sprintf("; %s has %s, which it does not use, since another seemed to have it (dadfailed)", where, a)
		case slices.Contains(l.Tentative, a):
			c.evidence = append(c.evidence, fmt.Sprintf("ip addr: %s has %s, tentative", where, a))
			c.summary += fmt.Sprintf("; %s has %s, which it does not use yet (tentative)", where, a)
		default:
			c.evidence = append(c.evidence, fmt.Sprintf("ip addr: %s has %s", where, a))
			c.missing = append(c.missing, fmt.Sprintf("why it did not send from %s: the application chose its source, or that address was not there or not ready then", a))
		}
	}
	if bare {
		c.summary += fmt.Sprintf("; %s has no other IPv6 address", where)
		c.evidence = append(c.evidence, fmt.Sprintf("ip addr: %s has no IPv6 address", where))
		c.missing = append(c.missing, "who took its address away, or whether it ever had one")
		c.fix = append(c.fix, "give it the address that it is to have (kubectl get pod -o jsonpath='{.status.podIPs}'): make the pod again; see what takes it away: a sysctl (disable_ipv6 takes all), a network manager in the pod, keep_addr_on_down off when its interface went down")
	}
}

// lostSource: the pod that is to send has not the address that was traced.
func (q *inquiry) lostSource(c *claim, l *node.Link) bool {
	src, ok := single(q.start.Src.Addresses)
	if !ok || q.holds(q.start.Src.Netns, src) {
		return false
	}
	c.summary = fmt.Sprintf("no packet of the flow was seen: %s of the source pod does not have %s, so what it sends has another source", l.Name, src)
	c.evidence = append(c.evidence, fmt.Sprintf("ip addr: %s of the source pod has no %s", l.Name, src))
	for _, p := range l.Addrs {
		if p.Addr().Is6() == src.Is6() {
			c.evidence = append(c.evidence, fmt.Sprintf("ip addr: %s of the source pod has %s", l.Name, p.Addr()))
		}
	}
	q.changedBy(c, func(e *model.NodeEvent) bool {
		return e.What == model.AddressDeleted && e.Netns == q.start.Src.Netns && e.Prefix.IsValid() && e.Prefix.Addr() == src
	})
	c.fix = append(c.fix, "give it the address back: make the pod again; see what takes it away: a sysctl (disable_ipv6 takes all of IPv6), a network manager in the pod, its interface going down",
		"see what it sends, under whichever source: --src any")
	return true
}
