// SPDX-License-Identifier: Apache-2.0

package cause

// Packets that died in a table without their rule being seen, beside others that
// died there of a known one.

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
)

func TestRuleUnseen(t *testing.T) {
	rule := func(text string) func(*model.Packet) {
		return func(p *model.Packet) {
			d := p.Drop
			d.Stage, d.Hook, d.Table, d.Chain, d.Backend, d.Family = model.StageNetfilter, "FORWARD", "filter", "FORWARD", "nft", "ip"
			if text == "" {
				d.RuleUnknown = "no rule seen to decide"
				return
			}
			d.Rule, d.RuleSource = &model.Rule{Family: "ip", Table: "filter", Chain: "FORWARD", Number: 1, Text: text}, model.RuleExact
		}
	}
	const one, two = "-A FORWARD -m comment --comment site-a -j DROP", "-A FORWARD -m comment --comment site-b -j DROP"
	otherHook := func(p *model.Packet) {
		rule("")(p)
		p.Drop.Hook, p.Drop.Chain = "POSTROUTING", "POSTROUTING"
	}
	for name, c := range map[string]struct {
		packets []func(*model.Packet)
		want    []string // confidence and packets of each finding
	}{
		"taken for the one known":       {[]func(*model.Packet){rule(""), rule(one)}, []string{"certain [1 2]"}},
		"two known, so either":          {[]func(*model.Packet){rule(""), rule(one), rule(two)}, []string{"certain [2]", "certain [3]", "likely [1]"}},
		"none known":                    {[]func(*model.Packet){rule(""), rule("")}, []string{"likely [1 2]"}},
		"known in another hook, so not": {[]func(*model.Packet){otherHook, rule(one)}, []string{"certain [2]", "likely [1]"}},
	} {
		t.Run(name, func(t *testing.T) {
			col := New(madeNode(), func(line string) { t.Error(line) })
			for i, edit := range c.packets {
				p := dead("NETFILTER_DROP", "nf_hook_slow+0x7d", edit)
				p.ID = uint64(i + 1)
				col.Packet(p)
			}
			var got []string
			for _, f := range col.Findings() {
				got = append(got, fmt.Sprint(f.Confidence, " ", f.Packets))
				says := slices.ContainsFunc(f.Evidence, func(e string) bool { return strings.HasPrefix(e, "1 more died in the same table") })
				if want := name == "taken for the one known"; says != want {
					t.Errorf("evidence %q", f.Evidence)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}
