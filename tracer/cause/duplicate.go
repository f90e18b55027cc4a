// SPDX-License-Identifier: Apache-2.0

package cause

// The cause duplicate-address: two interfaces of this node and its pods have one
// address. What is for it comes to one of them, whoever asked.

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

const (
	maxAskers = 512
	maxStrays = 64
)

// askers remembers which namespace sent which request, and the answers that came to
// another one: nothing kills such an answer where the protocol takes what nobody
// asked for (ICMP).
type askers struct {
	from   map[peerKey]uint32
	strays map[netip.Addr]*stray
}

// stray are answers to one address that came to somebody else.
type stray struct {
	first   *model.Packet
	asked   uint32 // namespace
	got     uint32
	ids     []uint64
	packets int
}

func newAskers() askers {
	return askers{from: make(map[peerKey]uint32), strays: make(map[netip.Addr]*stray)}
}

// see takes a finished packet.
func (a *askers) see(p *model.Packet, self uint32) {
	switch {
	case len(p.Hops) == 0:
	case p.Direction == model.Forward:
		a.seeRequest(p, self)
	case p.Outcome == model.Delivered:
		a.seeReply(p, self)
	}
}

func (a *askers) seeRequest(p *model.Packet, self uint32) {
	at := slices.IndexFunc(p.Hops, func(h model.Hop) bool { return h.Stage == model.StageTransmit })
	if at < 0 || p.Hops[at].Netns == 0 || p.Hops[at].Netns == self || !asks(p) {
		return
	}
	if len(a.from) >= maxAskers {
		clear(a.from)
	}
	a.from[arrivedKey(p)] = p.Hops[at].Netns
}

func (a *askers) seeReply(p *model.Packet, self uint32) {
	last, asked := lastHop(p, func(h *model.Hop) bool { return h.Netns != 0 }), a.from[answers(p)]
	if last == nil || asked == 0 || last.Netns == asked || last.Netns == self {
		return
	}
	dst := endsAt(p).Dst
	s := a.strays[dst]
	if s == nil {
		if len(a.strays) >= maxStrays {
			return
		}
		s = &stray{first: p, asked: asked, got: last.Netns}
		a.strays[dst] = s
	}
	s.packets++
	if len(s.ids) < shownPackets {
		s.ids = append(s.ids, p.ID)
	}
}

// holders are the interfaces of the node and its pods that have an address, but for
// loopback and for those that lead nowhere on this node (a pod may run a node of its
// own): addresses behind them are nobody else's business.
func (q *inquiry) holders(addr netip.Addr) (all []station) {
	self := q.state.Node()
	for _, netns := range append(q.state.Members(), self) {
		links, err := q.state.Links(netns)
		if errors.Is(err, node.ErrGone) {
			continue
		}
		q.gap(err)
		for i := range links {
			s := station{netns: netns, link: &links[i]}
			if !s.link.Loopback && s.holds(addr) && (netns == self || s.link.PeerNetns == self) {
				all = append(all, s)
				break
			}
		}
	}
	slices.SortFunc(all, func(a, b station) int { return strings.Compare(q.stationWords(a), q.stationWords(b)) })
	return all
}

// doubled gives the holders of an address that more than one has, one of which is in
// a certain namespace.
func (q *inquiry) doubled(addr netip.Addr, one uint32) (all []station) {
	if addr.IsLinkLocalUnicast() || addr.IsMulticast() {
		return nil
	}
	// looking into all pods takes a while, so that is asked only where it may be
	if _, pod := q.mem.pods(q)[addr]; !pod || !q.mem.here.twice[addr] && !q.holds(q.state.Node(), addr) {
		return nil
	}
	all = q.holders(addr)
	if len(all) < 2 || !slices.ContainsFunc(all, func(s station) bool { return s.netns == one }) {
		return nil
	}
	return all
}

// duplicateAddress: the packet died of going to, or coming from, an address that two
// have.
func duplicateAddress(q *inquiry) *claim {
	for _, look := range []func(*inquiry) *claim{doubledReceiver, doubledSender} {
		if c := look(q); c != nil {
			return c
		}
	}
	return nil
}

// doubledReceiver: it came to one of the two, and that one did not ask for it, or
// has nobody who listens.
func doubledReceiver(q *inquiry) *claim {
	answer, dst := lastAnswer(q.p), endsAt(q.p).Dst
	if q.d.Hook != "" || !q.because("NO_SOCKET") && answer != "tcp-reset" && answer != "icmp-port-unreachable" {
		return nil
	}
	got := q.d.Netns
	if q.p.Drop == nil {
		if h := lastHop(q.p, func(h *model.Hop) bool { return h.Netns != 0 }); h != nil {
			got = h.Netns
		}
	}
	all := q.doubled(dst, got)
	if all == nil {
		return nil
	}
	c := q.doubledClaim(dst, all)
	if q.p.Outcome.Died() {
		c.evidence = append(c.evidence, q.died())
	}
	if answer != "" {
		c.evidence = append(c.evidence, fmt.Sprintf("%s answered: %s", q.whoWords(all, got), answer))
	}
	switch {
	case q.p.Direction == model.Return:
		c.summary += fmt.Sprintf(": the reply came to %s, where no socket waits for it", q.whoWords(all, got))
		// packets are told when they end, and the request may end after the reply
		c.settle = func(c *claim) { q.whoAsked(c, all, got) }
	case !q.listensElsewhere(all, got):
		return nil // it is not the address
	default:
		c.summary += fmt.Sprintf(": the packet came to %s, where nothing listens on %s port %d, while the other one does", q.whoWords(all, got), q.p.Proto, endsAt(q.p).DstPort)
	}
	return c
}

// whoAsked adds to a claim who sent the request.
func (q *inquiry) whoAsked(c *claim, all []station, got uint32) {
	asker := q.mem.askers.from[answers(q.p)]
	if asker == 0 || asker == got || !slices.ContainsFunc(all, func(s station) bool { return s.netns == asker }) {
		c.missing = append(c.missing, "which of the two had asked")
		return
	}
	c.certain = true
	c.evidence = append(c.evidence, fmt.Sprintf("the request was sent by %s, the reply came to %s, which did not ask", q.whoWords(all, asker), q.whoWords(all, got)))
}

// listensElsewhere tells whether another holder has a listening socket on the port
// that was asked for; of other protocols than TCP that is not known.
func (q *inquiry) listensElsewhere(all []station, got uint32) bool {
	port := endsAt(q.p).DstPort
	for _, s := range all {
		if s.netns == got || q.p.Proto != "tcp" {
			continue
		}
		sockets, err := q.state.Sockets(s.netns)
		q.gap(err)
		for _, sock := range sockets {
			if sock.State == node.TCPListen && sock.Local.Port() == port {
				return true
			}
		}
	}
	return false
}

// doubledSender: the source check refuses one of the two, since the way back leads
// to the other: the kernel's own (IP_RPFILTER, or IP_LOCAL_SOURCE where the node has
// the address itself), or Calico's.
func doubledSender(q *inquiry) *claim {
	in := q.link(q.d.Netns, int(q.d.IfIndex))
	inferred := q.d.Hook == "" && q.refusedAsOwn()
	if q.d.Netns != q.state.Node() || in == nil || !inferred && !q.sourceRefused() {
		return nil
	}
	src := endsAt(q.p).Src
	sender := in.PeerNetns
	if h := q.p.Hops; len(h) > 0 && h[0].Stage == model.StageTransmit && h[0].Netns != q.state.Node() {
		sender = h[0].Netns
	}
	all := q.doubled(src, sender)
	if all == nil {
		return nil
	}
	c := q.doubledClaim(src, all)
	if c.certain = !inferred; inferred {
		c.missing = append(c.missing, "the kernel gives no reason of its own here")
	}
	c.summary += fmt.Sprintf(": packets of %s are refused, since the way back leads to the other", q.whoWords(all, sender))
	if q.d.Hook != "" {
		c.evidence = append(c.evidence, q.where())
		if q.d.Rule != nil {
			c.evidence = append(c.evidence, "rule of the source check: "+q.d.Rule.Text)
		}
		c.certain = q.d.Rule != nil && q.d.RuleSource == model.RuleExact
	} else {
		c.evidence = append(c.evidence, q.died())
	}
	return c
}

// sourceRefused tells a death by a check of the source address.
func (q *inquiry) sourceRefused() bool {
	if q.d.Hook == "" {
		return q.because("IP_RPFILTER", "IP_LOCAL_SOURCE", "IP_INVALID_SOURCE") || q.route().Error == "EXDEV" || strings.Contains(q.result("route"), "RPFILTER")
	}
	m, ok := q.decided()
	return ok && m.Kind == meaning.ReversePath
}

// doubledClaim names all that have an address, and where its packets go.
func (q *inquiry) doubledClaim(addr netip.Addr, all []station) *claim {
	self := q.state.Node()
	var names []string
	c := &claim{subject: addr.String()}
	for _, s := range all {
		names = append(names, q.stationWords(s))
		c.evidence = append(c.evidence, fmt.Sprintf("ip addr: %s has %s", q.stationWords(s), addr))
	}
	c.summary = fmt.Sprintf("%d interfaces have the address %s, %s", len(all), addr, strings.Join(names, " and "))
	if r, ok := q.routeTo(self, addr); ok {
		c.evidence = append(c.evidence, "the node's route to it: "+q.routeWords(self, r))
	}
	c.fix = []string{fmt.Sprintf("find both pods, and delete the one that is not to have it: kubectl get pod -A -o wide | grep -w %s; crictl pods", addr)}
	for _, s := range all {
		if host := q.pairEnd(s.link); s.netns != self && host != nil {
			c.fix = append(c.fix, fmt.Sprintf("if %s is of a pod that is gone: ip link del %s", host.Name, host.Name))
		}
	}
	c.fix = append(c.fix, fmt.Sprintf("see who gave it twice: calicoctl ipam show --ip=%s, calicoctl ipam check; host-local: /var/lib/cni/networks; a fixed address (cni.projectcalico.org/ipAddrs) in two places", addr))
	return c
}

// whoWords names the holder in a namespace.
func (q *inquiry) whoWords(all []station, netns uint32) string {
	for _, s := range all {
		if s.netns == netns {
			return q.stationWords(s)
		}
	}
	return "another pod"
}

// strayReplies: answers that came to a pod that did not ask, and were taken without
// a word.
func strayReplies(c *Collector) (all []*found) {
	for dst, s := range c.mem.askers.strays {
		q := &inquiry{p: s.first, d: lastSeen(s.first), state: c.state, start: &c.start, mem: &c.mem}
		holders := q.doubled(dst, s.got)
		if holders == nil || !slices.ContainsFunc(holders, func(h station) bool { return h.netns == s.asked }) {
			continue
		}
		claim := q.doubledClaim(dst, holders)
		claim.certain, claim.direction = true, model.Return
		claim.summary += fmt.Sprintf(": the reply to the one came to %s, which did not ask", q.whoWords(holders, s.got))
		claim.evidence = append(claim.evidence, fmt.Sprintf("the request was sent by %s, the reply came to %s", q.whoWords(holders, s.asked), q.whoWords(holders, s.got)))
		claim.missing = append(claim.missing, q.gaps...)
		all = append(all, &found{claim: claim, packets: s.packets, ids: s.ids})
	}
	return all
}
