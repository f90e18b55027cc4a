// SPDX-License-Identifier: Apache-2.0

package text

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// longFinding has as much to say as a real one may.
func longFinding(code string, evidence, fix int) *model.Finding {
	f := &model.Finding{Code: code, Confidence: "likely", Direction: model.Forward, Packets: []uint64{3, 1, 2},
		Summary: "Calico NetworkPolicy default/" + code + " (ingress of the pod behind cali7715d358f22) does not allow it: end of tier default."}
	for i := range evidence {
		f.Evidence = append(f.Evidence, fmt.Sprintf("evidence %d of %s", i+1, code))
	}
	for i := range fix {
		f.Fix = append(f.Fix, fmt.Sprintf("fix %d of %s", i+1, code))
	}
	return f
}

// printed gives the findings' part of the output of a trace that had them.
func printed(t *testing.T, opt Options, findings ...*model.Finding) string {
	t.Helper()
	var out bytes.Buffer
	w := New(&out, opt)
	for _, f := range findings {
		if err := w.Finding(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Summary(&model.Summary{Forward: model.Counts{Seen: 3, Dropped: 3}}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "\nforward  ") {
		t.Fatalf("no counts after the findings:\n%s", out.String())
	}
	return strings.TrimPrefix(out.String(), "\n")
}

// rowsOf counts the lines of a terminal so wide that text takes.
func rowsOf(text string, width int) (rows int) {
	for line := range strings.Lines(text) {
		rows += max(1, (len(strings.TrimSuffix(line, "\n"))+width-1)/width)
	}
	return rows
}

// However many causes there are and however much they have to say, the verdict takes
// 15 lines of a terminal, the first is told best, and what was left out is said to have been.
func TestFindingsKeepShort(t *testing.T) {
	for name, tc := range map[string]struct {
		findings []*model.Finding
		has      []string
		lacks    []string
	}{
		"one that fits": {[]*model.Finding{longFinding("one", 4, 3)},
			[]string{"FINDING one  likely, forward #1-#3", "evidence 4 of one", "fix 3 of one"}, []string{"-o json"}},
		"one that is long": {[]*model.Finding{longFinding("one", 12, 9)},
			[]string{"FINDING one", "evidence 1 of one", "fix 1 of one", "more of this with -o wide or -o json"}, []string{"evidence 12 of one"}},
		"three": {[]*model.Finding{longFinding("one", 4, 3), longFinding("two", 4, 3), longFinding("three", 4, 3)},
			[]string{"FINDING one", "FINDING two", "FINDING three", "-o json"}, nil},
		"eight": {[]*model.Finding{longFinding("a", 4, 3), longFinding("b", 4, 3), longFinding("c", 4, 3), longFinding("d", 4, 3),
			longFinding("e", 4, 3), longFinding("f", 4, 3), longFinding("g", 4, 3), longFinding("h", 4, 3)},
			[]string{"FINDING a", "more findings, and all in full, with -o json"}, nil},
	} {
		for _, width := range []int{80, 100} {
			t.Run(fmt.Sprintf("%s %d", name, width), func(t *testing.T) {
				got := printed(t, Options{Width: width}, tc.findings...)
				if rows := rowsOf(got, width); rows > verdictLines {
					t.Errorf("%d lines, want at most %d:\n%s", rows, verdictLines, got)
				}
				for _, want := range tc.has {
					if !strings.Contains(got, want) {
						t.Errorf("lacks %q:\n%s", want, got)
					}
				}
				for _, not := range tc.lacks {
					if strings.Contains(got, not) {
						t.Errorf("has %q:\n%s", not, got)
					}
				}
			})
		}
	}
}

// Wide leaves nothing out.
func TestFindingsWide(t *testing.T) {
	got := printed(t, Options{Wide: true}, longFinding("one", 12, 9), longFinding("two", 12, 9))
	for _, want := range []string{"evidence 12 of one", "fix 9 of one", "evidence 12 of two", "fix 9 of two"} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "-o json") {
		t.Errorf("says that more is elsewhere:\n%s", got)
	}
}

// Without a finding nothing is printed for it.
func TestNoFindings(t *testing.T) {
	if got := printed(t, Options{}); strings.Contains(got, "FINDING") || strings.Contains(got, "because") {
		t.Errorf("printed %q", got)
	}
}

// What is certain gets one line at once, and its place in the verdict.
func TestLiveFinding(t *testing.T) {
	var out bytes.Buffer
	w := New(&out, Options{})
	f := model.Finding{Type: model.TypeFinding, Code: "ttl", Confidence: "certain", Direction: model.Forward, Packets: []uint64{1}, Summary: "It went round.", Evidence: []string{}}
	live := f
	live.Live = true
	for _, err := range []error{w.Start(&model.Start{}), w.Finding(&live)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := out.String(); !strings.HasSuffix(got, "\n  FOUND ttl  It went round.\n") {
		t.Errorf("while tracing:\n%s", got)
	}
	out.Reset()
	if err := w.Finding(&f); err != nil {
		t.Fatal(err)
	}
	if err := w.Summary(&model.Summary{}); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Count(got, "It went round.") != 1 || !strings.Contains(got, "FINDING ttl  certain, forward #1\n") {
		t.Errorf("at the end:\n%s", got)
	}
}
