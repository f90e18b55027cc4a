// SPDX-License-Identifier: Apache-2.0

package cause

// Why a node does not answer by proxy ARP for an address that no interface has,
// such as the gateway of Calico's pods. arp_process (net/ipv4/arp.c, 6.12) answers
// if the interface forwards, a route to the address leads by another interface and
// is an ordinary one, the asker's source passes the reverse path filter, and
// proxy_arp is on, for this interface or for all.

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// nodeEnd is the node's end of the pair by which a pod asks; nil where it is asked
// elsewhere, or the node's end is a bridge's port: then others may answer.
func (q *inquiry) nodeEnd(at *model.Hop) *node.Link {
	self := q.state.Node()
	l := q.link(at.Netns, int(at.IfIndex))
	if at.Netns == self || l == nil {
		return nil
	}
	if host := q.pairEnd(l); host != nil && host.Master == 0 {
		return host
	}
	return nil
}

// proxied is a request that only proxy ARP of the node could answer; nil: none.
func (q *inquiry) proxied() (a *asking, host *node.Link) {
	if a = q.asking(); a == nil {
		return nil, nil
	}
	if host = q.nodeEnd(a.at); host == nil || !a.addr.Is4() || q.holds(q.state.Node(), a.addr) {
		return nil, nil
	}
	return a, host
}

// proxyForwardOff: an interface that does not forward answers for nobody else.
func proxyForwardOff(q *inquiry) *claim {
	a, host := q.proxied()
	if a == nil {
		return nil
	}
	self := q.state.Node()
	own, ok := q.sysctl(self, "ipv4/conf/"+host.Name+"/forwarding")
	if !ok || own != 0 {
		return nil
	}
	c := q.unanswered(a)
	c.certain = false
	c.missing = append(c.missing, "that it was off already when it was asked: the kernel does not say why it does not answer ARP")
	c.subject = host.Name
	c.summary = fmt.Sprintf("IPv4 forwarding is off on %s of this node, and then it does not answer by proxy ARP either: nobody answers the pod for its gateway %s", host.Name, a.addr)
	c.evidence = append(c.evidence, fmt.Sprintf("net.ipv4.conf.%s.forwarding = 0", host.Name))
	if all, ok := q.sysctl(self, "ipv4/ip_forward"); ok && all == 0 {
		c.summary = fmt.Sprintf("IPv4 forwarding is off on this node (net.ipv4.ip_forward = 0), and then it does not answer by proxy ARP on %s either: nobody answers the pod for its gateway %s", host.Name, a.addr)
		c.evidence = append(c.evidence, "net.ipv4.ip_forward = 0")
		c.fix = []string{"sysctl -w net.ipv4.ip_forward=1", "make it last: a line net.ipv4.ip_forward = 1 in /etc/sysctl.d/, and see what else there sets it to 0"}
	} else {
		c.fix = []string{fmt.Sprintf("sysctl -w net.ipv4.conf.%s.forwarding=1", sysctlName(host.Name))}
	}
	q.changedBy(c, sysctlSet(self, "ipv4/ip_forward", "ipv4/conf/all/forwarding", "ipv4/conf/"+host.Name+"/forwarding"))
	c.fix = append(c.fix, flushWords(a))
	return c
}

func flushWords(a *asking) string {
	return fmt.Sprintf("after mending it: ip neigh flush dev %s to %s", a.at.Interface, a.addr)
}

// proxySource: a request from a source that the reverse path filter does not take
// is not answered: the look-up of the address asked for fails with it
// (__mkroute_input, net/ipv4/route.c). The kernel puts the packet's own source into
// the request (arp_solicit, arp_announce = 0).
func proxySource(q *inquiry) *claim {
	a, host := q.proxied()
	if a == nil || q.coverOf(host, a.addr).fault != "" {
		return nil
	}
	self, src := q.state.Node(), endsAt(q.p).Src
	own, okOwn := q.sysctl(self, "ipv4/conf/"+host.Name+"/rp_filter")
	all, okAll := q.sysctl(self, "ipv4/conf/all/rp_filter")
	if !okOwn || !okAll || max(own, all) == 0 || !q.holds(a.at.Netns, src) {
		return nil
	}
	back, ok := q.routeTo(self, src)
	if ok && (back.LinkIndex == host.Index || max(own, all) != 1 && back.Type == unix.RTN_UNICAST) {
		return nil
	}
	c := q.unanswered(a)
	c.certain = false
	c.missing = append(c.missing, "the kernel does not say why it does not answer ARP; what it would have checked is as told")
	c.subject = host.Name + src.String()
	c.summary = fmt.Sprintf("the reverse path filter of this node refuses the source %s on %s, for ARP too: so it does not answer the pod for its gateway %s", src, host.Name, a.addr)
	c.evidence = append(c.evidence, fmt.Sprintf("net.ipv4.conf.%s.rp_filter = %d, all = %d: the greater counts, 1 is strict", host.Name, own, all))
	if ok {
		c.evidence = append(c.evidence, fmt.Sprintf("the way back to %s: %s", src, q.routeWords(self, back)))
	} else {
		c.evidence = append(c.evidence, "there is no route back to "+src.String())
	}
	q.changedBy(c, sysctlSet(self, "ipv4/conf/all/rp_filter", "ipv4/conf/"+host.Name+"/rp_filter"))
	q.tellLostRoute(c, src)
	c.fix = []string{fmt.Sprintf("if the pod is meant to have %s: the route to it has to lead by %s (Calico: let IPAM give the address; cni.projectcalico.org/allowedSourcePrefixes lifts Calico's own check only)", src, host.Name),
		"else have the pod send from the address that it was given", flushWords(a)}
	return c
}

// cover is the route by which a node would reach an address that it answers for.
type cover struct {
	fault string // why it does not do; "": it does
	route string // in words, "" for none
}

// coverOf looks for the route that proxy ARP on an interface needs. One that leads
// back by the same interface does only with proxy_arp_pvlan.
func (q *inquiry) coverOf(host *node.Link, addr netip.Addr) cover {
	self := q.state.Node()
	r, ok := q.routeTo(self, addr)
	if !ok {
		return cover{fault: fmt.Sprintf("this node has no route that covers %s", addr)}
	}
	words := q.routeWords(self, r)
	if r.Type != unix.RTN_UNICAST {
		return cover{fmt.Sprintf("this node's route that covers %s is %q, which leads nowhere", addr, words), words}
	}
	if pvlan, _ := q.sysctl(self, "ipv4/conf/"+host.Name+"/proxy_arp_pvlan"); r.LinkIndex == host.Index && pvlan == 0 {
		return cover{fmt.Sprintf("this node's route that covers %s (%s) leads back by %s itself", addr, words, host.Name), words}
	}
	return cover{"", words}
}

// silentProxy says why the node does not answer for an address that no interface of
// it has.
func (q *inquiry) silentProxy(c *claim, host *node.Link, hop netip.Addr) {
	self := q.state.Node()
	path := "ipv4/conf/" + host.Name + "/proxy_arp"
	own, ok := q.sysctl(self, path)
	all, _ := q.sysctl(self, "ipv4/conf/all/proxy_arp")
	cover := q.coverOf(host, hop)
	if ok {
		c.evidence = append(c.evidence, fmt.Sprintf("no interface of this node has %s: it could only answer by proxy ARP; net.ipv4.conf.%s.proxy_arp = %d", hop, host.Name, own))
	}
	q.changedBy(c, sysctlSet(self, path))
	switch {
	case ok && own == 0 && all == 0:
		c.summary = fmt.Sprintf("proxy_arp is off on %s, so the node does not answer for the pod's gateway %s", host.Name, hop)
		c.fix = append(c.fix, fmt.Sprintf("sysctl -w net.ipv4.conf.%s.proxy_arp=1", sysctlName(host.Name)),
			"see why Felix did not set it, or who took it back: delete the calico-node pod of this node to have it set again")
	case cover.fault != "":
		c.summary = fmt.Sprintf("%s, and proxy ARP on %s answers only for what another interface leads to: so nobody answers the pod for its gateway %s", cover.fault, host.Name, hop)
		c.evidence = append(c.evidence, "ip route: "+orElse(cover.route, fmt.Sprintf("neither a route to %s nor a default route is in the tables main and local", hop)))
		q.tellLostRouteOf(c, self, hop)
		c.fix = append(c.fix, "give the node its default route back (DHCP, NetworkManager, networkd): ip route add default via GATEWAY",
			fmt.Sprintf("a node that is to have none: ip route add %s/32 dev UPLINK, any interface but %s", hop, host.Name))
	case !host.Up:
		c.evidence = append(c.evidence, "ip link: "+linkWords(host))
	default:
		c.evidence = append(c.evidence, fmt.Sprintf("what proxy ARP needs is there, forwarding and the route: %s", cover.route))
		c.missing = append(c.missing, "why it does not answer: what it needs is there by now; of rules of the arp family (nft, arptables) only the plain ones of this node were looked at")
	}
}

// silentGateway6 says why the node does not answer neighbour discovery: it needs
// IPv6 on the interface and the address, mostly a link-local one.
func (q *inquiry) silentGateway6(c *claim, host *node.Link, hop netip.Addr) {
	self := q.state.Node()
	off, ok := q.sysctl(self, "ipv6/conf/"+host.Name+"/disable_ipv6")
	mine := station{netns: self, link: host}
	switch {
	case ok && off != 0:
		c.summary = fmt.Sprintf("IPv6 is off on %s of this node, so it does not answer for the pod's gateway %s", host.Name, hop)
		c.evidence = append(c.evidence, fmt.Sprintf("net.ipv6.conf.%s.disable_ipv6 = %d", host.Name, off))
		c.fix = append(c.fix, fmt.Sprintf("sysctl -w net.ipv6.conf.%s.disable_ipv6=0", sysctlName(host.Name)))
	case hop.IsLinkLocalUnicast() && !mine.holds(hop):
		c.summary = fmt.Sprintf("%s of this node does not have %s, which the pod takes for its gateway", host.Name, hop)
		c.evidence = append(c.evidence, fmt.Sprintf("ip -6 addr: %s has no %s", host.Name, hop))
		c.fix = append(c.fix, fmt.Sprintf("ip -6 addr add %s/64 dev %s nodad; or have the CNI plugin make the pod again", hop, host.Name))
	default:
		proxy, _ := q.sysctl(self, "ipv6/conf/"+host.Name+"/proxy_ndp")
		c.evidence = append(c.evidence, fmt.Sprintf("the node's end is %s, net.ipv6.conf.%s.proxy_ndp = %d", linkWords(host), host.Name, proxy))
	}
}

// tellLostRouteOf says who took the route to an address away in a namespace, if that
// was while it was traced.
func (q *inquiry) tellLostRouteOf(c *claim, netns uint32, to netip.Addr) *model.NodeEvent {
	e := q.mem.history.lostRoute(netns, to, diedAt(q.p))
	if e != nil {
		c.evidence = append(c.evidence, clocked(e))
	}
	return e
}
