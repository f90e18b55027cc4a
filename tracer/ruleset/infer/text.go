// SPDX-License-Identifier: Apache-2.0

package infer

// This file tells nft's rules as people know them: in iptables' words where
// iptables wrote them, in nft's where not.

import (
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/ruleset/iptnft"
	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
)

// ruleText tells a rule.
func ruleText(t *nftTable, r *nft.Rule) model.Rule {
	m := model.Rule{Family: r.Family, Table: r.Table, Chain: r.Chain, Number: r.Number, Handle: r.Handle, Comment: r.Comment}
	if text, comment, ok := (iptnft.Printer{Sets: t.sets}).Text(t.table, r); ok {
		m.Text, m.Comment = text, comment
		return m
	}
	m.Text = t.rs.Text(r)
	return m
}

// policyText tells a base chain's policy.
func policyText(t *nftTable, c *nft.Chain) model.Rule {
	m := model.Rule{Family: c.Family, Table: c.Table, Chain: c.Name, Text: "policy " + c.Policy}
	if text, ok := iptnft.Policy(t.table, c); ok {
		m.Text = text
	}
	return m
}
