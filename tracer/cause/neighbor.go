// SPDX-License-Identifier: Apache-2.0

package cause

// The cause neighbor-failed: an address that nobody answers for.

import (
	"fmt"
	"net/netip"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// neighborFailed: nobody answered for the next hop's link-layer address. The
// kernel asks for three seconds, and drops what waited (neigh_invalidate:
// NEIGH_FAILED; net/core/neighbour.c, 6.12), or what was too much to wait
// (NEIGH_QUEUEFULL).
func neighborFailed(q *inquiry) *claim {
	told := q.because("NEIGH_FAILED", "NEIGH_QUEUEFULL", "NEIGH_DEAD", "NEIGH_CREATEFAIL") ||
		q.p.Outcome.Died() && q.in("neigh_*", "__neigh_*", "arp_error_report*", "ndisc_error_report*")
	if !told && q.p.Outcome != model.Unknown {
		return nil
	}
	last := q.lastSpot()
	if last == nil {
		return nil
	}
	hop := q.nextHop(last)
	entry, known := q.neighbor(last.Netns, int(last.IfIndex), hop)
	failing := known && entry.State&unanswered != 0
	if !told && !failing {
		return nil
	}
	c := &claim{subject: last.Interface + " " + hop.String(), certain: told, summary: fmt.Sprintf("nobody answers for %s on %s, so the packet cannot be sent", hopWords(hop, endsAt(q.p).Dst), at(last.Place, last.Interface))}
	if told {
		c.evidence = append(c.evidence, q.died())
	} else {
		c.missing = []string{"the packet's end: it was still waiting for an answer when the trace ended"}
	}
	if known {
		c.evidence = append(c.evidence, fmt.Sprintf("ip neigh: %s dev %s %s", hop, last.Interface, stateWords(entry.State)))
	}
	q.whoShouldAnswer(c, last, hop)
	return c
}

// nextHop is the address that is asked for: the gateway of the route, or the
// destination.
func (q *inquiry) nextHop(at *model.Hop) netip.Addr {
	h := lastHop(q.p, func(h *model.Hop) bool { return h.Neighbor != nil && h.Netns == at.Netns })
	if h != nil {
		if a, err := netip.ParseAddr(h.Neighbor.Address); err == nil {
			return a
		}
	}
	if gw, err := netip.ParseAddr(q.route().Gateway); err == nil {
		return gw
	}
	dst := endsAt(q.p).Dst
	if r, ok := q.routeTo(at.Netns, dst); ok && r.Gateway.IsValid() {
		return r.Gateway
	}
	return dst
}

func hopWords(hop, dst netip.Addr) string {
	if hop == dst {
		return hop.String()
	}
	return fmt.Sprintf("the gateway %s (on the way to %s)", hop, dst)
}

// calicoGateway is the gateway of every pod of Calico's; no interface has it: the
// node answers for it by proxy ARP on the pod's interface.
var calicoGateway = netip.MustParseAddr("169.254.1.1")

// whoShouldAnswer adds what is known of the one who does not answer.
func (q *inquiry) whoShouldAnswer(c *claim, at *model.Hop, hop netip.Addr) {
	host := q.hostLink(at.Netns)
	switch {
	case hop == calicoGateway && host != nil:
		proxy, ok := q.sysctl(q.state.Node(), "ipv4/conf/"+host.Name+"/proxy_arp")
		if ok {
			c.evidence = append(c.evidence, fmt.Sprintf("the node answers for it by proxy ARP: net.ipv4.conf.%s.proxy_arp = %d", host.Name, proxy))
		}
		q.changedBy(c, sysctlSet(q.state.Node(), "ipv4/conf/"+host.Name+"/proxy_arp"))
		if ok && proxy == 0 {
			c.summary = fmt.Sprintf("proxy_arp is off on %s, so the node does not answer for the pod's gateway %s", host.Name, hop)
			c.fix = append(c.fix, fmt.Sprintf("sysctl -w net.ipv4.conf.%s.proxy_arp=1", sysctlName(host.Name)),
				"see why Felix did not set it, or who took it back: delete the calico-node pod of this node to have it set again")
		}
	default:
		if pod, ok := q.podOf(hop); ok {
			c.evidence = append(c.evidence, "a pod of this node has "+hop.String())
			q.silentPod(c, pod, hop)
		} else {
			c.evidence = append(c.evidence, "no pod of this node has "+hop.String())
		}
	}
	c.fix = append(c.fix, fmt.Sprintf("see who answers: arping -I %s %s; tcpdump -ni %s arp or icmp6", at.Interface, hop, at.Interface),
		fmt.Sprintf("after mending it: ip neigh flush dev %s to %s", at.Interface, hop))
}

// silentPod looks into a pod that does not answer ARP.
func (q *inquiry) silentPod(c *claim, pod uint32, addr netip.Addr) {
	l := q.findLink(pod, func(l *node.Link) bool {
		for _, p := range l.Addrs {
			if p.Addr() == addr {
				return true
			}
		}
		return false
	})
	if l == nil {
		return
	}
	c.evidence = append(c.evidence, "in the pod: "+linkWords(l))
	if ignore, ok := q.sysctl(pod, "ipv4/conf/"+l.Name+"/arp_ignore"); ok && ignore != 0 && addr.Is4() {
		c.evidence = append(c.evidence, fmt.Sprintf("in the pod net.ipv4.conf.%s.arp_ignore = %d: it does not answer every request (8: none)", l.Name, ignore))
		c.fix = append(c.fix, fmt.Sprintf("in the pod: sysctl -w net.ipv4.conf.%s.arp_ignore=0", l.Name))
	}
}
