// SPDX-License-Identifier: Apache-2.0

// Package tell says a rule as people know it: the line that iptables-save prints
// of a legacy rule and of one that iptables-nft wrote, and nft's own words for all
// others. It is the one place that does.
package tell

import (
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/ruleset/iptnft"
	"github.com/pathtrace/pathtrace/tracer/ruleset/legacy"
	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
	"github.com/pathtrace/pathtrace/tracer/ruleset/xt"
)

// Legacy tells the entry of a legacy table with an ordinal. It fails where the
// entry's matches or target cannot be put into words.
func Legacy(t *legacy.Table, ordinal int) (model.Rule, error) {
	r, err := t.Rule(ordinal)
	if err != nil {
		return model.Rule{}, err
	}
	return model.Rule{Family: r.Family, Table: r.Table, Chain: r.Chain, Number: r.Number, Text: r.Text, Comment: r.Comment()}, nil
}

// NFT tells the rules of an nft table.
type NFT struct {
	Set   *nft.Ruleset // that it was read with
	Table *nft.Table
	Names xt.SetNames // of ipsets, which iptables' rules have by number; nil: none is named
}

// Rule tells one of the table's rules.
func (n NFT) Rule(r *nft.Rule) model.Rule {
	m := model.Rule{Family: r.Family, Table: r.Table, Chain: r.Chain, Number: r.Number, Handle: r.Handle, Comment: r.Comment}
	if text, comment, ok := (iptnft.Printer{Sets: n.Names}).Text(n.Table, r); ok {
		m.Text, m.Comment = text, comment
		return m
	}
	m.Text = n.Set.Text(r)
	return m
}

// Policy tells the policy of one of its base chains.
func (n NFT) Policy(c *nft.Chain) model.Rule {
	m := model.Rule{Family: c.Family, Table: c.Table, Chain: c.Name, Text: "policy " + c.Policy}
	if text, ok := iptnft.Policy(n.Table, c); ok {
		m.Text = text
	}
	return m
}
