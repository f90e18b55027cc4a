// SPDX-License-Identifier: Apache-2.0

package rulebook

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/journey"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
)

// comparing is a table of these chains. In a chain's rules, c is one that only
// compares and matches, n one that does not match, k one that counts, m one that
// sets the mark, d one that drops, r one that returns, >x a jump and =x a goto to
// chain x. Handles rise from 1 in the order written.
func comparing(t *testing.T, chains ...string) (map[ruleHandle]ruleAt, *way) {
	t.Helper()
	h, table, handle := map[ruleHandle]ruleAt{}, &nft.Table{Name: "t", Handle: 7}, uint64(0)
	no := map[uint64]bool{}
	verdict := func(code int32, chain string) nft.Expr {
		return nft.Immediate{Dst: nft.RegVerdict, Verdict: nft.Verdict{Code: code, Chain: chain}}
	}
	for _, text := range chains {
		name, rules, _ := strings.Cut(text, ":")
		c := &nft.Chain{Name: name, Handle: uint64(100 + len(table.Chains))}
		for word := range strings.FieldsSeq(rules) {
			handle++
			r := &nft.Rule{Table: "t", Chain: name, Handle: handle, Number: len(c.Rules) + 1}
			switch word[0] {
			case 'c', 'n':
				r.Exprs, no[handle] = []nft.Expr{nft.Cmp{}}, word == "n"
			case 'k':
				r.Exprs = []nft.Expr{nft.Counter{}}
			case 'm':
				r.Exprs = []nft.Expr{nft.Meta{Src: 1, Dst: nft.RegNone}}
			case 'd':
				r.Exprs = []nft.Expr{verdict(0, "")}
			case 'r':
				r.Exprs = []nft.Expr{verdict(nft.VerdictReturn, "")}
			case '>':
				r.Exprs = []nft.Expr{verdict(nft.VerdictJump, word[1:])}
			case '=':
				r.Exprs = []nft.Expr{verdict(nft.VerdictGoto, word[1:])}
			}
			c.Rules = append(c.Rules, r)
			h[ruleHandle{7, handle}] = ruleAt{table, r}
		}
		table.Chains = append(table.Chains, c)
	}
	named := func(name string) *nft.Chain {
		for _, c := range table.Chains {
			if c.Name == name {
				return c
			}
		}
		return nil
	}
	return h, &way{table: table, named: named, matches: func(r *nft.Rule) bool { return !no[r.Handle] },
		tell: func(r *nft.Rule) model.Rule { return model.Rule{Handle: r.Handle} }}
}

func TestRulesThatOnlyCompare(t *testing.T) {
	for _, c := range []struct {
		name   string
		chains []string
		seen   string // handles that matched, in order; policy decides where none does for good
		want   string // those inferred in brackets
	}{
		{"before the one that decides", []string{"b: c n d c"}, "3", "(1) 3"},
		{"before the policy", []string{"b: c n c"}, "", "(1) (3) policy"},
		{"between others", []string{"b: k c k n d"}, "1 3 5", "1 (2) 3 5"},
		{"in a chain that ends", []string{"b: c >a c d", "a: c n k c"}, "2 7 4", "(1) 2 (5) 7 (8) (3) 4"},
		{"in one that returns early", []string{"b: >a c d", "a: c r c"}, "1 5 3", "1 (4) 5 (2) 3"},
		{"behind a goto nothing more of the chain", []string{"b: >a c d", "a: =g c", "g: c k"}, "1 4 7 3", "1 4 (6) 7 (2) 3"},
		{"a chain twice", []string{"b: >a >a d", "a: c k"}, "1 5 2 5 3", "1 (4) 5 2 (4) 5 3"},
		{"a chain in which nothing is seen", []string{"b: >a d", "a: c"}, "1 2", "1 (3) 2"},
		{"none that compares", []string{"b: k d"}, "1 2", "1 2"},
		{"none that matches", []string{"b: n d"}, "2", "2"},
		{"a mark on the way", []string{"b: c m c d"}, "2 4", "2 4"},
		{"a rule that is not in the chain", []string{"b: c d", "a: k"}, "3 2", "3 2"},
		{"rules in the wrong order", []string{"b: c k k d"}, "3 2 4", "3 2 4"},
		{"a chain that is gone", []string{"b: c >x d"}, "2 3", "2 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, w := comparing(t, c.chains...)
			ev := &bpf.EventTable{Address: 7, ChainHandle: 100}
			ev.Chain[0] = 'b'
			r := journey.Ruling{Source: model.RuleExact}
			final := false
			for word := range strings.FieldsSeq(c.seen) {
				var handle uint64
				if _, err := fmt.Sscan(word, &handle); err != nil {
					t.Fatal(err)
				}
				m := &ev.M[ev.Matches]
				m.Rule, m.Verdict = handle, uint32(0xffffffff) // NFT_CONTINUE
				if x, ok := h[ruleHandle{7, handle}].rule.Exprs[0].(nft.Immediate); ok {
					m.Verdict = uint32(x.Verdict.Code)
					final = x.Verdict.Code >= 0
				}
				ev.Matches++
				r.Rules = append(r.Rules, model.Rule{Handle: handle})
			}
			if !final {
				r.Rules = append(r.Rules, model.Rule{Text: "policy"})
			}
			r.Decided = &r.Rules[len(r.Rules)-1]
			r = w.through(func(k ruleHandle) (ruleAt, bool) { at, ok := h[k]; return at, ok }, ev, r)
			var got []string
			for _, x := range r.Rules {
				switch {
				case x.Inferred:
					got = append(got, fmt.Sprintf("(%d)", x.Handle))
				case x.Handle == 0:
					got = append(got, x.Text)
				default:
					got = append(got, fmt.Sprint(x.Handle))
				}
			}
			if text := strings.Join(got, " "); text != c.want {
				t.Errorf("%s, want %s", text, c.want)
			}
			if r.Decided != &r.Rules[len(r.Rules)-1] {
				t.Error("the deciding rule is not the last one")
			}
		})
	}
}
