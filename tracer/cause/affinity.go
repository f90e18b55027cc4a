// SPDX-License-Identifier: Apache-2.0

package cause

// A rule that translated is found by what it translates to, where the packet's own way to
// it is not known: behind -m recent, -m statistic and their like nobody but the kernel
// knows which way a packet took.

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// affine is the match by which kube-proxy keeps a client at its endpoint.
var affine = regexp.MustCompile(`-m recent --rcheck --seconds (\d+) .*--name (\S+)`)

// tellCandidates adds the rules that translate to where a packet of a new connection went,
// if the one that did is not known, and those that lead to them by affinity.
func (q *inquiry) tellCandidates(c *claim, t *translation) {
	if !t.fresh || t.ipvs {
		return
	}
	sets, err := q.state.Rules(t.hop.Netns)
	q.gap(err)
	if err != nil {
		return
	}
	all := func(fits func(r meaning.Rule, text string) bool) (found []meaning.Rule) {
		for r := range sets.All() {
			if r.Table == "nat" && len(found) < alsoShown && fits(r, quoted.ReplaceAllString(r.Text, `""`)) {
				found = append(found, r)
			}
		}
		return found
	}
	var chains []string
	if t.rule != nil {
		chains = []string{t.rule.Chain}
	} else {
		for _, r := range all(func(_ meaning.Rule, text string) bool { return targets.MatchString(text) && sendsTo(text, t.to) }) {
			c.evidence = append(c.evidence, namedRule(ruleOf(r))+": "+r.Text)
			chains = append(chains, r.Chain)
		}
	}
	for _, chain := range chains {
		for _, led := range all(func(_ meaning.Rule, text string) bool {
			return affine.MatchString(text) && strings.HasSuffix(text, "-j "+chain)
		}) {
			m := affine.FindStringSubmatch(led.Text)
			c.evidence = append(c.evidence, namedRule(ruleOf(led))+": "+led.Text)
			c.summary += fmt.Sprintf("; by the service's session affinity a client stays there for %s s after it asked last (-m recent, list %s)", m[1], m[2])
			c.missing = append(c.missing, "whether it was affinity or chance that sent it there")
			c.fix = append(c.fix, fmt.Sprintf("see whether the client is in the list: grep %s /proc/net/xt_recent/%s; kube-proxy takes the endpoint's rules away when it is gone from the service: see that it has (kubectl get endpointslices -A)", t.hop.Before.Src, m[2]),
				fmt.Sprintf("let it go: echo -%s >/proc/net/xt_recent/%s, or set the service's sessionAffinity to None", t.hop.Before.Src, m[2]))
		}
	}
}
