// SPDX-License-Identifier: Apache-2.0

package cause

// Causes that belong together: a packet died, this node made an answer that was to
// tell its sender, and the answer died, of a cause of its own. They are told one
// after the other, the first death first; what the sender was to learn is not told
// as if it had been.

import (
	"fmt"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// seeLost notes an answer of this node that died.
func (m *memory) seeLost(p *model.Packet) {
	if p.AnswerTo != 0 && p.Outcome.Died() && len(m.lost) < maxTranslations {
		m.lost[p.AnswerTo] = p
	}
}

// tellAnswer says what became of the answer that the packet's death made.
func (q *inquiry) tellAnswer(c *claim) {
	answer := lastAnswer(q.p)
	if answer == "" || !q.p.Outcome.Died() {
		return
	}
	if q.p.Outcome == model.Rejected {
		return // each cause tells what was answered in its own words
	}
	id, earlier := q.p.ID, c.settle
	said := fmt.Sprintf("the sender was not told: the answer (%s) that was made for it died on this node", answer)
	place := len(c.evidence)
	c.evidence = append(c.evidence, said)
	c.settle = func(c *claim) {
		if earlier != nil {
			earlier(c)
		}
		died := q.mem.lost[id]
		if died == nil || died.Drop == nil {
			return
		}
		c.evidence[place] = fmt.Sprintf("the sender was not told: packet #%d, the answer to it (%s), died on this node: %s", died.ID, answer, deathWords(died))
		c.summary += fmt.Sprintf("; its sender does not learn of it: the answer (%s) died as well, %s", answer, deathWords(died))
	}
}

// deathWords is a death in short.
func deathWords(p *model.Packet) string {
	d := p.Drop
	switch {
	case d.Rule != nil:
		return fmt.Sprintf("by %s (%s), in hook %s at %s", namedRule(d.Rule), backendWords(d), d.Hook, at(d.Place, d.Interface))
	case d.Hook != "":
		return fmt.Sprintf("in hook %s at %s", d.Hook, at(d.Place, d.Interface))
	}
	return fmt.Sprintf("in %s at %s, reason %s", orElse(d.Function, "a function that was not named"), at(d.Place, d.Interface), orElse(d.Reason, "not given"))
}

// together puts causes whose packets answer those of another right behind it.
func (c *Collector) together(all []*found) []*found {
	for _, f := range slices.Clone(all) {
		for _, id := range f.ids {
			died := c.mem.lost[id]
			if died == nil {
				continue
			}
			i := slices.IndexFunc(all, func(o *found) bool { return o != f && slices.Contains(o.ids, died.ID) })
			if i < 0 {
				continue
			}
			effect := all[i]
			effect.claim.evidence = append(effect.claim.evidence, fmt.Sprintf("what it drops are this node's own answers to packets that died of %s, such as #%d", f.claim.code, id))
			all = slices.Delete(all, i, i+1)
			all = slices.Insert(all, slices.Index(all, f)+1, effect)
			break
		}
	}
	return all
}
