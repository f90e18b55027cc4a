// SPDX-License-Identifier: Apache-2.0

package routing

// This file looks an address up in one table: fib_table_lookup
// (net/ipv4/fib_trie.c), fib6_table_lookup and find_rr_leaf (net/ipv6/route.c).

import (
	"cmp"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/node"
)

// refusals are the errors of routes that refuse (fib_props,
// net/ipv4/fib_semantics.c; ip6_rt_type_to_error, net/ipv6/route.c). That of
// throw means that the next rule is asked.
var refusals = map[int]unix.Errno{
	unix.RTN_BLACKHOLE: unix.EINVAL, unix.RTN_UNREACHABLE: unix.EHOSTUNREACH, unix.RTN_PROHIBIT: unix.EACCES,
	unix.RTN_THROW: unix.EAGAIN, unix.RTN_NAT: unix.EINVAL, unix.RTN_XRESOLVE: unix.EINVAL,
}

// ask looks the packet's destination up in a table; ok is false if it has no way.
func (l *lookup) ask(table uint32) (a Answer, ok bool) {
	fits := l.candidates(table)
	for i, r := range fits {
		refusal := refusals[r.Type]
		if refusal != 0 && l.family == unix.AF_INET { // whether its interface is there or not
			return Answer{Table: table, Route: r, Error: refusal}, true
		}
		hops := l.usable(r)
		if len(hops) == 0 {
			continue
		}
		if l.family == unix.AF_INET6 {
			r, hops = l.preferred(fits[i:])
			refusal = refusals[r.Type]
		}
		if refusal != 0 {
			return Answer{Table: table, Route: r, Error: refusal}, true
		}
		l.merged(table, r)
		return Answer{Table: table, Route: r, Hops: hops}, true
	}
	return a, false
}

// candidates are the routes of a table that lead to the destination, in the order
// in which they are tried.
func (l *lookup) candidates(table uint32) (fits []*node.Route) {
	for i := range l.fib.Routes {
		r := &l.fib.Routes[i]
		if uint32(r.Table) != table || !r.Dst.Contains(l.q.Dst) || bits(r.From) > 0 && !(l.q.Src.IsValid() && r.From.Contains(l.q.Src)) {
			continue
		}
		if r.TOS != 0 && l.family == unix.AF_INET {
			if !l.q.TOS.Known {
				l.found.open = true
				l.doubt("whether the route to %s of table %d applies: it is for type of service %#x, and the packet's is not known", r.Dst, table, r.TOS)
				continue
			}
			if uint8(r.TOS) != l.q.TOS.Value {
				continue
			}
		}
		fits = append(fits, r)
	}
	slices.SortStableFunc(fits, func(a, b *node.Route) int {
		return cmp.Or(b.Dst.Bits()-a.Dst.Bits(), bits(b.From)-bits(a.From), b.TOS-a.TOS, a.Metric-b.Metric)
	})
	return fits
}

// usable are the ways of a route that may be taken. A packet that is bound to an
// interface takes no other; of IPv6 only where it has to (ip6_route_output_flags,
// ip6_route_input_lookup, net/ipv6/route.c).
func (l *lookup) usable(r *node.Route) (hops []node.NextHop) {
	only := l.bound()
	if l.family == unix.AF_INET6 {
		switch linkLocal := l.q.Dst.IsLinkLocalUnicast() || l.q.Dst.IsMulticast(); {
		case linkLocal:
			only = l.towards()
		case l.q.Src.IsValid():
			only = 0
		}
	}
	for _, h := range r.Hops() {
		if h.Flags&unix.RTNH_F_DEAD == 0 && (only == 0 || h.LinkIndex == only) {
			hops = append(hops, h)
		}
	}
	return hops
}

// towards is the interface that a look-up of IPv6 prefers: the one the packet is
// bound to or, if it came in, by which it came.
func (l *lookup) towards() int {
	if l.q.OIF == 0 && l.q.IIF == Loopback {
		return 0
	}
	return cmp.Or(l.q.OIF, l.q.IIF)
}

// bound is the interface that the packet is bound to. To be bound to a VRF means
// its table, no interface.
func (l *lookup) bound() int {
	if dev := l.fib.Link(l.q.OIF); dev != nil && dev.VRFTable != 0 {
		return 0
	}
	return l.q.OIF
}

// preferred picks among IPv6 routes of one prefix and metric: one that leads where
// the packet is bound to or, of what comes in, where it came from; then by the
// router's preference; then the first (rt6_score_route, net/ipv6/route.c).
func (l *lookup) preferred(fits []*node.Route) (*node.Route, []node.NextHop) {
	towards := l.towards()
	var best *node.Route
	var hops []node.NextHop
	most := -1
	for _, r := range fits {
		if r.Dst.Bits() != fits[0].Dst.Bits() || bits(r.From) != bits(fits[0].From) || r.Metric != fits[0].Metric {
			break
		}
		usable := l.usable(r)
		if len(usable) == 0 {
			continue
		}
		score := [4]int{2, 3, 2, 1}[r.Pref&3] << 2
		if towards == 0 || slices.ContainsFunc(usable, func(h node.NextHop) bool { return h.LinkIndex == towards }) {
			score += 2
		}
		if score > most {
			best, hops, most = r, usable, score
		}
	}
	return best, hops
}

// merged notes where it is not known what the kernel finds: as long as a namespace
// never had other rules than the first ones, it keeps the tables local and main of
// IPv4 as one, of which the longest prefix counts (fib_trie_table,
// net/ipv4/fib_trie.c).
func (l *lookup) merged(table uint32, r *node.Route) {
	if l.family != unix.AF_INET || table != unix.RT_TABLE_LOCAL || r.Dst.Bits() == l.q.Dst.BitLen() || len(l.rules) != len(defaultPriorities) {
		return
	}
	for i, priority := range defaultPriorities {
		if l.rules[i].Priority != priority {
			return
		}
	}
	for i := range l.fib.Routes {
		if m := &l.fib.Routes[i]; m.Table == unix.RT_TABLE_MAIN && m.Dst.Contains(l.q.Dst) && m.Dst.Bits() > r.Dst.Bits() {
			l.found.open = true
			l.doubt("whether the kernel keeps the tables local and main as one: if so, %s of main counts", m.Dst)
			return
		}
	}
}

var defaultPriorities = []uint32{0, 32766, 32767}
