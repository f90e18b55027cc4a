// SPDX-License-Identifier: Apache-2.0

// page.go says in words what page.html shows. Everything that comes from the
// trace is made harmless here and escaped there.

package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/output/text"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// page is the report as page.html reads it.
type page struct {
	Title    string
	From, To string
	Only     string
	When     string
	Verdict  verdict
	Findings []finding
	Drawings []drawing
	Missing  string // what the drawing leaves out
	Stories  []told
	LeftOut  []string
	Killers  []ruleLine // rules that ended packets
	Passed   []ruleLine // the others that packets matched
	Events   []event
	Facts    []fact
	Missed   []model.MissedHook
	Version  string
}

// verdict is the trace in a sentence.
type verdict struct {
	Class      string // died, unknown, fine, nothing
	Words      string
	Directions []fact
}

// fact is a name and what it is.
type fact struct{ Name, Says, Class string }

// finding is a cause.
type finding struct {
	*model.Finding
	About []link // its packets
	Rule  *ruleLine
}

// link leads to another part of the page.
type link struct{ Href, Text string }

// event is a change of the node.
type event struct{ When, What, Text string }

// page puts the report together.
func (w *Writer) page(s *model.Summary) *page {
	p := &page{
		Only: text.Narrowed(&w.start), When: when(w.start.Time), Verdict: verdictOf(s, w.findings), Version: w.start.Version, Missed: s.MissedHooks,
		From: endName(&w.start.Src), To: endName(&w.start.Dst),
	}
	p.Title = p.From + " → " + p.To
	lanes, missing := lanesOf(w.stories.list)
	addGoals(lanes, homes(w.stories.list, &w.start.Src, &w.start.Dst))
	for _, size := range sheets() {
		p.Drawings = append(p.Drawings, drawings(lanes, size)...)
	}
	if missing > 0 {
		p.Missing = plural(missing, "packet", "packets") + " that went other ways are told below only."
	}
	w.matchesTold = 0
	for _, story := range w.inOrder() {
		p.Stories = append(p.Stories, w.told(story))
	}
	p.Findings = w.findingsTold()
	p.Killers, p.Passed = w.ruleLines()
	p.LeftOut = w.leftOut()
	for _, e := range w.events {
		p.Events = append(p.Events, eventTold(e))
	}
	p.Facts = w.facts(s)
	return p
}

func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format("2 January 2006, 15:04:05 MST")
}

// endName is what people call an end.
func endName(e *model.End) string {
	if e.Name != "" {
		return strings.TrimPrefix(e.Namespace+"/"+e.Name, "/")
	}
	return cmp.Or(e.Given, "?")
}

// verdictOf says how the trace ended. With something found it is not all fine,
// though nothing died here.
func verdictOf(s *model.Summary, findings []*model.Finding) verdict {
	seen, died := s.Forward.Seen+s.Return.Seen, s.Forward.Died()+s.Return.Died()
	unknown := s.Forward.Unknown + s.Return.Unknown
	v := verdict{Directions: []fact{
		{"forward", text.Counts(s.Forward), countClass(s.Forward)}, {"return", text.Counts(s.Return), countClass(s.Return)},
	}}
	words := text.Verdict(s, findings)
	v.Words = strings.ToUpper(words[:1]) + words[1:] + "."
	switch {
	case seen == 0:
		v.Class = "nothing"
	case died > 0:
		v.Class = "died"
	case unknown > 0 || text.Amiss(findings):
		v.Class = "unknown"
	default:
		v.Class = "fine"
	}
	return v
}

func countClass(c model.Counts) string {
	switch {
	case c.Died() > 0:
		return "died"
	case c.Unknown > 0 || c.Seen == 0:
		return "unknown"
	}
	return "fine"
}

// findingsTold gives the causes with the rule that decided, where one did.
func (w *Writer) findingsTold() []finding {
	var out []finding
	for _, f := range w.findings {
		t := finding{Finding: f}
		for _, s := range w.stories.list {
			if !s.isOf(f) {
				continue
			}
			t.About = append(t.About, link{"#" + s.anchor(), ids(s)})
			if d := s.first.Drop; d != nil && d.Rule != nil {
				if m := w.rules.find(d.Netns, d.Backend, d.Rule); m != nil {
					line := lineOf(m)
					t.Rule = &line
				}
			}
		}
		out = append(out, t)
	}
	return out
}

// isOf tells whether a finding is about packets of a story.
func (s *story) isOf(f *model.Finding) bool {
	if slices.Contains(f.Packets, s.first.ID) {
		return true
	}
	return slices.ContainsFunc(s.mentions, func(m mention) bool { return slices.Contains(f.Packets, m.ID) })
}

// ids names the packets of a story.
func ids(s *story) string {
	words := fmt.Sprintf("#%d", s.first.ID)
	if s.count > 1 {
		words += fmt.Sprintf(" and %d more", s.count-1)
	}
	return words
}

// leftOut says what a report of bounded size lacks.
func (w *Writer) leftOut() []string {
	var out []string
	for _, l := range []struct {
		n    int
		what string
	}{
		{w.stories.leftOut.died, "packets that died another way than those shown"},
		{w.stories.leftOut.others, "packets that went another way than those shown"},
		{w.rules.leftOut, "matches of rules that are not in the list"},
		{w.findingsLeftOut, "findings"},
		{w.eventsLeftOut, "changes of the node"},
	} {
		if l.n > 0 {
			out = append(out, fmt.Sprintf("%d %s", l.n, l.what))
		}
	}
	return out
}

func eventTold(e *model.NodeEvent) event {
	t := event{When: clock(e.Time), What: e.What + " " + e.Object, Text: e.Text}
	if e.By != nil {
		t.What += fmt.Sprintf(" by %s (pid %d)", e.By.Comm, e.By.PID)
	}
	return t
}

func clock(t time.Time) string { return t.Format("15:04:05.000") }

// facts says how was traced, and what may be missing.
func (w *Writer) facts(s *model.Summary) []fact {
	st := &w.start
	facts := []fact{
		{Name: "from", Says: text.End(&st.Src)},
		{Name: "to", Says: text.End(&st.Dst)},
		{Name: "only", Says: text.Narrowed(st)},
		{Name: "traced for", Says: fmt.Sprintf("%.1f s", (time.Duration(s.DurationMS) * time.Millisecond).Seconds())},
		{Name: "kernel", Says: st.Kernel},
		{Name: "backend", Says: fmt.Sprintf("%s, %s, attached in %.0f ms", st.Backend, plural(st.Hooks, "hook", "hooks"), st.AttachMS)},
		{Name: "events lost", Says: lost(s.LostEvents, "hops may be missing, and the ends of packets"), Class: warnIf(s.LostEvents > 0)},
	}
	if r := st.RuleSets; r != nil {
		facts = append(facts, fact{Name: "rules", Says: fmt.Sprintf("%d iptables-legacy, %d nft", r.Legacy, r.NFT)})
	}
	for _, p := range st.Planes {
		facts = append(facts, fact{Name: "not all is seen of", Says: text.Plane(p)})
	}
	for _, l := range []struct {
		n    uint64
		name string
		says string
	}{
		{s.LostPackets, "packets not followed", "too many at once"},
		{s.SkippedRuns, "programs left out by the kernel", "hops may be missing"},
		{s.SampledOut, "packets left out on purpose", "--sample"},
		{uint64(s.UnknownRules), "tables gone through", "without their rules being known"},
	} {
		if l.n > 0 {
			facts = append(facts, fact{Name: l.name, Says: lost(l.n, l.says), Class: "warn"})
		}
	}
	return slices.DeleteFunc(facts, func(f fact) bool { return f.Says == "" })
}

func lost(n uint64, so string) string {
	if n == 0 {
		return "none"
	}
	return fmt.Sprintf("%d: %s", n, so)
}

func warnIf(bad bool) string {
	if bad {
		return "warn"
	}
	return ""
}
