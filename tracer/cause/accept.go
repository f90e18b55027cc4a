// SPDX-License-Identifier: Apache-2.0

package cause

// The accept queue: a SYN that finds it full is taken and forgotten, without a
// word (tcp_conn_request, net/ipv4/tcp_input.c, 6.12). What shows is that it
// arrived, that no answer came, and that it came again.

import (
	"fmt"
	"net/netip"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// seeArrived counts the opening segments of a connection that arrived.
func (m *memory) seeArrived(p *model.Packet) {
	if !opensAndArrived(p) {
		return
	}
	if len(m.near.opened) >= maxPeers {
		clear(m.near.opened)
	}
	m.near.opened[arrivedKey(p)]++
}

func opensAndArrived(p *model.Packet) bool {
	return p.Proto == "tcp" && p.TCPFlags == "S" && p.Outcome == model.Delivered
}

func arrivedKey(p *model.Packet) peerKey {
	e := endsAt(p)
	return keyOf(p, netip.AddrPortFrom(e.Dst, e.DstPort), p.SrcPort)
}

// unheard tells a connection's opening segment that arrived a second time and
// got no answer that was seen.
func (m *memory) unheard(p *model.Packet) bool {
	if !opensAndArrived(p) || m.near.opened[arrivedKey(p)] < 2 {
		return false
	}
	at := m.near.peers[arrivedKey(p)]
	return at != nil && !at.answered && !m.near.missed
}

// acceptQueue: connections wait at the socket, and nobody accepts them.
func acceptQueue(q *inquiry) *claim {
	if !q.mem.unheard(q.p) {
		return nil
	}
	e := endsAt(q.p)
	sockets, err := q.state.Sockets(q.d.Netns)
	q.gap(err)
	for _, s := range sockets {
		if s.State != node.TCPListen || s.Local.Port() != e.DstPort || !s.Local.Addr().IsUnspecified() && s.Local.Addr() != e.Dst || s.Queue == 0 {
			continue
		}
		place, iface := q.end()
		f := acceptsSlowly
		c := &claim{summary: fmt.Sprintf("%s (%s)", f.what, at(place, iface)), fix: f.fix}
		c.evidence = []string{fmt.Sprintf("the request to open a connection arrived %d times and was not answered", q.mem.near.opened[arrivedKey(q.p)]),
			fmt.Sprintf("connections that wait to be accepted at %s: %d", s.Local, s.Queue)}
		c.missing = []string{"how many the queue holds (ss -lnt: Send-Q), and so that it is full: the kernel drops such a request without a reason"}
		return c
	}
	return nil
}
