// SPDX-License-Identifier: Apache-2.0

package cause

// This file keeps who was asked on this node itself, and whether anything came back.

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
)

const (
	// maxNear bounds the exchanges that are kept; past it silence is not judged.
	maxNear = 256
	// nearOver is how long after its last packet an exchange that was answered is over:
	// packets are told when they end, and a request may be told after its answer.
	nearOver = 5 * time.Second
)

// near are exchanges whose requests arrived on this node, or whose end was not seen.
type near struct {
	peers map[peerKey]*peer
	// crowded: some were not kept. missed: an answer was not, whoever it was for.
	crowded, missed bool
	// opened counts how often the opening segment of a connection arrived.
	opened map[peerKey]int
	// outsiders are addresses that sent from outside of the node.
	outsiders map[netip.Addr]outsider
}

func newNear() near {
	return near{peers: make(map[peerKey]*peer), opened: make(map[peerKey]int), outsiders: make(map[netip.Addr]outsider)}
}

// ask notes a request. known are the exchanges with far ends: an answer that was told
// before its request is among them.
func (n *near) ask(p *model.Packet, known map[peerKey]*peer) {
	e := endsAt(p)
	key := keyOf(p, netip.AddrPortFrom(e.Dst, e.DstPort), p.SrcPort)
	at := n.peers[key]
	if at == nil {
		if !n.room(p.Time) {
			n.crowded = true
			return
		}
		early := known[key]
		at = &peer{peerKey: key, first: p, answered: early != nil && early.answered}
		n.peers[key] = at
	}
	at.count(p)
}

// answer notes a packet that came back.
func (n *near) answer(p *model.Packet) {
	if at := n.peers[answers(p)]; at != nil {
		at.answered = true
		return
	}
	if p.Proto == "udp" {
		for _, at := range n.peers {
			at.answerFromPort(p)
		}
	}
}

// answerFromPort takes a datagram of the far end's other port for an answer, as TFTP
// gives it.
func (p *peer) answerFromPort(from *model.Packet) {
	if p.proto == "udp" && from.Proto == "udp" && p.far.Addr() == from.Src && p.near == answers(from).near {
		p.answered = true
	}
}

func (n *near) room(now time.Time) bool {
	if len(n.peers) < maxNear {
		return true
	}
	for key, at := range n.peers {
		if at.answered && now.Sub(at.last) > nearOver {
			delete(n.peers, key)
		}
	}
	return len(n.peers) < maxNear
}

// inOrder gives them as they began.
func (n *near) inOrder() []*peer {
	return slices.SortedFunc(maps.Values(n.peers), func(a, b *peer) int { return cmp.Compare(a.first.ID, b.first.ID) })
}

// answers tells that a far end answered in some other exchange.
func (m *memory) answers(far netip.AddrPort) bool {
	return slices.ContainsFunc(m.asked, func(p *peer) bool { return p.answered && p.far == far })
}
