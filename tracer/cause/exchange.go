// SPDX-License-Identifier: Apache-2.0

package cause

// Who asked and who answers: what a packet is in its exchange, whichever end was
// given as the source.

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// beginning is the direction that an exchange began in.
type beginning struct {
	direction model.Direction
	at        time.Time
}

// sideKey is an exchange by the address of the side that --src is for.
func sideKey(p *model.Packet) peerKey {
	if p.Direction == model.Forward {
		return keyOf(p, netip.AddrPortFrom(p.Src, p.SrcPort), 0)
	}
	e := endsAt(p)
	return keyOf(p, netip.AddrPortFrom(e.Dst, e.DstPort), 0)
}

// seeBeginning notes which side sent first; packets are told when they end.
func (m *memory) seeBeginning(p *model.Packet) {
	key := sideKey(p)
	b := m.began[key]
	switch {
	case b == nil && len(m.began) < maxPeers:
		m.began[key] = &beginning{p.Direction, p.Time}
	case b != nil && p.Time.Before(b.at):
		b.direction, b.at = p.Direction, p.Time
	}
}

// isReply tells a packet that answers another. Where that does not show by itself,
// the side that --dst is for answers, unless it was seen to send first.
func (q *inquiry) isReply() bool {
	p := q.p
	switch {
	case p.OwnAnswer || p.ICMP == "echo-reply":
		return true
	case p.ICMP == "echo-request":
		return false
	case p.Proto == "tcp" && strings.Contains(p.TCPFlags, "S"):
		return strings.Contains(p.TCPFlags, ".")
	case calledReply(p):
		return true // conntrack knows who began
	case q.mem.maskedAsk(p) != nil:
		return true // to an address that this node had given the request as its source
	}
	if b := q.mem.began[sideKey(p)]; b != nil {
		return b.direction != p.Direction
	}
	return p.Direction == model.Return
}

// calledReply tells that conntrack called the packet itself a reply.
func calledReply(p *model.Packet) bool {
	return ownHop(p, func(h *model.Hop) bool { return strings.HasSuffix(h.CTState, "-reply") }) != nil
}

// ownHop is a hop that fits where the packet was not inside another one; nil: there is
// none. What conntrack says of the outer packet is about the nodes: a reply is all that
// the one sends that was heard second.
func ownHop(p *model.Packet, fits func(h *model.Hop) bool) *model.Hop {
	at := slices.IndexFunc(p.Hops, func(h model.Hop) bool { return h.Stage == model.StageEncapsulate || h.Stage == model.StageDecapsulate })
	inside := at < 0 && p.Drop != nil && p.Drop.Tunnel != nil || at >= 0 && p.Hops[at].Stage == model.StageDecapsulate
	for i := range p.Hops {
		switch h := &p.Hops[i]; {
		case h.Stage == model.StageEncapsulate:
			inside = true
		case h.Stage == model.StageDecapsulate:
			inside = false
		case !inside && fits(h):
			return h
		}
	}
	return nil
}

// midway tells a TCP segment that no connection begins with.
func midway(p *model.Packet) bool {
	return p.Proto == "tcp" && !strings.ContainsAny(p.TCPFlags, "SR")
}

// tracked is what conntrack of a namespace said of the packet last, and where; ""
// if it did not look at it.
func (q *inquiry) tracked(netns uint32) (state string, at *model.Hop) {
	h := lastHop(q.p, func(h *model.Hop) bool { return h.Netns == netns && h.CTState != "" && h.Hook != "" })
	if h == nil {
		h = lastHop(q.p, func(h *model.Hop) bool { return h.Netns == netns && h.CTState != "" })
	}
	if h == nil {
		return "", nil
	}
	return h.CTState, h
}
