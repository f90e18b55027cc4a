// SPDX-License-Identifier: Apache-2.0

// packet.go tells one packet: its headline, the lines of its story, and the
// block that says what it died of.

package text

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// shownFrames is how many stack frames a drop shows; wide shows all.
const shownFrames = 3

// outcomeWords says what became of a packet. Deaths are in capitals so that
// they stand out without colour too.
var outcomeWords = map[model.Outcome]string{
	model.Delivered: "delivered",
	model.Dropped:   "DROPPED",
	model.Rejected:  "REJECTED",
	model.LeftNode:  "left the node",
	model.Consumed:  "consumed",
	model.Unknown:   "end not seen",
}

func outcomeWord(o model.Outcome) string {
	if word, ok := outcomeWords[o]; ok {
		return word
	}
	return string(o)
}

func outcomeStyle(o model.Outcome) style {
	switch o {
	case model.Delivered, model.Consumed, model.LeftNode:
		return good
	case model.Dropped, model.Rejected:
		return bad
	}
	return warned
}

// headline prints the packet's one line. The time of day stands with the first
// hop; a packet without hops has it here.
func (w *Writer) headline(p *model.Packet) {
	w.page.blank()
	spans := []span{
		{fmt.Sprintf("#%d %s %s", p.ID, p.Direction, flow(p)), bold},
		{", " + glued(fmt.Sprintf("%d bytes", p.Length)), dim},
		{"  " + outcomeWord(p.Outcome) + whereEnded(p), outcomeStyle(p.Outcome)},
	}
	if len(p.Hops) == 0 {
		spans = append(spans, span{"  " + clock(p.Time), dim})
	}
	if p.Lost {
		spans = append(spans, span{"  events were lost: hops may be missing", warned})
	}
	w.page.para(4, spans...)
}

// whereEnded says where a packet's last hop was, as its outcome has it. Where
// one died is said with the cause.
func whereEnded(p *model.Packet) string {
	if len(p.Hops) == 0 {
		return ""
	}
	last := &p.Hops[len(p.Hops)-1]
	switch p.Outcome {
	case model.Dropped, model.Rejected:
		return ""
	case model.Delivered:
		return " to " + place(last.Place, last.Netns)
	case model.LeftNode:
		if dev := device(last.Interface, last.IfIndex); dev != "" {
			return " by " + dev
		}
		return ""
	case model.Unknown:
		return ", last seen at " + at(last.Place, last.Netns, last.Interface, last.IfIndex)
	}
	return " at " + at(last.Place, last.Netns, last.Interface, last.IfIndex)
}

// tell prints a packet's story.
func (w *Writer) tell(p *model.Packet) {
	w.changing = false
	w.headline(p)
	story, diedNS := toldSteps(p)
	var cols columns
	for i, s := range story {
		s.when = moment(p, i, s.atNS)
		cols.fit(s.when, s.place, s.device)
	}
	for _, s := range story {
		w.step(cols, s)
	}
	w.drop(p, diedNS)
}

// moment writes the time of line number i of a packet's story: the first is the
// time of day, the others count from it.
func moment(p *model.Packet, i int, atNS int64) string {
	if i == 0 && atNS == 0 {
		return clock(p.Time)
	}
	return millis(atNS)
}

// columns are the widths of a story's time, place and interface.
type columns [3]int

func (c *columns) fit(cells ...string) {
	for i, cell := range cells {
		c[i] = max(c[i], utf8.RuneCountInString(harmless(cell)))
	}
}

// cell pads text to column i.
func (c columns) cell(i int, text string) string {
	return text + strings.Repeat(" ", c[i]-utf8.RuneCountInString(harmless(text))+2)
}

// hang is the indent of a line's continuation: under what happened if that
// leaves room enough, else under the place.
func (c columns) hang(width int) int {
	full := margin + c[0] + c[1] + c[2] + 6
	if width-full < minRoom {
		return margin + c[0] + 2 + 2
	}
	return full
}

// minRoom is how many columns the lines of what happened should have.
const minRoom = 44

// margin is the space left of a story, in which oddities are marked.
const margin = 4

func (w *Writer) step(cols columns, s *step) {
	mark, look := strings.Repeat(" ", margin), plain
	switch s.level {
	case odd:
		mark, look = "  ! ", warned
	case notable:
		look = moved
	}
	w.page.para(cols.hang(w.page.width),
		span{mark, warned}, span{cols.cell(0, s.when), dim},
		span{cols.cell(1, s.place) + cols.cell(2, s.device), plain},
		span{s.words(), look})
}

// drop prints all that is known of a packet's death.
func (w *Writer) drop(p *model.Packet, diedNS int64) {
	d := p.Drop
	if d == nil {
		if p.Outcome.Died() {
			w.page.para(6, span{"  " + outcomeWord(p.Outcome), bad}, span{" the kernel gave no reason", plain})
		}
		return
	}
	when := ""
	if diedNS >= 0 {
		when = ", " + millis(diedNS)
	}
	w.page.para(6, span{"  " + outcomeWord(p.Outcome) + " " + cause(d), bad}, span{when, dim})
	if d.Tunnel != nil {
		w.label("inside", span{tunnelWords(d.Tunnel), plain})
	}
	w.dropRule(d, rulesOfDeath(p))
	if d.Function != "" {
		w.label("function", span{d.Function, plain})
	}
	w.stack(d)
}

// label prints one line of a block: its name and what it says.
func (w *Writer) label(name string, says ...span) {
	w.page.para(labelIndent, append([]span{{fmt.Sprintf("      %-10s", name), dim}}, says...)...)
}

// labelIndent is where the text of a label starts.
const labelIndent = 16

// dropRule prints the packet filter's part in a death.
func (w *Writer) dropRule(d *model.Drop, rules []model.Rule) {
	if d.Hook != "" || d.Table != "" {
		w.label("filter", span{filterWords(d), plain})
	}
	if len(d.Candidates) > 0 {
		w.label("which", span{"one of " + strings.Join(d.Candidates.Strings(), ", ") + ": this backend cannot tell them apart", warned})
	}
	if d.Rule == nil {
		if d.RuleUnknown != "" {
			w.label("rule", span{"not known: " + d.RuleUnknown, warned})
		}
		return
	}
	w.label("rule", span{ruleName(*d.Rule), bold}, span{sourceWords(d.RuleSource), dim})
	if d.Rule.Text != "" {
		w.page.verbatim(labelIndent, d.Rule.Text, bold)
	}
	if len(d.Unevaluated) > 0 {
		w.label("", span{"not evaluated on the way: " + strings.Join(d.Unevaluated, ", "), dim})
	}
	if d.Rule.Element != "" {
		w.label("element", span{d.Rule.Element, plain})
	}
	if d.Rule.Meaning != "" {
		w.label("meaning", span{d.Rule.Meaning, plain})
	}
	if way := wayTo(rules); way != "" {
		w.label("way", span{way, dim})
	}
}

// rulesOfDeath are the rules that matched in the table that dropped the packet,
// in order: the last hop before the death that tells any.
func rulesOfDeath(p *model.Packet) []model.Rule {
	for _, h := range slices.Backward(p.Hops) {
		if len(h.Rules) > 0 && h.Table == p.Drop.Table && h.Hook == p.Drop.Hook && h.Family == p.Drop.Family {
			return h.Rules
		}
	}
	return nil
}

// wayTo tells briefly how a packet came to the last of some rules; "" if that
// is all there is: FORWARD#1 > cali-FORWARD#3 => cali-fw-cali12#8 DROP.
func wayTo(rules []model.Rule) string {
	if len(rules) < 2 {
		return ""
	}
	var b strings.Builder
	for i, r := range rules {
		switch {
		case i == len(rules)-1:
			b.WriteString(" =>" + glue)
		case i > 0:
			b.WriteString(" >" + glue)
		}
		b.WriteString(shortRule(r))
		if r.Inferred {
			b.WriteString(glue + "(inferred)")
		}
	}
	return b.String()
}

// shortRule names a rule in as few letters as do: FORWARD#3.
func shortRule(r model.Rule) string {
	switch {
	case r.Number > 0:
		return fmt.Sprintf("%s#%d", r.Chain, r.Number)
	case r.Handle > 0:
		return fmt.Sprintf("%s@%d", r.Chain, r.Handle)
	}
	return r.Chain + glue + "policy"
}

// filterWords names hook, table, chain and backend.
func filterWords(d *model.Drop) string {
	var parts []string
	if d.Hook != "" {
		parts = append(parts, "hook "+d.Hook)
	}
	if d.Table != "" {
		parts = append(parts, "table "+table(d.Family, d.Table))
	}
	if d.Chain != "" {
		parts = append(parts, "chain "+d.Chain)
	}
	if d.Backend != "" {
		parts = append(parts, "backend "+d.Backend)
	}
	if d.Queue != nil {
		parts = append(parts, fmt.Sprintf("queue %d", *d.Queue))
	}
	return strings.Join(parts, ", ")
}

// sourceWords says how far a rule can be trusted.
func sourceWords(s model.RuleSource) string {
	switch s {
	case model.RuleExact:
		return ", exact: seen matching in the kernel"
	case model.RuleInferred:
		return ", inferred: read off the rule set, not seen matching"
	}
	return ""
}

// stack prints the way through the kernel to the drop, innermost first: wide
// all of it, else the first callers of the function that dropped.
func (w *Writer) stack(d *model.Drop) {
	if w.opt.Wide {
		name := "stack"
		for _, frame := range d.Stack {
			w.label(name, span{frame, plain})
			name = ""
		}
		return
	}
	frames := callers(d)
	if len(frames) == 0 {
		return
	}
	shown := frames[:min(len(frames), shownFrames)]
	says := "called by " + strings.Join(shown, " <"+glue)
	if rest := len(frames) - len(shown); rest > 0 {
		says += glued(fmt.Sprintf(" < %d more", rest))
	}
	w.label("", span{says, dim})
}

// callers gives the part of the stack above the function that dropped. What
// lies below it is how the kernel tells of a drop.
func callers(d *model.Drop) []string {
	name := symbol(d.Function)
	for i, frame := range d.Stack {
		if symbol(frame) == name {
			return d.Stack[i+1:]
		}
	}
	return d.Stack
}

// tellWide prints every hop of a packet with all that was seen of it.
func (w *Writer) tellWide(p *model.Packet) {
	w.headline(p)
	var cols columns
	for i := range p.Hops {
		h := &p.Hops[i]
		cols.fit(moment(p, i, h.AtNS), place(h.Place, h.Netns), device(h.Interface, h.IfIndex))
	}
	death := deathHop(p)
	diedNS := int64(-1)
	for i := range p.Hops {
		w.wideHop(cols, moment(p, i, p.Hops[i].AtNS), &p.Hops[i])
		if i == death {
			diedNS = p.Hops[i].AtNS
		}
	}
	w.drop(p, diedNS)
}

func (w *Writer) wideHop(cols columns, when string, h *model.Hop) {
	said := tell(h)
	w.step(cols, &step{
		when: when, place: place(h.Place, h.Netns), device: device(h.Interface, h.IfIndex), copy: h.Copy,
		level: said.level, phrases: []phrase{said},
	})
	indent := margin + cols[0] + 2
	w.page.para(indent+2, span{strings.Repeat(" ", indent) + strings.Join(details(h), "  "), dim})
	if h.RulesUnknown != "" {
		w.page.para(indent+2, span{strings.Repeat(" ", indent) + "rules not known: " + h.RulesUnknown, warned})
	}
	for _, r := range h.Rules {
		w.page.para(indent+2, span{strings.Repeat(" ", indent) + "rule " + ruleName(r), dim})
		if r.Text != "" {
			w.page.verbatim(indent+2, r.Text, dim)
		}
	}
}

// details lists what wide shows of a hop beyond its story.
func details(h *model.Hop) []string {
	var out []string
	for _, d := range []struct{ name, value string }{
		{"", h.Function},
		{"backend", h.Backend},
		{"chain", h.Chain},
		{"ct", h.CTState},
		{"skb", h.SKB},
		{"mark", hexUnlessZero(h.Mark)},
		{"len", unlessZero(h.Length)},
		{"mac", nextHopMAC(h)},
	} {
		if d.value != "" {
			out = append(out, strings.TrimLeft(glued(d.name+" "+d.value), glue))
		}
	}
	return slices.Concat(out, []string{glued(fmt.Sprintf("cpu %d", h.CPU))})
}

func nextHopMAC(h *model.Hop) string {
	if h.Neighbor == nil {
		return ""
	}
	return h.Neighbor.MAC
}

func unlessZero(n uint32) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func hexUnlessZero(n uint32) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%#x", n)
}
