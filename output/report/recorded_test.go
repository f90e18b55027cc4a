// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/model/recorded"
)

// reports gives the reports of traces recorded on real nodes (output/testdata),
// by name.
func reports(t *testing.T) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for name, trace := range recorded.Traces(t, "../testdata", 10) {
		all[name] = reportOf(t, trace)
	}
	return all
}

func reportOf(t *testing.T, trace []byte) []byte {
	t.Helper()
	var page bytes.Buffer
	if err := model.ReadJSON(bytes.NewReader(trace), New(&page)); err != nil {
		t.Fatal(err)
	}
	return page.Bytes()
}

// TestShow writes the reports of the recorded traces to a folder, to look at.
func TestShow(t *testing.T) {
	dir := os.Getenv("PATHTRACE_REPORTS")
	if dir == "" {
		t.Skip("makes files to look at: only with PATHTRACE_REPORTS set")
	}
	for name, page := range reports(t) {
		if err := os.WriteFile(filepath.Join(dir, name+".html"), page, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
