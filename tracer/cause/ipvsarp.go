// SPDX-License-Identifier: Apache-2.0

package cause

// Addresses of services that every node answers for. kube-proxy's ipvs mode puts the
// address of a balancer on kube-ipvs0 of every node, and a node answers ARP for any of its
// addresses on any interface, unless arp_ignore says otherwise (arp_ignore, net/ipv4/arp.c,
// 5.17 to 7.3). Where one node at a time is to have the address (MetalLB in layer 2 mode,
// kube-vip), what is for it comes to others then, which may have no endpoint of it, or know
// nothing of the connection.

import (
	"fmt"
	"net/netip"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// answering is an interface on which the node answers ARP for a service's address.
type answering struct {
	addr netip.Addr
	link *node.Link
	own  netip.Prefix // by which others on that link ask ARP for the address
}

// answersARP tells whether the packet came by an interface on which the node answers for
// the service's address; nil: not.
func (q *inquiry) answersARP(addr netip.Addr) *answering {
	self := q.state.Node()
	parked := q.linkNamed(self, parking)
	holder := q.holderOf(self, addr) // the first that has it: not one on the wire
	if !addr.Is4() || parked == nil || holder == nil || holder.Index != parked.Index {
		return nil
	}
	var at *model.Hop
	for i := range q.p.Hops {
		if h := &q.p.Hops[i]; h.Netns == self && h.Stage == model.StageReceive {
			at = h
			break
		}
	}
	if at == nil {
		return nil
	}
	link := q.link(self, int(at.IfIndex))
	if link != nil && link.Master != 0 {
		link = q.link(self, link.Master) // a bond's or bridge's, which has the addresses
	}
	if link == nil {
		return nil
	}
	for _, name := range []string{"all", link.Name} { // the greater counts
		if v, ok := q.sysctl(self, "ipv4/conf/"+name+"/arp_ignore"); !ok || v != 0 {
			return nil
		}
	}
	for _, p := range link.Addrs {
		if !p.IsSingleIP() && p.Contains(addr) {
			return &answering{addr, link, p}
		}
	}
	return nil
}

// tellARP adds that what came is for an address that this node answers for, as others do.
func (q *inquiry) tellARP(c *claim, addr netip.Addr) {
	a := q.answersARP(addr)
	if a == nil {
		return
	}
	c.summary += fmt.Sprintf("; this node answers ARP for %s on %s, since it has it on %s (arp_ignore is 0), and so does every node that is set alike: packets for it may come to nodes that are not to have it", a.addr, a.link.Name, parking)
	c.evidence = append(c.evidence, fmt.Sprintf("ip addr: %s has %s", parking, a.addr), fmt.Sprintf("ip addr: %s has %s", a.link.Name, a.own),
		fmt.Sprintf("net.ipv4.conf.all.arp_ignore = 0, net.ipv4.conf.%s.arp_ignore = 0", a.link.Name))
	c.missing = append(c.missing, "whether another node is to have the address: MetalLB in layer 2 mode and kube-vip give it to one")
	c.fix = append(c.fix, fmt.Sprintf("see who answers, on another host of that network: arping -c 3 %s (one MAC it must be)", a.addr),
		"on all nodes: kube-proxy's ipvs.strictARP: true, with which it sets net.ipv4.conf.all.arp_ignore=1 and arp_announce=2; then clear what routers hold (arp -d, or wait)")
}
