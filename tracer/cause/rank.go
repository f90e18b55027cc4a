// SPDX-License-Identifier: Apache-2.0

package cause

// This file makes cases into findings: cases with one cause become one, and the
// one that explains most packets comes first.

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

const (
	// maxFindings bounds what is told.
	maxFindings = 24
	// alsoShown is how many further cases of one cause a finding mentions.
	alsoShown = 3
)

// found is a finding in the making.
type found struct {
	claim   *claim
	packets int
	ids     []uint64
	also    []string // summaries of further cases with the same cause
	rank    int      // of the code in the table
	of      []signature
	unseen  int // packets taken for it whose rule was not seen
}

// Findings gives what was found, the cause that explains most packets first. It
// is to be asked once, when the trace is over.
func (c *Collector) Findings() []model.Finding {
	var all, unseen []*found
	for _, k := range c.order {
		if k.claim == nil {
			k.claim = c.diagnose(k.first)
		}
		if k.claim != nil {
			c.reconsider(k)
			k.claim.conclude()
			f := &found{claim: k.claim, packets: k.packets, ids: k.ids, rank: rankOf(k.claim.code), of: []signature{k.of}}
			if k.of.ruleUnseen() {
				unseen = append(unseen, f)
				continue
			}
			all = join(all, f)
		}
	}
	all = absorb(all, unseen)
	for _, closing := range closings {
		for _, f := range closing.find(c) {
			f.claim.code = cmp.Or(f.claim.code, closing.code)
			f.rank = rankOf(f.claim.code)
			f.claim.conclude()
			all = join(all, f)
		}
	}
	slices.SortStableFunc(all, func(a, b *found) int {
		return cmp.Or(cmp.Compare(b.packets, a.packets), cmp.Compare(certainty(b), certainty(a)), cmp.Compare(a.rank, b.rank))
	})
	all = c.together(all)
	out := make([]model.Finding, 0, len(all))
	odd := c.oddNames()
	for _, f := range all[:min(len(all), maxFindings)] {
		out = append(out, pasteable(f.finding(), odd))
	}
	return out
}

// live gives a certain finding while the trace goes on; nil if the same was given
// before, or enough were.
func (c *Collector) live(k *kase) *model.Finding {
	claim := *k.claim // what is to come is added at the end
	claim.evidence, claim.missing = slices.Clone(claim.evidence), slices.Clone(claim.missing)
	claim.conclude()
	f := pasteable((&found{claim: &claim, packets: k.packets, ids: slices.Clone(k.ids)}).finding(), c.oddNames())
	f.Live = true
	said := f.Code + string(f.Direction) + f.Summary
	if c.said[said] || len(c.said) >= maxFindings {
		return nil
	}
	c.said[said] = true
	return &f
}

// conclude adds what the whole trace tells of a claim.
func (c *claim) conclude() {
	if c.settle != nil {
		c.settle(c)
		c.settle = nil
	}
}

func certainty(f *found) int {
	if f.claim.certain {
		return 1
	}
	return 0
}

// rankOf is the place of a code in the tables.
func rankOf(code string) int {
	if i := slices.IndexFunc(causes, func(c cause) bool { return c.code == code }); i >= 0 {
		return i
	}
	return len(causes) + slices.IndexFunc(closings, func(c closing) bool { return c.code == code })
}

// join adds a cause, or adds its packets to one that is told already.
func join(all []*found, f *found) []*found {
	for _, other := range all {
		a, b := other.claim, f.claim
		if a.code != b.code || a.direction != b.direction {
			continue
		}
		if a.summary != b.summary {
			if a.subject != b.subject {
				continue
			}
			other.mention(b.summary)
		} else if b.certain && !a.certain {
			other.claim = b
		}
		other.packets += f.packets
		other.ids = append(other.ids, f.ids...)
		other.of = append(other.of, f.of...)
		return all
	}
	return append(all, f)
}

// absorb adds what died in a table without its rule being seen: to the one cause
// that others died of in that table in the same way. Where there is none, or more
// than one, it stays a finding of its own.
func absorb(all, unseen []*found) []*found {
	known := slices.Clone(all)
	for _, f := range unseen {
		var same []*found
		for _, k := range known {
			if slices.ContainsFunc(k.of, f.of[0].diedLike) {
				same = append(same, k)
			}
		}
		if len(same) != 1 {
			all = join(all, f)
			continue
		}
		same[0].unseen += f.packets
		same[0].packets += f.packets
		same[0].ids = append(same[0].ids, f.ids...)
	}
	return all
}

// ruleUnseen tells of a death in a table that no rule is known for.
func (s signature) ruleUnseen() bool { return s.table != "" && s.hook != "" && s.rule == "" }

// diedLike tells of a death in the same table in the same way, by a rule.
func (s signature) diedLike(known signature) bool {
	return known.rule != "" && known.direction == s.direction && known.reason == s.reason && known.hook == s.hook &&
		known.table == s.table && known.function == s.function && known.netns == s.netns
}

// sentence makes a summary one: with a capital, unless it begins with a name, and
// a full stop.
func sentence(s string) string {
	first, _, _ := strings.Cut(s, " ")
	if len(first) > 0 && first[0] >= 'a' && first[0] <= 'z' && !strings.ContainsAny(first, "-/._:0123456789") {
		s = strings.ToUpper(s[:1]) + s[1:]
	}
	return s + "."
}

// mention notes the summary of a further case.
func (f *found) mention(summary string) {
	if !slices.Contains(f.also, summary) {
		f.also = append(f.also, summary)
	}
}

// finding puts it into the form that is told.
func (f *found) finding() model.Finding {
	c := f.claim
	out := model.Finding{Type: model.TypeFinding, Code: c.code, Confidence: Likely, Direction: c.direction, Summary: sentence(c.summary),
		Evidence: slices.Clone(c.evidence), Fix: c.fix}
	if c.certain {
		out.Confidence = Certain
	}
	if c.sum != nil {
		out.Evidence = append(out.Evidence, c.sum(f.packets))
	}
	slices.Sort(f.ids)
	out.Packets = f.ids[:min(len(f.ids), shownPackets)]
	for i, also := range f.also {
		if i == alsoShown {
			out.Evidence = append(out.Evidence, fmt.Sprintf("and %d more of the kind", len(f.also)-i))
			break
		}
		out.Evidence = append(out.Evidence, "also: "+sentence(also))
	}
	if f.unseen > 0 {
		out.Evidence = append(out.Evidence, fmt.Sprintf("%d more died in the same table the same way; which rule decided them was not seen", f.unseen))
	}
	if f.packets > len(out.Packets) && len(out.Packets) > 0 {
		out.Evidence = append(out.Evidence, fmt.Sprintf("%d packets in all, of which the first are named", f.packets))
	}
	for _, m := range c.missing {
		out.Evidence = append(out.Evidence, "not known: "+m)
	}
	return out
}
