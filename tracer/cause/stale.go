// SPDX-License-Identifier: Apache-2.0

package cause

// The cause stale-neighbor: a frame was sent to another MAC than that of the
// interface which has the address, or a bridge sent it by the wrong port.

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/node"
)

// staleNeighbor: what a sender holds of its next hop is not so. The one who gets
// the frame does not take it (OTHERHOST in ip_rcv_core and ip6_rcv_core: its MAC is
// not the interface's), or takes it for its own and has no use for the address.
func staleNeighbor(q *inquiry) *claim {
	if !q.p.Outcome.Died() || q.d.Hook != "" {
		return nil
	}
	refused := q.because("OTHERHOST")
	if !refused && !q.lostOnBridge() && !q.strandedInPod() {
		return nil
	}
	w := q.wire()
	if w == nil {
		return q.staleOutside()
	}
	if w.mac() == "" || w.holder == nil && w.ownerOf(w.mac()) == nil && !refused {
		return nil
	}
	if w.holder != nil && strings.EqualFold(w.mac(), w.holder.link.MAC) {
		return q.wrongPort(w)
	}
	return q.wrongMAC(w)
}

// strandedPacket is what comes to the wrong pod, before its not forwarding is taken
// for the fault.
func strandedPacket(q *inquiry) *claim {
	if !q.strandedInPod() {
		return nil
	}
	return staleNeighbor(q)
}

// strandedInPod: it came to a pod that has not its destination, and the pod does
// not forward.
func (q *inquiry) strandedInPod() bool {
	self := q.state.Node()
	return q.d.Netns != 0 && q.d.Netns != self && q.because("IP_INADDRERRORS") && !q.holds(q.d.Netns, endsAt(q.p).Dst)
}

// lostOnBridge: a bridge freed it.
func (q *inquiry) lostOnBridge() bool {
	return q.because("NO_TX_TARGET") || q.in(bridgeFunctions...)
}

// wrongMAC: the sender's neighbour entry holds another MAC than the one who has
// the address.
func (q *inquiry) wrongMAC(w *wire) *claim {
	sender, device, mac := q.stationWords(w.from), w.from.link.Name, w.mac()
	c := &claim{subject: fmt.Sprint(w.from.netns, device, w.to), certain: w.seen != "" && q.because("OTHERHOST"), evidence: []string{q.died()}}
	if q.because("OTHERHOST") {
		c.evidence = append(c.evidence, "the frame was for another MAC than "+q.ownMAC())
	}
	owner := "which no interface there has"
	if o := w.ownerOf(mac); o != nil {
		owner = "which is that of " + q.stationWords(*o)
	} else if o := q.elsewhere(w, func(s station) bool { return strings.EqualFold(s.link.MAC, mac) }); o != nil {
		owner = fmt.Sprintf("which is that of %s, that is not on that wire", q.stationWords(*o))
	}
	switch {
	case w.holder != nil:
		c.summary = fmt.Sprintf("%s sends what is for %s to MAC %s, %s: %s has %s", sender, w.to, mac, owner, q.stationWords(*w.holder), w.holder.link.MAC)
		c.evidence = append(c.evidence, fmt.Sprintf("ip link: %s has MAC %s", q.stationWords(*w.holder), w.holder.link.MAC))
	default:
		c.summary = fmt.Sprintf("%s sends what is for %s to MAC %s, %s, and no interface there has that address", sender, w.to, mac, owner)
		if o := q.elsewhere(w, func(s station) bool { return s.holds(w.to) }); o != nil {
			c.summary += fmt.Sprintf(": %s has it, which is not on that wire", q.stationWords(*o))
			c.evidence = append(c.evidence, fmt.Sprintf("ip addr: %s has %s", q.stationWords(*o), w.to))
		}
	}
	if w.known {
		c.evidence = append(c.evidence, fmt.Sprintf("ip neigh: %s lladdr %s dev %s %s, at %s", w.to, w.entry.MAC, device, stateWords(w.entry.State), w.place))
	}
	if w.seen == "" {
		c.missing = append(c.missing, "the MAC in the frame itself: it was read off the sender's neighbour table after the packet died (a trace with -w keeps the frame)")
	}
	c.fix = q.staleFix(w)
	return c
}

// elsewhere finds an interface of this node or one of its pods that fits, and is none of
// those on a wire; nil: none.
func (q *inquiry) elsewhere(w *wire, fits func(station) bool) *station {
	for _, netns := range append(q.state.Members(), q.state.Node()) {
		l := q.findLink(netns, func(l *node.Link) bool {
			s := station{netns: netns, link: l}
			onIt := func(o station) bool { return o.netns == netns && o.link.Index == l.Index }
			return !l.Loopback && fits(s) && !onIt(w.from) && !slices.ContainsFunc(w.stations, onIt)
		})
		if l != nil {
			return &station{netns: netns, link: l}
		}
	}
	return nil
}

// ownMAC is the interface's own MAC where the packet died.
func (q *inquiry) ownMAC() string {
	if l := q.link(q.d.Netns, int(q.d.IfIndex)); l != nil && l.MAC != "" {
		return fmt.Sprintf("%s, that of %s", l.MAC, at(q.d.Place, l.Name))
	}
	return "that of " + at(q.d.Place, q.d.Interface)
}

// staleFix takes a wrong entry away, and has who writes it write the right one.
func (q *inquiry) staleFix(w *wire) []string {
	where := "on this node"
	if w.from.netns != q.state.Node() {
		where = "in " + w.place
	}
	fix := []string{fmt.Sprintf("%s: ip neigh del %s dev %s: it is asked for again", where, w.to, w.from.link.Name)}
	if w.known && w.entry.State&unix.NUD_PERMANENT != 0 {
		fix = []string{fmt.Sprintf("the entry is permanent, so it does not mend itself: %s: ip neigh del %s dev %s, and see who wrote it", where, w.to, w.from.link.Name)}
	}
	return append(fix, "see what changed the MAC: a pod's interface made again, a bridge that took over another port's MAC (give it one of its own), systemd's MACAddressPolicy",
		fmt.Sprintf("watch the frames: tcpdump -eni %s host %s", w.from.link.Name, endsAt(q.p).Dst))
}

// wrongPort: the MAC is right, but the bridge has it behind another port.
func (q *inquiry) wrongPort(w *wire) *claim {
	if w.holder.port == nil {
		return nil
	}
	bridge := q.bridgeOf(w.holder.port)
	if bridge == nil {
		return nil
	}
	port, entry := q.forwarding(bridge, w.holder.link.MAC)
	if port == nil || port.Index == w.holder.port.Index {
		return nil
	}
	c := &claim{subject: w.holder.port.Name, summary: fmt.Sprintf("bridge %s sends frames for MAC %s by %s, but the interface that has it is %s", bridge.Name, w.holder.link.MAC, port.Name, q.stationWords(*w.holder))}
	c.evidence = []string{q.died(), fmt.Sprintf("bridge fdb: %s dev %s master %s", entry.MAC, port.Name, bridge.Name),
		fmt.Sprintf("ip link: %s has MAC %s", q.stationWords(*w.holder), w.holder.link.MAC)}
	c.missing = []string{"that it was so when the packet died: the bridge's table was read right after"}
	c.fix = []string{fmt.Sprintf("bridge fdb del %s dev %s master: it is learned again", entry.MAC, port.Name), "see who wrote it, or who else sends with that MAC: bridge monitor fdb"}
	return c
}

// staleOutside: a frame from outside that is not for the interface's MAC, although
// the packet is for this node or a pod of it. A port that hears all (promiscuous)
// gets what is for others as well: that is no loss.
func (q *inquiry) staleOutside() *claim {
	self, dst := q.state.Node(), endsAt(q.p).Dst
	l := q.link(q.d.Netns, int(q.d.IfIndex))
	if !q.because("OTHERHOST") || q.d.Netns != self || l == nil || l.Kind == "vxlan" || l.MAC == "" {
		return nil
	}
	if _, pod := q.podOf(dst); !pod && !q.holds(self, dst) {
		return nil
	}
	c := &claim{subject: l.Name, summary: fmt.Sprintf("a frame with a packet for %s came in by %s, but it was not for MAC %s, which %s has: who sent it holds another MAC for this node", dst, l.Name, l.MAC, l.Name)}
	c.evidence = []string{q.died(), "the frame was for another MAC than " + q.ownMAC()}
	if mac := q.frameMAC(); mac != "" {
		c.evidence = append(c.evidence, "the frame itself was for MAC "+mac)
	} else {
		c.missing = []string{"the MAC in the frame: a trace with -w keeps it"}
	}
	c.missing = append(c.missing, "who sent it, and why: the frame came from outside this node")
	c.fix = []string{fmt.Sprintf("see which MAC it is for and who sends it: tcpdump -eni %s host %s", l.Name, dst),
		"there: ip neigh flush to this node's address; have this node announce itself: arping -U -I " + l.Name + " its address"}
	return c
}
