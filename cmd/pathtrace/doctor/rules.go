// SPDX-License-Identifier: Apache-2.0

package doctor

// This file counts the rules of both iptables backends and of native nft, and
// notes the chains, by which a dataplane is recognised.

import (
	"context"
	"errors"
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/rulebook"
	"github.com/pathtrace/pathtrace/tracer/ruleset/legacy"
	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
)

// RuleCounts is one backend's tables.
type RuleCounts struct {
	Backend string       `json:"backend"` // legacy, nft
	Rules   int          `json:"rules"`   // without policies
	Tables  []TableCount `json:"tables"`
	Note    string       `json:"note,omitempty"` // why there are none
}

// TableCount is one table.
type TableCount struct {
	Family string `json:"family"`
	Table  string `json:"table"`
	Chains int    `json:"chains"`
	Rules  int    `json:"rules"`
}

// chain is where a chain stands.
type chain struct {
	backend, family, table, name string
}

// ruleFacts is what is used of the rule sets.
type ruleFacts struct {
	legacy, nft RuleCounts
	chains      []chain
}

func (f ruleFacts) counts() []RuleCounts { return []RuleCounts{f.legacy, f.nft} }

// readRules reads the rule sets of the node.
func readRules(ctx context.Context, ns *node.Namespaces) (ruleFacts, error) {
	f := ruleFacts{legacy: RuleCounts{Backend: node.BackendLegacy, Tables: []TableCount{}}, nft: RuleCounts{Backend: node.BackendNFT, Tables: []TableCount{}}}
	sets := rulebook.Now(ctx, ns, ns.Node().Inode)
	err := sets.LegacyErr
	if err != nil {
		err = fmt.Errorf("read the legacy tables: %w", err)
		f.legacy.Note = err.Error()
	}
	for _, t := range sets.Legacy {
		f.addLegacy(t)
	}
	if err == nil && len(sets.Legacy) == 0 {
		f.legacy.Note = "no legacy table is in use"
	}
	return f, errors.Join(err, f.addSet(sets))
}

func (f *ruleFacts) addLegacy(t *legacy.Table) {
	chains := t.Chains()
	for _, c := range chains {
		f.chains = append(f.chains, chain{node.BackendLegacy, t.Family, t.Name, c.Name})
	}
	f.legacy.Rules += t.Rules()
	f.legacy.Tables = append(f.legacy.Tables, TableCount{Family: t.Family, Table: t.Name, Chains: len(chains), Rules: t.Rules()})
}

func (f *ruleFacts) addSet(sets rulebook.Standing) error {
	switch {
	case sets.NFTErr != nil:
		err := fmt.Errorf("read the nft tables: %w", sets.NFTErr)
		f.nft.Note = err.Error()
		return err
	case sets.NFT == nil:
		f.nft.Note = "nf_tables is not loaded"
		return nil
	}
	for _, t := range sets.NFT.Tables {
		f.addNFT(t)
	}
	f.nft.Rules = sets.NFT.Count()
	if len(sets.NFT.Tables) == 0 {
		f.nft.Note = "no nft table is in use"
	}
	return nil
}

func (f *ruleFacts) addNFT(t *nft.Table) {
	n := 0
	for _, c := range t.Chains {
		n += len(c.Rules)
		f.chains = append(f.chains, chain{node.BackendNFT, t.Family, t.Name, c.Name})
	}
	f.nft.Tables = append(f.nft.Tables, TableCount{Family: t.Family, Table: t.Name, Chains: len(t.Chains), Rules: n})
}
