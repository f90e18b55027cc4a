// SPDX-License-Identifier: Apache-2.0

// The ends of Calico's endpoint chains: policies apply and none of them allowed
// the packet, or none applies and no profile did. Who had a say is read off the
// endpoint's chain (endpointIptablesChain, felix/rules/endpoints.go).

package meaning

import (
	"fmt"
	"math/bits"
	"strings"
)

const (
	tierStart    = "Start of tier "
	oldTierStart = "Start of policies"
	tierEnd      = "End of tier "
	noPolicies   = " if no policies passed packet"
	noProfiles   = " if no profiles matched"
)

// calicoTierEnd tells of the rule after a tier's policies. That it was reached
// means that each of them was asked and none allowed or passed the packet.
func calicoTierEnd(c calicoReading, m *Meaning) bool {
	comment := c.comment()
	if !strings.HasSuffix(comment, noPolicies) && !c.formOfTierEnd() {
		return false
	}
	m.Kind = TierEnd
	if rest, ok := strings.CutPrefix(comment, tierEnd); ok {
		m.Tier, _, _ = strings.Cut(rest, ". ")
	}
	jumps, tier := c.tierJumps()
	if m.Tier == "" {
		m.Tier = tier
	}
	m.What = "end of tier " + m.Tier
	if m.Tier == "" {
		m.What = "end of the policies"
	}
	for _, jump := range jumps {
		m.Policies = append(m.Policies, c.called(jump))
	}
	if len(jumps) == 1 {
		c.setPolicy(m, jumps[0])
	}
	m.Sentence = tierSentence(m, c.whose(m))
	return true
}

// inEndpointChain tells whether the deciding rule ends packets in an endpoint's
// chain and bears no comment: nft's listing of iptables-nft's rules loses them.
// Felix' rules can then still be told by what they test.
func (c calicoReading) inEndpointChain() bool {
	ends := c.action() == "drop" || c.action() == "reject"
	return ends && c.comment() == "" && (c.chain.role == workloadRole || c.chain.role == hostRole || c.chain.role == hostForwardRole)
}

// formOfTierEnd tells a tier's end by its test: that the pass mark is clear, one
// bit, and nothing else.
func (c calicoReading) formOfTierEnd() bool {
	l := c.line()
	return c.inEndpointChain() && l.markOnly && len(l.tests) == 1 && !l.tests[0].inverted &&
		l.tests[0].value == 0 && bits.OnesCount32(l.tests[0].mask) == 1
}

// formOfLastRule tells the end of the profiles: it tests nothing. The only other
// such rule stands alone in the chain of an endpoint that is switched off.
func (c calicoReading) formOfLastRule() bool {
	return c.inEndpointChain() && c.line().bare && c.rule().Number > 1
}

func tierSentence(m *Meaning, whose string) string {
	switch len(m.Policies) {
	case 0:
		return fmt.Sprintf("no Calico policy%s allows it: %s", in(whose), m.What)
	case 1:
		return fmt.Sprintf("%s%s does not allow it: %s", m.Policies[0], in(whose), m.What)
	}
	return fmt.Sprintf("none of %s%s allows it: %s", list(m.Policies), in(whose), m.What)
}

// tierJumps are the policies' chains that the tier before the deciding rule
// asks, each as a rule that is in it, and the tier's name.
func (c calicoReading) tierJumps() (jumps []Rule, tier string) {
	for _, rule := range c.reading.chain(c.rule()) {
		if rule.Number == c.rule().Number && rule.Text == c.rule().Text {
			break
		}
		l := parseLine(rule)
		if name, start := startOfTier(l.comments); start {
			jumps, tier = nil, name
			continue
		}
		jumps = append(jumps, c.policyJumps(rule, l)...)
	}
	return jumps, tier
}

func startOfTier(comments []string) (name string, start bool) {
	for _, comment := range humanComments(comments) {
		if name, start = strings.CutPrefix(comment, tierStart); start {
			return name, true
		}
		if comment == oldTierStart {
			return "", true
		}
	}
	return "", false
}

// policyJumps are the policies' chains that a rule leads to, through a group's
// chain if there is one.
func (c calicoReading) policyJumps(rule Rule, l line) []Rule {
	if l.action != "jump" {
		return nil
	}
	to := rule
	to.Chain, to.Number, to.Text, to.Comments = l.target, 0, "", nil
	switch caliChainOf(to).role {
	case policyRole:
		return []Rule{to}
	case groupRole:
		var jumps []Rule
		for _, inner := range c.reading.chain(to) {
			if l := parseLine(inner); l.action == "jump" {
				to.Chain = l.target
				jumps = append(jumps, to)
			}
		}
		return jumps
	}
	return nil
}

// calicoNoProfile tells of the end of an endpoint's chain: no tier's policies
// decided, and no profile allowed the packet.
func calicoNoProfile(c calicoReading, m *Meaning) bool {
	if !strings.HasSuffix(c.comment(), noProfiles) && !c.formOfLastRule() {
		return false
	}
	m.Kind = NoProfile
	for _, rule := range c.reading.chain(c.rule()) {
		to := rule
		l := parseLine(rule)
		if to.Chain, to.Number = l.target, 0; l.action == "jump" && caliChainOf(to).role == profileRole {
			m.Policies = append(m.Policies, c.called(to))
		}
	}
	m.What = "no policy decided on it and no profile allows it"
	m.Sentence = fmt.Sprintf("no Calico policy decided on it and no profile allows it%s", in(c.whose(m)))
	if len(m.Policies) > 0 {
		m.Sentence += ": asked " + list(m.Policies)
	}
	return true
}
