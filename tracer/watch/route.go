// SPDX-License-Identifier: Apache-2.0

package watch

// This file reads rtnetlink's messages about routes and policy routing, and
// keeps the node's routes: those of IPv4 go without a word with their interface
// (fib_table_flush, net/ipv4/fib_trie.c).

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// route is one of the node's routes.
type route struct {
	prefix netip.Prefix
	table  uint32
	index  uint32 // of its interface; 0: none, or several
}

// routeBook keeps the routes of the node's own namespace.
type routeBook struct {
	netns uint32
	all   map[route]bool
}

// maxRoutes bounds the routes kept; of more it is not told which go with a link.
const maxRoutes = 1 << 16

// fill takes the routes as they stand.
func (b *routeBook) fill(netns uint32, routes []node.Route) {
	b.netns, b.all = netns, make(map[route]bool)
	for _, r := range routes {
		if forwards(uint8(r.Type)) && r.Table != unix.RT_TABLE_LOCAL && !quiet(r.Dst) {
			b.add(netns, route{r.Dst, uint32(r.Table), uint32(r.LinkIndex)})
		}
	}
}

func (b *routeBook) add(netns uint32, r route) {
	if netns == b.netns && len(b.all) < maxRoutes {
		b.all[r] = true
	}
}

func (b *routeBook) drop(netns uint32, r route) {
	if netns == b.netns {
		delete(b.all, r)
	}
}

// dropLink forgets the routes of an interface and lists them.
func (b *routeBook) dropLink(at linkAt) (gone []netip.Prefix) {
	if at.netns != b.netns {
		return nil
	}
	for r := range b.all {
		if r.index == at.index {
			delete(b.all, r)
			gone = append(gone, r.prefix)
		}
	}
	slices.SortFunc(gone, netip.Prefix.Compare)
	return slices.Compact(gone)
}

// shownRoutes is how many routes a text lists.
const shownRoutes = 3

// wentWith is the part of a text that lists routes which went.
func wentWith(routes []netip.Prefix) string {
	if len(routes) == 0 {
		return ""
	}
	var names []string
	for i, r := range routes {
		if i == shownRoutes {
			names = append(names, fmt.Sprintf("%d more", len(routes)-i))
			break
		}
		names = append(names, prefixWords(r))
	}
	if len(routes) == 1 {
		return "; its route " + names[0] + " went with it"
	}
	return "; its routes " + strings.Join(names, ", ") + " went with it"
}

func prefixWords(p netip.Prefix) string {
	if p.Bits() == 0 {
		return "default"
	}
	return p.String()
}

// forwards tells the types of route that packets are sent or refused by;
// local and broadcast ones come and go with addresses.
func forwards(kind uint8) bool {
	switch kind {
	case unix.RTN_UNICAST, unix.RTN_BLACKHOLE, unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT, unix.RTN_THROW:
		return true
	}
	return false
}

// quiet tells prefixes whose routes come and go with any link.
func quiet(p netip.Prefix) bool {
	return p.Addr().IsLinkLocalUnicast() || p.Addr().IsMulticast()
}

// routeMessage reads RTM_NEWROUTE and RTM_DELROUTE (struct rtmsg,
// linux/rtnetlink.h).
func (w *Watcher) routeMessage(m message, netns uint32) *change {
	if len(m.body) < unix.SizeofRtMsg {
		return nil
	}
	family, bits, kind := m.body[0], m.body[1], m.body[7]
	attr := attributes(m.body[unix.SizeofRtMsg:])
	prefix, ok := prefixOf(family, bits, attr[unix.RTA_DST])
	if !ok || !forwards(kind) || quiet(prefix) || binary.NativeEndian.Uint32(m.body[8:])&unix.RTM_F_CLONED != 0 {
		return nil
	}
	r := route{prefix: prefix, table: uint32(m.body[4]), index: number(attr[unix.RTA_OIF])}
	if t := attr[unix.RTA_TABLE]; t != nil {
		r.table = number(t)
	}
	if r.table == unix.RT_TABLE_LOCAL {
		return nil
	}
	what, verb := model.RouteAdded, "added"
	switch {
	case m.kind == unix.RTM_DELROUTE:
		what, verb = model.RouteDeleted, "deleted"
		w.routes.drop(netns, r)
	case m.flag&unix.NLM_F_REPLACE != 0:
		what, verb = model.RouteReplaced, "replaced"
		fallthrough
	default:
		w.routes.add(netns, r)
	}
	words := w.routeWords(kind, r, netns, attr)
	c := &change{event: w.newEvent(m, netns, what, prefixWords(prefix)), head: fmt.Sprintf("route %s%s %s", words, w.where(netns), verb)}
	c.event.IfIndex, c.event.Prefix, c.event.Table, c.event.Protocol = r.index, prefix, r.table, m.body[5]
	c.key = key{kind: RouteChanged, netns: netns, index: r.table, set: m.kind == unix.RTM_NEWROUTE, prefix: prefix}
	return c
}

// routeWords is a route as `ip route` prints it, as far as it matters.
func (w *Watcher) routeWords(kind uint8, r route, netns uint32, attr map[uint16][]byte) string {
	words := prefixWords(r.prefix)
	if name := map[uint8]string{unix.RTN_BLACKHOLE: "blackhole ", unix.RTN_UNREACHABLE: "unreachable ", unix.RTN_PROHIBIT: "prohibit ", unix.RTN_THROW: "throw "}[kind]; name != "" {
		words = name + words
	}
	if gw, ok := netip.AddrFromSlice(attr[unix.RTA_GATEWAY]); ok {
		words += " via " + gw.String()
	}
	if r.index != 0 && !(kind != unix.RTN_UNICAST) {
		words += " dev " + w.linkName(linkAt{netns, r.index})
	}
	if r.table != unix.RT_TABLE_MAIN {
		words += fmt.Sprintf(" table %d", r.table)
	}
	return words
}

// prefixOf makes a prefix of an address attribute, which is absent for a default
// route.
func prefixOf(family, bits uint8, raw []byte) (netip.Prefix, bool) {
	addr, ok := netip.AddrFromSlice(raw)
	switch {
	case ok:
	case raw != nil:
		return netip.Prefix{}, false
	case family == unix.AF_INET:
		addr = netip.IPv4Unspecified()
	case family == unix.AF_INET6:
		addr = netip.IPv6Unspecified()
	default:
		return netip.Prefix{}, false
	}
	p := netip.PrefixFrom(addr, int(bits))
	return p, p.IsValid()
}

// actionWords are what a policy rule does, as `ip rule` prints it (FR_ACT_*,
// linux/fib_rules.h).
func actionWords(action uint8, table uint32) string {
	names := map[uint32]string{unix.RT_TABLE_LOCAL: "local", unix.RT_TABLE_MAIN: "main", unix.RT_TABLE_DEFAULT: "default"}
	switch action {
	case node.ActGoto:
		return "goto another"
	case node.ActNothing:
		return "nop"
	case node.ActBlackhole:
		return "blackhole"
	case node.ActUnreachable:
		return "unreachable"
	case node.ActProhibit:
		return "prohibit"
	}
	if name := names[table]; name != "" {
		return "lookup " + name
	}
	return fmt.Sprintf("lookup %d", table)
}

// policyMessage reads RTM_NEWRULE and RTM_DELRULE (struct fib_rule_hdr,
// linux/fib_rules.h, which is laid out as struct rtmsg).
func (w *Watcher) policyMessage(m message, netns uint32) *change {
	if len(m.body) < unix.SizeofRtMsg {
		return nil
	}
	attr := attributes(m.body[unix.SizeofRtMsg:])
	table := uint32(m.body[4])
	if t := attr[unix.FRA_TABLE]; t != nil {
		table = number(t)
	}
	words := fmt.Sprintf("%d:", number(attr[unix.FRA_PRIORITY]))
	for _, end := range []struct {
		name string
		bits uint8
		raw  []byte
	}{{"from", m.body[2], attr[unix.FRA_SRC]}, {"to", m.body[1], attr[unix.FRA_DST]}} {
		if p, ok := prefixOf(m.body[0], end.bits, end.raw); ok && end.raw != nil {
			words += " " + end.name + " " + p.String()
		}
	}
	if mark := number(attr[unix.FRA_FWMARK]); mark != 0 {
		words += fmt.Sprintf(" fwmark %#x", mark)
	}
	words += " " + actionWords(m.body[7], table)
	what, verb := model.PolicyAdded, "added"
	if m.kind == unix.RTM_DELRULE {
		what, verb = model.PolicyDeleted, "deleted"
	}
	c := &change{event: w.newEvent(m, netns, what, words), head: fmt.Sprintf("policy routing rule %q%s %s", words, w.where(netns), verb)}
	c.event.Table = table
	return c
}
