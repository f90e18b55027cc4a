// SPDX-License-Identifier: Apache-2.0

package infer

// This file asks legacy tables.

import (
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/ruleset/legacy"
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
	"github.com/pathtrace/pathtrace/tracer/ruleset/tell"
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

func (t *legacyTable) rule(ordinal int) (model.Rule, error) { return tell.Legacy(t.table, ordinal) }
