// SPDX-License-Identifier: Apache-2.0

package cause

// Causes of the look-up: no way, or a route or policy rule that is there to refuse.

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

// Route protocols of Calico: Felix' own (DeviceRouteProtocol's default) and BIRD
// (RTPROT_BIRD, linux/rtnetlink.h).
const (
	protoFelix = 80
	protoBIRD  = 12
)

// refused is what the kernel said of a look-up that failed.
func (q *inquiry) refused() model.Route {
	seen := q.route()
	switch {
	case seen.Error != "":
	case q.in("ip6_pkt_prohibit*"):
		seen.Type, seen.Error = "prohibit", "EACCES" // ip6_prohibit_entry, net/ipv6/route.c
	case q.because("IP_INNOROUTES"):
		seen.Error = "ENETUNREACH" // ip_error, net/ipv4/route.c
	}
	return seen
}

// blackhole: a route or a policy rule that is there to refuse. Blackholes give
// EINVAL and no answer, prohibit EACCES; an unreachable route gives EHOSTUNREACH
// (fib_props, net/ipv4/fib_semantics.c, 6.12), an unreachable rule ENETUNREACH
// (fib4_rule_action, net/ipv4/fib_rules.c).
func blackhole(q *inquiry) *claim {
	if !q.p.Outcome.Died() || q.d.Hook != "" || !q.maybeIn("ip_error*", "ip6_pkt_*", "dst_discard*", "ip6_blackhole*") {
		return nil
	}
	seen, w := q.refused(), q.wayOf(q.d.Netns)
	a, sure := w.sure()
	refuses := sure && a.Error != 0 && a.Rule != nil
	told := seen.Type == "blackhole" || seen.Type == "prohibit" || seen.Error == "EINVAL" || seen.Error == "EACCES"
	same := refuses && seen.Error == errnoName(a.Error)
	if !told && !refuses || refuses && !told && !same && seen.Error != "" {
		return nil
	}
	c := &claim{certain: told || same, evidence: []string{q.died()}}
	if c.certain {
		c.evidence = append(c.evidence, "the route look-up gave "+orType(seen.Type, seen.Error))
	} else {
		c.missing = []string{"the kernel did not show which route it found"}
	}
	switch {
	case !refuses || told && !same && seen.Error != "":
		q.refusedThen(c, w)
	case a.Route == nil:
		q.refusedByRule(c, a)
	default:
		q.refusedByRoute(c, w, a)
	}
	return c
}

// errnoName is an errno as hops tell it.
func errnoName(e unix.Errno) string { return unix.ErrnoName(e) }

// refusedThen: the same look-up ends otherwise by now, or is not known.
func (q *inquiry) refusedThen(c *claim, w way) {
	dst := w.asked.Dst
	c.summary = fmt.Sprintf("a route or policy rule of %s that is there to refuse eats packets to %s", q.place(), dst)
	if _, sure := w.sure(); sure {
		c.evidence = append(c.evidence, "by now the same look-up gives: "+w.words())
		c.missing = append(c.missing, "which one it was: it is not there any more")
	} else {
		c.evidence = append(c.evidence, "it is one of these: "+w.words())
		c.missing = append(c.missing, w.Doubts...)
	}
	q.tellLostRoute(c, dst)
	q.tellRuleChange(c)
	c.fix = []string{"see what changes routes and rules: ip monitor route rule"}
}

// refusedByRule: a policy rule refuses, and no table is asked.
func (q *inquiry) refusedByRule(c *claim, a routing.Answer) {
	family := familyFlag(a.Rule)
	dst := endsAt(q.p).Dst
	c.subject = fmt.Sprintf("policy rule %d %s", a.Rule.Priority, ruleText(a.Rule))
	c.summary = fmt.Sprintf("policy rule %d of %s refuses packets to %s (%s): it is a policy rule, no route", a.Rule.Priority, q.place(), dst, ruleText(a.Rule))
	c.evidence = append(c.evidence, fmt.Sprintf("ip%s rule: %d: %s", family, a.Rule.Priority, ruleText(a.Rule)))
	q.tellRuleChange(c)
	c.fix = []string{fmt.Sprintf("see it: ip%s rule show pref %d", family, a.Rule.Priority),
		"find who wrote it (a VPN, a firewall, network scripts): it comes back otherwise",
		fmt.Sprintf("if nobody needs it: ip%s rule del pref %d", family, a.Rule.Priority)}
}

// familyFlag is what `ip` needs to speak of a rule.
func familyFlag(r *node.PolicyRule) string {
	if r.Family == unix.AF_INET6 {
		return " -6"
	}
	return ""
}

// refusedByRoute: a blackhole, unreachable or prohibit route is the best there is.
func (q *inquiry) refusedByRoute(c *claim, w way, a routing.Answer) {
	dst, r := w.asked.Dst, *a.Route
	words := q.routeWords(q.d.Netns, r)
	c.summary = fmt.Sprintf("%s has no route of its own to %s, so that %q eats the packet", q.place(), dst, words)
	c.evidence = append(c.evidence, "the way to it: "+w.words())
	if q.tellMain(c, w, a) && a.Rule != nil {
		c.subject = fmt.Sprintf("policy rule %d %s", a.Rule.Priority, words)
		c.summary = fmt.Sprintf("%s of %s looks up table %s for packets to %s, where %q eats them; table main has a way", ruleWords(a.Rule), q.place(), tableName(a.Table), dst, words)
		q.tellRuleChange(c)
		family := familyFlag(a.Rule)
		c.fix = []string{fmt.Sprintf("see the rule and its table: ip%s rule show pref %d; ip%s route show table %s", family, a.Rule.Priority, family, tableName(a.Table)),
			"find who wrote them (a VPN, a firewall, network scripts): have it leave this flow out, or give the table a route for it", w.getCommand() + "   # says the same"}
		return
	}
	q.tellLostRoute(c, dst)
	if q.refusedOutsider(c, dst, r, words) {
		return
	}
	if r.Protocol == protoFelix || r.Protocol == protoBIRD {
		c.evidence = append(c.evidence, fmt.Sprintf("the route is Calico's (protocol %d): the blackhole for a block of its own, in which each pod has a route", r.Protocol))
		c.fix = []string{
			"see that the pod has this address: kubectl get pod -A -o wide | grep -w " + dst.String(),
			"see why its route is missing: kubectl -n calico-system logs ds/calico-node | grep " + dst.String() + " (kube-system in older installations)",
			"have Felix write its routes again: delete the calico-node pod of this node",
		}
		return
	}
	table := tableOption(uint32(r.Table))
	c.fix = []string{"see who wants that route: ip route show " + r.Dst.String() + table, "ip route del " + words + table}
}

func orType(kind, err string) string {
	if kind == "" || kind == "unicast" {
		return err
	}
	if err == "" {
		return kind
	}
	return kind + " (" + err + ")"
}

// noRoute: what the policy rules look up holds no way to the destination.
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
	w := q.wayOf(q.d.Netns)
	switch a, sure := w.sure(); {
	case w.fib == nil:
	case !sure:
		c.evidence = append(c.evidence, "by the rules and routes as they are: "+w.words())
		c.missing = append(c.missing, w.Doubts...)
	case a.Error != 0 && a.Error != unix.ENETUNREACH:
		c.evidence = append(c.evidence, "by now the same look-up is refused: "+w.words())
		q.tellRuleChange(c)
		c.fix = []string{"watch it happen: ip monitor route rule"}
		return c
	case a.Error == 0:
		c.summary = strings.Replace(c.summary, " has no route to "+dst.String(), fmt.Sprintf(" had no route to %s when the packet came", dst), 1)
		q.tellRuleChange(c)
		c.evidence = append(c.evidence, "by now there is one, for the same look-up: "+w.words()+": something takes routes or policy rules away and puts them back")
		c.fix = []string{"watch it happen: ip monitor route rule"}
		return c
	default:
		if q.notAsked(c, w) {
			return c
		}
	}
	c.fix = []string{
		w.getCommand() + "   # says the same",
		"see that what keeps the pod network's routes runs and is well: calico-node (felix, bird) or flanneld on this node",
		"if the default route is gone: ask whatever manages the uplink (DHCP, NetworkManager, networkd) to set it up again",
	}
	return c
}

// notAsked tells of tables that hold a way which no policy rule asks for; true if
// that main is among them is the cause.
func (q *inquiry) notAsked(c *claim, w way) bool {
	unasked := q.unasked(w)
	c.evidence = append(c.evidence, unasked...)
	family := "" // as `ip` wants it
	if w.asked.Dst.Is6() {
		family = " -6"
	}
	if slices.ContainsFunc(lookedUpBy(w, unix.RT_TABLE_MAIN), func(r *node.PolicyRule) bool { return len(selectors(r)) == 0 }) {
		if len(unasked) > 0 {
			c.summary += ": " + unasked[0]
			return false
		}
		c.evidence = append(c.evidence, fmt.Sprintf("neither a route to %s nor a default route is in any table that a policy rule looks up", w.asked.Dst))
		return false
	}
	c.subject = "rule of table main"
	c.summary = fmt.Sprintf("%s has no route to %s, since no policy rule looks up table main for it: rule 32766 (from all lookup main) is gone", q.place(), w.asked.Dst)
	if len(lookedUpBy(w, unix.RT_TABLE_MAIN)) == 0 {
		c.evidence = append(c.evidence, fmt.Sprintf("ip%s rule: none of the rules looks up table main", family))
	}
	q.tellRuleChange(c)
	c.fix = []string{fmt.Sprintf("see the rules: ip%s rule", family), fmt.Sprintf("put the first ones back: ip%s rule add pref 32766 lookup main", family),
		"find who took it away: systemd-networkd (ManageForeignRoutingPolicyRules=no keeps it from that), a VPN, a script: ip monitor rule"}
	if !w.asked.Dst.Is6() {
		c.fix[1] += "; ip rule add pref 32767 lookup default"
	}
	return true
}

// lookedUpBy lists the policy rules of the packet's family that look up a table.
func lookedUpBy(w way, table uint32) (rules []*node.PolicyRule) {
	family := unix.AF_INET
	if w.asked.Dst.Is6() {
		family = unix.AF_INET6
	}
	for i := range w.fib.Rules {
		if r := &w.fib.Rules[i]; r.Family == family && r.Action == node.ActTable && !r.L3MDev && r.Table == table {
			rules = append(rules, r)
		}
	}
	return rules
}

// unasked lists the routes that there are in tables which the look-up did not ask,
// or whose rule would not take them.
func (q *inquiry) unasked(w way) (all []string) {
	var tables []uint32
	for _, r := range w.fib.Routes {
		if t := uint32(r.Table); r.Dst.Contains(w.asked.Dst) && !slices.Contains(tables, t) {
			tables = append(tables, t)
		}
	}
	slices.Sort(tables)
	for _, table := range tables {
		a, ok := w.fib.InTable(w.asked, table)
		if !ok || a.Error != 0 {
			continue
		}
		if len(all) == alsoShown {
			break
		}
		says := fmt.Sprintf("table %s has %s, but no policy rule looks it up", tableName(table), w.routeText(*a.Route))
		if rules := lookedUpBy(w, table); len(rules) > 0 {
			says = fmt.Sprintf("table %s has %s, but rule %d does not give it to this packet: %s", tableName(table), w.routeText(*a.Route), rules[0].Priority, ruleText(rules[0]))
		}
		all = append(all, says)
	}
	return all
}

// getCommand is the question for `ip route get` that a look-up is.
func (w way) getCommand() string {
	says := "ip route get " + w.asked.Dst.String()
	if l := w.fib.Link(w.asked.IIF); w.asked.IIF != routing.Loopback && l != nil && w.asked.Src.IsValid() {
		says += fmt.Sprintf(" from %s iif %s", w.asked.Src, l.Name)
	}
	if w.asked.Mark.Known && w.asked.Mark.Value != 0 {
		says += fmt.Sprintf(" mark %#x", w.asked.Mark.Value)
	}
	if w.asked.Proto.Known && slices.ContainsFunc(w.fib.Rules, asksPorts) {
		says += " ipproto " + protocolName(w.asked.Proto.Value)
		if w.asked.SrcPort != 0 || w.asked.DstPort != 0 {
			says += fmt.Sprintf(" sport %d dport %d", w.asked.SrcPort, w.asked.DstPort)
		}
	}
	return says
}

// asksPorts tells a rule that not every packet between two addresses is the same to.
func asksPorts(r node.PolicyRule) bool {
	return r.Proto != 0 || r.SrcPorts != [2]uint16{} || r.DstPorts != [2]uint16{}
}

// tellLostRoute says who took the route to an address away, if that was while it
// was traced.
func (q *inquiry) tellLostRoute(c *claim, to netip.Addr) {
	e := q.tellLostRouteOf(c, q.d.Netns, to)
	if e != nil && e.What == model.RouteDeleted && e.By != nil {
		c.summary += fmt.Sprintf("; %s (pid %d) deleted the route %s at %s", e.By.Comm, e.By.PID, e.Object, clock(e.Time))
	}
}

// tellRuleChange adds the last change of policy rules before the packet ended.
func (q *inquiry) tellRuleChange(c *claim) {
	q.changedBy(c, func(e *model.NodeEvent) bool {
		return e.Netns == q.d.Netns && (e.What == model.PolicyAdded || e.What == model.PolicyDeleted)
	})
}
