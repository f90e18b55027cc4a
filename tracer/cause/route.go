// SPDX-License-Identifier: Apache-2.0

package cause

// Causes of the routing decision: forwarding switched off, a source that may not
// be, no way, a way that eats packets, too many hops.

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
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

// reversePath: the kernel's own source check. fib_validate_source gives EXDEV,
// since 6.18 the reason itself (net/ipv4/fib_frontend.c).
func reversePath(q *inquiry) *claim {
	martian := q.because("IP_LOCAL_SOURCE", "IP_INVALID_SOURCE")
	failed := q.because("IP_RPFILTER") || q.route().Error == "EXDEV" || strings.Contains(q.result("route"), "RPFILTER")
	if !martian && !failed {
		return nil
	}
	c := &claim{certain: true, evidence: []string{q.died()}}
	src, iface := endsAt(q.p).Src, q.d.Interface
	if martian {
		c.summary = fmt.Sprintf("%s refuses %s as a source (martian source): it is an address of its own, or none that may be a source", q.place(), src)
		c.fix = []string{"find out who sends with this source: it is another host with the same address, or a packet that came back"}
		return c
	}
	c.summary = fmt.Sprintf("the reverse path filter of %s drops packets from %s that come in by %s: the way back to %s does not lead there", q.place(), src, iface, src)
	own, okOwn := q.sysctl(q.d.Netns, "ipv4/conf/"+iface+"/rp_filter")
	all, okAll := q.sysctl(q.d.Netns, "ipv4/conf/all/rp_filter")
	if okOwn && okAll {
		c.evidence = append(c.evidence, fmt.Sprintf("net.ipv4.conf.%s.rp_filter = %d, all = %d: the greater counts, 1 is strict", iface, own, all))
	}
	if r, ok := q.routeTo(q.d.Netns, src); ok {
		c.evidence = append(c.evidence, "the way back: "+q.routeWords(q.d.Netns, r))
	} else {
		c.evidence = append(c.evidence, "there is no route back to "+src.String())
	}
	q.changedBy(c, sysctlSet(q.d.Netns, "ipv4/conf/all/rp_filter", "ipv4/conf/"+iface+"/rp_filter"))
	q.tellLostRoute(c, src)
	c.fix = []string{
		fmt.Sprintf("mend the route: ip route get %s should name %s", src, iface),
		fmt.Sprintf("if both ways are meant to differ, accept a source that is reachable by any interface: sysctl -w net.ipv4.conf.%s.rp_filter=2", sysctlName(iface)),
	}
	return c
}

// blackhole: a route that is there to refuse. Blackholes give EINVAL and no
// answer, unreachable routes EHOSTUNREACH, prohibit EACCES (fib_props,
// net/ipv4/fib_semantics.c, 6.12).
func blackhole(q *inquiry) *claim {
	dst, seen := endsAt(q.p).Dst, q.route()
	if !q.p.Outcome.Died() || q.d.Hook != "" || !q.maybeIn("ip_error*", "ip6_pkt_*", "dst_discard*", "ip6_blackhole*") {
		return nil
	}
	r, ok := q.routeTo(q.d.Netns, dst)
	refuses := ok && (r.Type == unix.RTN_BLACKHOLE || r.Type == unix.RTN_UNREACHABLE || r.Type == unix.RTN_PROHIBIT)
	told := seen.Type == "blackhole" || seen.Type == "prohibit" || seen.Error == "EINVAL" || seen.Error == "EACCES"
	if !told && !refuses {
		return nil
	}
	c := &claim{certain: told, evidence: []string{q.died()}}
	if told {
		c.evidence = append(c.evidence, "the route look-up gave "+orType(seen.Type, seen.Error))
	} else {
		c.missing = []string{"the kernel did not show which route it found"}
	}
	if !refuses {
		c.summary = fmt.Sprintf("a blackhole route of %s eats packets to %s", q.place(), dst)
		c.evidence = append(c.evidence, "by now the route to it is another: "+q.wayNow(dst))
		q.tellLostRoute(c, dst)
		c.fix = []string{"see what changes routes: ip monitor route"}
		return c
	}
	words := q.routeWords(q.d.Netns, r)
	c.summary = fmt.Sprintf("%s has no route of its own to %s, so that %q eats the packet", q.place(), dst, words)
	c.evidence = append(c.evidence, "the longest route to it: "+words)
	q.tellLostRoute(c, dst)
	if r.Protocol == protoFelix || r.Protocol == protoBIRD {
		c.evidence = append(c.evidence, fmt.Sprintf("the route is Calico's (protocol %d): the blackhole for a block of its own, in which each pod has a route", r.Protocol))
		c.fix = []string{
			"see that the pod has this address: kubectl get pod -A -o wide | grep -w " + dst.String(),
			"see why its route is missing: kubectl -n calico-system logs ds/calico-node | grep " + dst.String() + " (kube-system in older installations)",
			"have Felix write its routes again: delete the calico-node pod of this node",
		}
		return c
	}
	c.fix = []string{"see who wants that route: ip route show " + r.Dst.String(), "ip route del " + words}
	return c
}

// Route protocols of Calico: Felix' own (DeviceRouteProtocol's default) and BIRD
// (RTPROT_BIRD, linux/rtnetlink.h).
const (
	protoFelix = 80
	protoBIRD  = 12
)

func orType(kind, err string) string {
	if kind == "" {
		return err
	}
	if err == "" {
		return kind
	}
	return kind + " (" + err + ")"
}

// wayNow is the route to an address as it is now.
func (q *inquiry) wayNow(dst interface{ String() string }) string {
	r, ok := q.routeTo(q.d.Netns, endsAt(q.p).Dst)
	if !ok {
		return "none to " + dst.String()
	}
	return q.routeWords(q.d.Netns, r)
}

// noRoute: the routing tables hold no way to the destination.
func noRoute(q *inquiry) *claim {
	told := q.route().Error == "ENETUNREACH"
	if !told && !(q.because("IP_INNOROUTES", "IP_OUTNOROUTES", "IPV6_INNOROUTES") && q.maybeIn("ip_error*", "ip6_pkt_*", "ip6_rt_*")) {
		return nil
	}
	dst := endsAt(q.p).Dst
	c := &claim{certain: true, evidence: []string{q.died()}}
	c.summary = fmt.Sprintf("%s has no route to %s", q.place(), dst)
	if told {
		c.evidence = append(c.evidence, "the route look-up gave ENETUNREACH")
	}
	q.tellLostRoute(c, dst)
	if r, ok := q.routeTo(q.d.Netns, dst); ok {
		c.summary = strings.Replace(c.summary, " has no route to "+dst.String(), fmt.Sprintf(" had no route to %s when the packet came", dst), 1)
		c.evidence = append(c.evidence, "by now there is one: "+q.routeWords(q.d.Netns, r)+": something takes routes away and puts them back")
		c.fix = []string{"watch it happen: ip monitor route"}
		return c
	}
	c.evidence = append(c.evidence, fmt.Sprintf("neither a route to %s nor a default route is in the tables main and local", dst))
	c.fix = []string{
		"ip route get " + dst.String() + "   # says the same",
		"see that what keeps the pod network's routes runs and is well: calico-node (felix, bird) or flanneld on this node",
		"if the default route is gone: ask whatever manages the uplink (DHCP, NetworkManager, networkd) to set it up again",
	}
	return c
}

// tellLostRoute says who took the route to an address away, if that was while it
// was traced.
func (q *inquiry) tellLostRoute(c *claim, to netip.Addr) {
	e := q.mem.history.lostRoute(q.d.Netns, to, diedAt(q.p))
	if e == nil {
		return
	}
	c.evidence = append(c.evidence, clocked(e))
	if e.What == model.RouteDeleted && e.By != nil {
		c.summary += fmt.Sprintf("; %s (pid %d) deleted the route %s at %s", e.By.Comm, e.By.PID, e.Object, clock(e.Time))
	}
}

// hopLimit: forwarded once too often (ip_forward, ip6_forward: IP_INHDR and an
// ICMP error, which may be held back by its rate limit).
func hopLimit(q *inquiry) *claim {
	answered := strings.Contains(lastAnswer(q.p), "time-exceeded") || strings.Contains(lastAnswer(q.p), "ttl")
	forwarding := q.maybeIn("ip_forward*", "ip6_forward*")
	if !answered && !(forwarding && (q.because("IP_INHDR") || q.p.TTL == 1 && q.d.Hook == "" && q.because("NOT_SPECIFIED", ""))) {
		return nil
	}
	c := &claim{certain: answered || q.because("IP_INHDR"), evidence: []string{q.died()}}
	c.evidence = append(c.evidence, fmt.Sprintf("its TTL was %d when it was first seen", q.p.TTL))
	if answered {
		c.evidence = append(c.evidence, "the sender was told: "+lastAnswer(q.p))
	}
	dst := endsAt(q.p).Dst
	if around := q.sameInterface(); around != "" {
		c.summary = fmt.Sprintf("packets to %s go in circles until their TTL is used up: they came in by %s again after they had left by it", dst, around)
		c.fix = []string{"trace the way on each node it visits: ip route get " + dst.String(), "mend the route that leads back: two nodes each hold the other for the one that has " + dst.String()}
		return c
	}
	c.summary = fmt.Sprintf("the TTL of packets to %s is used up at %s", dst, q.place())
	c.fix = []string{
		"if the sender sets a low TTL (traceroute does): that is how it is meant",
		"else the packet may be going in circles between nodes: ip route get " + dst.String() + " on each of them",
	}
	return c
}

// sameInterface tells the interface by which the packet left and came back.
func (q *inquiry) sameInterface() string {
	left := map[string]bool{}
	for i := range q.p.Hops {
		h := &q.p.Hops[i]
		switch {
		case h.Place != "node":
		case h.Stage == "transmit":
			left[h.Interface] = true
		case h.Stage == "receive" && left[h.Interface]:
			return h.Interface
		}
	}
	return ""
}
