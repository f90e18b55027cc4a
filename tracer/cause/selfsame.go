// SPDX-License-Identifier: Apache-2.0

package cause

// Faults of one name for two: a node meets its own address or MAC where another's
// should be.

import (
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/node"
)

// tunnelOwnMAC: the frame inside the tunnel came from the very MAC that the tunnel
// interface here has, which the kernel takes for its own, come back (vxlan_rcv,
// vxlan_set_mac in drivers/net/vxlan/vxlan_core.c: LOCAL_MAC since 6.14,
// VXLAN_INVALID_SMAC before).
func tunnelOwnMAC(q *inquiry) *claim {
	l := q.link(q.d.Netns, int(q.d.IfIndex))
	if !q.because("LOCAL_MAC", "VXLAN_INVALID_SMAC") || l == nil || l.Kind != "vxlan" {
		return nil
	}
	c := &claim{certain: q.because("LOCAL_MAC"), subject: l.Name, summary: fmt.Sprintf("the frame inside the tunnel came from the same MAC that %s of this node has (%s), and the kernel takes it for a loop: the tunnel interfaces of two nodes have one MAC", l.Name, l.MAC)}
	c.evidence = []string{q.died(), fmt.Sprintf("ip link: %s has MAC %s", l.Name, l.MAC)}
	if _, outer := q.encapsulated(); outer != nil {
		c.evidence = append(c.evidence, fmt.Sprintf("it came with VNI %d from %s to port %d", outer.VNI, outer.Src, outer.DstPort))
	}
	if !c.certain {
		c.missing = []string{"that it was the same MAC: this kernel has the same reason for one that is none"}
	}
	c.fix = []string{"compare the MACs of all nodes: ip link show dev " + l.Name,
		"give each its own: ip link set dev " + l.Name + " address, or let the agent make it again; nodes cloned from one image have one machine-id, from which systemd makes MACs (systemd-machine-id-setup)"}
	return c
}

// tunnelToSelf: the tunnel's forwarding entry for the other node leads to an address of
// this one: what is sent comes out here again, until its TTL is used up.
func tunnelToSelf(q *inquiry) *claim {
	self := q.state.Node()
	n, at := circles(q.p)
	if n == 0 || !q.usedUp() {
		return nil
	}
	l := q.link(self, int(at.IfIndex))
	if l == nil || l.Kind != "vxlan" {
		return nil
	}
	hop, one := q.hopTo(self, endsAt(q.p).Dst)
	if !one {
		return nil
	}
	entry, known := q.neighbor(self, l.Index, hop)
	all, err := q.state.Neighbors(self)
	q.gap(err)
	for _, n := range all {
		if !known || !n.Bridge || n.LinkIndex != l.Index || !strings.EqualFold(n.MAC, entry.MAC) || !n.Addr.IsValid() || !q.holds(self, n.Addr) {
			continue
		}
		return q.toSelf(l, n, entry)
	}
	return nil
}

func (q *inquiry) toSelf(l *node.Link, forward, entry node.Neighbor) *claim {
	c := &claim{certain: q.because("IP_INHDR"), subject: l.Name + forward.MAC, summary: fmt.Sprintf("the forwarding entry of %s for the other node (MAC %s) leads to %s, an address of this node itself: what is for %s never leaves, but comes out of the tunnel here again and circles until its TTL is used up", l.Name, forward.MAC, forward.Addr, endsAt(q.p).Dst)}
	c.evidence = []string{q.died(), fmt.Sprintf("bridge fdb: %s dst %s, dev %s", forward.MAC, forward.Addr, l.Name), fmt.Sprintf("ip neigh: %s lladdr %s dev %s", entry.Addr, entry.MAC, l.Name)}
	if holder := q.holderOf(q.state.Node(), forward.Addr); holder != nil {
		c.evidence = append(c.evidence, fmt.Sprintf("ip addr: %s has %s", holder.Name, forward.Addr))
	}
	c.evidence = append(c.evidence, fmt.Sprintf("its TTL was %d when it was first seen", q.p.TTL))
	c.fix = []string{"see which address each node announces: kubectl get nodes -o yaml (flannel.alpha.coreos.com/public-ip; projectcalico.org/IPv4Address): nodes that all have one address on an interface (Vagrant's 10.0.2.15) take it for their own",
		"tell the agent the right interface: flanneld --iface, Calico's IP_AUTODETECTION_METHOD; then restart it on all nodes"}
	return c
}

// doubledMAC: a frame for one pod came to another, which has the same MAC: the bridge
// sends to the port by which that MAC was seen last.
func doubledMAC(q *inquiry) *claim {
	if !q.strandedInPod() {
		return nil
	}
	self, dst := q.state.Node(), endsAt(q.p).Dst
	got, pod := q.link(q.d.Netns, int(q.d.IfIndex)), uint32(0)
	if netns, ok := q.podOf(dst); ok {
		pod = netns
	}
	meant := q.holderOf(pod, dst)
	if got == nil || meant == nil || pod == q.d.Netns || got.MAC == "" || !strings.EqualFold(got.MAC, meant.MAC) {
		return nil
	}
	is, other := q.stationWords(station{netns: pod, link: meant}), q.stationWords(station{netns: q.d.Netns, link: got})
	c := &claim{subject: got.MAC, summary: fmt.Sprintf("two pods have one MAC, %s: %s, which has %s, and %s, to which its frames go: a bridge sends to the port by which it saw the MAC last", got.MAC, is, dst, other)}
	c.evidence = []string{q.died(), fmt.Sprintf("ip link: %s has MAC %s", is, meant.MAC), fmt.Sprintf("ip link: %s has MAC %s", other, got.MAC)}
	all, err := q.state.Neighbors(self)
	q.gap(err)
	for _, n := range all {
		port := q.link(self, n.LinkIndex)
		if n.Bridge && strings.EqualFold(n.MAC, got.MAC) && port != nil && port.Master != 0 && port.Index == got.PeerIndex && got.Paired() {
			if bridge := q.link(self, port.Master); bridge != nil {
				c.evidence = append(c.evidence, fmt.Sprintf("bridge fdb: %s dev %s master %s", n.MAC, port.Name, bridge.Name))
			}
		}
	}
	c.missing = []string{"that the MACs were the same when it died: they were read right after"}
	c.fix = []string{"give each its own: make one of the two pods again; in its namespace: ip link set dev " + got.Name + " address",
		"see who sets MACs: a fixed one in a container's or pod's definition, a copied image, containers that were restored"}
	return c
}
