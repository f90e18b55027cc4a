// SPDX-License-Identifier: Apache-2.0

package journey

// A TCP connection ends, and a segment of it is still under way: its receiver's
// socket is gone, so that the kernel frees it for want of one, and resets. That is
// how TCP ends when one side is quicker than the other, and no packet of the flow
// died of a fault. So is the answer to a client that has given up meanwhile.

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// keptConnections bounds the connections that are remembered; past it all are
// forgotten, and a late segment is told as what it looks like.
const keptConnections = 4096

// Connections remembers how TCP connections began and ended.
type Connections struct {
	ended map[tcpPair]tcpEnd
	asked map[tcpWay]uint32    // from which namespace a connection was asked for
	begun map[tcpPair]struct{} // what was asked for, and what NAT made of it
}

// tcpWay is a segment's source and destination.
type tcpWay struct{ src, dst netip.AddrPort }

// tcpPair is a connection by its two ends, the lesser first: each packet is one of the
// connection as it was sent and of the one that NAT made of it.
type tcpPair [2]netip.AddrPort

// tcpEnd is what was seen of a connection's end.
type tcpEnd struct {
	reset bool
	fin   [2]bool // by the end that sent it
}

// NewConnections remembers none.
func NewConnections() *Connections {
	return &Connections{ended: make(map[tcpPair]tcpEnd), asked: make(map[tcpWay]uint32), begun: make(map[tcpPair]struct{})}
}

// Settle takes a finished packet, in the order that they ended. A segment that came
// after its receiver's side of the connection had ended is told as delivered, and
// late.
func (c *Connections) Settle(p *model.Packet) {
	if p.Proto != "tcp" {
		return
	}
	if p.Outcome.Died() && c.late(p) {
		p.Outcome, p.Drop, p.Late = model.Delivered, nil, true
	}
	reset, fin := strings.Contains(p.TCPFlags, "R"), strings.Contains(p.TCPFlags, "F")
	if strings.Contains(p.TCPFlags, "S") {
		c.opens(p)
		for _, k := range connectionsOf(p) {
			delete(c.ended, k.of) // its ports are in use again
		}
	}
	if !reset && !fin {
		return
	}
	for _, k := range connectionsOf(p) {
		if len(c.ended) >= keptConnections {
			clear(c.ended)
		}
		e := c.ended[k.of]
		e.reset = e.reset || reset
		e.fin[k.sender] = e.fin[k.sender] || fin
		c.ended[k.of] = e
	}
}

// opens notes who asks for a connection.
func (c *Connections) opens(p *model.Packet) {
	if strings.Contains(p.TCPFlags, ".") || len(p.Hops) == 0 {
		return
	}
	if len(c.asked) >= keptConnections {
		clear(c.asked)
		clear(c.begun)
	}
	for _, k := range connectionsOf(p) {
		c.begun[k.of] = struct{}{}
	}
	c.asked[tcpWay{netip.AddrPortFrom(p.Src, p.SrcPort), netip.AddrPortFrom(p.Dst, p.DstPort)}] = p.Hops[0].Netns
}

// givenUp tells the answer to one who had asked, from just there and under just
// these addresses, and did not wait for it; or who had asked before the trace began.
func (c *Connections) givenUp(p *model.Packet) bool {
	if !slices.ContainsFunc(connectionsOf(p), func(k sideOf) bool { _, seen := c.begun[k.of]; return seen }) {
		return true
	}
	last := model.Endpoints{Src: p.Src, SrcPort: p.SrcPort, Dst: p.Dst, DstPort: p.DstPort}
	for i := range p.Hops {
		if a := p.Hops[i].After; a != nil {
			last = *a
		}
	}
	from, asked := c.asked[tcpWay{netip.AddrPortFrom(last.Dst, last.DstPort), netip.AddrPortFrom(last.Src, last.SrcPort)}]
	return asked && from == p.Drop.Netns
}

// late tells a segment that found no socket because the connection was over.
func (c *Connections) late(p *model.Packet) bool {
	switch {
	case p.Drop == nil || !noSocket(p.Drop) || p.TCPFlags == "S":
		return false
	case strings.Contains(p.TCPFlags, "S"):
		return c.givenUp(p)
	}
	for _, k := range connectionsOf(p) {
		if e := c.ended[k.of]; e.reset || e.fin[1-k.sender] {
			return true
		}
	}
	return false
}

// noSocket tells that TCP had nobody to give it to (net/ipv4/tcp_ipv4.c and
// net/ipv6/tcp_ipv6.c: tcp_v4_rcv, tcp_v6_rcv; kernels before 5.17 give no reason).
func noSocket(d *model.Drop) bool {
	in := strings.HasPrefix(d.Function, "tcp_v4_rcv") || strings.HasPrefix(d.Function, "tcp_v6_rcv")
	return d.Reason == "NO_SOCKET" || in && (d.Reason == "" || d.Reason == "NOT_SPECIFIED")
}

// sideOf is a connection, and which of its ends sent a packet.
type sideOf struct {
	of     tcpPair
	sender int
}

// connectionsOf are those that a packet is one of: as it was sent, and as NAT left
// it.
func connectionsOf(p *model.Packet) []sideOf {
	all := []sideOf{side(netip.AddrPortFrom(p.Src, p.SrcPort), netip.AddrPortFrom(p.Dst, p.DstPort))}
	for i := range p.Hops {
		if a := p.Hops[i].After; a != nil {
			all = append(all, side(netip.AddrPortFrom(a.Src, a.SrcPort), netip.AddrPortFrom(a.Dst, a.DstPort)))
		}
	}
	return all
}

func side(src, dst netip.AddrPort) sideOf {
	if src.Compare(dst) <= 0 {
		return sideOf{tcpPair{src, dst}, 0}
	}
	return sideOf{tcpPair{dst, src}, 1}
}
