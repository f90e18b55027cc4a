// SPDX-License-Identifier: Apache-2.0

package cause

// Causes that show when the trace is over: packets left this node in good order
// and nobody answered.

import (
	"fmt"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// closing is one row of the table of causes that show when the trace is over.
type closing struct {
	code string
	find func(c *Collector) []*found
}

// patience is how long an answer may take before it counts as missing.
const patience = 300 * time.Millisecond

// silent are the far ends that packets left for and that never answered.
func (c *Collector) silent() (all []*peer) {
	if c.mem.near.missed {
		return nil // answers were not noted, too many exchanges being under way
	}
	for _, p := range c.mem.asked {
		if p.first == nil || p.answered || p.late || c.now().Sub(p.first.Time) < patience {
			continue
		}
		// where packets were left out, the answer may be among them: who answered others
		// is not silent
		if !c.incomplete || !c.mem.answers(p.far) {
			all = append(all, p)
		}
	}
	return all
}

// closingOf makes the same finding of each far end that did not answer.
func closingOf(find func(q *inquiry, p *peer) *claim) func(c *Collector) []*found {
	return func(c *Collector) (all []*found) {
		for _, p := range c.silent() {
			if p.told {
				continue
			}
			q := &inquiry{p: p.first, d: &model.Drop{}, state: c.state, start: &c.start, mem: &c.mem}
			if claim := find(q, p); claim != nil {
				p.told = true
				claim.direction = model.Forward
				claim.missing = append(claim.missing, q.gaps...)
				// far ends that are told as one are counted together
				claim.sum = leftWords
				if p.icmp != "" {
					claim.sum = leftRefusedWords
				}
				all = append(all, &found{claim: claim, packets: p.left, ids: p.ids})
			}
		}
		return all
	}
}

// leavings are asked when the first packet of an exchange leaves: what made it go
// that way may be mended when the trace ends.
var leavings = []struct {
	code string
	find func(q *inquiry, p *peer) *claim
}{
	{"stale-conntrack", staleAway},
	{"conntrack-unknown", unknownAway},
	{"vxlan-broken", astray(isVXLAN)},
	{"tunnel-broken", astray(notVXLAN)},
	{"tunnel-broken", unencrypted},
	{"bgp-blocked", bgpAstray},
	{"misrouted", misrouted},
	{"misrouted", redirectedAway},
}

// note keeps why a packet that leaves goes another way than it should.
func (c *Collector) note(p *model.Packet, at *peer) {
	q := &inquiry{p: p, d: &model.Drop{}, state: c.state, start: &c.start, mem: &c.mem}
	for _, l := range leavings {
		if at.noted = l.find(q, at); at.noted != nil {
			at.noted.code = l.code
			at.noted.missing = append(at.noted.missing, q.gaps...)
			return
		}
	}
}

// lostTheWay tells of packets that were noted to leave for an address of this node's
// though others of the exchange had arrived there, also where later ones were answered:
// the way was lost for a while. find says for which cause.
func lostTheWay(find func(q *inquiry, p *peer) *claim) func(c *Collector) []*found {
	return func(c *Collector) (all []*found) {
		for _, p := range c.mem.asked {
			if p.noted == nil || p.noted.code != "misrouted" || p.told || !p.answered || !p.strayed {
				continue // who got no answer at all is among the silent
			}
			q := &inquiry{p: p.first, d: &model.Drop{}, state: c.state, start: &c.start, mem: &c.mem}
			claim := find(q, p)
			if claim == nil {
				continue
			}
			p.told = true
			claim.direction, claim.sum = model.Forward, func(packets int) string { return packetsWords(packets, "packet", "packets") + " left" }
			all = append(all, &found{claim: claim, packets: p.left, ids: p.ids})
		}
		return all
	}
}

// wentAstray tells what was noted when the first packet left.
func wentAstray(code string) func(q *inquiry, p *peer) *claim {
	return func(_ *inquiry, p *peer) *claim {
		if p.noted == nil || p.noted.code != code {
			return nil
		}
		return p.noted
	}
}

// astray: a tunnel of some kinds is down and its routes with it, so packets for other
// nodes' pods leave by the default route, bare. Asked when the first packet leaves: the
// routes may be back when the trace ends.
func astray(of func(*tunnelKind) bool) func(q *inquiry, p *peer) *claim {
	return func(q *inquiry, p *peer) *claim {
		if in, _ := q.encapsulated(); in {
			return nil
		}
		r, ok := q.routeTo(q.state.Node(), p.far.Addr())
		if !ok || !r.Gateway.IsValid() || r.Dst.Bits() != 0 || !p.far.Addr().IsPrivate() {
			return nil
		}
		for _, l := range q.tunnels(of) {
			if !l.Up && q.inUse(l) {
				return q.bare(l, p)
			}
		}
		return nil
	}
}

func (q *inquiry) bare(l *node.Link, p *peer) *claim {
	c := &claim{subject: l.Name, summary: fmt.Sprintf("the tunnel interface %s is set down, and its routes are gone: packets to %s leave by the default route instead", l.Name, p.far.Addr())}
	c.evidence = []string{"ip link: " + linkWords(l), "the way to it then: " + q.wayFor(q.state.Node(), p.far.Addr()).words()}
	c.missing = []string{"that its route led into the tunnel before"}
	c.fix = tunnelUp(l)
	q.whoSetDown(c, q.state.Node(), l)
	return c
}

// masquerade: the source was rewritten although the packet goes to a pod, and
// no answer came.
func masquerade(q *inquiry, p *peer) *claim {
	in, _ := q.encapsulated()
	h := q.newSource()
	if h == nil || !in || p.icmp != "" { // who sent an error back had it
		return nil
	}
	return &claim{
		summary: fmt.Sprintf("the source of packets to the pod %s is rewritten from %s to %s, and no answer comes: a policy or route over there may not know it", p.far.Addr(), h.Before.Src, h.After.Src),
		evidence: []string{fmt.Sprintf("%s: %s became %s in %s", at(h.Place, h.Interface), h.Before.Src, h.After.Src, orElse(h.Hook, "POSTROUTING")),
			"it went on inside the tunnel, so the destination is a pod"},
		missing: []string{"what became of it on the other node"},
		fix: []string{
			"trace on the other node: pathtrace --src " + h.After.Src.String() + " --dst " + p.far.Addr().String(),
			"see which rule rewrites it: iptables-save -t nat | grep -i -e MASQUERADE -e SNAT; nft list ruleset | grep -i -e masquerade -e snat",
			"leave traffic between pods alone: kube-proxy's --cluster-cidr and Calico's IPPools (natOutgoing) must hold the whole pod network"},
	}
}

// leftNode: all is well here, and no answer came.
func leftNode(q *inquiry, p *peer) *claim {
	last := lastHop(q.p, func(h *model.Hop) bool { return h.Stage == model.StageTransmit && h.Interface != "" })
	by := "an interface"
	if last != nil {
		by = last.Interface
	}
	e := endsAt(q.p)
	c := &claim{subject: by, certain: true, summary: fmt.Sprintf("packets to %s left this node by %s in good order, and no answer came back while it was traced: look on next where they arrive", farWords(p), by)}
	if h := q.newSource(); h != nil {
		q.leftAs(c, h, farWords(p), by)
	} else if b := q.bareSource(p); b != nil && q.othersOf(p).well == 0 && !q.misdirected() {
		q.leftBare(c, b, p)
	}
	q.tellSeveral(c)
	balanced := q.sentByIPVS()
	if balanced == nil { // the way that IPVS sends is that to the real server
		q.tellSent(c)
	}
	ask := fmt.Sprintf("on the node that has %s: pathtrace --src %s --dst %s", e.Dst, e.Src, e.Dst)
	if in, outer := q.encapsulated(); in && outer != nil {
		carrier := "the tunnel"
		if k := outerKind(outer); k != nil {
			carrier = k.carrierOf(outer)
		}
		c.evidence = append(c.evidence, "it was sent in "+sentInWords(outer))
		ask = fmt.Sprintf("on node %s: pathtrace --src %s --dst %s", outer.Dst, e.Src, e.Dst)
		c.fix = append([]string{ask, fmt.Sprintf("if nothing arrives there: see that %s is let through between the nodes (cloud security groups, firewalls)", carrier)}, c.fix...)
		q.tellPeer(c)
	} else {
		c.fix = append([]string{ask, "if nothing arrives there: see the network in between"}, c.fix...)
	}
	if balanced != nil {
		balanced.tellSentOn(c, e)
	}
	q.tellHandedTo(c)
	q.tellOthers(c, p)
	if p.icmp != "" {
		c.summary = strings.Replace(c.summary, noneCame, "nothing but an ICMP error ("+p.icmp+") came back while it was traced", 1)
		c.evidence = append(c.evidence, fmt.Sprintf("an ICMP error came back: %s", p.icmp))
	}
	return c
}

// sentInWords tell the outer header by where it goes: "vxlan to node 172.30.0.2, port
// 4789".
func sentInWords(outer *model.Tunnel) string {
	says := fmt.Sprintf("%s to node %s", outer.Kind, outer.Dst)
	if outer.DstPort != 0 {
		says += fmt.Sprintf(", port %d", outer.DstPort)
	}
	return says
}

func farWords(p *peer) string {
	if p.far.Port() == 0 || strings.HasPrefix(p.proto, "icmp") {
		return p.far.Addr().String()
	}
	return p.far.String() + " (" + p.proto + ")"
}

func leftRefusedWords(packets int) string {
	return packetsWords(packets, "packet", "packets") + " left, none was answered but by an ICMP error"
}

func leftWords(packets int) string {
	return packetsWords(packets, "packet", "packets") + " left, and no answer came"
}
