// SPDX-License-Identifier: Apache-2.0

// What pathtrace tells of a packet against what the kernel's own TRACE tells of
// the same one: the same rules and policies, in the same order.

package rulecases

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// step is one rule or policy on a packet's way, as both sides know it.
func step(family, table, chain, rule string) string {
	return family + " " + table + " " + chain + " " + rule
}

// kernelWays gives the steps of each case's packet by the kernel's TRACE.
func kernelWays(records []tracedRule, cases []placedCase, told map[uint16][]model.Packet, rules listing) map[uint16][]string {
	lengths := map[ruleAt]int{}
	for at := range rules {
		number := at.number
		at.number = 0
		lengths[at] = max(lengths[at], number)
	}
	byKey := map[string]uint16{}
	for _, c := range cases {
		for _, p := range told[c.port] {
			for _, key := range keysOf(&p) {
				byKey[key] = c.port
			}
		}
	}
	ways := map[uint16][]string{}
	ids := map[uint32]uint16{}
	for _, r := range records {
		if port, ours := byKey[r.packet]; ours || r.packet != "" && r.id == 0 {
			ids[r.id] = port
		}
		if port := ids[r.id]; port != 0 {
			if s := r.step(rules, lengths); s != "" {
				ways[port] = append(ways[port], s)
			}
		}
	}
	return ways
}

// step is the record as a step; "" for the end of a chain, which is no rule (nft:
// told as a rule or a return without a handle). In legacy TRACE a rule without a match that accepts, drops or returns is called
// policy or return too (net/ipv4/netfilter/ip_tables.c, get_chainname_rulenum):
// only behind the last rule it is one.
func (r tracedRule) step(rules listing, lengths map[ruleAt]int) string {
	at := ruleAt{family: r.family, table: r.table, chain: r.chain}
	if r.number > 0 {
		if r.number <= lengths[at] {
			return step(r.family, r.table, r.chain, strconv.Itoa(r.number))
		}
		if r.kind == "return" {
			return ""
		}
		return step(r.family, r.table, r.chain, "policy")
	}
	switch {
	case r.kind == "policy":
		return step(r.family, r.table, r.chain, "policy")
	case r.handle == 0:
		return ""
	}
	return step(r.family, r.table, r.chain, fmt.Sprint("handle ", r.handle))
}

// toldWay gives the steps of a packet as pathtrace told them.
func toldWay(p *model.Packet) (steps []string, unknown string) {
	for _, h := range p.Hops {
		if h.RulesUnknown != "" {
			unknown = h.RulesUnknown
		}
		for _, r := range h.Rules {
			rule := "policy"
			if r.Handle != 0 {
				rule = fmt.Sprint("handle ", r.Handle)
			} else if r.Number != 0 {
				rule = strconv.Itoa(r.Number)
			}
			steps = append(steps, step(r.Family, r.Table, r.Chain, rule))
		}
	}
	return steps, unknown
}

// allExact tells whether every table's rules were seen matching.
func allExact(p *model.Packet) bool {
	return !slices.ContainsFunc(p.Hops, func(h model.Hop) bool { return tableHop(&h) && h.RuleSource != model.RuleExact }) &&
		(p.Drop == nil || p.Drop.RuleSource == model.RuleExact)
}

// behindTrace leaves out what comes before TRACE was switched on, and the rule
// that did it: kernels differ on whether that is traced itself.
func behindTrace(steps []string, rules listing) []string {
	for i, s := range steps {
		for at, l := range rules {
			if l.comment == common+"trace" &&
				(s == step(at.family, at.table, at.chain, strconv.Itoa(at.number)) || s == step(at.family, at.table, at.chain, fmt.Sprint("handle ", l.handle))) {
				return steps[i+1:]
			}
		}
	}
	return steps
}

// withoutUnseen leaves out the case's rules that pathtrace is known not to tell.
func (c placedCase) withoutUnseen(steps []string, rules listing) []string {
	return slices.DeleteFunc(steps, func(s string) bool {
		for _, i := range c.unseen {
			for at, l := range rules {
				if l.comment == c.comment(i) && s == step(at.family, at.table, at.chain, fmt.Sprint("handle ", l.handle)) {
					return true
				}
			}
		}
		return false
	})
}

// compareTraces wants both sides to tell the same of every case's packet. Cases
// that never come by the rule that switches TRACE on are left out.
func (g *gallery) compareTraces(t *testing.T, f form, cases []placedCase, told map[uint16][]model.Packet, rules listing, records []tracedRule) {
	kernel := kernelWays(records, cases, told, rules)
	compared := 0
	for _, c := range cases {
		want := c.withoutUnseen(behindTrace(kernel[c.port], rules), rules)
		if len(kernel[c.port]) == 0 {
			t.Logf("%s: not traced by the kernel", c.name)
			continue
		}
		if len(told[c.port]) != 1 {
			t.Errorf("%s: %d packets told, want one", c.name, len(told[c.port]))
			continue
		}
		p := &told[c.port][0]
		if !g.p.exact() && !allExact(p) {
			continue
		}
		got, unknown := toldWay(p)
		compared++
		if got = behindTrace(got, rules); !slices.Equal(got, want) {
			t.Errorf("%s:\n  told   %s\n  kernel %s\n  %s", c.name, strings.Join(got, "; "), strings.Join(want, "; "), unknown)
		}
	}
	t.Logf("%d packets compared with the kernel's TRACE, %d messages", compared, len(records))
	if g.p.exact() && compared < min(30, len(cases)) {
		t.Errorf("only %d packets were traced by the kernel", compared)
	}
}
