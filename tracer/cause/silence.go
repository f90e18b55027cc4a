// SPDX-License-Identifier: Apache-2.0

package cause

// The cause not-sent: silence is looked into as well, on the sender's side.

import (
	"fmt"
	"net/netip"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// notSent: no packet of the flow was seen. What can be looked at is, and told.
func notSent(c *Collector) []*found {
	if c.mem.packets[model.Forward]+c.mem.packets[model.Return] > 0 || c.start.Type == "" || c.unopened.told {
		return nil
	}
	q := &inquiry{p: &model.Packet{}, d: &model.Drop{}, state: c.state, start: &c.start, mem: &c.mem}
	claim := &claim{direction: model.Forward, summary: "no packet of the flow was seen: nothing was sent while it was traced, or it takes another way than this node"}
	src := c.start.Src
	if src.Netns == 0 || src.Netns == q.state.Node() {
		claim.evidence = append(claim.evidence, fmt.Sprintf("the source %s is no pod of this node, so its own side could not be looked at", src.Given))
		if !q.ownSilence(claim) {
			claim.fix = []string{"trace on the node that has the source, while it sends"}
			q.keptOut(claim)
		}
		q.ownToService(claim)
	} else {
		q.senderSide(claim, src.Netns)
	}
	c.ipsecSilence(claim, src)
	claim.missing = append(append(claim.missing, q.gaps...), unwatched(&c.start)...)
	claim.fix = append(claim.fix, "send while it traces: append -- COMMAND, or use --probe", "see what the source sends instead: --dst any")
	return []*found{{claim: claim}}
}

// ownToService: what the node itself sends to a service whose address kube-ipvs0 has has
// that very address as source, unless the program chose another: the kernel takes the one
// that the local route names. It is none of the node's for whoever asks for those.
func (q *inquiry) ownToService(c *claim) {
	self := q.state.Node()
	if q.start.Src.Netns != self || len(q.start.Dst.Addresses) == 0 {
		return
	}
	dst := q.start.Dst.Addresses[0].Addr()
	if l := q.holderOf(self, dst); l == nil || l.Name != parking {
		return
	}
	c.evidence = append(c.evidence, fmt.Sprintf("ip addr: %s has %s", parking, dst))
	c.fix = []string{fmt.Sprintf("what this node itself sends to %s mostly has that very address as source, which is not counted as this node's: pathtrace --src any --dst %s", dst, dst)}
}

// senderSide looks at the pod's own interface, route and neighbour.
func (q *inquiry) senderSide(c *claim, pod uint32) {
	l := q.findLink(pod, func(l *node.Link) bool { return !l.Loopback && len(l.Addrs) > 0 })
	if l == nil {
		c.summary = "no packet of the flow was seen: the source pod has no interface with an address"
		return
	}
	c.evidence = append(c.evidence, "in the source pod: "+linkWords(l))
	host := q.hostLink(pod)
	if host != nil {
		c.evidence = append(c.evidence, "its other end on the node: "+linkWords(host))
	}
	switch {
	case !l.Up:
		c.summary = fmt.Sprintf("no packet of the flow was seen: %s of the source pod is set down", l.Name)
		c.fix = append(c.fix, "in the pod: ip link set "+l.Name+" up, and its routes again, which went with it: or make the pod again")
		q.whoSetDown(c, pod, l)
		return
	case host != nil && !host.Up:
		c.summary = fmt.Sprintf("no packet of the flow was seen: %s, the node's end of the source pod's interface, is set down", host.Name)
		c.fix = append(c.fix, "ip link set "+host.Name+" up")
		q.whoSetDown(c, q.state.Node(), host)
		return
	}
	if q.lostSource(c, l) || len(q.start.Dst.Addresses) == 0 {
		return
	}
	dst := q.start.Dst.Addresses[0].Addr()
	r, ok := q.routeTo(pod, dst)
	if !ok {
		c.summary = fmt.Sprintf("no packet of the flow was seen: the source pod has no route to %s, so it cannot send", dst)
		c.fix = append(c.fix, "see its routes: ip route in the pod; the CNI plugin should have set a default route: make the pod again")
		return
	}
	c.evidence = append(c.evidence, "its way to "+dst.String()+": "+q.wayFor(pod, dst).words())
	if q.sendsElsewhere(c, pod, q.link(pod, r.LinkIndex), dst) {
		return
	}
	q.callsRefused(c, pod)
	if q.noLocalPort(c, pod) {
		return
	}
	hop, one := q.hopTo(pod, dst)
	if n, ok := q.neighbor(pod, r.LinkIndex, hop); ok && one {
		c.evidence = append(c.evidence, fmt.Sprintf("its neighbour %s is %s", hop, stateWords(n.State)))
		if n.State&unanswered != 0 {
			c.summary = fmt.Sprintf("no packet of the flow was seen: nobody answers the source pod's ARP for %s", hop)
		}
	}
}

// sendsElsewhere: the pod's way leads by another interface than that by which it hangs on
// the node (one of Multus, say), so that what it sends meets none of the node's rules.
func (q *inquiry) sendsElsewhere(c *claim, pod uint32, out *node.Link, dst netip.Addr) bool {
	self := q.state.Node()
	own := q.findLink(pod, func(l *node.Link) bool { return l.Kind == "veth" && l.PeerNetns == self })
	if own == nil || out == nil || out.Loopback || out.Index == own.Index || out.Kind == "veth" && out.PeerNetns == self || !standsAlone(out) {
		return false
	}
	c.summary = fmt.Sprintf("no packet of the flow was seen: the source pod sends to %s by %s, not by %s, by which it hangs on this node: none of this node's rules is asked there", dst, out.Name, own.Name)
	c.evidence = append(c.evidence, "in the source pod: "+linkWords(out))
	if offers := q.offersOf(self, dst); len(offers) > 0 {
		c.summary += fmt.Sprintf(", and %s is a service's address, which only they translate", dst)
		c.evidence = append(c.evidence, offers[0].said)
	}
	c.fix = append(c.fix, fmt.Sprintf("in the pod: have its default route, or one for the services and the pods, lead by %s (k8s.v1.cni.cncf.io/networks: default-route; the second network's IPAM must give no gateway)", own.Name))
	return true
}

// standsAlone tells an interface that nothing else of its namespace carries: a VLAN, a
// bond or a tunnel may lead by the pod's own interface again.
func standsAlone(l *node.Link) bool {
	return l.Kind == "veth" || l.Kind == "" || l.Kind == "macvlan" || l.Kind == "ipvlan"
}
