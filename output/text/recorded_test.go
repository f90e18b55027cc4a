// SPDX-License-Identifier: Apache-2.0

// recorded_test.go shows traces recorded on real nodes (output/testdata) as
// people read them: testdata/recorded/*.txt. `go test ./output/text -update`
// writes them anew: look at the difference before believing it.

package text

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/model/recorded"
)

func shown(t *testing.T, trace []byte, opt Options) string {
	t.Helper()
	var got bytes.Buffer
	if err := model.ReadJSON(bytes.NewReader(trace), New(&got, opt)); err != nil {
		t.Fatal(err)
	}
	return got.String()
}

func TestRecorded(t *testing.T) {
	for name, trace := range recorded.Traces(t, "../testdata", 10) {
		t.Run(name, func(t *testing.T) {
			compare(t, filepath.Join("testdata", "recorded", name+".txt"), []byte(shown(t, trace, Options{})))
		})
	}
}

// copied tells lines that are for copying and searching, and so not broken: rules,
// evidence and ways out.
func copied(line string) bool {
	return strings.HasPrefix(line, strings.Repeat(" ", labelIndent)) || strings.HasPrefix(line, "      because ") || strings.HasPrefix(line, "      fix ")
}

// On a terminal of 80 columns and on paper everything but what is for copying
// keeps within the width, and the verdict takes 15 lines: from its first line on it
// can be pasted alone.
func TestRecordedFits(t *testing.T) {
	for name, trace := range recorded.Traces(t, "../testdata", 10) {
		for _, width := range []int{80, 100} {
			text := shown(t, trace, Options{Width: width})
			for line := range strings.Lines(text) {
				line = strings.TrimSuffix(line, "\n")
				if len(line) > width && !copied(line) {
					t.Errorf("%s: %d columns: %q", name, len(line), line)
				}
				if strings.HasSuffix(line, " ") || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
					t.Errorf("%s: not plain: %q", name, line)
				}
			}
			_, verdict, found := strings.Cut(text, "\nVERDICT ")
			if rows := rowsOf(verdict, width); !found || rows > verdictLines {
				t.Errorf("%s: the verdict takes %d lines of %d columns:\n%s", name, rows, width, verdict)
			}
			if !strings.Contains(verdict, " -> ") || !strings.Contains(verdict, "\nforward  ") || !strings.Contains(verdict, "\ntraced for ") {
				t.Errorf("%s: the verdict does not stand alone:\n%s", name, verdict)
			}
		}
	}
}
