// SPDX-License-Identifier: Apache-2.0

package cause

// Packets that left with another source than they were sent with: answers go to that
// one.

import (
	"fmt"
	"net/netip"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// newSource is where this node rewrote the packet's source; nil: nowhere.
func (q *inquiry) newSource() *model.Hop {
	return lastHop(q.p, func(h *model.Hop) bool {
		return h.Before != nil && h.After != nil && h.Before.Src != h.After.Src && h.Netns == q.state.Node()
	})
}

// foreignSource: the packet left with a source that this node has not got, and nobody
// answered. Told as masquerade.
func foreignSource(q *inquiry, p *peer) *claim {
	h := q.newSource()
	if h == nil || p.icmp != "" || q.holds(q.state.Node(), h.After.Src) { // who sent an error back knows the way
		return nil
	}
	src := h.After.Src
	if _, held := q.podOf(src); held {
		return nil
	}
	c := &claim{subject: src.String(), summary: fmt.Sprintf("the source of packets to %s is rewritten from %s to %s, which no interface of this node has, and no answer comes: answers go to whoever has it", p.far.Addr(), h.Before.Src, src)}
	q.tellSource(c, h)
	c.evidence = append(c.evidence, fmt.Sprintf("no interface of this node has %s", src))
	c.missing = []string{"whether the network is to route that address to this node all the same"}
	c.fix = []string{"have the rule take an address that this node has: Calico's natOutgoingAddress, a rule's --to-source; or give this node that address, if it is to have it"}
	return c
}

// tellSource adds how the source was rewritten, and by which rule.
func (q *inquiry) tellSource(c *claim, h *model.Hop) {
	c.evidence = append(c.evidence, fmt.Sprintf("its source was translated from %s to %s in %s", h.Before.Src, h.After.Src, orElse(h.Hook, "POSTROUTING")))
	there := *q // it did not die; its rules are those of where it was translated
	there.d = &model.Drop{Netns: h.Netns}
	there.sourceRule(c)
	q.gaps = there.gaps
}

// leftAs words what is left by the node with another source.
func (q *inquiry) leftAs(c *claim, h *model.Hop, far, by string) {
	src := h.After.Src
	c.summary = fmt.Sprintf("packets to %s left this node by %s with the source %s in place of %s, and no answer came back while it was traced: look on next where they arrive, and where answers to %s go", far, by, src, h.Before.Src, src)
	q.tellSource(c, h)
	l := q.holderOf(q.state.Node(), src)
	if l == nil {
		return
	}
	var others []netip.Addr
	for _, p := range l.Addrs {
		if a := p.Addr(); a != src && a.Is4() == src.Is4() && !a.IsLinkLocalUnicast() {
			others = append(others, a)
		}
	}
	c.evidence = append(c.evidence, fmt.Sprintf("ip addr: %s has %s", l.Name, src))
	if src.Is6() && src.IsLinkLocalUnicast() {
		c.summary = fmt.Sprintf("packets to %s left this node by %s with the source %s in place of %s, and no answer came back while it was traced: that source is link-local, good for one link only, and no router passes it on", far, by, src, h.Before.Src)
		if len(others) == 0 {
			c.summary += fmt.Sprintf("; %s has no global IPv6 address that MASQUERADE could take", l.Name)
			c.evidence = append(c.evidence, fmt.Sprintf("ip -6 addr: %s has none but link-local ones", l.Name))
		}
		c.fix = append(c.fix, fmt.Sprintf("give %s a global IPv6 address back: ip -6 addr show dev %s; with forwarding on, router advertisements are taken with accept_ra = 2 only", l.Name, l.Name),
			"or let the rule name an address that is routed here (SNAT --to-source)")
		return
	}
	if len(others) == 0 {
		return
	}
	c.evidence = append(c.evidence, fmt.Sprintf("ip addr: %s has %s", l.Name, others[0]))
	c.fix = append(c.fix, fmt.Sprintf("if %s is a floating address, another host may have it by now, and gets the answers: MASQUERADE takes the first address that fits; let the rule name %s (SNAT --to-source, Calico's natOutgoingAddress)", src, others[0]))
}
