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
	a := q.asking()
	if a == nil {
		return nil
	}
	c := q.unanswered(a)
	if a.hop.learned != nil || !q.tellDetour(c, a.at) { // what was learned counts before the tables
		q.whoShouldAnswer(c, a.at, a.addr)
	}
	q.tellHops(c, a.at, a.hop)
	return c
}

// asking is a look-up of a link-layer address that nobody answers.
type asking struct {
	at    *model.Hop // where it is asked
	addr  netip.Addr
	hop   nextHop // that addr is
	entry node.Neighbor
	known bool // there is an entry
	told  bool // the kernel itself said so
}

// asking finds what the packet waited for, or died of; nil: of something else.
func (q *inquiry) asking() *asking {
	a := &asking{at: q.lastSpot()}
	a.told = q.because("NEIGH_FAILED", "NEIGH_QUEUEFULL", "NEIGH_DEAD", "NEIGH_CREATEFAIL") ||
		q.p.Outcome.Died() && q.in("neigh_*", "__neigh_*", "arp_error_report*", "ndisc_error_report*")
	if !a.told && q.p.Outcome != model.Unknown || a.at == nil {
		return nil
	}
	a.hop = q.nextHop(a.at)
	a.addr = a.hop.addr
	a.entry, a.known = q.neighbor(a.at.Netns, int(a.at.IfIndex), a.addr)
	if !a.told && !(a.known && a.entry.State&unanswered != 0) {
		return nil
	}
	return a
}

// unanswered is the claim that all have in common whom nobody answers.
func (q *inquiry) unanswered(a *asking) *claim {
	c := &claim{subject: a.at.Interface + " " + a.addr.String(), certain: a.told,
		summary: fmt.Sprintf("nobody answers for %s on %s, so the packet cannot be sent", hopWords(a.addr, endsAt(q.p).Dst), at(a.at.Place, a.at.Interface))}
	if a.told {
		c.evidence = append(c.evidence, q.died())
	} else {
		c.missing = []string{"the packet's end: it was still waiting for an answer when the trace ended"}
	}
	if a.known {
		c.evidence = append(c.evidence, fmt.Sprintf("ip neigh: %s dev %s %s", a.addr, a.at.Interface, stateWords(a.entry.State)))
	}
	if a.known && resolves(a.entry) {
		c.certain = false // the kernel said that somebody was silent, not that this one was
		c.missing = append(c.missing, fmt.Sprintf("whether it was %s that did not answer: it does by now", a.addr))
	}
	return c
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
	self := q.state.Node()
	if host := q.nodeEnd(at); host != nil && hop.Is4() && !q.holds(self, hop) {
		q.silentProxy(c, host, hop)
	} else if host != nil && hop.Is6() {
		q.silentGateway6(c, host, hop)
	} else if pod, ok := q.podOf(hop); ok {
		c.evidence = append(c.evidence, "a pod of this node has "+hop.String())
		q.silentPod(c, pod, hop)
		q.parted(c, at, pod, hop)
	} else if q.holds(self, hop) && at.Netns != self {
		c.evidence = append(c.evidence, "this node has "+hop.String())
		q.silentPod(c, self, hop)
		q.parted(c, at, self, hop)
	} else {
		c.evidence = append(c.evidence, "no pod of this node has "+hop.String())
	}
	c.fix = append(c.fix, fmt.Sprintf("see who answers: arping -I %s %s; tcpdump -ni %s arp or icmp6", at.Interface, hop, at.Interface),
		fmt.Sprintf("after mending it: ip neigh flush dev %s to %s", at.Interface, hop))
}

// silentPod looks into a pod, or the node, that has an address and does not answer
// for it (arp_process, arp_ignore and arp_filter in net/ipv4/arp.c; of arp_ignore
// the greater of the interface's and all's counts, of arp_filter either).
func (q *inquiry) silentPod(c *claim, owner uint32, addr netip.Addr) {
	l := q.findLink(owner, func(l *node.Link) bool {
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
	there, where := "in the pod", "in the pod: "
	if owner == q.state.Node() {
		there, where = "on this node", ""
	}
	c.evidence = append(c.evidence, there+": "+linkWords(l))
	if addr.Is6() {
		if off, ok := q.sysctl(owner, "ipv6/conf/"+l.Name+"/disable_ipv6"); ok && off != 0 {
			c.evidence = append(c.evidence, fmt.Sprintf("%s net.ipv6.conf.%s.disable_ipv6 = %d", there, l.Name, off))
			c.fix = append(c.fix, fmt.Sprintf("%ssysctl -w net.ipv6.conf.%s.disable_ipv6=0", where, sysctlName(l.Name)))
		}
		return
	}
	for _, scope := range []string{l.Name, "all"} {
		if ignore, ok := q.sysctl(owner, "ipv4/conf/"+scope+"/arp_ignore"); ok && ignore != 0 {
			c.evidence = append(c.evidence, fmt.Sprintf("%s net.ipv4.conf.%s.arp_ignore = %d: it does not answer every request (8: none)", there, scope, ignore))
			c.fix = append(c.fix, fmt.Sprintf("%ssysctl -w net.ipv4.conf.%s.arp_ignore=0", where, sysctlName(scope)))
		}
		if filter, ok := q.sysctl(owner, "ipv4/conf/"+scope+"/arp_filter"); ok && filter != 0 {
			c.evidence = append(c.evidence, fmt.Sprintf("%s net.ipv4.conf.%s.arp_filter = %d: it answers only by the interface that its route to the one who asks leads by", there, scope, filter))
		}
	}
}
