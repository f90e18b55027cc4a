// SPDX-License-Identifier: Apache-2.0

package infer

// This file asks nftables tables, those of iptables-nft among them.

import (
	"context"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/ruleset/ipset"
	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
	"github.com/pathtrace/pathtrace/tracer/ruleset/walk"
	"github.com/pathtrace/pathtrace/tracer/ruleset/xt"
)

// nftTable is one table as it was at a generation of the rule set.
type nftTable struct {
	rs    *nft.Ruleset
	table *nft.Table
	sets  xt.SetNames // of ipsets; nil: no rule names one
}

// readNFT reads a table; was comes back if no commit was made since.
func readNFT(ctx context.Context, k key, was *nftTable) (ruleset, error) {
	var rs *nft.Ruleset
	var err error
	if was == nil {
		rs, err = nft.ReadTable(ctx, k.family, k.table)
	} else {
		rs, err = was.rs.Refresh(ctx, was.table)
		if err == nil && rs == was.rs {
			return was, nil
		}
	}
	if err != nil {
		return nil, err
	}
	t := rs.Table(k.family, k.table)
	if t == nil {
		return nil, nft.ErrNotFound
	}
	names, err := setNames(t)
	if err != nil {
		return nil, err
	}
	return &nftTable{rs, t, names}, nil
}

// setNames reads the names of the ipsets, if a rule of the table names one: in
// the rules they are numbers.
func setNames(t *nft.Table) (names xt.SetNames, err error) {
	if !usesSets(t) {
		return nil, nil
	}
	return ipset.ReadNames()
}

// usesSets tells whether a rule of the table has iptables' set match or SET target.
func usesSets(t *nft.Table) bool {
	for _, c := range t.Chains {
		for _, r := range c.Rules {
			for _, e := range r.Exprs {
				switch e := e.(type) {
				case nft.Match:
					if e.Name == "set" {
						return true
					}
				case nft.Target:
					if e.Name == "SET" {
						return true
					}
				}
			}
		}
	}
	return false
}

func (t *nftTable) nat(target Target) bool {
	c := t.table.Chain(target.Chain)
	return c != nil && c.Type == "nat"
}

func (t *nftTable) hook(target Target) string {
	if c := t.table.Chain(target.Chain); c != nil {
		return c.Hook
	}
	return target.Hook
}

func (t *nftTable) walk(p *packet.Packet, target Target) (walk.Walk[model.Rule], error) {
	w, err := t.rs.Walk(p, t.sets, target.Family, target.Table, target.Chain)
	if err != nil {
		return walk.Walk[model.Rule]{}, err
	}
	return walk.Named(w, func(m nft.Matched) (model.Rule, error) {
		if m.Rule == nil {
			return policyText(t, t.table.Chain(target.Chain)), nil
		}
		return ruleText(t, m.Rule), nil
	})
}
