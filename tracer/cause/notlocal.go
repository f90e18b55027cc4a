// SPDX-License-Identifier: Apache-2.0

package cause

// The cause address-not-local: packets leave this node for an address that has to be
// its own.

import (
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// metadata is the part of the link-local network in which clouds answer for addresses
// of their own behind a gateway (169.254.169.254 and its like).
var metadata = netip.MustParsePrefix("169.254.169.0/24")

// notLocal: the packet left, and nobody answered; but this node took packets to that
// address in before, or has it on an interface, or it is one that no router passes on.
func notLocal(q *inquiry, p *peer) *claim {
	self, addr := q.state.Node(), p.far.Addr()
	if q.sentByIPVS() != nil {
		return nil // it came to the node's own hooks, and went on from there
	}
	if r, ok := q.routeTo(self, addr); ok && r.Type == unix.RTN_LOCAL {
		c := &claim{subject: addr.String(), summary: fmt.Sprintf("%s is an address of this node, but packets to it left by %s: its local route was missing when they came", addr, q.wayOut())}
		c.evidence = []string{"the way to it now: " + q.routeWords(self, r)}
		c.missing = []string{"who took the route away and put it back"}
		c.fix = []string{"watch it happen: ip monitor route address"}
		return c
	}
	for _, look := range []func(*inquiry, *peer) *claim{heldNotLocal, localBefore, linkLocalAway} {
		c := look(q, p)
		if c == nil {
			continue
		}
		c.subject = addr.String()
		if e := q.mem.history.last(diedAt(q.p), func(e *model.NodeEvent) bool {
			return e.Netns == self && (e.What == model.AddressDeleted || e.What == model.RouteDeleted) && e.Prefix.IsValid() && e.Prefix.Addr() == addr
		}); e != nil {
			c.evidence = append(c.evidence, clocked(e))
		}
		if r, ok := q.routeTo(self, addr); ok {
			c.evidence = append(c.evidence, "the way to it now: "+q.routeWords(self, r))
		}
		if p.icmp != "" {
			c.evidence = append(c.evidence, "an ICMP error came back: "+p.icmp)
		}
		return c
	}
	return nil
}

// heldNotLocal: an interface has the address, and table local has no route for it.
func heldNotLocal(q *inquiry, p *peer) *claim {
	addr := p.far.Addr()
	l := q.holderOf(q.state.Node(), addr)
	if l == nil {
		return nil
	}
	return &claim{summary: fmt.Sprintf("%s of this node has %s, but the local route to it is missing, so packets for it leave by %s", l.Name, addr, q.wayOut()),
		evidence: []string{fmt.Sprintf("ip addr: %s has %s", l.Name, addr), fmt.Sprintf("ip route show table local: none to %s", addr)},
		fix: []string{fmt.Sprintf("put it back: ip route add local %s dev %s table local", addr, l.Name),
			"find what takes it away: ip monitor route; systemd-networkd does at its start (ManageForeignRoutes=no in networkd.conf ends that)"}}
}

// holderOf is the interface of a namespace that has an address; nil: none.
func (q *inquiry) holderOf(netns uint32, addr netip.Addr) *node.Link {
	return q.holderIn(netns, netip.PrefixFrom(addr, addr.BitLen()))
}

// holderIn is the interface of a namespace that has an address of a prefix; nil: none has.
func (q *inquiry) holderIn(netns uint32, p netip.Prefix) *node.Link {
	return q.findLink(netns, func(l *node.Link) bool {
		return slices.ContainsFunc(l.Addrs, func(a netip.Prefix) bool { return p.Contains(a.Addr()) })
	})
}

// wayOut is the interface that the packet left by.
func (q *inquiry) wayOut() string {
	h := lastHop(q.p, func(h *model.Hop) bool { return h.Stage == model.StageTransmit && h.Interface != "" })
	if h == nil {
		return "an interface"
	}
	return h.Interface
}

// localBefore: packets to the same address were this node's own a while ago.
func localBefore(q *inquiry, p *peer) *claim {
	self, addr, before := q.state.Node(), p.far.Addr(), (*model.Packet)(nil)
	for _, other := range q.mem.near.peers {
		if f := other.first; other.far.Addr() == addr && f != nil && f.Outcome == model.Delivered && f.Time.Before(p.first.Time) {
			if h := lastHop(f, func(h *model.Hop) bool { return h.Netns != 0 }); h != nil && h.Netns == self {
				before = f
			}
		}
	}
	if before == nil {
		return nil
	}
	by := q.wayOut()
	c := &claim{summary: fmt.Sprintf("%s is no longer an address of this node: packets to it were delivered here before, and now they leave by %s", addr, by)}
	if h := lastHop(q.p, func(h *model.Hop) bool { return h.Stage == model.StageReceive && h.Interface == by && h.Netns == self }); h != nil {
		c.summary += ", the interface that they came in by"
	}
	c.evidence = []string{fmt.Sprintf("packet #%d: %s to %s was delivered at this node at %s", before.ID, before.Proto, addr, clock(before.Time)),
		fmt.Sprintf("ip route show table local: none to %s", addr), fmt.Sprintf("no interface of this node has %s", addr)}
	c.missing = []string{"who took it away, and whether another node is to have it now"}
	c.fix = []string{fmt.Sprintf("if this node is to have it: ip route add local %s dev %s table local, or ip addr add, as it was", addr, by),
		"find what takes it away: ip monitor route address; systemd-networkd deletes others' routes at its start (ManageForeignRoutes=no in networkd.conf ends that); a floating address moves with its agent (keepalived, kube-vip, MetalLB, a cloud's guest agent)"}
	return c
}

// linkLocalAway: no router passes link-local addresses on (RFC 3927, 7), so one that
// packets leave for by a gateway is nobody's.
func linkLocalAway(q *inquiry, p *peer) *claim {
	self, addr := q.state.Node(), p.far.Addr()
	r, ok := q.routeTo(self, addr)
	if !addr.Is4() || !addr.IsLinkLocalUnicast() || metadata.Contains(addr) || !ok || !r.Gateway.IsValid() {
		return nil
	}
	if _, held := q.podOf(addr); held {
		return nil
	}
	return &claim{summary: fmt.Sprintf("no interface of this node has %s, and packets to it leave by %s for a gateway: a link-local address is to be the node's own, no router passes it on", addr, q.wayOut()),
		evidence: []string{fmt.Sprintf("no interface of this node has %s", addr)},
		missing:  []string{"what is to have it: NodeLocal DNSCache takes 169.254.20.10 if it is not told otherwise"},
		fix: []string{"see that what keeps the address runs on this node: kubectl -n kube-system get pod -l k8s-app=node-local-dns -o wide, and its log; ip addr show nodelocaldns",
			"if nothing is to have it any more: have the pods ask another address (kubelet's clusterDNS)"}}
}
