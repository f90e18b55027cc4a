// SPDX-License-Identifier: Apache-2.0

package cause

// The cause forward-policy: nothing accepts, and what nothing accepts is dropped.

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// forwardPolicy: the chain's policy drops what no rule of FORWARD accepts.
func forwardPolicy(q *inquiry) *claim {
	if q.d.Hook != "FORWARD" {
		return nil
	}
	m, ok := q.decided()
	if !ok {
		return emptyChain(q)
	}
	if m.Kind != meaning.ChainPolicy {
		return nil
	}
	c := q.byRule(m)
	c.summary = fmt.Sprintf("the policy of FORWARD in table %s (%s) is to drop, and no rule of it accepts the packet", q.d.Rule.Table, backendWords(q.d))
	c.fix = q.openFix(q.d.Backend, q.d.Rule.Family, q.d.Rule.Table, q.d.Rule.Chain)
	q.tellBridged(c)
	return c
}

// openFix opens a FORWARD chain whose policy is to drop.
func (q *inquiry) openFix(backend, family, table, chain string) []string {
	src, dst := endsAt(q.p).Src, endsAt(q.p).Dst
	fix := []string{"see that the CNI plugin's accept rules are there: flannel writes FLANNEL-FWD (--iptables-forward-rules), Calico cali-FORWARD"}
	if q.isReply() {
		return append(append(fix, q.replyFix()...), "find who sets it: Docker does at its start, unless its ip-forward-no-drop is set")
	}
	if tool := toolOf(backend, family, table); tool != "" {
		fix = append(fix, fmt.Sprintf("accept this traffic only: %s -I FORWARD -s %s -d %s -j ACCEPT", tool, src, dst),
			fmt.Sprintf("or set the policy back: %s -P FORWARD ACCEPT", tool))
	} else {
		fix = append(fix, fmt.Sprintf("accept it in that chain: nft add rule %s %s %s ip saddr %s ip daddr %s accept", family, table, chain, src, dst))
	}
	return append(fix, "find who sets it: Docker does at its start, unless its ip-forward-no-drop is set")
}

// emptyChain: the backend cannot tell which of several nft chains dropped the
// packet, but one of them has no rule and a policy that drops everything.
func emptyChain(q *inquiry) *claim {
	if len(q.d.Candidates) == 0 {
		return nil
	}
	sets, err := q.state.Rules(q.d.Netns)
	if err != nil {
		q.gap(err)
		return nil
	}
	for chain := range sets.NFT.All() {
		if !isPolicy(chain) || !strings.HasSuffix(strings.ToLower(chain.Text), " drop") || !q.candidate(chain) || hasRules(sets.NFT, chain) {
			continue
		}
		c := &claim{summary: fmt.Sprintf("the policy of chain %s in table %s is to drop, and no rule of it accepts the packet", chain.Chain, chain.Table)}
		c.evidence = []string{q.where(), fmt.Sprintf("nft: table %s %s, chain %s: %s, and no rule", chain.Family, chain.Table, chain.Chain, chain.Text)}
		c.missing = []string{"which of these tables it was, seen in the kernel: " + strings.Join(q.d.Candidates.Strings(), "; ")}
		c.fix = q.openFix("nft", chain.Family, chain.Table, chain.Chain)
		return c
	}
	return nil
}

// isPolicy tells a chain's policy from a rule.
func isPolicy(r meaning.Rule) bool {
	return r.Number == 0 && (strings.HasPrefix(r.Text, ":") || strings.HasPrefix(r.Text, "policy "))
}

// candidate tells whether a chain is one of those that may have dropped it.
func (q *inquiry) candidate(chain meaning.Rule) bool {
	return slices.ContainsFunc(q.d.Candidates, func(c model.Candidate) bool {
		return c.Backend == "nft" && c.Family == chain.Family && c.Table == chain.Table && c.Chain == chain.Chain
	})
}

func hasRules(rules Rules, chain meaning.Rule) bool {
	for r := range rules.All() {
		if !isPolicy(r) && r.Family == chain.Family && r.Table == chain.Table && r.Chain == chain.Chain {
			return true
		}
	}
	return false
}
