// SPDX-License-Identifier: Apache-2.0

package cause

// Of the cause wireguard: what the last handshake with a peer tells.

import (
	"fmt"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// keyless tells that there can have been no key that was good to send to a peer then.
func keyless(p *node.WireGuardPeer, at time.Time) bool {
	return p.Handshake.IsZero() || at.Sub(p.Handshake) > keyGood
}

// noHandshake begins a claim about a peer that does not answer handshakes.
func (q *inquiry) noHandshake(l *node.Link, p *node.WireGuardPeer) *claim {
	c := &claim{subject: l.Name + p.PublicKey}
	c.evidence = []string{allowedWords(l, p), handshakeWords(l, p)}
	c.summary = "there was no handshake with " + peerWords(p) + " so far"
	if !p.Handshake.IsZero() {
		c.summary = fmt.Sprintf("the last handshake with %s was at %s, and a key is good for 180 s", peerWords(p), clock(p.Handshake))
	}
	c.missing = []string{"why the peer does not answer: it may know this node by another key or not at all, its endpoint may be wrong, or UDP does not pass"}
	c.fix = wireGuardFix(l, fmt.Sprintf("compare keys and endpoints of both nodes: wg show %s here and there: the public key that each has of the other has to be the other's own", l.Name),
		fmt.Sprintf("see that handshakes leave and come back: tcpdump -ni any udp port %d; let that port pass between the nodes (cloud security groups, firewalls)", p.Endpoint.Port()))
	return c
}

// handshakeWords are a peer's last handshake as `wg show latest-handshakes` prints it.
func handshakeWords(l *node.Link, p *node.WireGuardPeer) string {
	seconds := int64(0)
	if !p.Handshake.IsZero() {
		seconds = p.Handshake.Unix()
	}
	return fmt.Sprintf("wg show %s latest-handshakes: %s %d", l.Name, p.PublicKey, seconds)
}

// wireGuardQuiet: packets were sent into WireGuard and nobody answered, and when the last
// of them was sent there was no key that is good: the peer had stopped to answer
// handshakes. That the key is too old when the trace ends tells nothing: it is renewed
// only while something is sent (drivers/net/wireguard/send.c, keep_key_fresh). Where no
// handshake is known, what was seen sealed had a key all the same: the peer was written
// anew since.
func wireGuardQuiet(q *inquiry, p *peer) *claim {
	l, at := q.sentInWireGuard()
	if at == nil || !keyless(at, p.last) {
		return nil
	}
	if _, outer := q.encapsulated(); at.Handshake.IsZero() && outer != nil {
		return nil
	}
	c := q.noHandshake(l, at)
	c.summary = fmt.Sprintf("packets to %s left in WireGuard (%s) and got no answer, and the peer has stopped to answer at all: %s", farWords(p), l.Name, c.summary)
	c.evidence = append(c.evidence, "the last of these packets came at "+clock(p.last))
	return c
}

// sentInWireGuard is the device and the peer that a packet left by; nil: by none.
func (q *inquiry) sentInWireGuard() (*node.Link, *node.WireGuardPeer) {
	if in, outer := q.encapsulated(); !in || outer != nil && outer.Kind != "wireguard" {
		return nil, nil
	}
	h := lastHop(q.p, func(h *model.Hop) bool { return h.Stage == model.StageEncapsulate })
	l := q.link(q.state.Node(), int(h.IfIndex))
	if l == nil || l.Kind != "wireguard" {
		return nil, nil
	}
	w := q.wireGuard(l)
	if w == nil {
		return nil, nil
	}
	return l, w.PeerOf(endsAt(q.p).Dst)
}

// tellPeer adds to packets that left in WireGuard what is known of the peer.
func (q *inquiry) tellPeer(c *claim) {
	l, p := q.sentInWireGuard()
	if p == nil {
		return
	}
	c.evidence = append(c.evidence, allowedWords(l, p), handshakeWords(l, p))
	c.fix = append(c.fix, fmt.Sprintf("on that node: see that its peer %s may send %s: wg show %s allowed-ips", orElse(q.ownKey(l), "of this node"), endsAt(q.p).Src, l.Name))
}

// encrypts tells that an interface takes to the same node, in WireGuard, what another
// route leads there bare or in another tunnel: so Calico does, which leaves that in table
// main.
func (q *inquiry) encrypts(index int, other *node.Route) bool {
	l, dst := q.link(q.state.Node(), index), endsAt(q.p).Dst
	if l == nil || l.Kind != "wireguard" {
		return false
	}
	w := q.wireGuard(l)
	if w == nil {
		return false
	}
	p, r := w.PeerOf(dst), oneWay(*other)
	if p == nil {
		return false
	}
	far := r.Gateway
	if under := q.link(q.state.Node(), r.LinkIndex); under != nil && under.Kind == "vxlan" {
		_, forward, _ := q.vtepBehind(under, r.Gateway)
		far = forward.Addr
	} else if under != nil && under.Tunnel.Remote.IsValid() {
		far = under.Tunnel.Remote
	}
	return far.IsValid() && far == p.Endpoint.Addr()
}

func (q *inquiry) ownKey(l *node.Link) string {
	if w := q.wireGuard(l); w != nil {
		return w.PublicKey
	}
	return ""
}
