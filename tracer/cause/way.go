// SPDX-License-Identifier: Apache-2.0

package cause

// This file asks where the node's routing would send a packet, and words it as
// policy rule, table and route.

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/routing"
)

// way is a look-up as it would end now.
type way struct {
	q     *inquiry
	netns uint32
	fib   *routing.FIB // nil: rules, routes or links could not be read
	asked routing.Question
	routing.Result
}

// wayOf repeats the look-up of the packet in a namespace: with the addresses, the
// interface and the mark it had when it was looked up there.
func (q *inquiry) wayOf(netns uint32) way { return q.ask(netns, q.question(netns)) }

// wayTo looks up what a namespace itself would send to an address.
func (q *inquiry) wayTo(netns uint32, addr netip.Addr) way {
	return q.ask(netns, routing.Question{Dst: addr, IIF: routing.Loopback})
}

func (q *inquiry) ask(netns uint32, question routing.Question) way {
	w := way{q: q, netns: netns, asked: question}
	if !question.Dst.IsValid() || netns == 0 {
		return w
	}
	rules, err1 := q.state.RouteRules(netns)
	routes, err2 := q.state.Routes(netns)
	links, err3 := q.state.Links(netns)
	for i, err := range []error{err1, err2, err3} {
		if i == 0 || err1 == nil { // they fail alike
			q.gap(err)
		}
		if err != nil {
			return w
		}
	}
	w.fib = &routing.FIB{Rules: rules, Routes: routes, Links: links}
	w.Result = w.fib.Lookup(question)
	return w
}

// sure is the answer, if it is known.
func (w way) sure() (routing.Answer, bool) {
	if w.fib == nil {
		return routing.Answer{}, false
	}
	return w.Sure()
}

// leads tells whether the look-up is known to send the packet out of an interface.
func (w way) leads(index int) bool {
	a, ok := w.sure()
	return ok && a.Leads(index)
}

// anyLeads tells whether it may send the packet out of an interface.
func (w way) anyLeads(index int) bool {
	return slices.ContainsFunc(w.Answers, func(a routing.Answer) bool { return a.Leads(index) })
}

// isLocal tells an answer that delivers to the namespace itself.
func isLocal(a routing.Answer) bool {
	return a.Route != nil && (a.Route.Type == unix.RTN_LOCAL || a.Route.Type == unix.RTN_BROADCAST || a.Route.Type == unix.RTN_ANYCAST || a.Route.Type == unix.RTN_MULTICAST)
}

// words are the answer: "rule 32766 looks up table main: default via 10.0.0.1 dev
// eth0". Of several that there may be all are told.
func (w way) words() string {
	if w.fib == nil {
		return "not known"
	}
	var says []string
	for _, a := range w.Answers {
		says = append(says, w.answerWords(a))
	}
	return strings.Join(says, "; or ")
}

func (w way) answerWords(a routing.Answer) string {
	switch {
	case a.Rule == nil:
		return fmt.Sprintf("no policy rule leads to a route to %s", w.asked.Dst)
	case a.Route == nil:
		return fmt.Sprintf("policy rule %d refuses it: %s", a.Rule.Priority, ruleText(a.Rule))
	}
	return fmt.Sprintf("%s looks up table %s: %s", ruleWords(a.Rule), tableName(a.Table), w.routeText(*a.Route))
}

// routeText is a route as `ip route` prints it, with what tells routes to one
// prefix apart.
func (w way) routeText(r node.Route) string {
	says := w.q.routeWords(w.netns, r)
	for _, h := range r.NextHops {
		says += " nexthop"
		if h.Gateway.IsValid() {
			says += " via " + h.Gateway.String()
		}
		if l := w.q.link(w.netns, h.LinkIndex); l != nil {
			says += " dev " + l.Name
		}
		if h.Weight > 1 {
			says += fmt.Sprintf(" weight %d", h.Weight)
		}
	}
	if r.Metric != 0 {
		says += fmt.Sprintf(" metric %d", r.Metric)
	}
	return says
}

// tableNames are those that `ip` names by itself.
var tableNames = map[uint32]string{unix.RT_TABLE_LOCAL: "local", unix.RT_TABLE_MAIN: "main", unix.RT_TABLE_DEFAULT: "default"}

func tableName(table uint32) string {
	if name := tableNames[table]; name != "" {
		return name
	}
	return fmt.Sprint(table)
}

// tableOption is what `ip route` needs to speak of a table; "" for main.
func tableOption(table uint32) string {
	if table == unix.RT_TABLE_MAIN {
		return ""
	}
	return " table " + tableName(table)
}

// ruleWords names a policy rule by its preference and, unless it is for all, what
// it asks: "rule 1024 (fwmark 0x80/0x80)".
func ruleWords(r *node.PolicyRule) string {
	asks := selectors(r)
	if r.SuppressPrefixLength >= 0 {
		asks = append(asks, fmt.Sprintf("suppress_prefixlength %d", r.SuppressPrefixLength))
	}
	if len(asks) == 0 {
		return fmt.Sprintf("rule %d", r.Priority)
	}
	return fmt.Sprintf("rule %d (%s)", r.Priority, strings.Join(asks, " "))
}

// ruleText is a policy rule as `ip rule` prints it, as far as it matters.
func ruleText(r *node.PolicyRule) string {
	words := selectors(r)
	if !slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, "from ") }) {
		at := 0
		if len(words) > 0 && words[0] == "not" {
			at = 1
		}
		words = slices.Insert(words, at, "from all")
	}
	switch r.Action {
	case node.ActTable:
		table := tableName(r.Table)
		if r.L3MDev {
			table = "[l3mdev-table]"
		}
		words = append(words, "lookup "+table)
	case node.ActGoto:
		words = append(words, fmt.Sprintf("goto %d", r.Goto))
	case node.ActNothing:
		words = append(words, "nop")
	case node.ActUnreachable:
		words = append(words, "unreachable")
	case node.ActProhibit:
		words = append(words, "prohibit")
	default:
		words = append(words, "blackhole")
	}
	if r.SuppressPrefixLength >= 0 {
		words = append(words, fmt.Sprintf("suppress_prefixlength %d", r.SuppressPrefixLength))
	}
	return strings.Join(words, " ")
}

// selectors are what a policy rule asks, in the words and the order of `ip rule`.
func selectors(r *node.PolicyRule) (words []string) {
	add := func(is bool, format string, args ...any) {
		if is {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(r.Flags&node.RuleInvert != 0, "not")
	add(r.Src.IsValid(), "from %s", hostOrPrefix(r.Src))
	add(r.Dst.IsValid(), "to %s", hostOrPrefix(r.Dst))
	add(r.TOS != 0, "tos %#x", r.TOS)
	add(r.Mask != 0, "fwmark %s", routing.MarkWords(r))
	add(r.IIF != "", "iif %s", r.IIF)
	add(r.OIF != "", "oif %s", r.OIF)
	if r.UIDs != nil {
		add(true, "uidrange %d-%d", r.UIDs[0], r.UIDs[1])
	}
	add(r.Proto != 0, "ipproto %s", protocolName(r.Proto))
	add(r.SrcPorts != [2]uint16{}, "sport %s", portWords(r.SrcPorts)+portMask(r.SrcMask))
	add(r.DstPorts != [2]uint16{}, "dport %s", portWords(r.DstPorts)+portMask(r.DstMask))
	return words
}

func hostOrPrefix(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// portMask is the part of a port that a rule asks for: "/0xff00"; "" is all of it.
func portMask(mask uint16) string {
	if mask == 0 || mask == 1<<16-1 {
		return ""
	}
	return fmt.Sprintf("/%#x", mask)
}

func portWords(r [2]uint16) string {
	if r[0] == r[1] {
		return fmt.Sprint(r[0])
	}
	return fmt.Sprintf("%d-%d", r[0], r[1])
}

// protocols are the numbers of the protocols that a packet is told with.
var protocols = map[string]uint8{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "icmp": unix.IPPROTO_ICMP, "icmpv6": unix.IPPROTO_ICMPV6, "sctp": unix.IPPROTO_SCTP}

func protocolName(number uint8) string {
	for name, n := range protocols {
		if n == number && name != "icmpv6" {
			return name
		}
	}
	return fmt.Sprint(number)
}

// question is the packet's look-up in a namespace, as far as its hops tell of it.
func (q *inquiry) question(netns uint32) routing.Question {
	at := q.lookedUp(netns)
	e := model.Endpoints{Src: q.p.Src, SrcPort: q.p.SrcPort, Dst: q.p.Dst, DstPort: q.p.DstPort}
	asked := routing.Question{IIF: routing.Loopback, Mark: q.markAt(netns, at)}
	sent := q.sentOnAt(netns)
	for i := range q.p.Hops[:at] {
		h := &q.p.Hops[i]
		if h.After != nil && !(h.Netns == netns && h.Hook == "POSTROUTING") {
			e = *h.After
		}
		if h.Netns == netns && h.IfIndex != 0 && (h.Stage == model.StageReceive || h.Stage == model.StageDecapsulate) {
			asked.IIF, asked.UID = int(h.IfIndex), routing.Of(uint32(0)) // sock_net_uid(net, NULL): the namespace's root
		}
	}
	behind := at < len(q.p.Hops) && q.p.Hops[at].Stage == model.StageDrop && q.d.Stage == model.StageNeighbor // it died on its way out
	if at < len(q.p.Hops) && !behind && asked.IIF != routing.Loopback && q.p.Hops[at].IfIndex != 0 {
		asked.IIF = int(q.p.Hops[at].IfIndex) // a bridge receives what its port did
	}
	asked.Src, asked.Dst = e.Src, e.Dst
	if sent >= 0 {
		// IPVS asks for the way to the real server alone, as for what the node itself sends
		// (do_output_route4, net/netfilter/ipvs/ip_vs_xmit.c, 5.17 to 7.3)
		return routing.Question{IIF: routing.Loopback, Dst: e.Dst, Mark: routing.Of(uint32(0)), UID: routing.Of(uint32(0)), Proto: routing.Of(uint8(0))}
	}
	if proto, ok := protocols[q.p.Proto]; ok {
		asked.Proto, asked.SrcPort, asked.DstPort = routing.Of(proto), e.SrcPort, e.DstPort
	}
	return asked
}

// lookedUp is the index of the hop at which the packet was looked up in a namespace
// last; if that was not seen, that after its last hop there which is no death.
func (q *inquiry) lookedUp(netns uint32) int {
	end := 0
	for i := range q.p.Hops {
		h := &q.p.Hops[i]
		if h.Netns == netns && h.Stage != model.StageDrop {
			end = i + 1
		}
	}
	for i := end - 1; i > q.sentOnAt(netns); i-- {
		if h := &q.p.Hops[i]; h.Netns == netns && h.Stage == model.StageRoute && q.ownLookup(h) {
			return i
		}
	}
	return end
}

// sentOnAt is the index of the hop by which IPVS was seen to send the packet to a real
// server, if it did in a namespace last: its own look-up is not seen. -1: it did not.
func (q *inquiry) sentOnAt(netns uint32) int {
	for i := len(q.p.Hops) - 1; i >= 0; i-- {
		h := &q.p.Hops[i]
		switch {
		case h.Netns != netns:
		case redirected(h) && h.NATBy == model.ByIPVS:
			return i
		case h.Stage == model.StageDecapsulate, h.Hook == "PREROUTING" && h.Family != "bridge":
			return -1 // it came in after that
		}
	}
	return -1
}

// atRouting are the reasons for which a packet dies of the look-up itself.
var atRouting = []string{"IP_RPFILTER", "IP_INNOROUTES", "IP_INADDRERRORS", "IP_OUTNOROUTES", "IPV6_INNOROUTES", "IP_LOCAL_SOURCE", "IP_INVALID_SOURCE", "IP_LOCALNET"}

// markAt is the mark with which the packet was looked up. The event of a table's
// look-up has no packet at hand. What the packet dies of in the look-up bears its
// mark, and so does what is told before the next hook; otherwise the mark has to be
// the same before and after.
func (q *inquiry) markAt(netns uint32, at int) (mark routing.Known[uint32]) {
	bears := func(h *model.Hop) bool {
		return h.Netns == netns && h.SKB != "" && !strings.Contains(h.Function, "fib_table_lookup")
	}
	var first, before, after *model.Hop
	for i := range q.p.Hops {
		h := &q.p.Hops[i]
		switch {
		case !bears(h) || i == at:
		case i < at:
			first, before = cmp.Or(first, h), h
		case after == nil:
			after = h
		}
	}
	switch {
	case at < len(q.p.Hops) && bears(&q.p.Hops[at]):
		return routing.Of(q.p.Hops[at].Mark)
	case after != nil && (after.Stage == model.StageForward || after.Stage == model.StageDrop && (q.d.Stage == model.StageRoute || q.because(atRouting...))):
		return routing.Of(after.Mark)
	case after == nil && before != nil && first.Mark == before.Mark: // of the namespace's own packet no look-up is seen
		return routing.Of(before.Mark)
	case before != nil && after != nil && before.Mark == after.Mark:
		return routing.Of(after.Mark)
	}
	return mark
}

// wayFor is the way to an address in a namespace: the packet's own look-up, if that
// was for it, else that of what the namespace itself would send.
func (q *inquiry) wayFor(netns uint32, addr netip.Addr) way {
	if asked := q.question(netns); asked.Dst == addr && q.seenIn(netns) {
		return q.ask(netns, asked)
	}
	return q.wayTo(netns, addr)
}

// routeTo is the route of the way to an address. Where that depends on what is not
// known, it is the route of what has no mark.
func (q *inquiry) routeTo(netns uint32, addr netip.Addr) (best node.Route, ok bool) {
	w := q.wayFor(netns, addr)
	if w.fib == nil {
		return best, false
	}
	if a := w.Answers[len(w.Answers)-1]; a.Route != nil {
		return oneWay(*a.Route), true
	}
	return best, false
}

// oneWay gives a route with several ways the first of them.
func oneWay(r node.Route) node.Route {
	if len(r.NextHops) > 0 {
		r.LinkIndex, r.Gateway = r.NextHops[0].LinkIndex, r.NextHops[0].Gateway
	}
	return r
}

// seenIn tells whether the packet was seen in a namespace.
func (q *inquiry) seenIn(netns uint32) bool {
	return slices.ContainsFunc(q.p.Hops, func(h model.Hop) bool { return h.Netns == netns })
}
