// SPDX-License-Identifier: Apache-2.0

package infer

// This file asks legacy tables.

import (
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/ruleset/legacy"
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
	"github.com/pathtrace/pathtrace/tracer/ruleset/tell"
	"github.com/pathtrace/pathtrace/tracer/ruleset/walk"
)

// legacyTable is one table of iptables-legacy.
type legacyTable struct {
	table *legacy.Table
}

// Legacy makes a table one that can be asked.
func Legacy(t *legacy.Table) Rules { return &legacyTable{t} }

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
	return tell.Legacy(t.table, ordinal)
}
