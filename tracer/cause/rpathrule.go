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

// reversePathRule: a rule drops what does not come from where the way back to its source
// leads (nft_fib4_eval, net/ipv4/netfilter/nft_fib_ipv4.c; rpfilter_mt,
// net/ipv4/netfilter/ipt_rpfilter.c and their likes of IPv6, 6.12): they look up the
// source as the node itself would send to it.
func reversePathRule(q *inquiry) *claim {
	m, ok := q.decided()
	if !ok {
		return nil
	}
	text := quoted.ReplaceAllString(q.d.Rule.Text, `""`)
	key, loose := fibBack.FindString(text), false
	if key != "" {
		loose = !keyOfLink.MatchString(key)
	} else if key = rpfilterBack.FindString(text); key != "" {
		loose = strings.Contains(key, "--loose")
	} else {
		return nil
	}
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
	c.summary += fmt.Sprintf(": it is a reverse path filter, and the way back to %s does not lead out of %s, by which this came in", e.Src, q.d.Interface)
	if none {
		c.summary = q.byRule(m).summary + fmt.Sprintf(": it is a reverse path filter, and this node has no route back to %s", e.Src)
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
