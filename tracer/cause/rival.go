// SPDX-License-Identifier: Apache-2.0

package cause

// Two NAT rules claim one address and port: the one that stands first takes the packet,
// though a later one names the address more exactly, or was meant.

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// rivalry is a translation with the rule that would have made another of it.
type rivalry struct {
	t *translation
	// way are the rules that the packet met on the way to its translation.
	way []model.Rule
	// rival comes later; exact: it names the address itself.
	rival meaning.Rule
	exact bool
	// before and after are the rules of one chain by which the two are reached.
	before, after int
	chain         string
}

// tellRival adds to a cause that the packet's translation was another rule's before it
// was this one's.
func (q *inquiry) tellRival(c *claim) {
	t := lastTranslation(q.p)
	if t == nil || t.ipvs || q.isReply() {
		return
	}
	q.knownRule(t)
	if t.rule == nil || !strings.HasPrefix(t.rule.Text, "-A ") {
		return
	}
	r := q.rivalOf(t)
	if r == nil {
		return
	}
	names := fmt.Sprintf("claims %s port %d as well", q.p.Proto, t.asked.Port())
	if r.exact {
		names = fmt.Sprintf("names %s itself", t.asked)
	}
	rule := namedRule(ruleOf(r.rival))
	c.summary += fmt.Sprintf("; %s%s %s, but comes after %s and is not asked", rule, serviceIn(r.rival.Text), names, namedRule(t.rule))
	c.evidence = append(c.evidence, rule+": "+r.rival.Text,
		fmt.Sprintf("in %s of %s rule %d, by which it was translated, comes before rule %d, which leads to the other", r.chain, t.rule.Table, r.before, r.after))
	local := q.tellLocal(c, r)
	c.fix = slices.DeleteFunc(c.fix, func(fix string) bool { return strings.Contains(fix, "compare its targetPort") })
	fix := []string{fmt.Sprintf("settle who is to have %s: two rules claim it, and the first one wins: iptables-save -t nat | grep -e %s -e 'port.* %d'", t.asked, t.asked.Addr(), t.asked.Port())}
	if local != nil {
		fix = append(fix, fmt.Sprintf("if the service is to have it: see who makes %s an address of this node (ip route show table local %s): %s; a hostPort takes all addresses of the node unless it has a hostIP", t.asked.Addr(), t.asked.Addr(), localMaker(q, local)))
	}
	if who := t.masquerader(); who != nil && who.mark == "CNI-HOSTPORT-SETMARK" {
		fix = append(fix, "if the hostPort's pod is gone, its rules were left: take them away (the portmap plugin does so at DEL); else give it another hostPort, or a hostIP")
	}
	c.fix = append(fix, c.fix...)
}

// serviceIn is a comment that names a service, in brackets.
func serviceIn(text string) string {
	m := quoted.FindString(text)
	if m == "" || !strings.Contains(m, "/") {
		return ""
	}
	return " (" + strings.Trim(m, `"`) + ")"
}

// rivalOf finds the rule; nil: there is none.
func (q *inquiry) rivalOf(t *translation) *rivalry {
	r := &rivalry{t: t}
	for i := range q.p.Hops {
		h := &q.p.Hops[i]
		if h.Netns == t.hop.Netns && h.Hook == t.hop.Hook && h.Backend == t.backend {
			for _, rule := range h.Rules {
				if rule.Table == t.rule.Table {
					r.way = append(r.way, rule)
				}
			}
		}
	}
	if len(r.way) == 0 || slices.ContainsFunc(r.way, func(rule model.Rule) bool {
		f := fieldsOf(rule.Text)
		return f.namesExactly(t.asked, q.p.Proto)
	}) {
		return nil
	}
	sets, err := q.state.Rules(t.hop.Netns)
	q.gap(err)
	var exact, others []meaning.Rule
	jumps := make(jumps)
	for rule := range sets.of(t.backend).All() {
		if rule.Table != t.rule.Table || rule.Family != t.rule.Family {
			continue
		}
		f := fieldsOf(rule.Text)
		jumps.note(f.target, rule)
		switch is := f.namesExactly(t.asked, q.p.Proto); {
		case !r.claims(rule, &f, q.p.Proto, is):
		case is:
			exact = append(exact, rule)
		default:
			others = append(others, rule)
		}
	}
	for i, rule := range slices.Concat(exact, others) {
		if r.comesLater(rule, jumps) {
			r.rival, r.exact = rule, i < len(exact)
			return r
		}
	}
	return nil
}

// jumps are the first rules that jump to chains.
type jumps map[string]jump

type jump struct {
	chain  string
	number int
}

func (j jumps) note(target string, by meaning.Rule) {
	if _, known := j[target]; !known {
		j[target] = jump{by.Chain, by.Number}
	}
}

// toBackend are targets of rules that give an address and port to a backend: DNAT itself,
// and the chains of kube-proxy and of the portmap plugin that do so.
func toBackend(target string) bool {
	return target == "DNAT" || target == "REDIRECT" ||
		slices.ContainsFunc([]string{"KUBE-SVC-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SVL-", "KUBE-XLB-", "CNI-DN-"}, func(p string) bool { return strings.HasPrefix(target, p) })
}

// namesExactly tells a rule for that very address and port.
func (f *fields) namesExactly(asked netip.AddrPort, proto string) bool {
	return len(f.dst) > 0 && f.takesDestination(asked.Addr()) && f.dst[0].IsSingleIP() && f.takesProto(proto) && f.takesPort(asked.Port())
}

// claims tells a rule that would send what was asked somewhere else.
func (r *rivalry) claims(rule meaning.Rule, f *fields, proto string, exact bool) bool {
	if f.more || len(f.sets) > 0 || len(f.dports) == 0 || !toBackend(f.target) || !f.takesProto(proto) || !f.takesPort(r.t.asked.Port()) || sendsTo(rule.Text, r.t.to) {
		return false
	}
	if !exact && (len(f.dst) > 0 || len(f.src) > 0) {
		return false
	}
	// what the packet went through leads where it went
	return !slices.ContainsFunc(r.way, func(w model.Rule) bool {
		return w.Chain == f.target || fieldsOf(w.Text).target == f.target && f.target != "DNAT" && f.target != "REDIRECT" || w.Chain == rule.Chain && w.Number == rule.Number
	}) && (exact || f.target != "DNAT" || !strings.HasPrefix(rule.Chain, "CNI-DN-") || rule.Chain == r.t.rule.Chain)
}

// comesLater finds the chain in which the packet's way and that to the rule part, and
// tells whether the rule's comes after.
func (r *rivalry) comesLater(rule meaning.Rule, jumps jumps) bool {
	chain, number := rule.Chain, rule.Number
	for range 8 { // deeper than anybody's chains
		for _, w := range r.way {
			if w.Chain == chain && w.Number != 0 && r.leads(w, jumps) {
				r.chain, r.before, r.after = chain, w.Number, number
				return number > w.Number
			}
		}
		by, ok := jumps[chain]
		if !ok {
			return false
		}
		chain, number = by.chain, by.number
	}
	return false
}

// leads tells whether a rule that the packet met led it to its translation.
func (r *rivalry) leads(w model.Rule, jumps jumps) bool {
	if w.Chain == r.t.rule.Chain && w.Number == r.t.rule.Number {
		return true
	}
	chain := r.t.rule.Chain
	for range 8 {
		by, ok := jumps[chain]
		if !ok {
			return false
		}
		if by.chain == w.Chain {
			return by.number == w.Number
		}
		chain = by.chain
	}
	return false
}

// tellLocal says why a rule for the node's own addresses took one that is given to a
// service.
func (q *inquiry) tellLocal(c *claim, r *rivalry) *node.Route {
	at := slices.IndexFunc(r.way, func(w model.Rule) bool { return fieldsOf(w.Text).local })
	if at < 0 || !r.exact {
		return nil
	}
	asked := r.t.asked.Addr()
	routes, err := q.state.Routes(r.t.hop.Netns)
	q.gap(err)
	var best *node.Route
	for i := range routes {
		if l := &routes[i]; l.Table == unix.RT_TABLE_LOCAL && l.Type == unix.RTN_LOCAL && l.Dst.Contains(asked) && (best == nil || l.Dst.Bits() > best.Dst.Bits()) {
			best = l
		}
	}
	c.evidence = append(c.evidence, namedRule(&r.way[at])+": "+r.way[at].Text)
	if best == nil {
		c.missing = append(c.missing, fmt.Sprintf("by which route %s was an address of this node: it is none any more", asked))
		return nil
	}
	c.summary += fmt.Sprintf("; the first one takes LOCAL addresses, and %s is one by the route %q of table local (proto %s)", asked, q.routeWords(r.t.hop.Netns, *best), protoName(best.Protocol))
	c.evidence = append(c.evidence, fmt.Sprintf("ip route show table local: %s proto %s", q.routeWords(r.t.hop.Netns, *best), protoName(best.Protocol)))
	return best
}

// protoName is who made a route, as `ip` says it without its file of names.
func protoName(proto int) string {
	if name := map[int]string{unix.RTPROT_KERNEL: "kernel", unix.RTPROT_BOOT: "boot", unix.RTPROT_STATIC: "static"}[proto]; name != "" {
		return name
	}
	return fmt.Sprint(proto)
}

// guestAgent is the protocol of the routes of Google's guest agent (google_guest_agent,
// addresses.go).
const guestAgent = 66

// localMaker is who mostly makes such a route.
func localMaker(q *inquiry, r *node.Route) string {
	l := q.link(q.state.Node(), r.LinkIndex)
	switch {
	case r.Protocol == guestAgent:
		return "protocol 66 is Google's guest agent (ip_forwarding, target_instance_ips in instance_configs.cfg)"
	case l != nil && l.Name == "kube-ipvs0":
		return "kube-proxy's ipvs mode has it on kube-ipvs0"
	case l != nil && q.holds(q.state.Node(), r.Dst.Addr()):
		return fmt.Sprintf("%s has the address", l.Name)
	}
	return "a cloud's guest agent, kube-vip, keepalived"
}
