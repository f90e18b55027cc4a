// SPDX-License-Identifier: Apache-2.0

package cause

// Answers to what this node had sent on under another source, when conntrack has forgotten
// whose they are: they come to the node's own address, and end there. Told as
// conntrack-unknown.

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// lifetime is how long conntrack keeps an entry: the sysctl, of those below
// net/netfilter, and its default in seconds (net/netfilter/nf_conntrack_proto_*.c, 6.12).
type lifetime struct {
	name   string
	normal int
}

// lifetimeOf is that of a protocol's entry; answered: packets had gone both ways.
func lifetimeOf(proto string, answered bool) lifetime {
	switch {
	case proto == "udp" && answered:
		return lifetime{"nf_conntrack_udp_timeout_stream", 120}
	case proto == "udp":
		return lifetime{"nf_conntrack_udp_timeout", 30}
	case proto == "icmp":
		return lifetime{"nf_conntrack_icmp_timeout", 30}
	case proto == "icmpv6":
		return lifetime{"nf_conntrack_icmpv6_timeout", 30}
	case proto == "tcp" && answered:
		return lifetime{"nf_conntrack_tcp_timeout_established", 432000}
	case proto == "tcp":
		return lifetime{"nf_conntrack_tcp_timeout_syn_sent", 120}
	}
	return lifetime{}
}

// maskedAsk is the exchange that a packet answers, if what was asked left under another
// source, and the packet came to that one and was not translated back; nil: none.
func (m *memory) maskedAsk(p *model.Packet) *peer {
	e := endsAt(p)
	from, to := netip.AddrPortFrom(p.Src, p.SrcPort), netip.AddrPortFrom(e.Dst, e.DstPort)
	end := lastHop(p, func(h *model.Hop) bool { return h.Netns != 0 })
	if p.Dst != e.Dst || p.ICMP != "" && p.ICMP != "echo-reply" || end == nil || p.Outcome == model.LeftNode || knownReply(p) {
		return nil
	}
	for _, at := range m.asked {
		if at.first == nil || at.proto != p.Proto || at.far != from {
			continue
		}
		h := at.mask()
		if h == nil || h.After.Src != to.Addr() || h.Netns != end.Netns {
			continue // what went on to another namespace was translated back, if that was not seen
		}
		if p.ICMPID != 0 && at.near == p.ICMPID || p.ICMPID == 0 && h.After.SrcPort == to.Port() {
			return at
		}
	}
	return nil
}

// knownReply tells that conntrack counts a packet to the connection that it answers.
func knownReply(p *model.Packet) bool {
	return ownHop(p, func(h *model.Hop) bool { return strings.HasSuffix(h.CTState, "-reply") || h.CTState == "established" }) != nil
}

// mask is where the source of what was asked was rewritten; nil: nowhere.
func (p *peer) mask() *model.Hop {
	return lastHop(p.first, func(h *model.Hop) bool {
		return h.Before != nil && h.After != nil && h.Before.Src != h.After.Src
	})
}

// lateAnswer: the answer ended at the node, since nobody translated it back.
func lateAnswer(q *inquiry) *claim {
	if q.d.Hook != "" || !q.because("NO_SOCKET") && lastAnswer(q.p) != "tcp-reset" && lastAnswer(q.p) != "icmp-port-unreachable" {
		return nil
	}
	ask := q.mem.maskedAsk(q.p)
	if ask == nil {
		return nil
	}
	h := ask.mask()
	o, known := q.outsideOf(h.Netns)
	if state, _ := q.tracked(h.Netns); !known && state != "" {
		return nil
	}
	place, iface := q.end()
	c := &claim{certain: known && o.certain, direction: model.Return, subject: ask.far.String()}
	if !known {
		o.why = "nobody translated it back"
		c.missing = append(c.missing, "conntrack's state of it: no sighting tells")
	}
	gone := fmt.Sprintf("the answer of %s came to %s, the source that packets to it had left with in place of %s, and ended at %s", farWords(ask), maskWords(h.After), maskWords(h.Before), place)
	c.evidence, c.missing, c.fix = o.evidence, append(c.missing, o.missing...), o.fix
	if timed := q.outlived(c, ask, h); timed != "" {
		c.summary = gone + " itself: " + timed
	} else {
		c.summary = gone + " itself: " + o.why
	}
	if q.d.Function != "" {
		c.evidence = append(c.evidence, q.died())
	}
	if a := lastAnswer(q.p); a != "" {
		c.evidence = append(c.evidence, fmt.Sprintf("%s answered: %s", at(place, iface), a))
	}
	return c
}

func maskWords(e *model.Endpoints) string {
	if e.SrcPort == 0 {
		return e.Src.String()
	}
	return netip.AddrPortFrom(e.Src, e.SrcPort).String()
}

// outlived adds what is known of a rewritten request that a packet answers, and when it was
// sent. It gives, in words, that conntrack does not keep entries for so long; "": it does.
func (q *inquiry) outlived(c *claim, at *peer, h *model.Hop) string {
	c.evidence = append(c.evidence, fmt.Sprintf("the source of #%d was translated from %s to %s in %s", at.first.ID, maskWords(h.Before), maskWords(h.After), orElse(h.Hook, "POSTROUTING")))
	if state, _ := q.tracked(h.Netns); state != "" && state != "new" {
		return "" // conntrack did not take it for the first of a new connection
	}
	after := q.p.Time.Sub(at.last)
	if after <= 0 {
		return ""
	}
	c.evidence = append(c.evidence, fmt.Sprintf("#%d came %.1f s after the last packet to %s", q.p.ID, after.Seconds(), at.far))
	life := lifetimeOf(q.p.Proto, at.answered)
	kept, ok := 0, false
	if life.name != "" {
		kept, ok = q.sysctl(h.Netns, "netfilter/"+life.name)
	}
	if !ok {
		return ""
	}
	c.evidence = append(c.evidence, fmt.Sprintf("net.netfilter.%s = %d", life.name, kept))
	if after < time.Duration(kept)*time.Second {
		return ""
	}
	c.missing = nil
	c.fix = nil
	if kept < life.normal {
		c.fix = []string{fmt.Sprintf("let conntrack keep such entries for longer: sysctl -w net.netfilter.%s=%d (the kernel's own value), and see who set it otherwise (/etc/sysctl.d/, a DaemonSet)", life.name, life.normal)}
	} else {
		c.fix = []string{fmt.Sprintf("if answers may take so long: sysctl -w net.netfilter.%s=%d", life.name, 2*int(after.Seconds())+1)}
	}
	c.fix = append(c.fix, fmt.Sprintf("see why the answer takes so long, there: %s", strings.TrimSuffix(farWords(at), " ("+at.proto+")")))
	return fmt.Sprintf("it came after %.1f s, and conntrack keeps an entry of %s of which nothing more is heard for %d s only (%s), so that it had forgotten whose answer that is, and nobody translated it back", after.Seconds(), q.p.Proto, kept, life.name)
}
