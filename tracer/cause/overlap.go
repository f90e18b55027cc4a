// SPDX-License-Identifier: Apache-2.0

package cause

// Addresses that two networks use, and routes wider than what is behind an interface:
// nobody answers there, or a blackhole eats it, and no pod has been lost.

import (
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// maxOutsiders bounds the addresses that are remembered.
const maxOutsiders = 256

// outsider is an address that sent from outside of the node: by which interface a packet
// of it came in.
type outsider struct {
	packet    uint64
	netns     uint32
	index     int
	Interface string
}

// seeOutsider notes a packet that came into the node as it is, by no tunnel; whether the
// interface leads to a pod is asked when it matters.
func (n *near) seeOutsider(p *model.Packet) {
	if len(p.Hops) == 0 || len(n.outsiders) >= maxOutsiders || p.OwnAnswer {
		return
	}
	h := p.Hops[0]
	if h.Place != "node" || h.Stage != model.StageReceive || h.IfIndex == 0 {
		return
	}
	if _, known := n.outsiders[p.Src]; known || lastHop(p, func(h *model.Hop) bool { return h.Stage == model.StageDecapsulate }) != nil {
		return
	}
	n.outsiders[p.Src] = outsider{p.ID, h.Netns, int(h.IfIndex), h.Interface}
}

// outsider tells that packets of an address came in from outside, by another interface
// than one; nil: none did, or it is known to be on this node.
func (q *inquiry) outsider(addr netip.Addr, notBy int) *outsider {
	o, ok := q.mem.near.outsiders[addr]
	if !ok || o.netns != q.state.Node() {
		return nil
	}
	in := q.link(o.netns, o.index)
	if in == nil || in.Index == notBy || in.Master != 0 && in.Master == notBy || in.PeerNetns != 0 && q.isMember(in.PeerNetns) || tunnelKindOf(in) != nil || in.Kind == "bridge" || in.Kind == "tun" { // a virtual machine's tap is of this node, too
		return nil
	}
	if _, held := q.podOf(addr); held || q.holds(o.netns, addr) {
		return nil
	}
	return &o
}

// cameWords is the evidence of it.
func (o *outsider) cameWords(addr netip.Addr) string {
	return fmt.Sprintf("packet #%d from %s came in by %s", o.packet, addr, o.Interface)
}

// overlapFix is what mends two networks with one range.
func (o *outsider) overlapFix(addr netip.Addr) []string {
	return []string{fmt.Sprintf("see who it is: ip neigh show %s; tcpdump -eni %s host %s", addr, o.Interface, addr),
		"if it is a host of a network outside: give pods a range that no network has which they talk to (a new IP pool; pods get an address of it when they are made again), or renumber that network",
		fmt.Sprintf("until then: a route of its own to it by %s, and its range kept from pods (Calico: IPReservation)", o.Interface)}
}

// refusedOutsider: the look-up of an answer ends at a route that refuses, though who
// asked came in from outside.
func (q *inquiry) refusedOutsider(c *claim, dst netip.Addr, r node.Route, words string) bool {
	o := q.outsider(dst, r.LinkIndex)
	if o == nil {
		return false
	}
	c.evidence = append(c.evidence, o.cameWords(dst))
	c.summary = fmt.Sprintf("%q eats what is for %s, which is no pod of this node: its packets came in by %s, from outside", words, dst, o.Interface)
	if r.Protocol == protoFelix || r.Protocol == protoBIRD {
		c.summary += ", while the block is this node's for its pods: the two address ranges overlap"
		if q.podsComeBy(o.index) {
			c.summary += ", or a pod of another node has an address borrowed from the block"
		}
		c.evidence = append(c.evidence, fmt.Sprintf("the route is Calico's (protocol %d): the blackhole for a block of its own, in which each pod has a route", r.Protocol))
		c.missing = append(c.missing, fmt.Sprintf("who has %s: a host of another network, or a pod of another node with an address borrowed from this block, whose own route is missing here (calicoctl ipam show --ip=%s)", dst, dst))
	}
	c.fix = o.overlapFix(dst)
	return true
}

// podsComeBy tells whether other nodes' pods may send to this one by an interface as they
// are: BIRD has written a route by it.
func (q *inquiry) podsComeBy(index int) bool {
	routes, err := q.state.Routes(q.state.Node())
	q.gap(err)
	return slices.ContainsFunc(routes, func(r node.Route) bool {
		return r.Protocol == protoBIRD && slices.ContainsFunc(r.Hops(), func(h node.NextHop) bool { return h.LinkIndex == index && h.Gateway.IsValid() })
	})
}

// fromOutside: an answer is sent to where the pods are, and who asked came in from
// outside.
func fromOutside(q *inquiry, u *unheard) bool {
	notBy, by := int(u.at.IfIndex), u.at.Interface
	if u.at.Netns != q.state.Node() { // a pod looks for it on its own link
		notBy, by = 0, at2(u.at)
	}
	o := q.outsider(u.addr, notBy)
	if o == nil || u.addr != endsAt(q.p).Dst {
		return false
	}
	c := u.claim
	c.subject = "overlap " + by
	c.summary = fmt.Sprintf("what is for %s is sent out of %s, where nobody has that address: its packets came in by %s of this node, from outside", u.addr, by, o.Interface)
	c.evidence = append(c.evidence, o.cameWords(u.addr), "no pod of this node has "+u.addr.String())
	if w := q.wayOf(u.at.Netns); w.leads(int(u.at.IfIndex)) {
		a, _ := w.sure()
		c.evidence = append(c.evidence, "the way it was sent: "+w.words())
		c.summary += fmt.Sprintf(", while %q holds it: the two address ranges overlap", w.routeText(*a.Route))
	}
	c.missing = append(c.missing, fmt.Sprintf("who has %s: a host of another network, or a pod of another node whose own route is missing here", u.addr))
	c.fix = o.overlapFix(u.addr)
	return true
}

// tellServiceOnLink adds to a claim about what was asked of a service that its cluster IP
// is of a network that the node is on: a host there may be meant, and the rules take what
// is for it. A load balancer's address is meant to be of one.
func (q *inquiry) tellServiceOnLink(c *claim, asked netip.Addr) {
	self := q.state.Node()
	out := q.linkOfNetwork(asked)
	if out == nil || !slices.ContainsFunc(q.offersOf(self, asked), func(o offer) bool { return o.cluster }) {
		return
	}
	c.summary += fmt.Sprintf("; %s is a cluster IP, and of the network of this node's %s, too: the two address ranges overlap, and if a host there was meant, the service's rules took what was for it", asked, out.Name)
	c.evidence = append(c.evidence, "the way to it without those rules: "+q.wayFor(self, asked).words())
	if e, known := q.neighbor(self, out.Index, asked); known {
		c.evidence = append(c.evidence, fmt.Sprintf("ip neigh: %s dev %s %s", asked, out.Name, stateWords(e.State)))
	}
	c.missing = append(c.missing, fmt.Sprintf("whether the service or a host of %s was meant", out.Name))
	c.fix = append(c.fix, fmt.Sprintf("if a host was meant: see whether there is one (arping -I %s %s), and give services a range that no network has which is talked to (--service-cluster-ip-range, a new ServiceCIDR); until then keep such addresses from services", out.Name, asked))
}

// linkOfNetwork is the interface of the node on whose own network an address is; nil: on
// none that leads off the node.
func (q *inquiry) linkOfNetwork(addr netip.Addr) *node.Link {
	self := q.state.Node()
	w := q.wayFor(self, addr)
	a, sure := w.sure()
	if !sure || a.Route == nil || a.Error != 0 || a.Route.Gateway.IsValid() || len(a.Hops) != 1 {
		return nil
	}
	out := q.link(self, a.Hops[0].LinkIndex)
	if out == nil || out.Kind == "veth" && out.PeerNetns != 0 && q.isMember(out.PeerNetns) || tunnelKindOf(out) != nil || !q.onLink(out.Index, addr) {
		return nil
	}
	return out
}

// widerRoute: the route that leads to an interface is wider than what is behind it, a
// default route by a pod's veth, say, and comes before one that would lead elsewhere.
func widerRoute(q *inquiry, u *unheard) bool {
	self := q.state.Node()
	out := q.link(u.at.Netns, int(u.at.IfIndex))
	w := q.wayOf(u.at.Netns)
	a, sure := w.sure()
	if u.at.Netns != self || out == nil || !sure || !a.Leads(out.Index) || u.addr != w.asked.Dst || a.Route.Gateway.IsValid() || len(a.Route.NextHops) > 0 || a.Route.Dst.IsSingleIP() {
		return false
	}
	if q.onLink(out.Index, u.addr) || q.detourOf(u.at.Netns, out.Index) != nil {
		return false // it is of a subnet of that interface's, or the pod is elsewhere
	}
	pod := out.Kind == "veth" && out.PeerNetns != 0 && q.isMember(out.PeerNetns)
	next := w.without(a.Route)
	if !pod && next == nil {
		return false
	}
	c := u.claim
	words := w.routeText(*a.Route)
	c.subject = "route " + words
	c.summary = fmt.Sprintf("what is for %s is sent out of %s by the route %q, and nobody there has that address", u.addr, out.Name, words)
	if pod {
		c.summary = fmt.Sprintf("what is for %s is sent to a pod, behind %s, by the route %q, and the pod has no such address", u.addr, out.Name, words)
	}
	c.evidence = append(c.evidence, "the way it was sent: "+w.words())
	if next != nil {
		c.summary += fmt.Sprintf("; without it %q would be taken", w.routeText(*next))
		c.evidence = append(c.evidence, fmt.Sprintf("table %s also has: %s", tableName(a.Table), w.routeText(*next)))
	}
	q.changedBy(c, func(e *model.NodeEvent) bool {
		return (e.What == model.RouteAdded || e.What == model.RouteReplaced) && e.Netns == self && e.Prefix == a.Route.Dst && int(e.IfIndex) == out.Index
	})
	c.fix = []string{w.getCommand(), "if nobody wants it: ip route del " + words + tableOption(a.Table)}
	q.tellOwnAddress(c, out, pod)
	return true
}

// tellOwnAddress adds an address that the node's end of a pod's interface has got: none
// is due there, and a DHCP client or link-local autoconfiguration gives it a route, too.
func (q *inquiry) tellOwnAddress(c *claim, out *node.Link, pod bool) {
	keep := fmt.Sprintf("keep what wrote it off the interfaces of pods, or it comes back (dhcpcd: denyinterfaces cali* veth*; NetworkManager: unmanaged-devices=interface-name:cali*;interface-name:veth*; networkd: Unmanaged=yes): ip route show dev %s tells its protocol", out.Name)
	if !pod {
		keep = fmt.Sprintf("find what wrote it, or it comes back (a DHCP client, a VPN, an agent of the network): ip route show dev %s tells its protocol", out.Name)
	}
	c.fix = append(c.fix, keep)
	for _, p := range out.Addrs {
		if !p.Addr().Is4() || !p.Addr().IsLinkLocalUnicast() || p.Addr() == calicoGateway {
			continue
		}
		c.evidence = append(c.evidence, fmt.Sprintf("ip addr: %s has %s", out.Name, p))
		c.summary += fmt.Sprintf(". %s of this node has %s, such as a DHCP client gives itself that nobody answers", out.Name, p.Addr())
		c.fix = append(c.fix, fmt.Sprintf("and the address: ip addr del %s dev %s", p, out.Name))
	}
}

// without is the route that the look-up's table would give by another interface, were it
// not for one; nil: none.
func (w way) without(out *node.Route) (next *node.Route) {
	for i := range w.fib.Routes {
		r := &w.fib.Routes[i]
		if r == out || r.Table != out.Table || r.Type != unix.RTN_UNICAST || !r.Dst.Contains(w.asked.Dst) || r.LinkIndex == out.LinkIndex && len(r.NextHops) == 0 {
			continue
		}
		if next == nil || r.Dst.Bits() > next.Dst.Bits() || r.Dst.Bits() == next.Dst.Bits() && r.Metric < next.Metric {
			next = r
		}
	}
	return next
}
