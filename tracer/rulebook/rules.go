// SPDX-License-Identifier: Apache-2.0

package rulebook

// This file holds one version of a rule set, with what was made of it before:
// texts are made when they are asked for, and most packets of a flow take the same
// way.

import (
	"errors"
	"iter"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/infer"
	"github.com/pathtrace/pathtrace/tracer/ruleset/ipset"
	"github.com/pathtrace/pathtrace/tracer/ruleset/legacy"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
	"github.com/pathtrace/pathtrace/tracer/ruleset/tell"
	"github.com/pathtrace/pathtrace/tracer/ruleset/xt"
)

// legacyRules is a legacy table as it was.
type legacyRules struct {
	table   *legacy.Table
	rulings map[string]ruling // by what counted
	heard   bool              // what it does with ipsets is known
}

// keptRulings bounds the rulings that are remembered of one version.
const keptRulings = 1024

func newLegacyRules(t *legacy.Table) *legacyRules {
	return &legacyRules{table: t, rulings: make(map[string]ruling)}
}

// all tells the rules of a chain, or of all chains; one that cannot be put into
// words counts by its place.
func (l *legacyRules) all(chain string) iter.Seq[meaning.Rule] {
	return func(yield func(meaning.Rule) bool) {
		for i, e := range l.table.Entries {
			if e.Kind != legacy.KindRule || chain != "" && e.Chain != chain {
				continue
			}
			m := meaning.Rule{Backend: node.BackendLegacy, Family: l.table.Family, Table: l.table.Name, Chain: e.Chain}
			if r, err := l.table.Rule(i); err == nil {
				m.Number, m.Text, m.Comments = r.Number, r.Text, r.Comments
			}
			if !yield(m) {
				return
			}
		}
	}
}

// nftRules is an nft rule set as it was.
type nftRules struct {
	set   *nft.Ruleset
	names ipset.Names
	told  map[*nft.Rule]model.Rule
	rules map[ruleHandle]ruleAt // nil until a handle is asked for
	// settles is when it is to be read once more (kernel clock), as sets of it may
	// have been read before they were what the commit made of them; 0: never.
	settles uint64
	// compared are the chains that have rules which only compare; nil until asked.
	compared map[*nft.Chain]bool
}

// ruleHandle names a rule for good: the handle of a table is used once in a
// namespace, that of a rule once in a table (net/netfilter/nf_tables_api.c:
// table_handle, nf_tables_alloc_handle), and a rule is never changed in place.
type ruleHandle struct{ table, rule uint64 }

// ruleAt is a rule and its table.
type ruleAt struct {
	table *nft.Table
	rule  *nft.Rule
}

// newNFTRules reads the names of ipsets, where rules name some: to the kernel they
// are numbers.
func newNFTRules(set *nft.Ruleset) (*nftRules, error) {
	n := &nftRules{set: set, told: make(map[*nft.Rule]model.Rule)}
	if !namesSets(set) {
		return n, nil
	}
	var err error
	if n.names, err = ipset.ReadNames(); err != nil && !errors.Is(err, ipset.ErrNoSupport) {
		return nil, err
	}
	return n, nil
}

// namesSets tells whether a rule has iptables' set match or SET target.
func namesSets(set *nft.Ruleset) bool {
	for range setExprs(set) {
		return true
	}
	return false
}

// setExprs are the expressions by which rules name ipsets, with their tables.
func setExprs(set *nft.Ruleset) iter.Seq2[*nft.Table, nft.Expr] {
	return func(yield func(*nft.Table, nft.Expr) bool) {
		for _, t := range set.Tables {
			for _, c := range t.Chains {
				for _, r := range c.Rules {
					for _, x := range r.Exprs {
						if namesSet(x) && !yield(t, x) {
							return
						}
					}
				}
			}
		}
	}
}

func namesSet(x nft.Expr) bool {
	switch x := x.(type) {
	case nft.Match:
		return x.Name == "set"
	case nft.Target:
		return x.Name == "SET"
	}
	return false
}

// ipsets gives the ipsets that rules ask, and the names of those that they change.
func (n *nftRules) ipsets() (asked []xt.SetUse, filled []string) {
	if n.names == nil {
		return nil, nil
	}
	for t, x := range setExprs(n.set) {
		with := xt.Context{Family: t.Family, Sets: n.names}
		switch x := x.(type) {
		case nft.Match:
			asked = append(asked, xt.DecodeMatch(with, x.Name, uint8(x.Rev), x.Info).Set())
		case nft.Target:
			filled = append(filled, xt.DecodeTarget(with, x.Name, uint8(x.Rev), x.Info).Fills()...)
		}
	}
	return asked, filled
}

// setNames are the names of ipsets; nil where there are none.
func (n *nftRules) setNames() xt.SetNames {
	if n.names == nil {
		return nil
	}
	return n.names
}

func (n *nftRules) teller(t *nft.Table) tell.NFT {
	return tell.NFT{Set: n.set, Table: t, Names: n.setNames()}
}

// tell says one rule.
func (n *nftRules) tell(at ruleAt) model.Rule {
	m, known := n.told[at.rule]
	if !known {
		m = n.teller(at.table).Rule(at.rule)
		n.told[at.rule] = m
	}
	return m
}

// find gives the rule with a handle.
func (n *nftRules) find(h ruleHandle) (ruleAt, bool) {
	if n.rules == nil {
		n.rules = make(map[ruleHandle]ruleAt, n.set.Count())
		for _, t := range n.set.Tables {
			for _, c := range t.Chains {
				for _, r := range c.Rules {
					n.rules[ruleHandle{t.Handle, r.Handle}] = ruleAt{t, r}
				}
			}
		}
	}
	at, ok := n.rules[h]
	return at, ok
}

// base gives a base chain by the handles of its table and of itself.
func (n *nftRules) base(table, chain uint64) (*nft.Table, *nft.Chain) {
	for _, t := range n.set.Tables {
		if t.Handle != table {
			continue
		}
		for _, c := range t.Chains {
			if c.Handle == chain && c.Base() {
				return t, c
			}
		}
	}
	return nil, nil
}

// all tells the rules of all tables, and the base chains by their policies.
func (n *nftRules) all() iter.Seq[meaning.Rule] {
	return func(yield func(meaning.Rule) bool) {
		for _, t := range n.set.Tables {
			for _, c := range t.Chains {
				if c.Base() && !yield(meaning.RuleOf(node.BackendNFT, n.teller(t).Policy(c))) {
					return
				}
				for _, r := range c.Rules {
					if !yield(meaning.RuleOf(node.BackendNFT, n.teller(t).Rule(r))) {
						return
					}
				}
			}
		}
	}
}

// chain tells the rules of one chain.
func (n *nftRules) chain(family, table, chain string) (all []meaning.Rule) {
	t := n.set.Table(family, table)
	if t == nil || t.Chain(chain) == nil {
		return nil
	}
	for _, r := range t.Chain(chain).Rules {
		all = append(all, meaning.RuleOf(node.BackendNFT, n.tell(ruleAt{t, r})))
	}
	return all
}

// askable gives an nft table as packets are held against it; nil: there is none.
func (n *nftRules) askable(family, table string) infer.Rules {
	t := n.set.Table(family, table)
	if t == nil {
		return nil
	}
	return infer.NFT(n.teller(t))
}
