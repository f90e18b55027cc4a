// SPDX-License-Identifier: Apache-2.0

// packets.go tells the packets hop by hop, and the rules they matched.

package report

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/pathtrace/pathtrace/output/text"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// told is a story as the table of packets shows it.
type told struct {
	Anchor    string
	IDs       string
	Count     int
	Direction model.Direction
	When      string
	Flow      string
	Length    uint32
	Outcome   string
	Class     string // died, unknown, fine
	Where     string
	Lost      bool
	Hops      []hopLine
	Drop      *death
	Mentions  []mentionLine
	More      int // packets beyond the mentions
	Others    int // packets beyond the first
}

type mentionLine struct {
	ID   uint64
	When string
	Flow string
}

// hopLine is one hop.
type hopLine struct {
	At, Place, Device, Words, Class, Function, More string
	Rules                                           []ruleLink
	RulesLeftOut                                    int // more, that there was no room for
	RulesUnknown                                    string
	Gap                                             int // hops left out before this one
}

// ruleLink leads to a rule.
type ruleLink struct {
	Href, Name, Text string
}

// death is what is known of a packet's end.
type death struct {
	*model.Drop
	Cause, Filter, Trust string
	Inside               string // the tunnel it was in
	Rule                 *ruleLine
	Way                  []ruleLink
	Callers              []string
}

// ruleLine is a rule in the list of rules.
type ruleLine struct {
	Anchor, Name, Where, Trust string
	Text, Meaning, Comment     string
	Packets, Killed            int
	About                      []link
}

// inOrder gives the stories as the table has them: those that died first.
func (w *Writer) inOrder() []*story {
	sorted := slices.Clone(w.stories.list)
	slices.SortStableFunc(sorted, func(a, b *story) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.number, b.number))
	})
	return sorted
}

func rank(s *story) int {
	switch {
	case s.first.Outcome.Died():
		return 0
	case s.first.Outcome == model.Unknown:
		return 1
	}
	return 2
}

func (w *Writer) told(s *story) told {
	p := s.first
	t := told{
		Anchor: s.anchor(), IDs: fmt.Sprintf("#%d", p.ID), Count: s.count, Direction: p.Direction, When: clock(p.Time), Flow: text.Flow(p),
		Length: p.Length, Outcome: text.Outcome(p.Outcome), Class: outcomeClass(p.Outcome), Where: where(p), Lost: p.Lost,
		More: s.count - 1 - len(s.mentions), Others: s.count - 1,
	}
	for i := range p.Hops {
		line := w.hop(&p.Hops[i])
		if s.hopsLeftOut > 0 && i == len(p.Hops)-len(p.Hops)/4 {
			line.Gap = s.hopsLeftOut
		}
		t.Hops = append(t.Hops, line)
	}
	for _, m := range s.mentions {
		t.Mentions = append(t.Mentions, mentionLine{m.ID, clock(m.Time), m.Flow})
	}
	if p.Outcome.Died() {
		t.Drop = w.death(p)
	}
	return t
}

func outcomeClass(o model.Outcome) string {
	switch o {
	case model.Dropped, model.Rejected:
		return "died"
	case model.Unknown:
		return "unknown"
	}
	return "fine"
}

func where(p *model.Packet) string {
	if p.Outcome.Died() {
		if p.Drop == nil {
			return "the kernel gave no reason"
		}
		return text.Cause(p.Drop)
	}
	return text.WhereEnded(p)
}

func (w *Writer) hop(h *model.Hop) hopLine {
	words, weight := text.Hop(h)
	line := hopLine{
		At: fmt.Sprintf("+%.3f", float64(h.AtNS)/1e6), Place: text.Place(h.Place, h.Netns), Device: text.Device(h.Interface, h.IfIndex),
		Words: words, Class: weightClass(weight), Function: h.Function, More: more(h), RulesUnknown: h.RulesUnknown,
	}
	told := min(len(h.Rules), max(maxMatches-w.matchesTold, 0))
	for i := range h.Rules[:told] {
		line.Rules = append(line.Rules, w.ruleLink(h.Netns, h.Backend, &h.Rules[i]))
	}
	w.matchesTold += told
	line.RulesLeftOut = len(h.Rules) - told
	return line
}

func weightClass(weight text.Weight) string {
	switch weight {
	case text.Odd:
		return "odd"
	case text.Notable:
		return "notable"
	}
	return ""
}

// more says of a hop what only some ask for.
func more(h *model.Hop) string {
	words := ""
	for _, part := range []struct {
		show bool
		says string
	}{
		{h.CTState != "", "ct " + h.CTState},
		{h.Mark != 0, fmt.Sprintf("mark %#x", h.Mark)},
		{h.Length != 0, plural(int(h.Length), "byte", "bytes")},
		{h.Copy > 0, fmt.Sprintf("copy %d", h.Copy)},
	} {
		if part.show {
			words += ", " + part.says
		}
	}
	if words == "" {
		return ""
	}
	return words[2:]
}

// ruleLink leads to a rule; one that is not in the list is named only.
func (w *Writer) ruleLink(netns uint32, backend string, r *model.Rule) ruleLink {
	l := ruleLink{Name: text.ShortRule(*r), Text: r.Text}
	if m := w.rules.find(netns, backend, r); m != nil {
		l.Href = "#" + m.anchor()
	}
	return l
}

func (m *matched) anchor() string { return fmt.Sprintf("rule-%d", m.number) }

func (w *Writer) death(p *model.Packet) *death {
	if p.Drop == nil {
		return nil
	}
	d := &death{Drop: p.Drop, Cause: text.Cause(p.Drop), Filter: text.Filter(p.Drop), Trust: text.Trust(p.Drop.RuleSource), Callers: text.Callers(p.Drop)}
	if p.Drop.Tunnel != nil {
		d.Inside = text.Tunnel(p.Drop.Tunnel)
	}
	if p.Drop.Rule == nil {
		return d
	}
	if m := w.rules.find(p.Drop.Netns, p.Drop.Backend, p.Drop.Rule); m != nil {
		line := lineOf(m)
		d.Rule = &line
	} else {
		d.Rule = &ruleLine{Name: text.RuleName(*p.Drop.Rule), Text: p.Drop.Rule.Text, Meaning: p.Drop.Rule.Meaning}
	}
	if way := text.RulesOfDeath(p); len(way) > 1 {
		for i := range way {
			d.Way = append(d.Way, w.ruleLink(p.Drop.Netns, p.Drop.Backend, &way[i]))
		}
	}
	return d
}

// ruleLines gives the rules that ended packets, and the others, each in the order
// of how many packets met them.
func (w *Writer) ruleLines() (killers, passed []ruleLine) {
	sorted := slices.Clone(w.rules.list)
	slices.SortStableFunc(sorted, func(a, b *matched) int {
		return cmp.Or(cmp.Compare(packets(b.killed), packets(a.killed)), cmp.Compare(packets(b.stories), packets(a.stories)))
	})
	for _, m := range sorted {
		if line := lineOf(m); len(m.killed) > 0 {
			killers = append(killers, line)
		} else {
			passed = append(passed, line)
		}
	}
	return killers, passed
}

func lineOf(m *matched) ruleLine {
	r := ruleLine{
		Anchor: m.anchor(), Name: text.RuleName(m.rule), Where: m.place, Trust: text.Trust(m.source),
		Text: m.rule.Text, Meaning: m.rule.Meaning, Packets: packets(m.stories), Killed: packets(m.killed),
	}
	if m.backend != "" {
		r.Where += ", " + m.backend
	}
	for _, s := range m.stories[:min(len(m.stories), maxMentions)] {
		r.About = append(r.About, link{"#" + s.anchor(), ids(s)})
	}
	return r
}
