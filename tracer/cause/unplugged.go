// SPDX-License-Identifier: Apache-2.0

package cause

// The cause bridge-port, before a frame comes to any port: the node's end of a pod's
// interface is no port of the bridge that the pod belongs to.

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/node"
)

// plug is a pod's interface that does not hang where it should.
type plug struct {
	pod  station
	addr netip.Addr
	home *node.Link // the bridge that the pod belongs to
	// host is the other end, where it is in the node's namespace; on is whose port it is
	// instead, nil: nobody's.
	host, on *node.Link
	asks     bool // it is that of the one who sends
}

// unplugged: what is for a pod goes to the bridge, and the pod's interface is none of its
// ports; or what the pod sends does not come to the bridge. Frames are flooded to others
// then (OTHERHOST), end in the bridge, wait for an answer to ARP that does not come, or,
// where they come in by an interface that has no part in the bridge, have a source that
// the reverse path filter does not take.
func unplugged(q *inquiry) *claim {
	if q.d.Hook != "" || !q.p.Outcome.Died() && q.asking() == nil {
		return nil
	}
	asked := q.asking()
	if asked == nil && !q.because("OTHERHOST", "IP_RPFILTER", "IP_LOCAL_SOURCE") && !q.lostOnBridge() {
		return nil
	}
	p := q.plugOf(q.senderPod(), endsAt(q.p).Src)
	if p != nil {
		p.asks = true
	} else {
		to := endsAt(q.p).Dst
		if asked != nil {
			to = asked.addr
		}
		pod, ok := q.podOf(to)
		if !ok {
			pod, ok = q.strayedPod(to)
		}
		if !ok || q.because("IP_RPFILTER", "IP_LOCAL_SOURCE") {
			return nil
		}
		if p = q.plugOf(pod, to); p == nil {
			return nil
		}
	}
	return q.unpluggedClaim(p, asked)
}

// maxOthers bounds the namespaces that are looked into for a pod that hangs on none of
// the node's interfaces.
const maxOthers = 256

// strayedPod finds the namespace of a pod that is no part of the node any more: it has the
// address, and the MAC by which the sender knows it.
func (q *inquiry) strayedPod(addr netip.Addr) (netns uint32, ok bool) {
	w := q.wire()
	if w == nil || w.to != addr || w.mac() == "" {
		return 0, false
	}
	others := q.state.Others()
	for _, netns := range others[:min(len(others), maxOthers)] {
		links, err := q.state.Links(netns)
		if err != nil {
			continue // it has ended: nobody's business
		}
		for i := range links {
			s := station{netns: netns, link: &links[i]}
			if strings.EqualFold(s.link.MAC, w.mac()) && s.holds(addr) {
				return netns, true
			}
		}
	}
	return 0, false
}

// senderPod is the pod whose stack sent the packet, or came up with the question; 0: none.
func (q *inquiry) senderPod() uint32 {
	netns := q.d.Netns
	if i := q.sending(); i >= 0 {
		netns = q.p.Hops[i].Netns
	}
	if netns == q.state.Node() {
		netns, _ = q.podOf(endsAt(q.p).Src)
	}
	return netns
}

// plugOf looks where a pod's interface hangs; nil: where it should, or nobody knows where
// that is.
func (q *inquiry) plugOf(pod uint32, addr netip.Addr) *plug {
	self := q.state.Node()
	if pod == 0 || pod == self {
		return nil
	}
	mine := q.findLink(pod, func(l *node.Link) bool {
		return l.Kind == "veth" && slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr() == addr })
	})
	home := q.homeOf(addr)
	if mine == nil || home == nil || mine.PeerIndex == 0 || mine.PeerNetns == 0 {
		return nil
	}
	p := &plug{pod: station{netns: pod, link: mine}, addr: addr, home: home}
	if mine.PeerNetns != self {
		return p
	}
	if p.host = q.link(self, mine.PeerIndex); p.host == nil || p.host.Master == home.Index {
		return nil
	}
	if p.host.Master != 0 {
		// two bridges of one subnet: the routes tell which comes first, and are the fault
		if p.on = q.link(self, p.host.Master); p.on == nil || p.on.Kind == "bridge" && inSubnetOf(p.on, addr) {
			return nil
		}
	}
	return p
}

// homeOf is the bridge by which the node itself reaches an address without a gateway; nil:
// it is routed, to its own interface or a tunnel.
func (q *inquiry) homeOf(addr netip.Addr) *node.Link {
	r, ok := q.routeTo(q.state.Node(), addr)
	if !ok || r.Gateway.IsValid() || r.Dst.Bits() == 0 {
		return nil
	}
	if l := q.link(q.state.Node(), r.LinkIndex); l != nil && l.Kind == "bridge" {
		return l
	}
	return nil
}

func (q *inquiry) unpluggedClaim(p *plug, asked *asking) *claim {
	self := q.state.Node()
	c := &claim{subject: "unplugged " + p.addr.String(), evidence: []string{q.died()}}
	if asked != nil {
		c.evidence = q.unanswered(asked).evidence
	}
	whose := q.placeName(p.pod.netns)
	if whose == "" {
		whose = "the pod that has " + p.addr.String()
	}
	lost := fmt.Sprintf("what is for %s goes to %s, and not to the pod", p.addr, p.home.Name)
	if p.asks {
		lost = fmt.Sprintf("what it sends does not come to %s", p.home.Name)
	}
	if asked != nil {
		lost += fmt.Sprintf("; so nobody answers for %s", asked.addr)
	}
	switch {
	case p.host == nil:
		c.summary = fmt.Sprintf("the other end of %s of %s is not in this node's own network namespace, so it is no port of bridge %s: %s", p.pod.link.Name, whose, p.home.Name, lost)
		c.evidence = append(c.evidence, fmt.Sprintf("ip link: %s of %s has its other end, interface %d, in network namespace %d; this node's own is %d", p.pod.link.Name, whose, p.pod.link.PeerIndex, p.pod.link.PeerNetns, self))
		c.fix = []string{fmt.Sprintf("find that namespace (lsns -t net | grep %d), and give the interface back: there, ip link set IFACE netns 1; here, ip link set IFACE master %s up", p.pod.link.PeerNetns, p.home.Name),
			"or make the pod again; see who moved it: a second runtime or plugin, a script"}
	case p.on == nil:
		c.summary = fmt.Sprintf("%s, the node's end of %s of %s, is not a port of bridge %s, nor of any other: %s", p.host.Name, p.pod.link.Name, whose, p.home.Name, lost)
		c.evidence = append(c.evidence, fmt.Sprintf("ip link: %s has no master", p.host.Name))
	default:
		c.summary = fmt.Sprintf("%s, the node's end of %s of %s, is a port of %s, not a port of bridge %s: %s", p.host.Name, p.pod.link.Name, whose, p.on.Name, p.home.Name, lost)
		c.evidence = append(c.evidence, fmt.Sprintf("ip link: %s master %s", p.host.Name, p.on.Name))
	}
	c.evidence = append(c.evidence, fmt.Sprintf("ip addr: %s has %s", q.stationWords(p.pod), p.addr))
	if r, ok := q.routeTo(self, p.addr); ok {
		c.evidence = append(c.evidence, "the node's route to it: "+q.routeWords(self, r))
	}
	if ports := q.portNames(p.home); ports != "" {
		c.evidence = append(c.evidence, fmt.Sprintf("bridge link: ports of %s are %s", p.home.Name, ports))
	}
	c.missing = []string{"that it was so when the packet died: where the interface hangs was read right after that"}
	if p.host != nil {
		c.fix = []string{fmt.Sprintf("ip link set %s master %s", p.host.Name, p.home.Name),
			"see who took it out, or it will happen again: systemd-networkd (a .network file that matches it) and NetworkManager have to leave pods' interfaces alone (Unmanaged=yes; unmanaged-devices=interface-name:veth*), ip monitor link shows it happen"}
		if p.on != nil {
			c.fix[1] = fmt.Sprintf("see who gave it to %s, or it will happen again: Docker or a second CNI plugin, whose configuration in /etc/cni/net.d comes first, systemd-networkd, a script", p.on.Name)
		}
	}
	return c
}

// portNames are the ports of a bridge, some of them where there are many.
func (q *inquiry) portNames(bridge *node.Link) string {
	links, err := q.state.Links(q.state.Node())
	q.gap(err)
	var names []string
	for _, l := range links {
		if l.Master == bridge.Index {
			names = append(names, l.Name)
		}
	}
	if len(names) > 4 {
		return strings.Join(names[:4], ", ") + fmt.Sprintf(" and %d more", len(names)-4)
	}
	return strings.Join(names, ", ")
}
