// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// recorded gives the reports of traces recorded on real nodes (output/testdata),
// by name.
func recorded(t *testing.T) map[string][]byte {
	t.Helper()
	const ending = ".jsonl.gz"
	paths, err := filepath.Glob(filepath.Join("..", "testdata", "*"+ending))
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) < 10 {
		t.Fatalf("%d recorded traces, want 10 at least", len(paths))
	}
	all := map[string][]byte{}
	for _, path := range paths {
		all[strings.TrimSuffix(filepath.Base(path), ending)] = reportOf(t, path)
	}
	return all
}

func reportOf(t *testing.T, path string) []byte {
	t.Helper()
	packed, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	trace, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	var page bytes.Buffer
	if err := model.ReadJSON(trace, New(&page)); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return page.Bytes()
}

// TestShow writes the reports of the recorded traces to a folder, to look at.
func TestShow(t *testing.T) {
	dir := os.Getenv("PATHTRACE_REPORTS")
	if dir == "" {
		t.Skip("makes files to look at: only with PATHTRACE_REPORTS set")
	}
	for name, page := range recorded(t) {
		if err := os.WriteFile(filepath.Join(dir, name+".html"), page, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
