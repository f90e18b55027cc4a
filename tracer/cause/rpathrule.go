// SPDX-License-Identifier: Apache-2.0

package cause

// Rules that ask for the way back to the source, as the kernel's own reverse path filter
// does: firewalld's IPv6_rpfilter, nft's fib expression, iptables' match rpfilter. What is
// to be mended is the way, not the rule.

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/routing"
)

var (
	// the key of nft's look-up, and that there is to be no interface for it
	fibBack = regexp.MustCompile(`\bfib saddr((?: \. \w+)*) oif (?:missing|0)\b`)
	// iptables' match, turned round
	rpfilterBack = regexp.MustCompile(`-m rpfilter( --\w[\w-]*)* --invert`)
	keyOfMark    = regexp.MustCompile(`\bmark\b|--validmark`)
	keyOfLink    = regexp.MustCompile(`\biif\b`)
)

// The same the other way round: what does come from there is let go, and a rule behind
// drops all the rest.
var (
	fibThere      = regexp.MustCompile(`\bfib saddr((?: \. \w+)*) oif (?:exists|!= 0)\b.* (?:accept|return)$`)
	rpfilterThere = regexp.MustCompile(`-m rpfilter( --(?:loose|validmark|accept-local))* -j (?:RETURN|ACCEPT)$`)
	dropsAll      = regexp.MustCompile(`^(?:-A \S+ (?:-m comment --comment \S+ )*-j DROP|(?:counter(?: packets \d+ bytes \d+)? )?drop)$`)
)

// backAsked is the match by which a rule drops what has no way back; "" is none.
func backAsked(text string) string {
	if key := fibBack.FindString(text); key != "" {
		return key
	}
	return rpfilterBack.FindString(text)
}

// backAskedBefore finds the match in a rule before the one that drops all, in its chain;
// says is that rule, as evidence.
func (q *inquiry) backAskedBefore() (key, says string) {
	d := q.d.Rule
	sets, err := q.state.Rules(q.d.Netns)
	q.gap(err)
	for r := range sets.of(q.d.Backend).All() {
		if r.Family != d.Family || r.Table != d.Table || r.Chain != d.Chain || r.Number == 0 || r.Number >= d.Number {
			continue
		}
		text := quoted.ReplaceAllString(r.Text, `""`)
		for _, re := range []*regexp.Regexp{fibThere, rpfilterThere} {
			if m := re.FindString(text); m != "" {
				key, says = m, namedRule(ruleOf(r))+": "+r.Text
			}
		}
	}
	return key, says
}

// reversePathRule: a rule drops what does not come from where the way back to its source
// leads (nft_fib4_eval, net/ipv4/netfilter/nft_fib_ipv4.c; rpfilter_mt,
// net/ipv4/netfilter/ipt_rpfilter.c and their likes of IPv6, 6.12): they look up the
// source as the node itself would send to it.
func reversePathRule(q *inquiry) *claim {
	m, ok := q.decided()
	if !ok {
		return nil
	}
	text, before := quoted.ReplaceAllString(q.d.Rule.Text, `""`), ""
	key := backAsked(text)
	if key == "" && dropsAll.MatchString(text) {
		key, before = q.backAskedBefore()
	}
	if key == "" {
		return nil
	}
	loose := strings.Contains(key, "--loose") || strings.HasPrefix(key, "fib") && !keyOfLink.MatchString(key)
	e := endsAt(q.p)
	asked := q.wayOf(q.d.Netns).asked
	asked.Src, asked.Dst, asked.SrcPort, asked.DstPort, asked.IIF = e.Dst, e.Src, e.DstPort, e.SrcPort, routing.Loopback
	if !keyOfMark.MatchString(key) {
		asked.Mark = routing.Of(uint32(0))
	}
	w := q.ask(q.d.Netns, asked)
	a, sure := w.sure()
	if !sure || w.fib == nil {
		return nil
	}
	none := a.Route == nil || a.Error != 0
	if w.leads(int(q.d.IfIndex)) || loose && !none {
		return nil // by now the way back is there, or another one was asked
	}
	c := q.byRule(m)
	c.subject = "way back " + e.Src.String()
	why := fmt.Sprintf("the way back to %s does not lead out of %s, by which this came in", e.Src, q.d.Interface)
	if none {
		why = fmt.Sprintf("this node has no route back to %s", e.Src)
	}
	c.summary += ": it is a reverse path filter, and " + why
	if before != "" {
		c.evidence = append(c.evidence, before)
	}
	c.evidence = append(c.evidence, "the way back: "+w.words())
	c.missing = append(c.missing, "that the way back was the same when it died: routes and rules were read right after that")
	q.tellLostRoute(c, e.Src)
	q.tellRuleChange(c)
	c.fix = []string{fmt.Sprintf("mend the route or the policy rule: the way back to %s should lead out of %s: %s", e.Src, q.d.Interface, backCommand(w)),
		"leave the rule, which keeps forged sources out"}
	if pod, ok := q.podOf(e.Src); ok && pod != q.state.Node() {
		c.fix = append(c.fix, "see why the pod's route is gone: delete the calico-node or flannel pod of this node, which writes it")
	}
	return c
}
