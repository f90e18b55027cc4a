// SPDX-License-Identifier: Apache-2.0

package cause

// The cause answer-from-elsewhere where the answers are no packets of the flow: a
// server that listens on all addresses answers from the one that its routing gives,
// which is not the one that was asked. What shows is the socket, the routing, what
// conntrack and the kernel's counters have of them.

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// maxCounted bounds the namespaces whose counters of UDP are kept.
const maxCounted = 16

// datagrams are counters as they were, and since when.
type datagrams struct {
	node.DatagramStats
	packet uint64 // they were read when it was told; 0: when the trace began
}

// countAtStart keeps the counters of the trace's ends.
func (c *Collector) countAtStart() {
	if c.start.Proto != "" && c.start.Proto != "udp" {
		return
	}
	for _, end := range []model.End{c.start.Src, c.start.Dst} {
		if end.Netns != 0 {
			c.mem.countUDP(c.state, end.Netns, false, 0)
		}
	}
}

// countAt keeps the counters of where a datagram came to, and from.
func (c *Collector) countAt(p *model.Packet) {
	if p.Proto != "udp" || p.Direction != model.Forward || p.Outcome != model.Delivered {
		return
	}
	c.mem.countUDP(c.state, lastNetns(p), p.Dst.Is6(), p.ID)
	c.mem.countUDP(c.state, firstNetns(p), p.Dst.Is6(), p.ID)
}

func (m *memory) countUDP(state State, netns uint32, v6 bool, packet uint64) {
	key := udpKey{netns, v6}
	if _, known := m.udp[key]; known || netns == 0 || len(m.udp) >= maxCounted {
		return
	}
	s, err := state.Datagrams(netns, v6)
	m.udp[key] = nil // what cannot be read is not asked again
	if err == nil {
		m.udp[key] = &datagrams{s, packet}
	}
}

type udpKey struct {
	netns uint32
	v6    bool
}

// answeredElsewhere looks into each datagram's exchange on this node that got no answer
// in the flow.
func answeredElsewhere(c *Collector) (all []*found) {
	if c.incomplete || c.mem.near.crowded || c.mem.near.missed {
		return nil
	}
	for _, p := range c.mem.near.inOrder() {
		if p.proto != "udp" || p.answered || p.told || c.now().Sub(p.first.Time) < patience || p.first.Outcome != model.Delivered || c.explained(p) {
			continue
		}
		q := &inquiry{p: p.first, d: lastSeen(p.first), state: c.state, start: &c.start, mem: &c.mem}
		w := q.wildcard()
		if w == nil {
			continue
		}
		claim := q.fromElsewhere(w)
		if claim == nil {
			continue
		}
		p.told = true
		claim.direction = model.Return
		claim.missing = append(claim.missing, q.gaps...)
		all = append(all, &found{claim: claim, packets: p.left, ids: p.ids})
	}
	return all
}

// wildcard is a server's socket on all addresses, with the address that it answers from
// unless it says otherwise.
type wildcard struct {
	socket      node.Socket
	asked, from netip.AddrPort
	way         way
	holder      *node.Link // has the asked address
}

// wildcard finds out whether what was asked is such a socket, at another address than it
// would answer from; nil: no.
func (q *inquiry) wildcard() *wildcard {
	if q.p.Proto != "udp" {
		return nil
	}
	e := endsAt(q.p)
	w := &wildcard{asked: netip.AddrPortFrom(e.Dst, e.DstPort), holder: q.holderOf(q.d.Netns, e.Dst)}
	if w.holder == nil {
		return nil
	}
	sockets, err := q.state.UDPSockets(q.d.Netns)
	q.gap(err)
	open := false
	for _, s := range sockets {
		if s.Local.Port() != e.DstPort {
			continue
		}
		if s.Local.Addr() == e.Dst {
			return nil // it has the asked address, and answers from there
		}
		if s.Local.Addr().IsUnspecified() {
			w.socket, open = s, true
		}
	}
	if !open {
		return nil
	}
	w.way = q.wayTo(q.d.Netns, e.Src)
	from := q.sourceOf(w.way)
	if !from.IsValid() || from == e.Dst {
		return nil
	}
	w.from = netip.AddrPortFrom(from, e.DstPort)
	return w
}

// sourceOf is the source that a namespace gives what it sends by itself: the route's
// own, else the first address of its interface (fib_info_update_nhc_saddr,
// inet_select_addr, net/ipv4, 6.12); of IPv6 only where there is one. Not valid: not known.
func (q *inquiry) sourceOf(w way) (src netip.Addr) {
	a, sure := w.sure()
	if !sure || a.Error != 0 || a.Route == nil || isLocal(a) || len(a.Hops) != 1 {
		return src
	}
	if a.Route.Source.IsValid() {
		return a.Route.Source
	}
	l := q.link(w.netns, a.Hops[0].LinkIndex)
	if l == nil {
		return src
	}
	via := a.Hops[0].Gateway
	if !via.IsValid() {
		via = w.asked.Dst
	}
	for _, p := range l.Addrs {
		switch {
		case p.Addr().Is4() != w.asked.Dst.Is4() || p.Addr().IsLinkLocalUnicast():
		case p.Contains(via) && p.Addr().Is4():
			return p.Addr()
		case src.IsValid() && p.Addr().Is6():
			return netip.Addr{} // of several, it depends on more
		case !src.IsValid():
			src = p.Addr()
		}
	}
	if !src.IsValid() && w.asked.Dst.Is4() {
		return q.anySource(w.netns)
	}
	return src
}

// anySource is the IPv4 source where the way's own interface has no address, as the
// nodes' ends of pods: the first address of the first interface that has one
// (inet_select_addr). Not valid where that turns on scopes, which are not known here.
func (q *inquiry) anySource(netns uint32) (src netip.Addr) {
	q.findLink(netns, func(l *node.Link) bool {
		for _, p := range l.Addrs {
			if a := p.Addr(); a.Is4() && !a.IsLoopback() {
				if !a.IsLinkLocalUnicast() {
					src = a
				}
				return true
			}
		}
		return false
	})
	return src
}

// words are what is known of it, whether or not answers were sent.
func (w *wildcard) words(q *inquiry, place string) []string {
	all := []string{fmt.Sprintf("ss -lnu: %s listens in %s on all addresses", w.socket.Local, place),
		fmt.Sprintf("ip addr: %s has %s", w.holder.Name, w.asked.Addr()),
		fmt.Sprintf("the way back to the client, there: %s", w.way.words()),
		fmt.Sprintf("ip route get %s, there: src %s", w.way.asked.Dst, w.from.Addr())}
	return all
}

// fromElsewhere: answers were sent, from the other address; nil: nothing shows it.
func (q *inquiry) fromElsewhere(w *wildcard) *claim {
	place, iface := q.end()
	server := place
	if place == "node" {
		server = "a server of this node"
	}
	client := netip.AddrPortFrom(q.p.Src, q.p.SrcPort)
	shown := q.shownByConntrack(w)
	refused := q.rose(firstNetns(q.p), "NoPorts", func(s node.DatagramStats) uint64 { return s.NoPorts })
	sent := q.rose(q.d.Netns, "OutDatagrams", func(s node.DatagramStats) uint64 { return s.Sent })
	if q.d.Netns == q.state.Node() {
		sent = "" // whatever else it sends is among them
	}
	if firstNetns(q.p) == q.state.Node() {
		refused = ""
	}
	if shown == "" && (refused == "" || q.d.Netns != q.state.Node() && sent == "") {
		return nil
	}
	c := &claim{subject: w.asked.String(), summary: fmt.Sprintf("%s was asked at %s and answers from %s: its socket is bound to all addresses (%s), and its route back to the client has %s for a source, which the client, having asked %s, refuses", server, w.asked, w.from.Addr(), w.socket.Local, w.from.Addr(), w.asked.Addr())}
	c.evidence = append([]string{fmt.Sprintf("%s took it in", at(place, iface))}, w.words(q, place)...)
	c.evidence = append(c.evidence, nonEmpty(shown, sent, refused)...)
	if shown == "" {
		c.missing = append(c.missing, fmt.Sprintf("that those are answers to %s: bearing another address than was asked, they are no packets of this trace, and counters name nobody", client))
	} else {
		c.missing = append(c.missing, "the answers themselves: bearing another address than was asked, they are no packets of this trace")
	}
	c.fix = w.fix(client.Addr())
	return c
}

// fix is what to do about a server that answers from another address.
func (w *wildcard) fix(client netip.Addr) []string {
	return []string{
		fmt.Sprintf("have the server bind to the address that is asked (%s), each to a socket of its own, or answer from where it was asked (IP_PKTINFO, IPV6_RECVPKTINFO): its listen address in its configuration", w.asked.Addr()),
		fmt.Sprintf("or ask it at %s, which it answers from", w.from.Addr()),
		fmt.Sprintf("see the answers: pathtrace --src %s --dst %s", client, w.from.Addr())}
}

// shownByConntrack is an entry of what goes from the other address to the asking
// socket: conntrack took the answer for a connection of its own.
func (q *inquiry) shownByConntrack(w *wildcard) string {
	flow := node.Flow{Proto: unix.IPPROTO_UDP, Src: w.from, Dst: netip.AddrPortFrom(q.p.Src, q.p.SrcPort)}
	for _, netns := range []uint32{q.state.Node(), q.d.Netns, firstNetns(q.p)} {
		entry, ok, err := q.state.Connection(netns, flow)
		if !errors.Is(err, node.ErrNoConntrackQuery) {
			q.gap(err)
		}
		if err == nil && ok && entry.Orig == flow {
			return "conntrack -L: udp " + connectionWords(entry)
		}
	}
	return ""
}

// rose says that a counter of UDP has risen, "" if it has not, or is not known.
func (q *inquiry) rose(netns uint32, name string, value func(node.DatagramStats) uint64) string {
	before := q.mem.udp[udpKey{netns, q.ipv6()}]
	if before == nil {
		return ""
	}
	now, err := q.state.Datagrams(netns, q.ipv6())
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, node.ErrGone) {
		return ""
	}
	q.gap(err)
	if err != nil || value(now) <= value(before.DatagramStats) {
		return ""
	}
	since := "when the trace began"
	if before.packet != 0 {
		since = fmt.Sprintf("when packet #%d had been told", before.packet)
	}
	place := ""
	if h := lastHop(q.p, func(h *model.Hop) bool { return h.Netns == netns && h.Place != "" }); h != nil {
		place = h.Place
	}
	what := map[string]string{"NoPorts": "datagrams that no socket took", "OutDatagrams": "datagrams sent"}[name]
	return fmt.Sprintf("nstat of %s: %s (%s) was %d %s, and is %d", orElse(place, "?"), udpCounter(name, q.ipv6()), what, value(before.DatagramStats), since, value(now))
}

// udpCounter is a counter as nstat names it.
func udpCounter(name string, v6 bool) string {
	if v6 {
		return "Udp6" + name
	}
	return "Udp" + name
}

// tellWildcard words an exchange without an answer in the flow, where an answer need not
// be of the flow: whether one was sent is not known then.
func (q *inquiry) tellWildcard(c *claim, to, place string) bool {
	w := q.wildcard()
	if w == nil {
		return false
	}
	c.summary = fmt.Sprintf("packets to %s arrived at %s, and no answer from there was seen; its socket is bound to all addresses, so that what it answers may bear %s, which the client has not asked and may refuse", to, place, w.from.Addr())
	c.evidence = append(c.evidence, w.words(q, place)...)
	c.missing = append(c.missing, "whether it answered: an answer with another address is no packet of this trace")
	fix := w.fix(q.p.Src)
	c.fix = slices.Concat(fix[2:], fix[:2]) // first see whether it answers
	return true
}
