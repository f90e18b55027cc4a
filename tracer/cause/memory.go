// SPDX-License-Identifier: Apache-2.0

package cause

// This file keeps what a cause must know of packets other than the one it looks
// at: which addresses were translated, and who was asked and answered. All of it
// is bounded.

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

const (
	maxPeers        = 2048
	maxTranslations = 256
)

// memory of a trace.
type memory struct {
	packets map[model.Direction]int
	passed  map[model.Direction]int // of them, those that came to the node's own namespace
	peers   map[peerKey]*peer
	asked   []*peer // peers in order of appearance
	// dnat are the destinations that were translated.
	dnat map[dnatKey]*translation
	// began tells which direction an exchange began in, by the forward side's address.
	began map[peerKey]*beginning
	// lost are the answers of this node that died, by the packet that they answer.
	lost map[uint64]*model.Packet
	// counted are conntrack's counters as they were when the trace began.
	counted map[uint32]node.ConntrackStats
	here    podAddresses
	// udp are counters of UDP as they were.
	udp map[udpKey]*datagrams
	// zones are the rules that packets met which put them into zones of conntrack.
	zones map[zoneKey]*zoneRule

	history   history
	askers    askers
	exchanges exchanges
	near      near
}

// podAddresses maps the addresses of the node's pods to their namespaces, as of when
// they were read: looking into all of them takes a while.
type podAddresses struct {
	at    map[netip.Addr]uint32
	read  time.Time
	twice map[netip.Addr]bool // the addresses that two of them have
}

// podsFresh is how long the list of pods' addresses is good for.
const podsFresh = 10 * time.Second

// pods gives the addresses of all pods of the node.
func (m *memory) pods(q *inquiry) map[netip.Addr]uint32 {
	if m.here.at != nil && time.Since(m.here.read) < podsFresh {
		return m.here.at
	}
	m.here.at, m.here.twice = make(map[netip.Addr]uint32), make(map[netip.Addr]bool)
	for _, member := range q.state.Members() {
		links, err := q.state.Links(member)
		if errors.Is(err, node.ErrGone) {
			continue
		}
		q.gap(err)
		for _, l := range links {
			for _, p := range l.Addrs {
				if !l.Loopback && !p.Addr().IsLinkLocalUnicast() {
					if other := m.here.at[p.Addr()]; other != 0 && other != member {
						m.here.twice[p.Addr()] = true
					}
					m.here.at[p.Addr()] = member
				}
			}
		}
	}
	m.here.read = time.Now()
	return m.here.at
}

// peerKey is an exchange with a far end, as the wire sees it. Every connection and
// every run of ping is one of its own: that it got no answer stays true when the
// next one does.
type peerKey struct {
	proto string
	far   netip.AddrPort
	near  uint16 // the asking side's port as itself knows it; ICMP: the echo identifier
}

// keyOf is the exchange of a packet with the far end, whose other port is near.
func keyOf(p *model.Packet, far netip.AddrPort, near uint16) peerKey {
	if p.ICMPID != 0 {
		near = p.ICMPID
	}
	return peerKey{p.Proto, far, near}
}

// answers is the exchange that a reply belongs to.
func answers(p *model.Packet) peerKey {
	near := p.DstPort
	if h := lastHop(p, func(h *model.Hop) bool { return h.After != nil && h.Before != nil && h.After.Dst != h.Before.Dst }); h != nil {
		near = h.After.DstPort // masquerade undone
	}
	return keyOf(p, netip.AddrPortFrom(p.Src, p.SrcPort), near)
}

// peer is a far end to which packets left this node, or one of its own to which
// they came.
type peer struct {
	peerKey
	left     int
	ids      []uint64
	first    *model.Packet // that left or arrived
	last     time.Time     // of the packets that did
	answered bool
	late     bool   // an answer came, to this node itself: NAT had forgotten it
	strayed  bool   // earlier packets of the exchange arrived on this node
	icmp     string // an ICMP error that came back
	icmpFrom netip.Addr
	told     bool   // by a finding
	noted    *claim // why it went another way than it should, as the node stood then
}

// room makes room for another exchange: those that were answered and are over are of
// no more interest. Packets are told when they end, so that a request may be told after
// its answer.
func (m *memory) room(now time.Time) bool {
	if len(m.peers) < maxPeers {
		return true
	}
	m.asked = slices.DeleteFunc(m.asked, func(p *peer) bool {
		over := p.answered && now.Sub(p.last) > nearOver
		if over {
			delete(m.peers, p.peerKey)
		}
		return over
	})
	return len(m.peers) < maxPeers
}

func newMemory() memory {
	return memory{packets: make(map[model.Direction]int), passed: make(map[model.Direction]int), peers: make(map[peerKey]*peer), dnat: make(map[dnatKey]*translation), began: make(map[peerKey]*beginning), lost: make(map[uint64]*model.Packet), counted: make(map[uint32]node.ConntrackStats), udp: make(map[udpKey]*datagrams), zones: make(map[zoneKey]*zoneRule), history: newHistory(), askers: newAskers(), exchanges: newExchanges(), near: newNear()}
}

// see takes a finished packet, and gives the far end off this node that it is the
// first to have left for.
func (m *memory) see(p *model.Packet) *peer {
	m.packets[p.Direction]++
	if lastHop(p, func(h *model.Hop) bool { return h.Place == "node" }) != nil {
		m.passed[p.Direction]++
	}
	m.seeArrived(p)
	m.near.seeOutsider(p)
	m.seeBeginning(p)
	m.seeTranslation(p)
	m.seeZone(p)
	if p.OwnAnswer {
		m.seeLost(p)
		m.near.answer(p) // the other end did not answer by it; what arrived here did get its answer
		return nil
	}
	if p.Direction == model.Return {
		m.seeReply(p)
		return nil
	}
	m.near.answer(p)
	if at := m.peers[answers(p)]; at != nil {
		at.answered = true // both ends asked for hold it: its answers count as requests
	}
	if !asks(p) {
		return nil
	}
	switch p.Outcome {
	case model.LeftNode:
		return m.seeLeaving(p)
	case model.Delivered, model.Unknown:
		m.near.ask(p, m.peers)
	}
	return nil
}

// asks tells whether a packet is one that an answer is due to: no reply, no
// error, no reset, nothing sent to many, nor a tunnel's own: what comes back through a
// tunnel comes from any port.
func asks(p *model.Packet) bool {
	if p.ICMP != "" && p.ICMP != "echo-request" || strings.Contains(p.TCPFlags, "R") || p.Dst.IsMulticast() ||
		p.Unwanted || toTunnel(p) || p.Dst == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return false
	}
	return !calledReply(p)
}

// seeLeaving notes that something was asked of somebody off this node, and gives
// whom, if it was the first.
func (m *memory) seeLeaving(p *model.Packet) *peer {
	e := endsAt(p)
	key := keyOf(p, netip.AddrPortFrom(e.Dst, e.DstPort), p.SrcPort)
	strayed := m.near.peers[key] != nil // it came here so far
	if at := m.peers[key]; at != nil && (at.first != nil || !strayed) {
		at.count(p)
		return nil
	} else if at == nil && !m.room(p.Time) {
		return nil
	} else if at != nil {
		m.asked = slices.DeleteFunc(m.asked, func(p *peer) bool { return p == at }) // answers to what came here
	}
	at := &peer{peerKey: key, first: p, strayed: strayed}
	at.count(p)
	m.peers[key], m.asked = at, append(m.asked, at)
	return at
}

func (p *peer) count(left *model.Packet) {
	p.left++
	p.last = left.Time
	if len(p.ids) < shownPackets {
		p.ids = append(p.ids, left.ID)
	}
}

// seeReply notes who answered. An ICMP error is told with the addresses of the
// packet that it is about, or with those of the router that sent it.
func (m *memory) seeReply(p *model.Packet) {
	if p.ICMP != "" && !strings.HasPrefix(p.ICMP, "echo-") {
		m.seeError(p)
		return
	}
	if ask := m.maskedAsk(p); ask != nil {
		ask.late = true
		return
	}
	m.near.answer(p)
	if at := m.peers[answers(p)]; at != nil {
		at.answered = true
		return
	}
	m.early(p)
	// masquerade may have given the request another port, and undoing it may not
	// have been seen: whose answer this is cannot be told then, and nobody is to be
	// called silent who is not; an answer that is later than answers are is another's
	for _, at := range m.asked {
		at.answerFromPort(p)
		if at.far == netip.AddrPortFrom(p.Src, p.SrcPort) && at.proto == p.Proto && at.rewritten() && p.Time.Sub(at.last) <= patience {
			at.answered = true
		}
	}
}

// rewritten tells whether an exchange went out under another source.
func (p *peer) rewritten() bool {
	return p.first != nil && lastHop(p.first, func(h *model.Hop) bool {
		return h.Before != nil && h.After != nil && h.Before.Src != h.After.Src
	}) != nil
}

// early notes an answer whose request has not been told yet: packets are told
// when they end, and a reply may end first.
func (m *memory) early(p *model.Packet) {
	if !m.room(p.Time) {
		m.near.missed = true
		return
	}
	key := answers(p)
	at := &peer{peerKey: key, answered: true, last: p.Time}
	m.peers[key], m.asked = at, append(m.asked, at)
}

func (m *memory) seeError(p *model.Packet) {
	for _, at := range slices.Backward(m.asked) {
		if at.first == nil || at.icmp != "" {
			continue
		}
		if at.far.Addr() == p.Src || at.far.Addr() == p.Dst || len(m.asked) == 1 {
			at.icmp, at.icmpFrom = p.ICMP, p.Src
			return
		}
	}
}
