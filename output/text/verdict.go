// SPDX-License-Identifier: Apache-2.0

// verdict.go prints the end of a trace: what is pasted into a ticket when nothing
// else is. It says what was traced and what came of it, the causes, and the
// counts, in so few lines that it is read.

package text

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// verdictLines is how many lines of the reader's terminal the verdict takes at
// most, blank ones included. A line that is wider than the terminal counts as
// those it is broken into there.
const verdictLines = 15

// Verdict says in half a sentence how a trace ended, with what was found.
func Verdict(s *model.Summary, findings []*model.Finding) string {
	seen, died := s.Forward.Seen+s.Return.Seen, s.Forward.Died()+s.Return.Died()
	unknown := s.Forward.Unknown + s.Return.Unknown
	switch {
	case seen == 0:
		return "no packet of the flow was seen"
	case died > 0:
		return fmt.Sprintf("%d of %s died on this node", died, plural(uint64(seen), "packet", "packets"))
	case unknown > 0:
		return fmt.Sprintf("no packet was seen to die on this node; the end of %d of %d was not seen", unknown, seen)
	case Amiss(findings):
		return "no packet died on this node (" + fared(s, seen) + "), but something was found"
	}
	return "no packet died on this node: " + fared(s, seen)
}

// Amiss tells whether something found is wrong. That packets left the node and
// are to be looked for on another is not.
func Amiss(findings []*model.Finding) bool {
	return slices.ContainsFunc(findings, (*model.Finding).Fault)
}

func fared(s *model.Summary, seen int) string {
	left := s.Forward.LeftNode + s.Return.LeftNode
	switch left {
	case 0:
		return plural(uint64(seen), "packet", "packets") + " arrived"
	case seen:
		return plural(uint64(seen), "packet", "packets") + " left it in good order"
	}
	return fmt.Sprintf("%d arrived, %d left it in good order", seen-left, left)
}

// verdict prints the end of the trace.
func (w *Writer) verdict(s *model.Summary) {
	rest := w.trial(func(t *Writer) {
		t.opening(s)
		t.counts(s)
	})
	w.page.blank()
	w.opening(s)
	w.tellFindings(verdictLines - w.rows(rest))
	w.counts(s)
}

// opening says what was traced and what came of it.
func (w *Writer) opening(s *model.Summary) {
	words := Verdict(s, w.findings)
	look := good
	switch {
	case s.Forward.Died()+s.Return.Died() > 0:
		look = bad
	case s.Forward.Unknown+s.Return.Unknown > 0, Amiss(w.findings), s.Forward.Seen+s.Return.Seen == 0:
		look = warned
	}
	asked := w.start.Src.Given + " -> " + w.start.Dst.Given
	if only := flowWords(&w.start); only != "" {
		asked += ", only " + only
	}
	w.page.para(4, span{"VERDICT " + asked + ": ", bold}, span{words, look})
	if s.Forward.Unknown+s.Return.Unknown > 0 || s.Forward.Seen+s.Return.Seen == 0 {
		for _, p := range w.start.Planes {
			w.page.para(4, span{"not all is seen there: " + planeWords(p), warned})
		}
	}
}

// trial prints to nowhere and without colours, to see how long it gets.
func (w *Writer) trial(print func(*Writer)) []byte {
	t := Writer{opt: w.opt, page: page{width: w.page.width}, start: w.start, tally: w.tally, findings: w.findings}
	print(&t)
	return t.page.buf.Bytes()
}

// rows counts the lines that text takes on the reader's terminal.
func (w *Writer) rows(text []byte) (rows int) {
	for line := range bytes.Lines(text) {
		columns := len(bytes.TrimSuffix(line, []byte("\n")))
		rows += max(1, (columns+w.page.width-1)/w.page.width)
	}
	return rows
}

// missedHooks says in one paragraph what could not be attached.
func (w *Writer) missedHooks(missed []model.MissedHook) {
	if len(missed) == 0 {
		return
	}
	var words []string
	for _, m := range missed {
		words = append(words, m.Hook+colon(m.Why))
	}
	if !w.opt.Wide && len(words) > shownMissed {
		words = append(words[:shownMissed], fmt.Sprintf("and %d more (-o wide)", len(missed)-shownMissed))
	}
	w.page.para(9, span{"not attached: " + strings.Join(words, "; "), warned})
}

// What the verdict of a trace with many of them shows of each.
const (
	shownMissed = 3 // hooks that could not be attached
	shownCauses = 2 // causes of death of one direction, where there are more than one more
)
