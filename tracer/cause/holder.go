// SPDX-License-Identifier: Apache-2.0

package cause

// Why nobody answers for an address, one look further: the pod that is to have it does
// not, or may not use it; the bridge lacks it; a rule drops the questions.

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// unheard is a look-up that failed, with what the claim about it begins with.
type unheard struct {
	claim *claim
	at    *model.Hop // where it was asked
	addr  netip.Addr
}

// unheldNeighbor: nobody answers, and who should cannot.
func unheldNeighbor(q *inquiry) *claim {
	c := neighborFailed(q)
	if c == nil {
		return nil
	}
	u := &unheard{claim: c, at: q.lastSpot()}
	u.addr = q.nextHop(u.at).addr
	told := c.evidence
	c.evidence = slices.DeleteFunc(slices.Clone(told), func(line string) bool {
		return !strings.HasPrefix(line, "the kernel freed it") && !strings.HasPrefix(line, "ip neigh: ")
	})
	for _, look := range []func(*inquiry, *unheard) bool{unusable, fromOutside, widerRoute, lostByPod, bareBridge, solicitationDropped, arpDropped} {
		if look(q, u) {
			c.certain = false // how the node stands now is not what the kernel said
			c.missing = append(c.missing, "that it was so when it was asked: it was read right after that")
			c.fix = append(c.fix, fmt.Sprintf("after mending it: ip neigh flush dev %s to %s", u.at.Interface, u.addr))
			return c
		}
	}
	if !u.addr.Is6() {
		return nil
	}
	c.evidence = told
	for i, fix := range c.fix {
		if strings.HasPrefix(fix, "see who answers: arping") { // IPv6 has no ARP
			c.fix[i] = fmt.Sprintf("see who is asked, and who answers: tcpdump -ni %s icmp6", u.at.Interface)
		}
	}
	return c
}

// unusable: an interface has the IPv6 address, but it is tentative: nothing is answered
// for it (ndisc_recv_ns, net/ipv6/ndisc.c). It stays so where another was found to have
// it (dadfailed).
func unusable(q *inquiry, u *unheard) bool {
	if !u.addr.Is6() {
		return false
	}
	for _, netns := range append(q.state.Members(), q.state.Node()) {
		l := q.findLink(netns, func(l *node.Link) bool { return slices.Contains(l.Tentative, u.addr) })
		if l == nil {
			continue
		}
		where, c := q.stationWords(station{netns: netns, link: l}), u.claim
		if slices.Contains(l.Duplicate, u.addr) {
			c.summary = fmt.Sprintf("%s has %s, but does not use it (dadfailed): when it asked whether another has it, somebody seemed to; so nobody answers for it", where, u.addr)
			c.evidence = append(c.evidence, fmt.Sprintf("ip addr: %s has %s, dadfailed tentative", where, u.addr))
			c.fix = []string{"find who has the address too; where nobody has, the pod heard its own question: bridge ports in hairpin mode send it back (bridge -d link show), to a kernel or pod without enhanced_dad",
				fmt.Sprintf("then, in its namespace: ip -6 addr del %s/64 dev %s, and add it again; nodad where nobody else can have it", u.addr, l.Name)}
			q.tellHairpin(c, l)
		} else {
			c.summary = fmt.Sprintf("%s has %s, but does not use it yet (tentative): it is still asking whether another has it", where, u.addr)
			c.evidence = append(c.evidence, fmt.Sprintf("ip addr: %s has %s, tentative", where, u.addr))
			c.fix = []string{"if it stays so: see whether the interface has a carrier, and its accept_dad and dad_transmits"}
		}
		return true
	}
	return false
}

// tellHairpin notes that the pod's bridge port sends its own frames back.
func (q *inquiry) tellHairpin(c *claim, pod *node.Link) {
	ports, err := q.state.BridgePorts(q.state.Node())
	q.gap(err)
	for _, p := range ports {
		if host := q.link(q.state.Node(), p.LinkIndex); host != nil && p.LinkIndex == pod.PeerIndex && pod.Paired() && p.Hairpin {
			c.evidence = append(c.evidence, fmt.Sprintf("bridge -d link: %s hairpin on", host.Name))
		}
	}
}

// lostByPod: the node sends to the pod behind an interface, which has no such address.
func lostByPod(q *inquiry, u *unheard) bool {
	self := q.state.Node()
	host := q.link(u.at.Netns, int(u.at.IfIndex))
	if u.at.Netns != self || host == nil || host.PeerNetns == 0 || host.PeerNetns == self || host.Kind != "veth" || !q.isMember(host.PeerNetns) {
		return false
	}
	pod := q.link(host.PeerNetns, host.PeerIndex)
	if pod == nil || q.holds(host.PeerNetns, u.addr) {
		return false
	}
	if owner, ok := q.podOf(u.addr); ok && owner != host.PeerNetns {
		return false // it was sent the wrong way: the routes tell why
	}
	c := u.claim
	c.summary = fmt.Sprintf("the pod behind %s has no address %s, though this node sends there what is for it: so nobody answers", host.Name, u.addr)
	c.evidence = append(c.evidence, fmt.Sprintf("ip addr: %s has no %s", q.stationWords(station{netns: host.PeerNetns, link: pod}), u.addr))
	c.fix = []string{"see which pod it is, and which address it is to have: kubectl get pod -A -o wide | grep -w " + u.addr.String()}
	if u.addr.Is6() {
		for _, scope := range []string{pod.Name, "all"} {
			if off, ok := q.sysctl(host.PeerNetns, "ipv6/conf/"+scope+"/disable_ipv6"); ok && off != 0 {
				c.summary = fmt.Sprintf("IPv6 is switched off in the pod behind %s, which has no IPv6 address therefore: nobody answers for %s", host.Name, u.addr)
				c.evidence = append(c.evidence, fmt.Sprintf("in the pod: net.ipv6.conf.%s.disable_ipv6 = %d", scope, off))
				c.fix = []string{fmt.Sprintf("in the pod: sysctl -w net.ipv6.conf.%s.disable_ipv6=0, and give it its address and routes back, which that does not do: make the pod again", sysctlName(pod.Name)),
					"see who switches it off: the container runtime's own network (Docker without IPv6), a sysctl of the pod's securityContext, the plugin's configuration"}
				return true
			}
		}
	}
	return true
}

// bareBridge: a pod asks for its gateway, and the bridge that its port is on has not
// got the address, nor has anybody else.
func bareBridge(q *inquiry, u *unheard) bool {
	self := q.state.Node()
	mine := q.link(u.at.Netns, int(u.at.IfIndex))
	if u.at.Netns == self || mine == nil || u.addr == endsAt(q.p).Dst {
		return false
	}
	host := q.pairEnd(mine)
	if host == nil || host.Master == 0 || q.holds(self, u.addr) || u.addr.IsLinkLocalUnicast() {
		return false
	}
	bridge := q.link(self, host.Master)
	if _, held := q.podOf(u.addr); held || bridge == nil || bridge.Kind != "bridge" {
		return false
	}
	family, has := "IPv4", []string(nil)
	if u.addr.Is6() {
		family = "IPv6"
	}
	for _, p := range bridge.Addrs {
		if p.Addr().Is6() == u.addr.Is6() && !p.Addr().IsLinkLocalUnicast() {
			has = append(has, p.String())
		}
	}
	c := u.claim
	if len(has) == 0 {
		c.summary = fmt.Sprintf("the bridge %s has no %s address, so nobody has %s, the pods' gateway", bridge.Name, family, u.addr)
		c.evidence = append(c.evidence, fmt.Sprintf("ip addr: %s has no %s address", bridge.Name, family))
	} else {
		c.summary = fmt.Sprintf("the bridge %s has %s, not %s, which the pod takes for its gateway", bridge.Name, strings.Join(has, ", "), u.addr)
		c.evidence = append(c.evidence, fmt.Sprintf("ip addr: %s has %s", bridge.Name, strings.Join(has, ", ")))
	}
	c.evidence = append(c.evidence, fmt.Sprintf("no interface of this node has %s", u.addr))
	q.changedBy(c, func(e *model.NodeEvent) bool {
		return e.What == model.AddressDeleted && e.Netns == self && e.Prefix.IsValid() && e.Prefix.Addr() == u.addr
	})
	width := u.addr.BitLen()
	for _, p := range mine.Addrs {
		if p.Contains(u.addr) {
			width = p.Bits()
		}
	}
	c.fix = []string{fmt.Sprintf("give it back: ip addr add %s/%d dev %s", u.addr, width, bridge.Name),
		"or have the CNI plugin do so: it sets the address when it next adds a pod (bridge plugin, isGateway); see what took it away (NetworkManager, networkd, a second plugin on one bridge)"}
	return true
}
