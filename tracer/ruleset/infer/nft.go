// SPDX-License-Identifier: Apache-2.0

package infer

// This file asks nftables tables, those of iptables-nft among them.

import (
	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
	"github.com/pathtrace/pathtrace/tracer/ruleset/tell"
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

func (t nftTable) walk(p *packet.Packet, target Target) (walked, error) {
	w, err := t.Set.Walk(p, t.Names, target.Family, target.Table, target.Chain)
	if err != nil {
		return walked{}, err
	}
	out := walked{unknown: w.Unknown, complete: w.Complete}
	for i := range w.Outcomes {
		out.ways = append(out.ways, t.way(&w.Outcomes[i], t.Table.Chain(target.Chain)))
	}
	return out, nil
}

func (t nftTable) way(o *nft.Outcome, base *nft.Chain) way {
	x := way{verdict: o.Verdict, mark: o.Packet.Mark}
	steps := o.Steps
	if decides := o.Deciding(); decides != nil {
		x.decides, steps = t.Rule(decides.Rule), steps[:len(steps)-1]
	} else {
		x.decides = t.Policy(base)
	}
	for _, s := range steps {
		if s.Certain {
			x.sure = append(x.sure, t.Rule(s.Rule))
		}
	}
	return x
}
