// SPDX-License-Identifier: Apache-2.0

package infer

// This file asks legacy tables.

import (
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/ruleset/legacy"
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// legacyTable is one table of iptables-legacy.
type legacyTable struct {
	table *legacy.Table
}

// readLegacy reads a table. The kernel does not tell whether it changed: equal
// rules are taken for the same version, as they give the same answers.
func readLegacy(shelf *legacy.Shelf, k key, old *legacyTable) (ruleset, error) {
	var was *legacy.Table
	if old != nil {
		was = old.table
	}
	t, err := shelf.ReadAgain(k.family, k.table, was)
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

func (t *legacyTable) walk(p *packet.Packet, target Target) (walked, error) {
	hook, err := hookNumber(target.Hook)
	if err != nil {
		return walked{}, err
	}
	w, err := t.table.Walk(p, hook)
	if err != nil {
		return walked{}, err
	}
	out := walked{unknown: w.Unknown, complete: w.Complete}
	for _, o := range w.Outcomes {
		x, err := t.way(o)
		if err != nil {
			return walked{}, err
		}
		out.ways = append(out.ways, x)
	}
	return out, nil
}

func (t *legacyTable) way(o legacy.Outcome) (way, error) {
	x := way{verdict: o.Verdict, mark: o.Packet.Mark}
	var sure []int
	for _, s := range o.Steps[:len(o.Steps)-1] {
		if s.Certain {
			sure = append(sure, s.Ordinal)
		}
	}
	for _, i := range t.table.Visible(sure) {
		r, err := t.rule(i)
		if err != nil {
			return way{}, err
		}
		x.sure = append(x.sure, r)
	}
	var err error
	x.decides, err = t.rule(o.Deciding)
	return x, err
}

func (t *legacyTable) rule(ordinal int) (model.Rule, error) {
	r, err := t.table.Rule(ordinal)
	if err != nil {
		return model.Rule{}, err
	}
	return model.Rule{Family: r.Family, Table: r.Table, Chain: r.Chain, Number: r.Number, Text: r.Text, Comment: r.Comment()}, nil
}
