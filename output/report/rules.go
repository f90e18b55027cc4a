// SPDX-License-Identifier: Apache-2.0

// rules.go keeps the rules that packets matched: each once, with how many packets
// matched it and which of them it killed.

package report

import (
	"slices"

	"github.com/pathtrace/pathtrace/output/text"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// ruleID tells rules apart. The same line in two namespaces is two rules.
type ruleID struct {
	netns                              uint32
	backend, family, table, chain, txt string
	number                             int
	handle                             uint64
}

// matched is a rule that packets matched.
type matched struct {
	number  int // from 1, in the order they were first met
	rule    model.Rule
	place   string
	backend string
	source  model.RuleSource
	stories []*story // whose packets matched it
	killed  []*story // of these, those it ended
}

// packets counts the packets of stories.
func packets(stories []*story) (n int) {
	for _, s := range stories {
		n += s.count
	}
	return n
}

// ruleList is the rules of a trace. The zero value is ready to use.
type ruleList struct {
	list    []*matched
	by      map[ruleID]*matched
	leftOut int // times that a rule was met that is not in the list
}

// add notes the rules that the first packet of a story matched. It had been
// followed hop by hop before hops were left out, so all are here.
func (l *ruleList) add(s *story, p *model.Packet) {
	for i := range p.Hops {
		h := &p.Hops[i]
		for _, r := range h.Rules {
			l.meet(s, ruleSpot{h.Netns, text.Place(h.Place, h.Netns), h.Backend, h.RuleSource}, r)
		}
	}
	d := p.Drop
	if d == nil || d.Rule == nil {
		return
	}
	if m := l.meet(s, ruleSpot{d.Netns, text.Place(d.Place, d.Netns), d.Backend, d.RuleSource}, *d.Rule); m != nil {
		m.killed = append(m.killed, s)
	}
}

// ruleSpot is where a rule was met.
type ruleSpot struct {
	netns   uint32
	place   string
	backend string
	source  model.RuleSource
}

func (l *ruleList) meet(s *story, at ruleSpot, r model.Rule) *matched {
	if l.by == nil {
		l.by = map[ruleID]*matched{}
	}
	id := ruleID{at.netns, at.backend, r.Family, r.Table, r.Chain, r.Text, r.Number, r.Handle}
	m := l.by[id]
	if m == nil {
		if len(l.list) >= maxRules {
			l.leftOut++
			return nil
		}
		m = &matched{number: len(l.list) + 1, rule: r, place: at.place, backend: at.backend, source: at.source}
		l.list, l.by[id] = append(l.list, m), m
	}
	if at.source == model.RuleInferred {
		m.source = at.source // once read off only, it is not certain
	}
	if !slices.Contains(m.stories, s) {
		m.stories = append(m.stories, s)
	}
	return m
}

// find gives a rule met before, nil if it is not in the list.
func (l *ruleList) find(netns uint32, backend string, r *model.Rule) *matched {
	return l.by[ruleID{netns, backend, r.Family, r.Table, r.Chain, r.Text, r.Number, r.Handle}]
}
