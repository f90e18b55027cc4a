// SPDX-License-Identifier: Apache-2.0

package cause

// Which next hop a packet was sent to. The table's route alone does not tell: it may
// have several, of which a hash picks one, and beside the table the kernel keeps what
// redirects have told it.

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/routing"
)

// nextHop is whom a packet was sent to on a link.
type nextHop struct {
	addr netip.Addr
	// among are the next hops of the route by that interface, where there are several.
	among []netip.Addr
	// open: which of them it was is not known; addr is none of them then that is known
	// to answer, unless all are.
	open bool
	// guessed: of addr there is no entry, but of all others there are that answer.
	guessed bool
	// learned is the way beside the table that leads to addr; nil: the table's route does.
	learned *node.UsedRoute
	way     way
}

// nextHop finds whom a packet was sent to: what was seen of it, else a way that the
// kernel has learned beside its tables, else the route's, of several that which does not
// answer. Of what is inside a tunnel already it is that of the outer header.
func (q *inquiry) nextHop(at *model.Hop) nextHop {
	dst := endsAt(q.p).Dst
	far, _ := q.tunnelFar(at)
	if far.IsValid() {
		dst = far
	}
	n := nextHop{addr: dst, way: q.wayFor(at.Netns, dst)}
	n.among = q.gatewaysBy(n.way, at)
	seen, learned := q.seenNextHop(at, far.IsValid()), q.learned(n.way)
	if learned != nil && learned.LinkIndex == int(at.IfIndex) && learned.Gateway.IsValid() && (!seen.IsValid() || seen == learned.Gateway) {
		n.addr, n.among, n.learned = learned.Gateway, nil, learned
		return n
	}
	if seen.IsValid() {
		n.addr = seen
		if len(n.among) == 1 {
			n.among = nil
		}
		return n
	}
	if then := q.tableNextHop(at); len(n.among) < 2 && !far.IsValid() && then.IsValid() {
		n.addr, n.among = then, nil
		return n
	}
	switch len(n.among) {
	case 0:
		if r, ok := q.routeTo(at.Netns, dst); ok && r.Gateway.IsValid() {
			n.addr = r.Gateway // as it is now, by another interface
		}
	case 1:
		n.addr, n.among = n.among[0], nil
	default:
		n.addr, n.open = q.silentOf(at, n.among)
		_, known := q.neighbor(at.Netns, int(at.IfIndex), n.addr)
		n.guessed = !known
	}
	return n
}

// seenNextHop is the next hop that the packet itself was seen with: its neighbour entry,
// or the route in its buffer. What a table's look-up gave is the first of several.
func (q *inquiry) seenNextHop(at *model.Hop, tunnelled bool) netip.Addr {
	h := lastHop(q.p, func(h *model.Hop) bool {
		return h.Neighbor != nil && h.Netns == at.Netns && (h.IfIndex == at.IfIndex || h.Neighbor.Interface == at.Interface)
	})
	if h != nil {
		if a, err := netip.ParseAddr(h.Neighbor.Address); err == nil {
			return a
		}
	}
	if tunnelled {
		return netip.Addr{} // the route is that of the inner packet
	}
	if h := lastHop(q.p, func(h *model.Hop) bool { return h.Stage == model.StageRoute && h.Route != nil && q.ownLookup(h) }); h != nil && h.Netns == at.Netns && !ofTable(h) {
		if gw, err := netip.ParseAddr(h.Route.Gateway); err == nil {
			return gw
		}
	}
	return netip.Addr{}
}

// tableNextHop is the next hop that the table's look-up gave: that of the route then, or
// the first of its next hops.
func (q *inquiry) tableNextHop(at *model.Hop) netip.Addr {
	if h := lastHop(q.p, func(h *model.Hop) bool {
		return h.Stage == model.StageRoute && h.Route != nil && q.ownLookup(h) && h.Netns == at.Netns && ofTable(h)
	}); h != nil {
		if gw, err := netip.ParseAddr(h.Route.Gateway); err == nil {
			return gw
		}
	}
	return netip.Addr{}
}

// ofTable tells a look-up that shows a table's answer, not the way that was taken.
func ofTable(h *model.Hop) bool { return strings.Contains(h.Function, "fib_table_lookup") }

// gatewaysBy are the next hops of a look-up's route by an interface, each once; that of a
// route without a gateway is the destination. Of IPv6 routes to one prefix with one metric,
// as several routers' advertisements make them, any may be taken (find_rr_leaf,
// net/ipv6/route.c).
func (q *inquiry) gatewaysBy(w way, at *model.Hop) (all []netip.Addr) {
	add := func(hops []node.NextHop) {
		for _, h := range hops {
			gw := h.Gateway
			if !gw.IsValid() {
				gw = w.asked.Dst
			}
			if (h.LinkIndex == int(at.IfIndex) || h.LinkIndex == q.masterOf(at)) && h.LinkIndex != 0 && !slices.Contains(all, gw) {
				all = append(all, gw)
			}
		}
	}
	a, sure := w.sure()
	if !sure || a.Route == nil || a.Error != 0 {
		return nil
	}
	add(a.Hops)
	if !a.Route.Dst.Addr().Is6() {
		return all
	}
	for _, r := range w.fib.Routes {
		if r.Type == a.Route.Type && r.Table == a.Route.Table && r.Dst == a.Route.Dst && r.Metric == a.Route.Metric && r.From == a.Route.From {
			add(r.Hops())
		}
	}
	return all
}

// silentOf picks of several next hops the one that does not answer; open where it is not
// one alone.
func (q *inquiry) silentOf(at *model.Hop, among []netip.Addr) (addr netip.Addr, open bool) {
	var silent, unknown []netip.Addr
	for _, a := range among {
		switch e, known := q.neighbor(at.Netns, int(at.IfIndex), a); {
		case !known:
			unknown = append(unknown, a)
		case !resolves(e):
			silent = append(silent, a)
		}
	}
	switch {
	case len(silent) == 1:
		return silent[0], false
	case len(silent) > 0:
		return silent[0], true
	case len(unknown) > 0:
		return unknown[0], len(unknown) > 1 // an entry that failed may be swept away
	}
	return among[0], true
}

// resolves tells an entry that packets are sent by.
func resolves(e node.Neighbor) bool { return e.State&unanswered == 0 && e.MAC != "" }

// learned is the way beside the tables that the kernel has learned for a look-up's
// destination, if it leads to another next hop than the table's route; nil: none.
func (q *inquiry) learned(w way) *node.UsedRoute {
	a, sure := w.sure()
	if !sure || a.Route == nil || a.Error != 0 || isLocal(a) {
		return nil
	}
	used := q.used(w)
	if used == nil || !used.Learned || slices.ContainsFunc(a.Hops, func(h node.NextHop) bool { return h.Gateway == used.Gateway }) {
		return nil
	}
	return used
}

// used is the way that the kernel would take for a look-up now; nil: it is not known.
func (q *inquiry) used(w way) *node.UsedRoute {
	if w.fib == nil {
		return nil
	}
	ask := node.RouteQuestion{Dst: w.asked.Dst, Src: w.asked.Src, Mark: w.asked.Mark.Value, SrcPort: w.asked.SrcPort, DstPort: w.asked.DstPort}
	if w.asked.Proto.Known {
		ask.Proto = w.asked.Proto.Value
	}
	if w.asked.IIF != routing.Loopback {
		ask.IIF = w.asked.IIF
	}
	used, ok, err := q.state.UsedRoute(w.netns, ask)
	q.gap(err)
	if err != nil || !ok {
		return nil
	}
	return &used
}

// learnedWords is a way beside the tables as `ip route get` prints it.
func (q *inquiry) learnedWords(w way, used *node.UsedRoute) string {
	says := w.getCommand() + ":"
	if used.Gateway.IsValid() {
		says += " via " + used.Gateway.String()
	}
	if l := q.link(w.netns, used.LinkIndex); l != nil {
		says += " dev " + l.Name
	}
	if used.Redirected {
		says += " cache <redirected>"
	}
	return says
}

// tellHops adds to a claim about a next hop that does not answer what there is beside
// it: the route's others, or how it came to be used.
func (q *inquiry) tellHops(c *claim, at *model.Hop, n nextHop) {
	if n.learned != nil {
		q.tellLearned(c, at, n)
		return
	}
	if len(n.among) < 2 {
		return
	}
	var well []string
	for _, a := range n.among {
		e, known := q.neighbor(at.Netns, int(at.IfIndex), a)
		if a != n.addr && known {
			c.evidence = append(c.evidence, fmt.Sprintf("ip neigh: %s dev %s %s", a, at.Interface, stateWords(e.State)))
		}
		if a != n.addr && known && resolves(e) {
			well = append(well, a.String())
		}
	}
	if n.open {
		c.certain = false
		c.summary = fmt.Sprintf("a next hop of the route to %s does not answer on %s: one of %s", n.way.asked.Dst, at2(at), addrList(n.among))
		c.missing = append(c.missing, "to which of them the packet was sent")
	} else {
		if n.guessed {
			c.certain = false
			c.missing = append(c.missing, fmt.Sprintf("that it was sent to %s: ip neigh has no entry of it, and of the others those that answer", n.addr))
		}
		c.summary += fmt.Sprintf(": it is one of the %d next hops of the route", len(n.among))
		if len(well) > 0 {
			c.summary += fmt.Sprintf(", and flows that the kernel's hash gives to others go by %s", strings.Join(well, ", "))
		}
	}
	q.tellHash(c, at, n)
}

func at2(h *model.Hop) string { return at(h.Place, h.Interface) }

func addrList(all []netip.Addr) string {
	var says []string
	for _, a := range all {
		says = append(says, a.String())
	}
	return strings.Join(says, ", ")
}

// tellHash adds what the kernel picks a next hop by, and what leaves out one that does
// not answer (fib_select_multipath, net/ipv4/fib_semantics.c).
func (q *inquiry) tellHash(c *claim, at *model.Hop, n nextHop) {
	family := "ipv4"
	if n.way.asked.Dst.Is6() {
		family = "ipv6"
	}
	policy, ok := q.sysctl(at.Netns, family+"/fib_multipath_hash_policy")
	if ok {
		c.evidence = append(c.evidence, fmt.Sprintf("net.%s.fib_multipath_hash_policy = %d", family, policy))
	}
	take := fmt.Sprintf("take it out of the route until it is back (what writes the route is to do so: BGP with BFD): ip route show %s", n.route())
	c.fix = append([]string{take}, c.fix...)
	if a, _ := n.way.sure(); family == "ipv4" && a.Route.NHID == 0 { // next hop objects are always passed over
		if use, ok := q.sysctl(at.Netns, "ipv4/fib_multipath_use_neigh"); ok && use == 0 {
			c.evidence = append(c.evidence, "net.ipv4.fib_multipath_use_neigh = 0")
			c.fix = slices.Insert(c.fix, 1, "have the kernel pass over next hops that do not answer ARP: sysctl -w net.ipv4.fib_multipath_use_neigh=1")
		}
	}
}

// route is the prefix of the look-up's route.
func (n nextHop) route() string {
	a, ok := n.way.sure()
	if !ok || a.Route == nil {
		return ""
	}
	if a.Route.Dst.Bits() == 0 {
		return "default"
	}
	return a.Route.Dst.String()
}

// tellLearned adds that a next hop was learned, and is none of the table's route.
func (q *inquiry) tellLearned(c *claim, at *model.Hop, n nextHop) {
	a, _ := n.way.sure() // it is: else nothing is known to be learned
	c.evidence = append(c.evidence, q.learnedWords(n.way, n.learned),
		fmt.Sprintf("table %s has %s", tableName(a.Table), n.way.routeText(*a.Route)))
	how := "the node has learned it beside its tables"
	if n.learned.Redirected || n.way.asked.Dst.Is6() {
		how = "the node has learned it from an ICMP redirect"
	}
	c.summary += fmt.Sprintf(": %s, and no route names it", how)
	c.fix = append(q.learnedFix(at, n), c.fix...)
	q.tellRedirects(c, at, n)
}

// learnedFix is what ends an exception of a redirect.
func (q *inquiry) learnedFix(at *model.Hop, n nextHop) []string {
	flag, family, filter := "", "ipv4", "icmp[icmptype] == 5"
	if n.way.asked.Dst.Is6() {
		flag, family, filter = " -6", "ipv6", "icmp6 and ip6[40] == 137"
	}
	return []string{n.way.getCommand() + "   # shows what is used; ip route show does not",
		fmt.Sprintf("have it forgotten: ip%s route flush cache", flag),
		fmt.Sprintf("take no redirects any more, which a router of pods has no use for: sysctl -w net.%s.conf.all.accept_redirects=0 net.%s.conf.%s.accept_redirects=0", family, family, sysctlName(at.Interface)),
		fmt.Sprintf("see who sends them: tcpdump -ni %s '%s'; that router has a route back out by the link it came by: let it send none (send_redirects=0), or give this node a route of its own", at.Interface, filter)}
}

// tellRedirects adds the switches by which an interface takes redirects: of one that
// forwards both have to be on, of another one either (IN_DEV_RX_REDIRECTS,
// include/linux/inetdevice.h).
func (q *inquiry) tellRedirects(c *claim, at *model.Hop, n nextHop) {
	family := "ipv4"
	if n.way.asked.Dst.Is6() {
		family = "ipv6"
	}
	for _, scope := range []string{"all", at.Interface} {
		if v, ok := q.sysctl(at.Netns, family+"/conf/"+scope+"/accept_redirects"); ok {
			c.evidence = append(c.evidence, fmt.Sprintf("net.%s.conf.%s.accept_redirects = %d", family, scope, v))
		}
	}
}

// redirectedAway: a packet left for another next hop than the table's route names,
// since the node has learned that one from an ICMP redirect. Asked when the first
// packet leaves. Told as misrouted.
func redirectedAway(q *inquiry, p *peer) *claim {
	at := q.sentOut()
	if in, _ := q.encapsulated(); at == nil || in || q.sentByIPVS() != nil {
		return nil
	}
	w := q.wayOf(at.Netns)
	used := q.learned(w)
	if used == nil || used.LinkIndex != int(at.IfIndex) && used.LinkIndex != q.masterOf(at) || !used.Gateway.IsValid() {
		return nil
	}
	n := nextHop{addr: used.Gateway, learned: used, way: w}
	a, _ := w.sure()
	c := &claim{subject: "learned " + at.Interface + " " + used.Gateway.String()}
	c.summary = fmt.Sprintf("packets to %s leave by %s of %s for %s, not for the next hop of the route (%s)", w.asked.Dst, at.Interface, placeName(at.Place), used.Gateway, w.routeText(*a.Route))
	q.tellLearned(c, at, n)
	if e, known := q.neighbor(at.Netns, int(at.IfIndex), used.Gateway); known {
		c.evidence = append(c.evidence, fmt.Sprintf("ip neigh: %s dev %s %s", used.Gateway, at.Interface, stateWords(e.State)))
	}
	c.missing = []string{fmt.Sprintf("whether %s passes on what it gets", used.Gateway)}
	return c
}

// hopTo is the next hop of a namespace's route to an address: the gateway, or the
// address itself; ok is false where there are several and it is not known which.
func (q *inquiry) hopTo(netns uint32, addr netip.Addr) (hop netip.Addr, ok bool) {
	r, found := q.routeTo(netns, addr)
	if learned := q.learned(q.wayFor(netns, addr)); learned != nil && learned.Gateway.IsValid() {
		return learned.Gateway, true
	}
	for _, h := range r.NextHops {
		if h.Gateway != r.NextHops[0].Gateway {
			return addr, false
		}
	}
	if found && r.Gateway.IsValid() {
		return r.Gateway, true
	}
	return addr, true
}

// severalHops are how many next hops the packet's route has by which it left; less than
// two: it is known which.
func (q *inquiry) severalHops(at *model.Hop) (w way, hops int) {
	w = q.wayOf(at.Netns)
	a, sure := w.sure()
	if !sure || a.Route == nil || a.Route.Type != unix.RTN_UNICAST || q.seenNextHop(at, false).IsValid() {
		return w, 0
	}
	return w, len(a.Hops)
}

// tellSeveral adds to what left for a far end that it went by one of several next hops.
func (q *inquiry) tellSeveral(c *claim) {
	at := q.sentOut()
	if in, _ := q.encapsulated(); at == nil || in {
		return
	}
	if _, hops := q.severalHops(at); hops > 1 {
		c.missing = append(c.missing, fmt.Sprintf("by which of the route's %d next hops it went: the kernel's hash of the flow picks one, so that others may be answered", hops))
	}
}

// sizeOfRoute words what a way allows that is narrower than the link it leads by: the
// route has an MTU of its own (RTAX_MTU), or the node has learned one: it was told
// so by ICMP, and keeps that for the destination alone (ip_rt_update_pmtu,
// net/ipv4/route.c). What is forwarded is held against it where ip_forward_use_pmtu is 1,
// or the table's route has the MTU.
func (q *inquiry) sizeOfRoute(c *claim, by *node.Link, unknown string) string {
	w := q.wayOf(q.d.Netns)
	used := q.used(w)
	if used == nil || used.MTU == 0 || q.p.Length <= uint32(used.MTU) {
		return unknown
	}
	c.evidence = append(c.evidence, fmt.Sprintf("%s: mtu %d", w.getCommand(), used.MTU))
	if by != nil {
		c.evidence = append(c.evidence, "ip link: "+linkWords(by))
	}
	flag := ""
	if w.asked.Dst.Is6() {
		flag = " -6"
	}
	if used.Expires == 0 {
		if a, sure := w.sure(); sure && a.Route != nil {
			c.fix = append(c.fix, fmt.Sprintf("see the route, and who gives it that MTU: ip%s route show %s%s", flag, a.Route.Dst, tableOption(uint32(a.Route.Table))),
				"the senders' interfaces and their routes must not have more: make new pods after it, those that run keep their MTU", letICMP)
		}
		return fmt.Sprintf("%d bytes, the MTU of the route to %s", used.MTU, w.asked.Dst)
	}
	if use, ok := q.sysctl(q.d.Netns, "ipv4/ip_forward_use_pmtu"); ok && use != 0 && flag == "" {
		c.evidence = append(c.evidence, fmt.Sprintf("net.ipv4.ip_forward_use_pmtu = %d", use))
		c.fix = append(c.fix, "a node that passes on others' packets need not go by it: sysctl -w net.ipv4.ip_forward_use_pmtu=0")
	}
	c.fix = append(c.fix, fmt.Sprintf("if the way is wider by now: have what was learned forgotten: ip%s route flush cache", flag))
	return fmt.Sprintf("%d bytes, which this node has learned for the way to %s from an ICMP error", used.MTU, w.asked.Dst)
}
