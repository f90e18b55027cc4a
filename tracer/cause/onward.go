// SPDX-License-Identifier: Apache-2.0

package cause

// What is wrong, or may be, with packets that left and got no answer, though no rule and
// no route of this node is at fault: to whom on the link they were handed, and whether
// others of the kind fared better. "In good order" is said only of what passes both.

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

const (
	inGoodOrder = " in good order"
	noneCame    = "no answer came back while it was traced"
)

// handedTo is the next hop's neighbour entry of a packet that left; ok is false where
// there is none, or it is not known which of several it was.
func (q *inquiry) handedTo() (at *model.Hop, entry node.Neighbor, ok bool) {
	at = lastHop(q.p, func(h *model.Hop) bool { return h.Stage == model.StageTransmit && h.IfIndex != 0 })
	if at == nil {
		return at, entry, false
	}
	dst := endsAt(q.p).Dst
	in, outer := q.encapsulated()
	if in && outer == nil {
		return at, entry, false
	}
	w := q.wayFor(at.Netns, dst)
	if outer != nil {
		dst = outer.Dst
		w = q.wayTo(at.Netns, dst)
	}
	l := q.link(at.Netns, int(at.IfIndex))
	if l == nil || tunnelKindOf(l) != nil {
		return at, entry, false // tunnels' entries are written by hand as they should be
	}
	hop, ok := w.oneHop(int(at.IfIndex))
	if !ok {
		return at, entry, false
	}
	entry, ok = q.neighbor(at.Netns, l.Index, cmp.Or(hop, dst))
	return at, entry, ok
}

// oneHop is the gateway by which a look-up leads out of an interface, not valid where the
// destination is on the link; ok is false if that is not known, or there are several.
func (w way) oneHop(index int) (gateway netip.Addr, ok bool) {
	a, sure := w.sure()
	if !sure || a.Route == nil || a.Error != 0 || len(a.Route.NextHops) > 1 {
		return gateway, false
	}
	r := oneWay(*a.Route)
	return r.Gateway, r.LinkIndex == index
}

// doubtful is the entry of the next hop, where its link-layer address is one that nobody
// asks for, or that of an interface of the node's own; ok is false where it is neither, or
// somebody answered by that next hop.
func (q *inquiry) doubtful() (at *model.Hop, entry node.Neighbor, own *node.Link, ok bool) {
	at, entry, ok = q.handedTo()
	if !ok || entry.MAC == "" {
		return at, entry, nil, false
	}
	own = q.findLink(at.Netns, func(l *node.Link) bool { return strings.EqualFold(l.MAC, entry.MAC) && !l.Loopback })
	return at, entry, own, own != nil || entry.State&unix.NUD_PERMANENT != 0 && !q.answeredBy(at, entry.Addr)
}

// misdirected tells that a packet may have gone to the wrong neighbour.
func (q *inquiry) misdirected() bool {
	_, _, _, ok := q.doubtful()
	return ok
}

// tellHandedTo takes back that all was well where the neighbour is doubtful.
func (q *inquiry) tellHandedTo(c *claim) {
	at, entry, own, ok := q.doubtful()
	if !ok {
		return
	}
	written := entry.State&unix.NUD_PERMANENT != 0
	who := fmt.Sprintf("%s at %s", entry.Addr, entry.MAC)
	c.evidence = append(c.evidence, fmt.Sprintf("ip neigh: %s lladdr %s dev %s %s, at %s", entry.Addr, entry.MAC, at.Interface, stateWords(entry.State), at.Place))
	c.certain = false
	fix := []string{fmt.Sprintf("see who has %s in truth: arping -c3 -I %s %s; tcpdump -eni %s host %s", entry.Addr, at.Interface, entry.Addr, at.Interface, entry.Addr)}
	if own != nil {
		who += fmt.Sprintf(", which is the MAC of this node's own %s", own.Name)
		c.evidence = append(c.evidence, fmt.Sprintf("ip link: %s has MAC %s", own.Name, own.MAC))
		c.missing = append(c.missing, "that nobody else on the link has that MAC, too")
	} else {
		who += ", an entry that was written by hand (PERMANENT), so that nobody asks whether it is true"
		c.missing = append(c.missing, fmt.Sprintf("whether %s has that MAC (still): the kernel never asks about a PERMANENT entry", entry.Addr))
	}
	if written {
		fix = append(fix, fmt.Sprintf("if it is another: ip neigh del %s dev %s, and the kernel asks for it itself; find who wrote the entry, or it comes back: an agent (older Ciliums), a script, a network configuration", entry.Addr, at.Interface))
	}
	c.fix = append(fix, c.fix...)
	if strings.Contains(c.summary, inGoodOrder) {
		c.summary = strings.Replace(c.summary, inGoodOrder, " for "+who, 1)
		return
	}
	c.summary += "; they went to " + who
}

// answeredBy tells whether somebody answered what was sent to a next hop: then its MAC is
// right.
func (q *inquiry) answeredBy(at *model.Hop, hop netip.Addr) bool {
	return slices.ContainsFunc(q.mem.asked, func(p *peer) bool {
		if !p.answered || p.left == 0 {
			return false
		}
		if p.far.Addr() == hop {
			return true
		}
		gateway, ok := q.wayTo(at.Netns, p.far.Addr()).oneHop(int(at.IfIndex))
		return ok && gateway == hop
	})
}

// askedOf is whom an exchange asked for, before any translation.
func (p *peer) askedOf() netip.AddrPort {
	if p.first == nil {
		return p.far
	}
	return netip.AddrPortFrom(p.first.Dst, p.first.DstPort)
}

// fared is how exchanges with one address and port ended.
type fared struct {
	well, ill int
	backends  []netip.AddrPort // that answered
	example   *peer            // one that was answered
}

// othersOf are all exchanges that asked for the same as one that got no answer, itself
// among them.
func (q *inquiry) othersOf(p *peer) (f fared) {
	asked := p.askedOf()
	for _, other := range q.mem.asked {
		if other.proto != p.proto || other.left == 0 || other.askedOf() != asked {
			continue
		}
		if !other.answered {
			f.ill++
			continue
		}
		f.well++
		if other.first != nil {
			f.example = other
		}
		if !slices.Contains(f.backends, other.far) {
			f.backends = append(f.backends, other.far)
		}
	}
	return f
}

// tellOthers takes back that no answer came, and that all was well, where other exchanges
// of the kind were answered.
func (q *inquiry) tellOthers(c *claim, p *peer) {
	f := q.othersOf(p)
	if f.well == 0 {
		return
	}
	asked := p.askedOf()
	what := "connections"
	if p.proto != "tcp" {
		what = "exchanges"
	}
	c.summary = strings.Replace(c.summary, inGoodOrder, "", 1)
	c.summary = strings.Replace(c.summary, noneCame, fmt.Sprintf("%d of %d %s got no answer, while %d were answered", f.ill, f.well+f.ill, what, f.well), 1)
	c.summary = strings.Replace(c.summary, ": look on next where they arrive", ": see what those that were not answered have in common", 1)
	to := asked.Addr().String()
	if asked.Port() != 0 && !strings.HasPrefix(p.proto, "icmp") {
		to = asked.String()
	}
	c.evidence = append(c.evidence, fmt.Sprintf("%d of %d %s (%s) to %s were answered", f.well, f.well+f.ill, what, p.proto, to))
	if !slices.Contains(f.backends, p.far) {
		c.summary += fmt.Sprintf(": they went to %s, those that were answered to %s", p.far, addrPortWords(f.backends))
	}
	q.tellHopsOfRoute(c, f)
}

func addrPortWords(all []netip.AddrPort) string {
	var names []string
	for i, a := range all {
		if i == alsoShown {
			names = append(names, fmt.Sprintf("%d more", len(all)-i))
			break
		}
		names = append(names, a.String())
	}
	return strings.Join(names, ", ")
}

// tellHopsOfRoute: where the route has several next hops, the kernel's hash of the flow
// picks one, so that a bad one shows as some flows that fail.
func (q *inquiry) tellHopsOfRoute(c *claim, f fared) {
	at := q.sentOut()
	if at == nil {
		return
	}
	w := q.wayOf(at.Netns)
	a, sure := w.sure()
	if !sure || a.Route == nil || len(a.Route.NextHops) < 2 {
		return
	}
	var hops []string
	for _, h := range a.Route.NextHops {
		name := h.Gateway.String()
		if l := q.link(at.Netns, h.LinkIndex); !h.Gateway.IsValid() && l != nil {
			name = "dev " + l.Name
		}
		hops = append(hops, name)
	}
	c.summary += fmt.Sprintf("; the route to it has %d next hops (%s), of which each connection takes one: suspect one of them", len(hops), strings.Join(hops, ", "))
	get := w.getCommand()
	c.fix = append([]string{fmt.Sprintf("see by which next hop one went that was not answered: %s%s", get, flowWords(q.p))}, c.fix...)
	if f.example != nil {
		c.fix = slices.Insert(c.fix, 1, fmt.Sprintf("and one that was: %s%s; if they differ, look at that next hop: does it pass packets on, and has it a route to them", get, flowWords(f.example.first)))
	}
}

// flowWords are a flow's ports as `ip route get` takes them.
func flowWords(p *model.Packet) string {
	if p.SrcPort == 0 {
		return ""
	}
	return fmt.Sprintf(" ipproto %s sport %d dport %d", p.Proto, p.SrcPort, p.DstPort)
}
