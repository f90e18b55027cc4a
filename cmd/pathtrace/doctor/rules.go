// SPDX-License-Identifier: Apache-2.0

package doctor

// This file counts the rules of both iptables backends and of native nft, and
// notes the chains, by which a dataplane is recognised.

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/kernel"
	"github.com/pathtrace/pathtrace/tracer/node"
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

// readRules reads the rule sets of the node. Neither backend is asked unless it
// is there: asking would load it.
func readRules(ctx context.Context, ns *node.Namespaces) (ruleFacts, error) {
	f := ruleFacts{legacy: RuleCounts{Backend: node.BackendLegacy, Tables: []TableCount{}}, nft: RuleCounts{Backend: node.BackendNFT, Tables: []TableCount{}}}
	var tables []*legacy.Table
	err := ns.Do(ns.Node().Inode, func() (err error) { tables, err = legacy.ReadAll(); return err })
	if err != nil {
		err = fmt.Errorf("read the legacy tables: %w", err)
		f.legacy.Note = err.Error()
	}
	for _, t := range tables {
		f.addLegacy(t)
	}
	if err == nil && len(tables) == 0 {
		f.legacy.Note = "no legacy table is in use"
	}
	return f, errors.Join(err, f.readNFT(ctx, ns))
}

func (f *ruleFacts) addLegacy(t *legacy.Table) {
	chains := t.Chains()
	for _, c := range chains {
		f.chains = append(f.chains, chain{node.BackendLegacy, t.Family, t.Name, c.Name})
	}
	f.legacy.Rules += t.Rules()
	f.legacy.Tables = append(f.legacy.Tables, TableCount{Family: t.Family, Table: t.Name, Chains: len(chains), Rules: t.Rules()})
}

func (f *ruleFacts) readNFT(ctx context.Context, ns *node.Namespaces) error {
	there, err := hasNFT()
	if err == nil && !there {
		f.nft.Note = "nf_tables is not loaded"
		return nil
	}
	var rs *nft.Ruleset
	if err == nil {
		err = ns.Do(ns.Node().Inode, func() (err error) { rs, err = nft.Read(ctx); return err })
	}
	if err != nil {
		err = fmt.Errorf("read the nft tables: %w", err)
		f.nft.Note = err.Error()
		return err
	}
	for _, t := range rs.Tables {
		f.addNFT(t)
	}
	f.nft.Rules = rs.Count()
	if len(rs.Tables) == 0 {
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

// hasNFT tells whether nf_tables is loaded or built in
// (net/netfilter/nf_tables_api.c).
func hasNFT() (bool, error) {
	modules, err := kernel.LoadedModules()
	if err != nil || slices.Contains(modules, "nf_tables") {
		return err == nil, err
	}
	const symbol = "nf_tables_getchain"
	builtin, err := kernel.HasBuiltin(symbol)
	return builtin[symbol], err
}
