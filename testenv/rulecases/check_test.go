// SPDX-License-Identifier: Apache-2.0

// What is wrong with what was told of a case's packet: rules that are not there
// or not the case's, in another order, another decider, another text.

package rulecases

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// check compares what was told of a case's packet with what the rules make of it.
func (g *gallery) check(t *testing.T, f form, c placedCase, told []model.Packet, rules listing) {
	t.Helper()
	if len(told) == 0 {
		t.Fatalf("its packet was not told")
	}
	for _, p := range told {
		for _, problem := range g.problems(f, c, &p, rules) {
			t.Errorf("%s\n  told: %s", problem, tell(&p))
		}
	}
}

// problems lists what is wrong with what was told of a packet.
func (g *gallery) problems(f form, c placedCase, p *model.Packet, rules listing) (wrong []string) {
	note := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	var matched []string
	known := g.p.exact() || p.Drop == nil || p.Drop.RuleSource == model.RuleExact
	for i := range p.Hops {
		h := &p.Hops[i]
		if h.RulesUnknown != "" || h.RuleSource != model.RuleExact {
			known = known && !tableHop(h)
		}
		if !tableHop(h) {
			continue
		}
		if g.p.exact() && (h.RulesUnknown != "" || h.RuleSource != model.RuleExact) {
			note("rules of %s %s: source %q, unknown: %q", h.Table, h.Chain, h.RuleSource, h.RulesUnknown)
		}
		for j := range h.Rules {
			comment, problem := identify(&h.Rules[j], rules)
			if problem != "" {
				note("%s", problem)
			}
			if comment != "" && !strings.HasPrefix(comment, common) {
				matched = append(matched, comment)
			}
		}
	}
	var want []string
	for _, i := range c.want {
		if !slices.Contains(c.unseen, i) {
			want = append(want, c.comment(i))
		}
	}
	if known && !slices.Equal(matched, want) {
		note("rules that matched: %q, want %q", matched, want)
	}
	return append(wrong, g.verdictProblems(f, c, p, rules)...)
}

// tableHop tells whether a hop is a table's or base chain's verdict.
func tableHop(h *model.Hop) bool { return h.Stage == model.StageNetfilter && h.Table != "" }

// identify finds a told rule among those the tools list: its comment, or what
// is wrong with it. A policy has none.
func identify(r *model.Rule, rules listing) (comment, problem string) {
	if r.Number == 0 && r.Handle == 0 {
		return "", ""
	}
	l, ok := rules[ruleAt{r.Family, r.Table, r.Chain, r.Number}]
	switch {
	case !ok:
		return "", fmt.Sprintf("told a rule that is not there: %+v", *r)
	case l.handle != r.Handle:
		return l.comment, fmt.Sprintf("told handle %d of rule %d of %s %s, it has %d", r.Handle, r.Number, r.Table, r.Chain, l.handle)
	case r.Comment != "" && r.Comment != l.comment:
		return l.comment, fmt.Sprintf("told comment %q of rule %d of %s %s, it has %q", r.Comment, r.Number, r.Table, r.Chain, l.comment)
	}
	return l.comment, ""
}

// verdictProblems compares outcome and deciding rule.
func (g *gallery) verdictProblems(f form, c placedCase, p *model.Packet, rules listing) (wrong []string) {
	note := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if c.ends == passes {
		if p.Drop != nil && (p.Drop.Rule != nil || p.Drop.Reason == "NETFILTER_DROP") {
			note("it passed the rules, but was told dropped by them")
		}
		return wrong
	}
	outcome := map[string]model.Outcome{drops: model.Dropped, rejects: model.Rejected, policy: model.Dropped, queues: model.Dropped}[c.ends]
	d := p.Drop
	// without fentry a RST or ICMPv6 error that a rule sends is not seen
	likewise := !g.p.exact() && c.ends == rejects && p.Outcome == model.Dropped
	if p.Outcome != outcome && !likewise || d == nil {
		note("outcome %s, want %s", p.Outcome, outcome)
	}
	if d == nil {
		return wrong
	}
	if c.hook != "" && d.Family+" "+d.Hook != c.hook {
		note("died in hook %s %s, want %s", d.Family, d.Hook, c.hook)
	}
	if c.ends == queues && (d.Queue == nil || *d.Queue != deafQueue) {
		note("died of queue %v, want %d", d.Queue, deafQueue)
	}
	if d.Rule == nil {
		if g.mustName(f, d) || c.hook != "" || c.ends == queues {
			note("the deciding rule is not told: %q", d.RuleUnknown)
		}
		return wrong
	}
	if g.mustName(f, d) && d.RuleSource != model.RuleExact {
		note("rule_source %q, want exact", d.RuleSource)
	}
	return append(wrong, deciding(f, c, d, rules)...)
}

// deafQueue is the queue of the cases that end in one.
const deafQueue = 9

// mustName tells whether this backend sees the deciding rule in the kernel:
// fentry always, tracepoint where its links stand around a legacy filter table.
func (g *gallery) mustName(f form, d *model.Drop) bool {
	return g.p.exact() || f.backend == "legacy" && d.Table == "filter"
}

// deciding compares the rule told to have decided with the one that did.
func deciding(f form, c placedCase, d *model.Drop, rules listing) (wrong []string) {
	r := d.Rule
	if d.Backend != f.backend {
		wrong = append(wrong, fmt.Sprintf("backend %q, want %q", d.Backend, f.backend))
	}
	if c.ends == policy {
		words := strings.Fields(strings.ReplaceAll(c.chain, "{c}", fmt.Sprintf("c%d", c.port)))
		n := len(words)
		if r.Number != 0 || r.Table != words[n-2] || r.Chain != words[n-1] || !strings.Contains(strings.ToLower(r.Text), "drop") {
			wrong = append(wrong, fmt.Sprintf("told %+v, want the policy of %s", *r, c.chain))
		}
		return wrong
	}
	comment, problem := identify(r, rules)
	if problem != "" {
		wrong = append(wrong, problem)
	}
	if want := c.comment(c.want[len(c.want)-1]); comment != want {
		wrong = append(wrong, fmt.Sprintf("told %s (rule %d of %s %s) to have decided, it was %s", comment, r.Number, r.Table, r.Chain, want))
	}
	return wrong
}

var nftCounter = regexp.MustCompile(`counter packets \d+ bytes \d+`)

// plain is a rule's text without what changes by itself.
func plain(text string) string {
	text = nftHandle.ReplaceAllString(strings.TrimSpace(text), "")
	text = nftCounter.ReplaceAllString(text, "counter")
	return strings.Join(strings.Fields(text), " ")
}

// checkTexts compares the text of every rule told with what the tool prints.
func checkTexts(t *testing.T, exact bool, told map[uint16][]model.Packet, rules listing) {
	compared := map[ruleAt]bool{}
	for _, packets := range told {
		for _, p := range packets {
			for _, h := range p.Hops {
				for _, r := range h.Rules {
					at := ruleAt{r.Family, r.Table, r.Chain, r.Number}
					l, ok := rules[at]
					if !ok || compared[at] {
						continue
					}
					compared[at] = true
					if plain(r.Text) != plain(l.text) {
						t.Errorf("told %q\nlisted %q", r.Text, l.text)
					}
				}
			}
		}
	}
	t.Logf("%d texts compared", len(compared))
	if len(compared) == 0 && exact {
		t.Error("no rule's text was there to be compared")
	}
}

// tell puts a packet into a line for a failing test.
func tell(p *model.Packet) string {
	var b strings.Builder
	fmt.Fprintf(&b, "#%d %s %s %s:%d > %s:%d %s%s %s", p.ID, p.Direction, p.Proto, p.Src, p.SrcPort, p.Dst, p.DstPort, p.TCPFlags, p.ICMP, p.Outcome)
	if d := p.Drop; d != nil {
		fmt.Fprintf(&b, " %s in %s hook %s table %s %s", d.Reason, d.Function, d.Hook, d.Table, d.Chain)
		if d.Rule != nil {
			fmt.Fprintf(&b, " by %s %s %d handle %d (%s)", d.Rule.Table, d.Rule.Chain, d.Rule.Number, d.Rule.Handle, d.RuleSource)
		}
		fmt.Fprintf(&b, "%s", d.RuleUnknown)
	}
	for _, h := range p.Hops {
		if h.Table == "" {
			fmt.Fprintf(&b, " %s", h.Stage)
			continue
		}
		fmt.Fprintf(&b, " [%s %s %s %s %s", h.Hook, h.Family, h.Table, h.Chain, h.Verdict)
		for _, r := range h.Rules {
			fmt.Fprintf(&b, " %s#%d", r.Chain, r.Number)
		}
		fmt.Fprintf(&b, "%s]", h.RulesUnknown)
	}
	return b.String()
}
