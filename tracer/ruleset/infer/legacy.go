// SPDX-License-Identifier: Apache-2.0

package infer

// This file asks legacy tables.

import (
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/ruleset/legacy"
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
	"github.com/pathtrace/pathtrace/tracer/ruleset/walk"
)

// legacyTable is one table of iptables-legacy.
type legacyTable struct {
	table *legacy.Table
}

// readLegacy reads a table. The kernel does not tell whether it changed: equal
// rules are taken for the same version, as they give the same answers.
func readLegacy(k key, old *legacyTable) (ruleset, error) {
	var was *legacy.Table
	if old != nil {
		was = old.table
	}
	t, err := legacy.ReadAgain(k.family, k.table, was)
	if err != nil {
		return nil, err
	}
	if t == was {
		return old, nil
	}
	return &legacyTable{t}, nil
}

func (t *legacyTable) nat(Target) bool { return t.table.Name == "nat" }

func (t *legacyTable) hook(target Target) string { return target.Hook }

// hookNumber is the number of a hook (NF_INET_*).
func hookNumber(name string) (int, error) {
	for hook := range legacy.Hooks {
		if legacy.HookName(hook) == name {
			return hook, nil
		}
	}
	return 0, fmt.Errorf("hook %q: no legacy table has it", name)
}

func (t *legacyTable) walk(p *packet.Packet, target Target) (walk.Walk[model.Rule], error) {
	hook, err := hookNumber(target.Hook)
	if err != nil {
		return walk.Walk[model.Rule]{}, err
	}
	w, err := t.table.Walk(p, hook)
	if err != nil {
		return walk.Walk[model.Rule]{}, err
	}
	return walk.Named(w, t.rule)
}

// rule tells an entry; people know no ends of chains.
func (t *legacyTable) rule(ordinal int) (model.Rule, error) {
	if len(t.table.Visible([]int{ordinal})) == 0 {
		return model.Rule{}, nil
	}
	r, err := t.table.Rule(ordinal)
	if err != nil {
		return model.Rule{}, err
	}
	return model.Rule{Family: r.Family, Table: r.Table, Chain: r.Chain, Number: r.Number, Text: r.Text, Comment: r.Comment()}, nil
}
