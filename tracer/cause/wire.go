// SPDX-License-Identifier: Apache-2.0

package cause

// This file knows the stretch of Ethernet that a packet was sent onto: who sent it,
// to which address, with which MAC, and who could receive it there.

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// station is an interface on a wire.
type station struct {
	netns uint32
	link  *node.Link
	port  *node.Link // the bridge's port that it is behind; nil: none
}

func (s *station) holds(addr netip.Addr) bool {
	for _, p := range s.link.Addrs {
		if p.Addr() == addr {
			return true
		}
	}
	return false
}

// words names a station so that it can be found from the node.
func (q *inquiry) stationWords(s station) string {
	if s.netns == q.state.Node() {
		return s.link.Name + " of this node"
	}
	host := q.pairEnd(s.link)
	switch place := q.placeName(s.netns); {
	case host != nil && place != "":
		return fmt.Sprintf("%s of %s (behind %s)", s.link.Name, place, host.Name)
	case host != nil:
		return fmt.Sprintf("%s of the pod behind %s", s.link.Name, host.Name)
	case place != "":
		return s.link.Name + " of " + place
	}
	return s.link.Name + " of a pod"
}

// placeName is what the packet's own hops call a namespace, "" if it was in none.
func (q *inquiry) placeName(netns uint32) string {
	if q.d.Netns == netns {
		return q.d.Place
	}
	if h := lastHop(q.p, func(h *model.Hop) bool { return h.Netns == netns && h.Place != "" }); h != nil {
		return h.Place
	}
	return ""
}

// wire is where a frame was under way.
type wire struct {
	from     station
	to       netip.Addr    // the next hop that the sender's route gave
	entry    node.Neighbor // what the sender holds of it, as read after the death
	known    bool          // there is such an entry
	stations []station     // that the frame can reach, other than the sender
	holder   *station      // of them, the one that the frame is meant for; nil: none
	seen     string        // destination MAC that the packet itself showed, "" if it did not
	by       *model.Hop    // the sending
	place    string        // the sender's name
}

// wire finds the frame that a packet ended in; nil where its sender is not of this
// node.
func (q *inquiry) wire() *wire {
	i := q.sending()
	if i < 0 {
		return nil
	}
	h := &q.p.Hops[i]
	link := q.link(h.Netns, int(h.IfIndex))
	if link == nil {
		return nil
	}
	w := &wire{from: station{netns: h.Netns, link: link}, to: q.dstBefore(i), by: h, place: h.Place}
	hop, one := q.hopTo(h.Netns, w.to)
	if seen := q.seenNextHop(h, false); !one && !seen.IsValid() {
		return nil // which of several it was sent to is not known
	} else if !one {
		hop = seen
	}
	w.to = hop
	q.fillWire(w)
	if h := lastHop(q.p, func(n *model.Hop) bool { return n.Neighbor != nil && n.Neighbor.MAC != "" && n.Netns == h.Netns }); h != nil && h.Neighbor.Address == w.to.String() {
		w.seen = h.Neighbor.MAC
	}
	if mac := q.frameMAC(); mac != "" {
		w.seen = mac
	}
	return w
}

// fillWire adds what the sender knows, and who is there.
func (q *inquiry) fillWire(w *wire) {
	w.entry, w.known = q.neighbor(w.from.netns, w.from.link.Index, w.to)
	w.stations = q.reachable(w.from)
	for i := range w.stations {
		if w.stations[i].holds(w.to) {
			w.holder = &w.stations[i]
		}
	}
	if w.holder == nil && len(w.stations) == 1 && w.stations[0].port == nil && w.stations[0].link.Kind != "bridge" {
		w.holder = &w.stations[0] // the other end of a pair gets all of it
	}
}

// sending is the hop at which a stack sent the packet last; what a bridge sends on
// by a port of its own does not count. -1: none was seen.
func (q *inquiry) sending() int {
	for i := len(q.p.Hops) - 1; i >= 0; i-- {
		h := &q.p.Hops[i]
		if h.Stage != model.StageTransmit || h.Netns == 0 {
			continue
		}
		if l := q.link(h.Netns, int(h.IfIndex)); l != nil && l.Master == 0 {
			return i
		}
	}
	return -1
}

// dstBefore is the packet's destination as it was at a hop.
func (q *inquiry) dstBefore(hop int) netip.Addr {
	dst := q.p.Dst
	for i := range q.p.Hops[:hop] {
		if a := q.p.Hops[i].After; a != nil {
			dst = a.Dst
		}
	}
	return dst
}

// mac is the MAC that the frame was sent to: as the packet showed it, else as the
// sender's entry has it now.
func (w *wire) mac() string {
	if w.seen != "" {
		return w.seen
	}
	if w.known {
		return w.entry.MAC
	}
	return ""
}

// frameMAC is the destination MAC in the packet's own bytes where it died, which
// are there in captures; "" where they are not, or bear a header that was made up.
func (q *inquiry) frameMAC() string {
	h := lastHop(q.p, func(h *model.Hop) bool { return h.Frame != nil && h.Netns == q.d.Netns })
	const ethernet, header = 1, 14
	if h == nil || h.Frame.Synthetic || h.Frame.LinkType != ethernet || len(h.Frame.Bytes) < header {
		return ""
	}
	b := h.Frame.Bytes
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5])
}

// reachable lists the interfaces that get what is sent by an interface: the other
// end of its pair, or those behind the same bridge and the bridge itself.
func (q *inquiry) reachable(from station) (all []station) {
	self := q.state.Node()
	bridge := from.link
	if from.netns != self {
		host := q.pairEnd(from.link)
		if host == nil {
			return nil
		}
		if bridge = q.bridgeOf(host); bridge == nil {
			return []station{{netns: self, link: host}}
		}
		all = append(all, station{netns: self, link: bridge})
	}
	if bridge.Kind != "bridge" {
		if peer := q.peer(from.link); peer != nil {
			return []station{*peer}
		}
		return nil
	}
	links, err := q.state.Links(self)
	q.gap(err)
	for i := range links {
		if links[i].Master != bridge.Index || links[i].PeerNetns == from.netns && from.netns != self {
			continue
		}
		if peer := q.peer(&links[i]); peer != nil {
			peer.port = &links[i]
			all = append(all, *peer)
		}
	}
	return all
}

// pairEnd is the node's end of a pod's pair of devices; nil: it is none (what a macvlan
// stands on is no end of it), or its other end is not the node's.
func (q *inquiry) pairEnd(l *node.Link) *node.Link {
	self := q.state.Node()
	if !l.Paired() || l.PeerNetns != self {
		return nil
	}
	return q.link(self, l.PeerIndex)
}

// peer is the other end of a veth of the node in a pod.
func (q *inquiry) peer(host *node.Link) *station {
	if host.Kind != "veth" || host.PeerNetns == 0 || host.PeerNetns == q.state.Node() {
		return nil
	}
	if l := q.link(host.PeerNetns, host.PeerIndex); l != nil {
		return &station{netns: host.PeerNetns, link: l}
	}
	return nil
}

// bridgeOf is the bridge that a link of the node is a port of; nil: none.
func (q *inquiry) bridgeOf(l *node.Link) *node.Link {
	if l == nil || l.Master == 0 {
		return nil
	}
	if b := q.link(q.state.Node(), l.Master); b != nil && b.Kind == "bridge" {
		return b
	}
	return nil
}

// ownerOf finds whose MAC it is on a wire; nil: nobody's there.
func (w *wire) ownerOf(mac string) *station {
	for i := range w.stations {
		if strings.EqualFold(w.stations[i].link.MAC, mac) {
			return &w.stations[i]
		}
	}
	return nil
}

// forwarding finds the port behind which a bridge knows a MAC.
func (q *inquiry) forwarding(bridge *node.Link, mac string) (port *node.Link, entry node.Neighbor) {
	all, err := q.state.Neighbors(q.state.Node())
	q.gap(err)
	for _, n := range all {
		if !n.Bridge || mac == "" || !strings.EqualFold(n.MAC, mac) {
			continue
		}
		if l := q.link(q.state.Node(), n.LinkIndex); l != nil && (l.Master == bridge.Index || l.Index == bridge.Index) {
			return l, n
		}
	}
	return nil, node.Neighbor{}
}
