// SPDX-License-Identifier: Apache-2.0

package infer

// This file asks nftables tables, those of iptables-nft among them.

import (
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
	"github.com/pathtrace/pathtrace/tracer/ruleset/tell"
	"github.com/pathtrace/pathtrace/tracer/ruleset/walk"
)

// nftTable is one table as it was at a generation of the rule set.
type nftTable struct{ tell.NFT }

// NFT makes a table one that can be asked.
func NFT(t tell.NFT) Rules { return nftTable{t} }

func (t nftTable) nat(target Target) bool {
	c := t.Table.Chain(target.Chain)
	return c != nil && c.Type == "nat"
}

func (t nftTable) hook(target Target) string {
	if c := t.Table.Chain(target.Chain); c != nil {
		return c.Hook
	}
	return target.Hook
}

func (t nftTable) walk(p *packet.Packet, target Target) (walk.Walk[model.Rule], error) {
	w, err := t.Set.Walk(p, t.Names, target.Family, target.Table, target.Chain)
	if err != nil {
		return walk.Walk[model.Rule]{}, err
	}
	return walk.Named(w, func(m nft.Matched) (model.Rule, error) {
		if m.Rule == nil {
			return t.Policy(t.Table.Chain(target.Chain)), nil
		}
		return t.Rule(m.Rule), nil
	})
}
