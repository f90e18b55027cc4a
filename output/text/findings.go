// SPDX-License-Identifier: Apache-2.0

// findings.go prints the causes found, with what speaks for them and what to do.
// They stand with the verdict, at the end, where they are seen first; so they
// are kept short there, and told in full with Options.Wide or as JSON.

package text

import (
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// detail is how many lines of evidence and of ways out a finding is told with.
type detail struct{ evidence, fix int }

// inFull tells all there is.
var inFull = detail{1 << 10, 1 << 10}

// shorter are the lengths tried, until all findings fit.
var shorter = []detail{inFull, {6, 4}, {4, 3}, {3, 2}, {2, 2}, {2, 1}, {1, 1}, {0, 1}, {0, 0}}

// tellFindings prints as much of the findings as fits in so many lines.
func (w *Writer) tellFindings(lines int) {
	if len(w.findings) == 0 {
		return
	}
	shown, how := len(w.findings), inFull
	if !w.opt.Wide {
		shown, how = w.fitFindings(lines)
	}
	for _, f := range w.findings[:shown] {
		w.finding(f, how)
	}
	if more := w.leftOut(shown, how); more != "" {
		w.page.para(4, span{"    " + more, dim})
	}
}

// fitFindings finds how many findings, in which detail, keep within the lines.
func (w *Writer) fitFindings(lines int) (shown int, how detail) {
	for shown = len(w.findings); shown > 1; shown-- {
		for _, how = range shorter {
			if w.linesOf(shown, how) <= lines {
				return shown, how
			}
		}
	}
	for _, how = range shorter {
		if w.linesOf(1, how) <= lines {
			break
		}
	}
	return 1, how
}

// linesOf counts the lines that some findings would take on the reader's terminal.
func (w *Writer) linesOf(shown int, how detail) int {
	lines := w.rows(w.trial(func(t *Writer) {
		for _, f := range w.findings[:shown] {
			t.finding(f, how)
		}
	}))
	if w.leftOut(shown, how) != "" {
		lines++
	}
	return lines
}

// leftOut says that there is more than is shown; "" if there is not.
func (w *Writer) leftOut(shown int, how detail) string {
	if shown < len(w.findings) {
		return plural(uint64(len(w.findings)-shown), "more finding", "more findings") + ", and all in full, with -o json"
	}
	for _, f := range w.findings {
		if len(f.Evidence) > how.evidence || len(f.Fix) > how.fix {
			return "more of this with -o wide or -o json"
		}
	}
	return ""
}

// finding prints a cause with what speaks for it and what to do.
func (w *Writer) finding(f *model.Finding, how detail) {
	about := string(f.Direction)
	if len(f.Packets) > 0 {
		about = strings.TrimSpace(about + " " + packetIDs(slices.Sorted(slices.Values(f.Packets))))
	}
	w.page.para(4, span{"FINDING " + f.Code, bad}, span{"  " + strings.Join(slices.DeleteFunc([]string{f.Confidence, about}, empty), ", "), dim})
	w.page.para(4, span{"    " + f.Summary, bold})
	w.list("because", f.Evidence[:min(len(f.Evidence), how.evidence)])
	w.list("fix", f.Fix[:min(len(f.Fix), how.fix)])
}

func empty(s string) bool { return s == "" }

// list prints lines under one label; they are copied often, so not wrapped.
func (w *Writer) list(name string, lines []string) {
	for _, line := range lines {
		w.label(name, span{glued(line), plain})
		name = ""
	}
}
