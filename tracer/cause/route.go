// SPDX-License-Identifier: Apache-2.0

package cause

// Causes of forwarding: it is switched off, or the packet was passed on once too
// often.

import (
	"fmt"
	"strings"
)

// forwardOff: the interface that the packet came in by does not forward. Then
// ip_route_input_slow gives EHOSTUNREACH, and ip_error frees with IP_INADDRERRORS
// what it would have answered otherwise (net/ipv4/route.c, 6.12). IPv6 asks for
// all interfaces in ip6_forward, which gives no reason.
func forwardOff(q *inquiry) *claim {
	if !q.p.Outcome.Died() {
		return nil
	}
	if q.ipv6() {
		return forwardOff6(q)
	}
	if !q.maybeIn("ip_error*") || !q.because("IP_INADDRERRORS") && q.route().Error != "EHOSTUNREACH" {
		return nil
	}
	all, okAll := q.sysctl(q.d.Netns, "ipv4/ip_forward")
	own, okOwn := q.sysctl(q.d.Netns, "ipv4/conf/"+q.d.Interface+"/forwarding")
	told := q.because("IP_INADDRERRORS")
	if !told && (!okOwn || own != 0) {
		return nil // an unreachable route gives the same error
	}
	c := &claim{certain: true, evidence: []string{q.died()}}
	switch {
	case okAll && all == 0:
		c.summary = fmt.Sprintf("IPv4 forwarding is off on %s (net.ipv4.ip_forward = 0), so it does not pass on packets that are for others", q.place())
		c.evidence = append(c.evidence, "net.ipv4.ip_forward = 0")
		c.fix = []string{"sysctl -w net.ipv4.ip_forward=1", "make it last: a line net.ipv4.ip_forward = 1 in /etc/sysctl.d/, and see what else there sets it to 0"}
	case okOwn && own == 0:
		c.summary = fmt.Sprintf("IPv4 forwarding is off for packets that come in by %s of %s", q.d.Interface, q.place())
		c.evidence = append(c.evidence, fmt.Sprintf("net.ipv4.conf.%s.forwarding = 0, while net.ipv4.ip_forward = %d", q.d.Interface, all))
		c.fix = []string{fmt.Sprintf("sysctl -w net.ipv4.conf.%s.forwarding=1", sysctlName(q.d.Interface))}
	default:
		c.summary = fmt.Sprintf("IPv4 forwarding was off for packets that come in by %s of %s", q.d.Interface, q.place())
		c.evidence = append(c.evidence, fmt.Sprintf("by now net.ipv4.ip_forward = %d and net.ipv4.conf.%s.forwarding = %d: something switches it", all, q.d.Interface, own))
		c.fix = []string{"find what switches forwarding off: sysctl --system, /etc/sysctl.d, network scripts, container tools"}
	}
	q.changedBy(c, sysctlSet(q.d.Netns, "ipv4/ip_forward", "ipv4/conf/all/forwarding", "ipv4/conf/"+q.d.Interface+"/forwarding"))
	return c
}

func forwardOff6(q *inquiry) *claim {
	if !q.maybeIn("ip6_forward*") || q.d.Hook != "" || !q.because("NOT_SPECIFIED", "") {
		return nil
	}
	if all, ok := q.sysctl(q.d.Netns, "ipv6/conf/all/forwarding"); !ok || all != 0 {
		return nil
	}
	c := &claim{
		summary:  fmt.Sprintf("IPv6 forwarding is off on %s (net.ipv6.conf.all.forwarding = 0), so it does not pass on packets that are for others", q.place()),
		evidence: []string{q.died(), "net.ipv6.conf.all.forwarding = 0"},
		missing:  []string{"the kernel gives no reason of its own here"},
		fix:      []string{"sysctl -w net.ipv6.conf.all.forwarding=1", "make it last: a line net.ipv6.conf.all.forwarding = 1 in /etc/sysctl.d/"},
	}
	q.changedBy(c, sysctlSet(q.d.Netns, "ipv6/conf/all/forwarding"))
	return c
}

// sysctlName is an interface as sysctl(8) takes it: a dot is a separator there.
func sysctlName(iface string) string { return strings.ReplaceAll(iface, ".", "/") }

// place names where the packet ended.
func (q *inquiry) place() string {
	if q.d.Place == "" {
		return "the node"
	}
	if q.d.Place == "node" {
		return "this node"
	}
	return q.d.Place
}

// hopLimit: forwarded once too often, and it is not known to have come back.
func hopLimit(q *inquiry) *claim {
	if !q.usedUp() {
		return nil
	}
	answered := lastAnswer(q.p)
	c := &claim{certain: answered != "" || q.because("IP_INHDR"), evidence: []string{q.died()}}
	c.evidence = append(c.evidence, fmt.Sprintf("its TTL was %d when it was first seen", q.p.TTL))
	if answered != "" {
		c.evidence = append(c.evidence, "the sender was told: "+answered)
	}
	dst := endsAt(q.p).Dst
	c.summary = fmt.Sprintf("the TTL of packets to %s is used up at %s", dst, q.place())
	c.fix = []string{
		"if the sender sets a low TTL (traceroute does): that is how it is meant",
		"else the packet may be going in circles between nodes: ip route get " + dst.String() + " on each of them",
	}
	return c
}
