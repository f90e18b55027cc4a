// SPDX-License-Identifier: Apache-2.0

package cause

// The cause tunnel-broken for WireGuard: its device is down, and what it should encrypt
// leaves as it is, by the way that the node has to the other one beside it.

import (
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/node"
)

// unencrypted: a WireGuard device is down, and packets for addresses that one of its
// peers has leave for that very node by another route, as Calico keeps one in table
// main. They may even arrive; what the other node answers in WireGuard nobody takes.
// Asked when the first packet leaves, as astray is.
func unencrypted(q *inquiry, p *peer) *claim {
	if in, _ := q.encapsulated(); in {
		return nil
	}
	isWireGuard := func(k *tunnelKind) bool { return k != nil && k.kind == "wireguard" }
	for _, l := range q.tunnels(isWireGuard) {
		if l.Up || !q.inUse(l) {
			continue
		}
		w := q.wireGuard(l)
		if w == nil {
			continue
		}
		holder := w.PeerOf(p.far.Addr())
		r, ok := q.routeTo(q.state.Node(), p.far.Addr())
		if holder == nil || !holder.Endpoint.IsValid() || !ok || r.Gateway != holder.Endpoint.Addr() {
			continue
		}
		return q.leftUnencrypted(l, holder, p)
	}
	return nil
}

func (q *inquiry) leftUnencrypted(l *node.Link, holder *node.WireGuardPeer, p *peer) *claim {
	c := &claim{subject: l.Name, summary: fmt.Sprintf("the tunnel interface %s is set down: packets to %s leave unencrypted for node %s, and nothing here takes what it answers in WireGuard", l.Name, p.far.Addr(), holder.Endpoint.Addr())}
	c.evidence = []string{"ip link: " + linkWords(l), "the way to it then: " + q.wayFor(q.state.Node(), p.far.Addr()).words(), allowedWords(l, holder)}
	c.missing = []string{"that its route led into the tunnel before", "whether the other node answered"}
	c.fix = tunnelUp(l)
	q.whoSetDown(c, q.state.Node(), l)
	return c
}
