// SPDX-License-Identifier: Apache-2.0

package cause

// The cause sysctl-drop: the kernel is set to refuse such packets.

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// sysctlDrop: a reason that the kernel gives for one setting only.
func sysctlDrop(q *inquiry) *claim {
	if !q.p.Outcome.Died() || q.d.Hook != "" {
		return nil
	}
	switch {
	case q.because("IP_LOCALNET"), q.because("NOT_SPECIFIED", "") && q.in("ip_rcv_finish*") && q.loopbackAddress():
		return q.localnet()
	case q.because("NOT_SPECIFIED") && q.in("ip_rcv_finish*", "ip_rcv_options*") && !q.ipv6() && q.routed():
		return q.sourceRoute()
	case q.because("IPV6DISABLED"):
		return q.refusedBySetting([]string{"ipv6/conf/IFACE/disable_ipv6", "ipv6/conf/all/disable_ipv6"}, "1", "IPv6 is disabled on %s, so what comes or is to go there by IPv6 is dropped",
			"its IPv6 addresses and routes went when it was set, and may have to be put back", "find what sets it (sysctl.d, the CNI plugin, NetworkManager, the container runtime's sysctls)")
	case q.because("UNICAST_IN_L2_MULTICAST"):
		return q.refusedBySetting([]string{"ipv4/conf/IFACE/drop_unicast_in_l2_multicast", "ipv4/conf/all/drop_unicast_in_l2_multicast", "ipv6/conf/IFACE/drop_unicast_in_l2_multicast"}, "1",
			"%s is set to drop what comes to all or to many MAC addresses while its IP address is that of one", "see who sends it so: tcpdump -eni IFACE; a load balancer that answers with a group's MAC address does")
	}
	return nil
}

// loopbackAddress tells a packet that has a loopback address at its end.
func (q *inquiry) loopbackAddress() bool {
	e, l := endsAt(q.p), q.link(q.d.Netns, int(q.d.IfIndex))
	return (e.Dst.Is4() && e.Dst.IsLoopback() || e.Src.Is4() && e.Src.IsLoopback()) && (l == nil || !l.Loopback)
}

// localnet: an address of 127.0.0.0/8 that comes by another interface than loopback is
// taken only where route_localnet allows it (ip_route_input_slow, net/ipv4/route.c; the
// kernel tells by a reason since 6.13).
func (q *inquiry) localnet() *claim {
	e, iface := endsAt(q.p), q.d.Interface
	c := &claim{certain: q.because("IP_LOCALNET"), evidence: []string{q.died()}}
	if !c.certain {
		c.missing = append(c.missing, "the kernel gives no reason of its own here")
	}
	if !e.Dst.IsLoopback() {
		c.summary = fmt.Sprintf("%s refuses %s as a source: a loopback address came in by %s", q.place(), e.Src, iface)
		c.fix = []string{"see who sends with that source: a program that is bound to 127.0.0.1 and sends off its host, or a rule that redirects what the host sends itself"}
		return c
	}
	c.summary = fmt.Sprintf("%s refuses %s as the destination of what comes in by %s (route_localnet is 0 there): loopback addresses are for the host itself", q.place(), e.Dst, iface)
	own, okOwn := q.sysctl(q.d.Netns, "ipv4/conf/"+iface+"/route_localnet")
	all, okAll := q.sysctl(q.d.Netns, "ipv4/conf/all/route_localnet")
	if okOwn && okAll {
		c.evidence = append(c.evidence, fmt.Sprintf("net.ipv4.conf.%s.route_localnet = %d, net.ipv4.conf.all.route_localnet = %d: one of them has to be 1", iface, own, all))
		if own+all > 0 {
			c.summary = strings.Replace(c.summary, "is 0 there", "was 0 there", 1)
			c.evidence = append(c.evidence, "it is set by now")
		}
	}
	q.changedBy(c, sysctlSet(q.d.Netns, "ipv4/conf/all/route_localnet", "ipv4/conf/"+iface+"/route_localnet"))
	if h := lastHop(q.p, func(h *model.Hop) bool { return h.Before != nil && h.After != nil && h.Before.Dst != h.After.Dst }); h != nil {
		c.fix = append(c.fix, fmt.Sprintf("let the rule that translates %s to %s name an address of the node itself, and the service listen there", h.Before.Dst, h.After.Dst))
	}
	c.fix = append(c.fix, fmt.Sprintf("or allow it on that interface: sysctl -w net.ipv4.conf.%s.route_localnet=1; what listens on 127.0.0.1 can be reached from there then, so let a rule guard it (127.0.0.0/8 in INPUT of that interface)", sysctlName(iface)))
	return c
}

// sourceRoute: since what routing refuses has a reason (6.13), what ip_rcv_finish_core
// frees without one has IP options that are refused (ip_rcv_options, net/ipv4/
// ip_input.c, 6.18). Options that are in order are refused for a source route only; it
// takes both settings to accept one.
func (q *inquiry) sourceRoute() *claim {
	if multicastOrBroadcast(q) {
		return nil // nobody has joined the group, most likely
	}
	iface := q.d.Interface
	own, okOwn := q.sysctl(q.d.Netns, "ipv4/conf/"+iface+"/accept_source_route")
	all, okAll := q.sysctl(q.d.Netns, "ipv4/conf/all/accept_source_route")
	if !okOwn || !okAll || own != 0 && all != 0 {
		return nil
	}
	c := &claim{summary: fmt.Sprintf("%s refuses its IP options: a source route most likely, which is not accepted from %s (accept_source_route)", q.place(), iface)}
	c.evidence = []string{q.died(), fmt.Sprintf("net.ipv4.conf.%s.accept_source_route = %d, net.ipv4.conf.all.accept_source_route = %d: both have to be 1", iface, own, all)}
	c.missing = []string{"that it has a source route: its options were not looked at"}
	c.fix = []string{"see its options: tcpdump -vni " + iface + " 'ip[0] & 0xf > 5'", "have the sender leave the source route out: networks refuse them, since they lead around filters"}
	q.changedBy(c, sysctlSet(q.d.Netns, "ipv4/conf/all/accept_source_route", "ipv4/conf/"+iface+"/accept_source_route"))
	return c
}

// routed tells that routing did not refuse a packet that had no reason when it died: it
// would have had one, or the look-up was seen to be fine.
func (q *inquiry) routed() bool {
	return atLeast(q.start.Kernel, 6, 13) || !q.holds(q.d.Netns, endsAt(q.p).Src) &&
		lastHop(q.p, func(h *model.Hop) bool {
			return h.Stage == model.StageRoute && h.Netns == q.d.Netns && h.Route != nil && h.Route.Error == ""
		}) != nil
}

// atLeast compares a kernel's release with a version.
func atLeast(release string, major, minor int) bool {
	var a, b int
	n, _ := fmt.Sscanf(release, "%d.%d", &a, &b) // what cannot be read is too old
	return n == 2 && (a > major || a == major && b >= minor)
}

// refusedBySetting is a claim about a setting of the interface that the packet died on;
// what has a hole for its name.
func (q *inquiry) refusedBySetting(names []string, refuses, what string, fix ...string) *claim {
	iface := q.d.Interface
	c := &claim{certain: true, summary: fmt.Sprintf(what, at(q.d.Place, iface)), evidence: []string{q.died()}}
	found := false
	for _, name := range names {
		name = strings.ReplaceAll(name, "IFACE", iface)
		value, err := q.state.Sysctl(q.d.Netns, name)
		if err != nil || value != refuses {
			continue
		}
		found = true
		dotted := "net." + strings.ReplaceAll(strings.ReplaceAll(name, "/"+iface+"/", "/"+sysctlName(iface)+"/"), "/", ".")
		c.evidence = append(c.evidence, fmt.Sprintf("%s = %s", dotted, value))
		c.fix = append(c.fix, "sysctl -w "+dotted+"=0")
	}
	if !found {
		c.missing = append(c.missing, "which setting it was: none of them is set by now, so something switches it")
	}
	for i := range names {
		names[i] = strings.ReplaceAll(names[i], "IFACE", iface)
	}
	q.changedBy(c, sysctlSet(q.d.Netns, names...))
	for _, f := range fix {
		c.fix = append(c.fix, strings.ReplaceAll(f, "IFACE", iface))
	}
	return c
}

// protocolMemory is how much memory a protocol may take in all namespaces together,
// and how much it takes (sockstat_seq_show, net/ipv4/proc.c, 6.12).
func protocolMemory(q *inquiry) (says []string) {
	proto := q.p.Proto
	if limit, err := q.state.Sysctl(q.d.Netns, "ipv4/"+proto+"_mem"); err == nil {
		says = append(says, fmt.Sprintf("net.ipv4.%s_mem is %s (pages: low, pressure, limit)", proto, strings.Join(strings.Fields(limit), " ")))
	}
	stat, err := q.state.Proc(q.d.Netns, "sockstat")
	if err != nil {
		return says
	}
	for line := range strings.Lines(stat) {
		if strings.HasPrefix(line, strings.ToUpper(proto)+":") {
			says = append(says, "/proc/net/sockstat: "+strings.TrimSpace(line))
		}
	}
	return says
}

// cpuBacklog is how many packets may wait at a CPU, and how many found no room so far.
// A line of softnet_stat is a CPU; its second word counts those (softnet_seq_show,
// net/core/net-procfs.c, 6.12).
func cpuBacklog(q *inquiry) (says []string) {
	if limit, ok := q.sysctl(q.state.Node(), "core/netdev_max_backlog"); ok {
		says = append(says, fmt.Sprintf("net.core.netdev_max_backlog = %d", limit))
	}
	stat, err := q.state.Proc(q.d.Netns, "softnet_stat")
	if err != nil {
		return says
	}
	dropped, cpus := uint64(0), 0
	for line := range strings.Lines(stat) {
		if fields := strings.Fields(line); len(fields) > 1 {
			if n, err := strconv.ParseUint(fields[1], 16, 32); err == nil && n > 0 {
				dropped, cpus = dropped+n, cpus+1
			}
		}
	}
	return append(says, fmt.Sprintf("/proc/net/softnet_stat: %d dropped so far, on %d CPUs", dropped, cpus))
}

// refusedAsOwn tells the same of a kernel that gives no reason for it, by where the
// packet died and who has the address.
func (q *inquiry) refusedAsOwn() bool {
	return q.because("NOT_SPECIFIED") && q.in("ip_rcv_finish*") && !atLeast(q.start.Kernel, 6, 13) && q.holds(q.d.Netns, endsAt(q.p).Src)
}

// ownSource: what comes from outside with an address of the receiver's own as its
// source is refused, unless accept_local is set (__fib_validate_source, net/ipv4/
// fib_frontend.c; told by a reason since 6.13).
func ownSource(q *inquiry) *claim {
	src, iface := endsAt(q.p).Src, q.d.Interface
	told := q.because("IP_LOCAL_SOURCE")
	if !told && !q.refusedAsOwn() {
		return nil
	}
	c := &claim{certain: told, summary: fmt.Sprintf("%s refuses %s as a source (martian source): it is an address of its own, and the packet came in by %s", q.place(), src, iface), evidence: []string{q.died()}}
	if !told {
		c.missing = append(c.missing, "the kernel gives no reason of its own here")
	}
	holder := q.findLink(q.d.Netns, func(l *node.Link) bool {
		return slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr() == src })
	})
	if holder != nil {
		c.evidence = append(c.evidence, fmt.Sprintf("%s of %s has %s itself", holder.Name, q.place(), src))
	} else {
		c.missing = append(c.missing, "which interface had that address: none has it by now")
	}
	own, okOwn := q.sysctl(q.d.Netns, "ipv4/conf/"+iface+"/accept_local")
	all, okAll := q.sysctl(q.d.Netns, "ipv4/conf/all/accept_local")
	if okOwn && okAll {
		c.evidence = append(c.evidence, fmt.Sprintf("net.ipv4.conf.%s.accept_local = %d, net.ipv4.conf.all.accept_local = %d", iface, own, all))
	}
	if q.hairpin(c) {
		return c
	}
	if h := lastHop(q.p, func(h *model.Hop) bool { return h.Stage == model.StageTransmit && h.Netns == q.d.Netns }); h != nil {
		c.summary += ", after it had left by " + h.Interface
		c.fix = []string{"see who sends it back, behind " + h.Interface + ": ip route get " + endsAt(q.p).Dst.String()}
		return c
	}
	c.fix = []string{fmt.Sprintf("find who else has %s, behind %s: ip neigh show dev %s; arping -D -I %s %s; ip addr in the pod that is there", src, iface, iface, iface, src),
		"take the address away there, or send from another one; accept_local would let two hosts with one address go on"}
	if holder != nil {
		c.fix = append(c.fix, fmt.Sprintf("or here, if the other one is to have it: ip addr del %s dev %s; a floating address is its agent's (kube-vip, keepalived, MetalLB), which is to let go of it", src, holder.Name))
	}
	return c
}
