// SPDX-License-Identifier: Apache-2.0

package cause

// This file asks whether the encrypted packets of a peer that died on this node may
// have held what is missing of the flow. What is inside is known to nobody but WireGuard,
// so it is inferred from the peer and the time, and never certain.

import (
	"fmt"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/routing"
)

// maxUnopened bounds the kinds of death of encrypted packets that are kept.
const maxUnopened = 32

// unopenedPacket is what is known of encrypted packets that died alike.
type unopenedPacket struct {
	first *model.Packet
	last  time.Time
	count int
	claim *claim // what killed the first of them
}

// unopened are those of one trace.
type unopened struct {
	by    map[signature]*unopenedPacket
	order []*unopenedPacket
	told  bool // that they may have held what was missing
}

// Unopened takes an encrypted packet that died on this node before anybody knew what is
// inside. It is no packet of the trace.
func (c *Collector) Unopened(p *model.Packet) {
	if p.Drop == nil || p.Drop.Tunnel == nil || p.Drop.Netns != c.state.Node() {
		return
	}
	s := signatureOf(p)
	s.dst = p.Src // who sent it
	at := c.unopened.by[s]
	if at == nil {
		if len(c.unopened.order) >= maxUnopened {
			return
		}
		q := &inquiry{p: p, d: p.Drop, state: c.state, start: &c.start, mem: &c.mem}
		at = &unopenedPacket{first: p, claim: q.socketOfDevice(c.diagnose(p))}
		if c.unopened.by == nil {
			c.unopened.by = make(map[signature]*unopenedPacket)
		}
		c.unopened.by[s], c.unopened.order = at, append(c.unopened.order, at)
	}
	at.last, at.count = p.Time, at.count+1
}

// socketOfDevice: a WireGuard device that is down has no socket (wg_stop,
// drivers/net/wireguard/device.c, 6.12), so that nobody takes what its peers send.
func (q *inquiry) socketOfDevice(c *claim) *claim {
	if c == nil || c.code != "no-listener" {
		return c
	}
	l, _ := q.sentBy(q.d.Tunnel)
	if l == nil || l.Up {
		return c
	}
	down := &claim{code: "tunnel-broken", subject: l.Name, missing: c.missing, fix: tunnelUp(l)}
	down.summary = fmt.Sprintf("the tunnel interface %s is set down, so that nobody here takes WireGuard's packets (UDP port %d)", l.Name, q.d.Tunnel.DstPort)
	down.evidence = []string{"ip link: " + linkWords(l), q.died()}
	q.whoSetDown(down, q.state.Node(), l)
	return down
}

// unopenedDeaths tells of encrypted packets that died, where something of the flow that would
// have come from their peer is missing.
func unopenedDeaths(c *Collector) (all []*found) {
	for _, s := range c.unopened.order {
		if s.claim == nil {
			continue
		}
		q := &inquiry{p: s.first, d: s.first.Drop, state: c.state, start: &c.start, mem: &c.mem}
		l, peer := q.sentBy(s.first.Drop.Tunnel)
		if peer == nil {
			continue
		}
		f := c.missingFrom(l, peer, s)
		if f == nil {
			continue
		}
		c.unopened.told = true
		q.unopenedClaim(f, s, l, peer)
		all = append(all, f)
	}
	return all
}

// sentBy is the device and the peer of an encrypted packet, by its endpoint.
func (q *inquiry) sentBy(outer *model.Tunnel) (*node.Link, *node.WireGuardPeer) {
	devices, err := q.state.WireGuard(q.state.Node())
	q.gap(err)
	for i := range devices {
		w := &devices[i]
		if w.ListenPort != outer.DstPort {
			continue
		}
		for k := range w.Peers {
			if p := &w.Peers[k]; p.Endpoint.Addr() == outer.Src && p.Endpoint.Port() == outer.SrcPort {
				return q.link(q.state.Node(), w.LinkIndex), p
			}
		}
	}
	return nil, nil
}

// missingFrom begins a finding about what a peer should have sent: answers, packets at
// all, or its part of a handshake. Nil: nothing is missing.
func (c *Collector) missingFrom(l *node.Link, peer *node.WireGuardPeer, s *unopenedPacket) *found {
	if l == nil {
		return nil
	}
	if f := c.answersMissing(l, peer, s); f != nil {
		return f
	}
	for _, k := range c.order {
		if k.claim != nil && k.claim.code == "wireguard" && k.claim.subject == l.Name+peer.PublicKey {
			return &found{packets: k.packets, ids: k.ids, claim: &claim{direction: k.of.direction,
				summary: "packets wait there for a key, which takes an answer of that peer's"}}
		}
	}
	if c.mem.packets[model.Forward]+c.mem.packets[model.Return] > 0 {
		return nil
	}
	for _, src := range c.start.Src.Addresses {
		if src.IsSingleIP() && peer.Allows(src.Addr()) {
			return &found{claim: &claim{direction: model.Forward, summary: fmt.Sprintf("nothing of the flow from %s, which is behind that peer, was seen to come out of %s", src.Addr(), l.Name)}}
		}
	}
	return nil
}

// answersMissing takes together those behind a peer that were asked and did not answer.
func (c *Collector) answersMissing(l *node.Link, peer *node.WireGuardPeer, s *unopenedPacket) *found {
	var f *found
	for _, p := range c.silent() {
		if p.told || p.noted != nil || !peer.Allows(p.far.Addr()) || s.last.Before(p.first.Time) {
			continue
		}
		p.told = true
		if f == nil {
			f = &found{claim: &claim{direction: model.Return, summary: fmt.Sprintf("no answer from %s, which is behind that peer, was seen to come out of %s", farWords(p), l.Name)}}
			f.claim.sum = leftWords
		}
		f.packets, f.ids = f.packets+p.left, append(f.ids, p.ids...)
	}
	return f
}

// unopenedClaim completes a finding with what killed the encrypted packets.
func (q *inquiry) unopenedClaim(f *found, s *unopenedPacket, l *node.Link, peer *node.WireGuardPeer) {
	c := f.claim
	c.code, c.subject = s.claim.code, s.claim.subject
	died := packetsWords(s.count, "encrypted packet", "encrypted packets")
	c.summary = fmt.Sprintf("%s; so died %s of WireGuard (%s) from %s, and %s", s.claim.summary, died, l.Name, peerWords(peer), c.summary)
	c.evidence = []string{fmt.Sprintf("wg show %s endpoints: %s %s", l.Name, peer.PublicKey, peer.Endpoint), allowedWords(l, peer)}
	for _, line := range s.claim.evidence {
		switch {
		case line == q.where() && q.d.Hook != "":
			line = fmt.Sprintf("encrypted packets from %s died in hook %s at %s", peer.Endpoint, q.d.Hook, at(q.d.Place, q.d.Interface))
		case strings.HasPrefix(line, "it was "):
			continue // inside what, says the sender
		}
		c.evidence = append(c.evidence, line)
	}
	c.missing = append(c.missing, s.claim.missing...)
	c.missing = append(c.missing, "what was inside: nobody can see that before it is decrypted; that it is of this flow is inferred from who sent it and when")
	c.fix = s.claim.fix
}

// keptOut adds to packets of which none was seen that WireGuard would not let any from
// their source come out: answers without a mark go into a device where no peer may send from that
// address. What it refuses so is not seen by all backends.
func (q *inquiry) keptOut(c *claim) {
	for _, src := range q.start.Src.Addresses {
		if !src.IsSingleIP() {
			continue
		}
		a, ok := q.ask(q.state.Node(), routing.Question{Dst: src.Addr(), IIF: routing.Loopback, Mark: routing.Of(uint32(0))}).sure()
		if !ok || a.Route == nil {
			continue
		}
		l := q.link(q.state.Node(), a.Route.LinkIndex)
		if l == nil || l.Kind != "wireguard" {
			continue
		}
		if w := q.wireGuard(l); w != nil && w.PeerOf(src.Addr()) == nil {
			c.summary += fmt.Sprintf("; if it sends, WireGuard (%s) would take none from it", l.Name)
			c.evidence = append(c.evidence, fmt.Sprintf("wg show %s: %s, and none of their allowed IPs holds %s", l.Name, packetsWords(len(w.Peers), "peer", "peers"), src.Addr()))
			c.fix = append(c.fix, wireGuardFix(l, "see what the peers may send: wg show "+l.Name+" allowed-ips")...)
			return
		}
	}
}
