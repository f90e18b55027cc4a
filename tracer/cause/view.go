// SPDX-License-Identifier: Apache-2.0

package cause

// This file reads off a packet's hops what several causes ask.

import (
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// endsAt are the packet's addresses as they were when it ended.
func endsAt(p *model.Packet) model.Endpoints {
	for _, h := range slices.Backward(p.Hops) {
		if h.After != nil {
			return *h.After
		}
	}
	return model.Endpoints{Src: p.Src, SrcPort: p.SrcPort, Dst: p.Dst, DstPort: p.DstPort}
}

// lastAnswer is what the stack answered last, "" if it did not.
func lastAnswer(p *model.Packet) string {
	for _, h := range slices.Backward(p.Hops) {
		if h.Answer != "" && h.Answer != "icmp-redirect" {
			return h.Answer
		}
	}
	return ""
}

// refused tells a packet that arrived, opened something and was turned away: a
// TCP segment with nothing but SYN that got a reset, a datagram that got
// "port unreachable".
func refused(p *model.Packet) bool {
	answer := lastAnswer(p)
	return answer == "tcp-reset" && strings.Contains(p.TCPFlags, "S") || answer == "icmp-port-unreachable"
}

// lastHop is the last hop before the death that fits, nil if none does.
func lastHop(p *model.Packet, fits func(h *model.Hop) bool) *model.Hop {
	for i := len(p.Hops) - 1; i >= 0; i-- {
		if fits(&p.Hops[i]) {
			return &p.Hops[i]
		}
	}
	return nil
}

// route is the result of the last route look-up, in the namespace the packet
// ended in; empty if none was seen.
func (q *inquiry) route() model.Route {
	h := lastHop(q.p, func(h *model.Hop) bool { return h.Stage == model.StageRoute && h.Route != nil && q.ownLookup(h) })
	if h == nil || q.d.Netns != 0 && h.Netns != q.d.Netns {
		return model.Route{}
	}
	return *h.Route
}

// ownLookup tells a look-up for the packet itself from one for the answer to it: the
// kernel looks for the way back while it has the packet at hand (icmp_route_lookup,
// net/ipv4/icmp.c, 6.12). What failed is the packet's own: it shows when it dies.
func (q *inquiry) ownLookup(h *model.Hop) bool {
	if h.Route != nil && h.Route.Error != "" {
		return true
	}
	for i := range q.p.Hops {
		switch is := &q.p.Hops[i]; {
		case is == h:
			return true
		case is.Stage == model.StageAnswer && is.Answer != "icmp-redirect" && is.Netns == h.Netns:
			return false
		}
	}
	return true
}

// result is the last odd result of a stage, "" if there was none.
func (q *inquiry) result(stage model.Stage) string {
	h := lastHop(q.p, func(h *model.Hop) bool { return h.Stage == stage && h.Result != "" })
	if h == nil {
		return ""
	}
	return h.Result
}

// encapsulated tells whether the packet was inside a tunnel when it ended, as
// far as its hops show it, and the outer header if that was seen.
func (q *inquiry) encapsulated() (in bool, outer *model.Tunnel) {
	for i := range q.p.Hops {
		switch h := &q.p.Hops[i]; h.Stage {
		case model.StageEncapsulate:
			in, outer = true, h.Tunnel
		case model.StageDecapsulate:
			in, outer = false, nil
		}
	}
	return in, outer
}

// inside is encapsulated of a packet that died: the kernel half saw its outer header
// when it did, or the packet was put into a tunnel before and did not come out.
func (q *inquiry) inside() (in bool, outer *model.Tunnel) {
	if q.d.Tunnel != nil {
		return true, q.d.Tunnel
	}
	return q.encapsulated()
}

// in tells whether the packet died in one of these functions.
func (q *inquiry) in(functions ...string) bool {
	name := symbol(q.d.Function)
	for _, f := range functions {
		if name == f || strings.HasSuffix(f, "*") && strings.HasPrefix(name, strings.TrimSuffix(f, "*")) {
			return true
		}
	}
	return false
}

// maybeIn is in, or true where the kernel hides its symbols: then the reason and
// the route have to tell by themselves.
func (q *inquiry) maybeIn(functions ...string) bool {
	return strings.HasPrefix(q.d.Function, "0x") || q.in(functions...)
}

// because tells whether the kernel gave one of these reasons.
func (q *inquiry) because(reasons ...string) bool { return slices.Contains(reasons, q.d.Reason) }

// ipv6 tells the packet's family.
func (q *inquiry) ipv6() bool { return q.p.Dst.Is6() }

// died is the evidence that every death has: reason and place.
func (q *inquiry) died() string {
	d := q.d
	where := d.Function
	if where == "" {
		where = "a function that was not named"
	}
	if !q.p.Outcome.Died() {
		return "its end was not seen"
	}
	says := "the kernel freed it in " + where + " at " + at(d.Place, d.Interface)
	if d.Reason != "" && d.Reason != "NOT_SPECIFIED" {
		says += ", reason " + d.Reason
	}
	return says
}

// at names a place: "node (cali123)".
func at(place, iface string) string {
	if place == "" {
		place = "?"
	}
	if iface == "" {
		return place
	}
	return place + " (" + iface + ")"
}
