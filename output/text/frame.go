// SPDX-License-Identifier: Apache-2.0

// frame.go prints what stands around the packets: the header, changes of the
// node, and the summary with its tally of causes.

package text

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// shownAddresses is how many addresses of an end the header lists.
const shownAddresses = 4

// header prints what is traced, by what.
func (w *Writer) header(s *model.Start) {
	w.page.para(4, span{"pathtrace " + s.Version, bold}, span{fmt.Sprintf("  kernel %s, %s, %s, attached in %.0f%sms",
		s.Kernel, s.Backend, plural(uint64(s.Hooks), "hook", "hooks"), s.AttachMS, glue), dim})
	w.headerLine("from", endWords(&s.Src))
	w.headerLine("to", endWords(&s.Dst))
	w.headerLine("only", flowWords(s))
	if r := s.RuleSets; r != nil {
		w.headerLine("rules", fmt.Sprintf("%d iptables-legacy, %d nft", r.Legacy, r.NFT))
	}
	for _, p := range s.Planes {
		w.headerLine("note", planeWords(p))
		for _, says := range p.Says {
			w.headerLine("", says)
		}
	}
}

// planeWords says what carries packets another way, of which end, and how that was
// seen: "macvlan (source): net1 in pod is a macvlan on eth0".
func planeWords(p model.Plane) string {
	words := p.Kind
	switch len(p.Ends) {
	case 1:
		words += " (" + map[string]string{"src": "source", "dst": "destination"}[p.Ends[0]] + ")"
	case 2:
		words += " (both ends)"
	}
	return words + ": " + strings.Join(p.Evidence, "; ")
}

func (w *Writer) headerLine(name, says string) {
	if says != "" {
		w.page.para(9, span{fmt.Sprintf("  %-7s", name), dim}, span{says, plain})
	}
}

// flowWords says how the flow was narrowed: "tcp port 80".
func flowWords(s *model.Start) string {
	words := s.Proto
	if s.Port != 0 {
		words = strings.TrimSpace(fmt.Sprintf("%s port %d", words, s.Port))
	}
	return words
}

// endWords says what one end was resolved to.
func endWords(e *model.End) string {
	parts := []string{e.Given}
	if full := strings.TrimPrefix(e.Namespace+"/"+e.Name, "/"); e.Name != "" && !slices.Contains([]string{full, e.Name, e.Namespace + "/svc/" + e.Name}, e.Given) {
		parts = append(parts, full)
	}
	if addrs := e.Addresses.Strings(); len(addrs) > 0 && !slices.Equal(addrs, []string{e.Given}) {
		if more := len(addrs) - shownAddresses; more > 0 {
			addrs = append(addrs[:shownAddresses], fmt.Sprintf("%d more", more))
		}
		parts = append(parts, strings.Join(addrs, ", "))
	}
	if e.Interface != "" && e.Interface != e.Given {
		parts = append(parts, glued("behind "+e.Interface))
	}
	if e.Netns != 0 {
		parts = append(parts, place("", e.Netns))
	}
	if e.ResolvedBy != "" {
		parts = append(parts, "("+e.ResolvedBy+")")
	}
	return strings.Join(parts, "  ")
}

// nodeEvent prints a change of the node. Its text says what and who; where it
// does not, both are added.
func (w *Writer) nodeEvent(e *model.NodeEvent) {
	head := "NODE " + e.What
	if !strings.Contains(e.Text, e.Object) {
		head += " " + e.Object
	}
	if e.By != nil && !strings.Contains(e.Text, e.By.Comm) {
		head += fmt.Sprintf(" by %s (pid %d)", e.By.Comm, e.By.PID)
	}
	if !w.changing {
		w.page.blank()
	}
	w.page.para(4, span{head, warned}, span{"  " + clock(e.Time), dim}, span{"  " + e.Text, plain})
}

// tally counts per direction what packets died of. The zero value is ready.
type tally struct {
	causes map[model.Direction][]*causeCount
}

type causeCount struct {
	outcome model.Outcome
	words   string
	packets int
}

func (t *tally) add(p *model.Packet) {
	if !p.Outcome.Died() {
		return
	}
	words := "no reason given"
	if p.Drop != nil {
		words = cause(p.Drop)
	}
	if t.causes == nil {
		t.causes = map[model.Direction][]*causeCount{}
	}
	for _, c := range t.causes[p.Direction] {
		if c.outcome == p.Outcome && c.words == words {
			c.packets++
			return
		}
	}
	t.causes[p.Direction] = append(t.causes[p.Direction], &causeCount{p.Outcome, words, 1})
}

// counts prints what became of the packets of each direction, and what may be
// missing.
func (w *Writer) counts(s *model.Summary) {
	if len(w.findings) > 0 {
		w.page.blank()
	}
	took := fmt.Sprintf("%.1f%ss", (time.Duration(s.DurationMS) * time.Millisecond).Seconds(), glue)
	if s.Forward.Seen+s.Return.Seen == 0 {
		w.nothingSeen()
	} else {
		w.direction(model.Forward, s.Forward)
		w.direction(model.Return, s.Return)
	}
	w.probes(s.Probes)
	w.losses(s, took)
}

// direction prints one direction's line, and under it the causes of death if
// there are several.
func (w *Writer) direction(d model.Direction, c model.Counts) {
	causes := w.tally.causes[d]
	spans := []span{{fmt.Sprintf("%-9s", d), bold}, {countWords(c), countStyle(c)}}
	if len(causes) == 1 {
		spans = append(spans, span{": " + causes[0].words, bad})
	}
	w.page.para(9, spans...)
	if len(causes) < 2 {
		return
	}
	shown := len(causes)
	if !w.opt.Wide && shown > shownCauses+1 {
		shown = shownCauses
	}
	for _, cc := range causes[:shown] {
		w.page.para(13, span{strings.Repeat(" ", 9), plain},
			span{fmt.Sprintf("%d %s: %s", cc.packets, strings.ToLower(outcomeWord(cc.outcome)), cc.words), bad})
	}
	if rest := causes[shown:]; len(rest) > 0 {
		packets := 0
		for _, cc := range rest {
			packets += cc.packets
		}
		w.page.para(13, span{strings.Repeat(" ", 9), plain}, span{fmt.Sprintf("%d more of %d other causes, told with -o wide", packets, len(rest)), bad})
	}
}

func countWords(c model.Counts) string {
	words := fmt.Sprintf("%d seen", c.Seen)
	for _, part := range []struct {
		n    int
		word string
		show bool
	}{
		{c.Delivered, "delivered", c.Delivered > 0 || c.Died() > 0},
		{c.LeftNode, "left the node", c.LeftNode > 0},
		{c.Unknown, "whose end was not seen", c.Unknown > 0},
		{c.Rejected, "rejected", c.Rejected > 0},
		{c.Dropped, "dropped", c.Dropped > 0},
	} {
		if part.show {
			words += fmt.Sprintf(", %d %s", part.n, part.word)
		}
	}
	switch c.OwnAnswers {
	case 0:
	case c.Seen:
		words += "; none of the other end: this node made them itself (resets, ICMP errors)"
	default:
		words += fmt.Sprintf("; %d of them this node made itself (resets, ICMP errors)", c.OwnAnswers)
	}
	return words
}

func countStyle(c model.Counts) style {
	switch {
	case c.Died() > 0:
		return bad
	case c.Seen == 0 || c.Unknown > 0:
		return warned
	}
	return good
}

// nothingSeen says what was asked for, since that is the first suspect.
func (w *Writer) nothingSeen() {
	asked := fmt.Sprintf("%s -> %s", endWords(&w.start.Src), endWords(&w.start.Dst))
	if only := flowWords(&w.start); only != "" {
		asked += ", only " + only
	}
	w.headerLine("asked", asked+", and the replies")
	w.headerLine("next", "see that something is sent while it traces (-- COMMAND does both) and that the sender or "+
		"the receiver is on this node; --dst any shows where the source sends instead")
}

// losses says what may be missing. Zero is said too: it was counted.
func (w *Writer) losses(s *model.Summary, took string) {
	look := dim
	says := "traced for " + took + ", " + plural(s.LostEvents, "event", "events") + " lost"
	if s.LostEvents > 0 {
		says += " (hops may be missing, and packets whose end was not seen)"
		look = warned
	}
	if s.SkippedRuns > 0 {
		says += ", programs left out by the kernel " + plural(s.SkippedRuns, "time", "times")
	}
	if s.SampledOut > 0 {
		says += ", " + plural(s.SampledOut, "packet", "packets") + " left out on purpose (--sample)"
	}
	if s.LostFrames > 0 {
		says += ", bytes of " + plural(s.LostFrames, "hop", "hops") + " lost"
		look = warned
	}
	if s.CutFrames > 0 {
		says += ", bytes of " + plural(s.CutFrames, "hop", "hops") + " cut short (page fragments out of reach)"
		look = warned
	}
	if s.LostPackets > 0 {
		says += ", " + plural(s.LostPackets, "packet", "packets") + " not followed (too many at once)"
		look = warned
	}
	w.page.para(9, span{says, look})
	w.missedHooks(s.MissedHooks)
}
