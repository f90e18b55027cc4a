// SPDX-License-Identifier: Apache-2.0

package cause

// Faults of the MACs and addresses that tunnels lead to: the inner frame is not for
// this node's tunnel interface, or the outer packet goes to a node that nobody is.

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// tunnelOtherMAC: what came out of the tunnel is a frame for another MAC than the
// tunnel interface's (eth_type_trans takes it for another host's, ip_rcv_core frees
// it: OTHERHOST). The sending node's neighbour entry has the MAC that it had once.
func tunnelOtherMAC(q *inquiry) *claim {
	l := q.link(q.d.Netns, int(q.d.IfIndex))
	if !q.because("OTHERHOST") || q.d.Netns != q.state.Node() || l == nil || l.Kind != "vxlan" {
		return nil
	}
	mac := q.frameMAC()
	c := &claim{certain: true, subject: l.Name, summary: fmt.Sprintf("the frame inside the tunnel is for another MAC than that of %s of this node, which is %s: the sending node has an old or wrong MAC for it", l.Name, l.MAC)}
	c.evidence = []string{q.died(), fmt.Sprintf("ip link: %s has MAC %s", l.Name, l.MAC)}
	if mac != "" {
		c.summary = fmt.Sprintf("the frame inside the tunnel is for MAC %s, but %s of this node has %s: the sending node has an old or wrong MAC for it", mac, l.Name, l.MAC)
		c.evidence = append(c.evidence, "the frame itself was for MAC "+mac)
	} else {
		c.missing = []string{"which MAC the frame was for: a trace with -w keeps it"}
	}
	far := "the sending node"
	if h := lastHop(q.p, func(h *model.Hop) bool { return h.Tunnel != nil && h.Tunnel.Src.IsValid() }); h != nil {
		far = "node " + h.Tunnel.Src.String()
		c.evidence = append(c.evidence, fmt.Sprintf("it came from %s, VNI %d", far, h.Tunnel.VNI))
	}
	vtep := "this node's tunnel address"
	for _, p := range l.Addrs {
		if p.Addr().Is4() == endsAt(q.p).Dst.Is4() && !p.Addr().IsLinkLocalUnicast() {
			vtep = p.Addr().String()
		}
	}
	c.fix = []string{fmt.Sprintf("on %s: ip neigh show dev %s; the entry of %s has to be %s", far, l.Name, vtep, l.MAC),
		fmt.Sprintf("see what changed the MAC of %s here: systemd's MACAddressPolicy=persistent does so to flannel.1 and vxlan.calico (a .link file with MACAddressPolicy=none ends it)", l.Name),
		"have the agents tell each other the MAC again: restart flanneld (kubectl get node -o yaml: flannel.alpha.coreos.com/backend-data), or delete the calico-node pod of both nodes"}
	return c
}

// tunnelFar is the far end's address of the tunnel that a packet was in where it
// was seen last, on its way out by an interface below the tunnel; and the tunnel
// interface, where that is known. Invalid: it was in none.
func (q *inquiry) tunnelFar(at *model.Hop) (far netip.Addr, tunnel *node.Link) {
	self := q.state.Node()
	l := q.link(self, int(at.IfIndex))
	if at.Netns != self || l == nil || tunnelKindOf(l) != nil {
		return netip.Addr{}, nil
	}
	h := lastHop(q.p, func(h *model.Hop) bool {
		sent := h.Stage == model.StageTransmit || h.Stage == model.StageEncapsulate
		on := q.link(self, int(h.IfIndex))
		return sent && h.Netns == self && tunnelKindOf(on) != nil
	})
	in, outer := q.encapsulated()
	if h != nil {
		tunnel = q.link(self, int(h.IfIndex))
	}
	if in && outer != nil && outer.Dst.IsValid() {
		return outer.Dst, tunnel
	}
	if tunnel == nil {
		return netip.Addr{}, nil
	}
	return q.farEnd(tunnel), tunnel
}

// vtepOf is what a tunnel knows of the node that has the packet's destination: the
// neighbour entry of the next hop, and the forwarding entry of its MAC.
func (q *inquiry) vtepOf(tunnel *node.Link) (neighbor, forward node.Neighbor, ok bool) {
	hop, one := q.hopTo(q.state.Node(), endsAt(q.p).Dst)
	if !one {
		return neighbor, forward, false
	}
	return q.vtepBehind(tunnel, hop)
}

// vtepBehind is what a tunnel knows of a next hop.
func (q *inquiry) vtepBehind(tunnel *node.Link, hop netip.Addr) (neighbor, forward node.Neighbor, ok bool) {
	self := q.state.Node()
	neighbor, known := q.neighbor(self, tunnel.Index, hop)
	if !known || neighbor.MAC == "" {
		return neighbor, forward, false
	}
	all, err := q.state.Neighbors(self)
	q.gap(err)
	for _, n := range all {
		if n.Bridge && n.LinkIndex == tunnel.Index && strings.EqualFold(n.MAC, neighbor.MAC) && n.Addr.IsValid() {
			return neighbor, n, true
		}
	}
	return neighbor, forward, false
}

// tunnelToNobody: a tunnel of some kinds sends to an address that no node has: nobody
// answers ARP for it on the way out.
func tunnelToNobody(of func(*tunnelKind) bool) func(q *inquiry) *claim {
	return func(q *inquiry) *claim {
		a := q.asking()
		if a == nil {
			return nil
		}
		far, tunnel := q.tunnelFar(a.at)
		if !far.IsValid() || a.addr != far {
			return nil // not inside a tunnel; or it is a router that does not answer
		}
		kind := tunnelKindOf(tunnel)
		if _, outer := q.encapsulated(); outer != nil {
			kind = outerKind(outer)
		}
		if !of(kind) {
			return nil
		}
		return q.toNobody(a, far, tunnel, kind)
	}
}

func (q *inquiry) toNobody(a *asking, far netip.Addr, tunnel *node.Link, kind *tunnelKind) *claim {
	c := q.unanswered(a)
	name := "the tunnel"
	if tunnel != nil {
		name, c.subject = "the tunnel "+tunnel.Name, tunnel.Name+far.String()
	}
	c.summary = fmt.Sprintf("%s sends what is for %s to node %s, and nobody on %s has that address", name, endsAt(q.p).Dst, far, at(a.at.Place, a.at.Interface))
	if !isVXLAN(kind) {
		q.toNobodyByRoute(c, far, tunnel)
		return c
	}
	if tunnel == nil {
		c.fix = []string{"see where the tunnel's entries lead: bridge fdb; compare with the nodes' addresses: kubectl get nodes -o wide"}
		return c
	}
	if neighbor, forward, ok := q.vtepOf(tunnel); ok {
		c.evidence = append(c.evidence, fmt.Sprintf("ip neigh: %s lladdr %s dev %s", neighbor.Addr, neighbor.MAC, tunnel.Name),
			fmt.Sprintf("bridge fdb: %s dev %s dst %s", forward.MAC, tunnel.Name, forward.Addr))
		if forward.Addr == far {
			c.summary = fmt.Sprintf("the forwarding entry of %s leads to node %s, and nobody on %s has that address: what is for %s goes nowhere", tunnel.Name, far, at(a.at.Place, a.at.Interface), endsAt(q.p).Dst)
		}
	}
	c.missing = append(c.missing, "whether the entry is wrong, or that node is down or unreachable")
	c.fix = []string{fmt.Sprintf("compare with the address of the node that has %s: kubectl get nodes -o wide; if it is another one: bridge fdb show dev %s", endsAt(q.p).Dst, tunnel.Name),
		"have the agent write its entries again: restart flanneld, or delete the calico-node pod of this node; see which address the other node announces (public-ip of flannel, IP of calico-node)",
		"if the address is right: that node is down, or the network between the nodes does not let ARP through"}
	return c
}
