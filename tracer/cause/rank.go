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
}

// Findings gives what was found, the cause that explains most packets first. It
// is to be asked once, when the trace is over.
func (c *Collector) Findings() []model.Finding {
	var all []*found
	for _, k := range c.order {
		if k.claim == nil {
			k.claim = c.diagnose(k.first)
		}
		if k.claim != nil {
			c.reconsider(k)
			k.claim.conclude()
			all = join(all, &found{claim: k.claim, packets: k.packets, ids: k.ids, rank: rankOf(k.claim.code)})
		}
	}
	for _, closing := range closings {
		for _, f := range closing.find(c) {
			f.claim.code, f.rank = closing.code, rankOf(closing.code)
			f.claim.conclude()
			all = join(all, f)
		}
	}
	slices.SortStableFunc(all, func(a, b *found) int {
		return cmp.Or(cmp.Compare(b.packets, a.packets), cmp.Compare(certainty(b), certainty(a)), cmp.Compare(a.rank, b.rank))
	})
	out := make([]model.Finding, 0, len(all))
	for _, f := range all[:min(len(all), maxFindings)] {
		out = append(out, f.finding())
	}
	return out
}

// live gives a certain finding while the trace goes on; nil if the same was given
// before, or enough were.
func (c *Collector) live(k *kase) *model.Finding {
	claim := *k.claim // what is to come is added at the end
	claim.evidence, claim.missing = slices.Clone(claim.evidence), slices.Clone(claim.missing)
	claim.conclude()
	f := (&found{claim: &claim, packets: k.packets, ids: slices.Clone(k.ids)}).finding()
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
		return all
	}
	return append(all, f)
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
	slices.Sort(f.ids)
	out.Packets = f.ids[:min(len(f.ids), shownPackets)]
	for i, also := range f.also {
		if i == alsoShown {
			out.Evidence = append(out.Evidence, fmt.Sprintf("and %d more of the kind", len(f.also)-i))
			break
		}
		out.Evidence = append(out.Evidence, "also: "+sentence(also))
	}
	if f.packets > len(out.Packets) && len(out.Packets) > 0 {
		out.Evidence = append(out.Evidence, fmt.Sprintf("%d packets in all, of which the first are named", f.packets))
	}
	for _, m := range c.missing {
		out.Evidence = append(out.Evidence, "not known: "+m)
	}
	return out
}
