// SPDX-License-Identifier: Apache-2.0

package cause

// Answers that came, from another address or port than was asked, and that the asker
// refuses therefore: somebody off this node translated the request and not its source,
// so that the answer does not pass there; or the server answers from another address of
// its own.

import (
	"fmt"
	"net/netip"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// elsewhere is a refused answer with the request that it answers.
type elsewhere struct {
	request     *model.Packet
	from, asked netip.AddrPort
	asker       netip.AddrPort
	// same: the request arrived where the answer came from.
	same bool
}

// askOf finds what the socket that a refused reply came to had asked of somebody else;
// nil where it had asked the very one that answers, or nobody.
func (m *memory) askOf(p *model.Packet) *elsewhere {
	e := endsAt(p)
	x := &elsewhere{from: netip.AddrPortFrom(e.Src, e.SrcPort), asker: netip.AddrPortFrom(e.Dst, e.DstPort)}
	answerer, refuser := firstNetns(p), lastNetns(p)
	best := func(at *peer) bool {
		first := at.first
		if first == nil || at.proto != p.Proto || first.Src != x.asker.Addr() || first.SrcPort != x.asker.Port() || p.Time.Before(first.Time) {
			return true
		}
		asked := netip.AddrPortFrom(first.Dst, first.DstPort)
		if asked == x.from {
			return firstNetns(first) != refuser // the asker's own; else the request as it came back
		}
		if x.request == nil || first.Time.After(x.request.Time) {
			x.request, x.asked, x.same = first, asked, answerer != 0 && lastNetns(first) == answerer && first.Outcome == model.Delivered
		}
		return true
	}
	for _, at := range m.near.peers {
		if !best(at) {
			return nil
		}
	}
	for _, at := range m.asked {
		if !best(at) {
			return nil
		}
	}
	if x.request == nil {
		return nil
	}
	return x
}

// firstNetns is where a packet was seen first, lastNetns where last; 0: not known.
func firstNetns(p *model.Packet) uint32 {
	for i := range p.Hops {
		if n := p.Hops[i].Netns; n != 0 {
			return n
		}
	}
	return 0
}

func lastNetns(p *model.Packet) uint32 {
	if h := lastHop(p, func(h *model.Hop) bool { return h.Netns != 0 }); h != nil {
		return h.Netns
	}
	return 0
}

// turnedAway tells a reply that its asker refused, since no socket of its takes it.
func (q *inquiry) turnedAway() bool {
	answer := lastAnswer(q.p)
	return q.isReply() && q.d.Hook == "" && (q.because("NO_SOCKET") || answer == "tcp-reset" || answer == "icmp-port-unreachable")
}

// translatedElsewhere: the request left this node as it was asked, and came to the
// server translated, with the asker's own source: so the server answers the asker, and
// nobody puts the asked address back.
func translatedElsewhere(q *inquiry) *claim {
	if !q.turnedAway() {
		return nil
	}
	x := q.mem.askOf(q.p)
	if x == nil || x.from.Addr() == x.asked.Addr() || x.same && q.holds(lastNetns(x.request), x.asked.Addr()) || lastTranslation(x.request) != nil {
		return nil
	}
	there := q.roundTrip(x.request)
	if there == nil && x.request.Outcome != model.LeftNode {
		return nil
	}
	place, iface := q.end()
	by := x.asked.Addr().String() // who translated: the asked one, or what stands before it
	c := &claim{certain: x.same && there != nil, subject: x.asked.String(), translated: true}
	c.summary = fmt.Sprintf("the reply reached %s from %s, while %s had been asked: what stands at %s, off this node, translated the request's destination and not its source, so the answer goes straight from the server to the client, past it, and nobody puts %s back; so the client refuses it", place, x.from, x.asked, by, x.asked)
	c.evidence = []string{fmt.Sprintf("packet #%d: %s %s > %s", x.request.ID, x.request.Proto, x.asker, x.asked)}
	if there != nil {
		c.evidence = append(c.evidence, there.words(x.request))
	} else {
		c.evidence = append(c.evidence, fmt.Sprintf("packet #%d left this node as it was asked", x.request.ID))
		c.missing = append(c.missing, "how it came to the server: it was not seen again")
	}
	c.evidence = append(c.evidence, fmt.Sprintf("packet #%d, the answer: from %s to %s, which is the request's own source", q.p.ID, x.from, x.asker),
		fmt.Sprintf("no NAT of this node translated packet #%d", x.request.ID))
	if answer := lastAnswer(q.p); answer != "" {
		c.evidence = append(c.evidence, fmt.Sprintf("%s answered: %s", at(place, iface), answer))
	}
	if !q.holds(q.state.Node(), x.asked.Addr()) {
		c.evidence = append(c.evidence, fmt.Sprintf("%s is no address of this node", x.asked.Addr()))
	}
	c.missing = append(c.missing, fmt.Sprintf("the rule that translated it: it is at %s, not on this node", by))
	c.fix = []string{
		fmt.Sprintf("at %s, see that what it sends on to pods has its source rewritten, too (SNAT, masquerade), so that answers come back by it: iptables-save -t nat | grep -e MASQ -e SNAT; nft list ruleset", by),
		"if that is a node and a service's port: kube-proxy masquerades such traffic (KUBE-MARK-MASQ, KUBE-POSTROUTING) unless its rules are gone, or it is told otherwise (externalTrafficPolicy: Local, --cluster-cidr)",
		"from a pod, ask the service by its own address (its name), which this node translates itself, and translates back"}
	return c
}

// turn is a way out of the node and in again.
type turn struct {
	out, in model.Hop
	from    *model.Tunnel // the outer header it came back in; nil: in none
}

// roundTrip tells how a packet left this node and came back; nil: it did not.
func (q *inquiry) roundTrip(p *model.Packet) *turn {
	self := q.state.Node()
	var out *model.Hop
	for i := range p.Hops {
		h := &p.Hops[i]
		if h.Netns != self {
			out = nil
			continue
		}
		switch {
		case h.Stage == model.StageTransmit && q.leavesBy(int(h.IfIndex)):
			out = h
		case h.Stage == model.StageReceive && out != nil:
			t := &turn{out: *out, in: *h}
			for j := i; j < len(p.Hops) && p.Hops[j].Netns == self; j++ {
				if p.Hops[j].Stage == model.StageDecapsulate {
					t.in, t.from = p.Hops[j], p.Hops[j].Tunnel
				}
			}
			return t
		}
	}
	return nil
}

// leavesBy tells an interface of the node behind which is none of its pods.
func (q *inquiry) leavesBy(index int) bool {
	l := q.link(q.state.Node(), index)
	if l == nil || l.Loopback || l.Kind == "bridge" || l.Kind == "vxlan" {
		return false
	}
	return l.Kind != "veth" || !q.isMember(l.PeerNetns) && l.PeerNetns != q.state.Node()
}

// words are the evidence of it.
func (t *turn) words(p *model.Packet) string {
	says := fmt.Sprintf("packet #%d left this node by %s and came back by %s", p.ID, t.out.Interface, t.in.Interface)
	if t.from != nil && t.from.Src.IsValid() {
		says += fmt.Sprintf(", in a tunnel packet from %s", t.from.Src)
	}
	return says
}

// answersFromPort: a datagram's answer came from another port of the asked address.
func answersFromPort(q *inquiry) *claim {
	if q.p.Proto != "udp" || !q.turnedAway() {
		return nil
	}
	x := q.mem.askOf(q.p)
	if x == nil || !x.same || x.from.Addr() != x.asked.Addr() {
		return nil
	}
	place, iface := q.end()
	server, _ := q.seenAt(x.request)
	c := &claim{certain: true, subject: x.asked.String(), summary: fmt.Sprintf("%s was asked at %s and answers from port %d: the client's socket, which asked port %d, refuses the answer", server, x.asked, x.from.Port(), x.asked.Port())}
	c.evidence = []string{fmt.Sprintf("packet #%d: udp %s > %s", x.request.ID, x.asker, x.asked),
		fmt.Sprintf("packet #%d, the answer: from %s to %s, which is the request's own source", q.p.ID, x.from, x.asker)}
	if q.d.Function != "" {
		c.evidence = append(c.evidence, q.died())
	}
	if answer := lastAnswer(q.p); answer != "" {
		c.evidence = append(c.evidence, fmt.Sprintf("%s answered: %s", at(place, iface), answer))
	}
	c.fix = []string{fmt.Sprintf("have the server answer by the socket that was asked (port %d)", x.asked.Port()),
		"if the protocol is to go on at another port (TFTP): have the client take it with a socket that is not connected, and NAT follow it with its helper (nf_conntrack_tftp)"}
	return c
}

// seenAt is where a packet was last.
func (q *inquiry) seenAt(p *model.Packet) (place, iface string) {
	return (&inquiry{p: p, d: lastSeen(p)}).end()
}
