// SPDX-License-Identifier: Apache-2.0

// Package recorded reads, for tests, the traces that were recorded on test
// nodes: what pathtrace -o json printed, packed with gzip.
package recorded

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ending is that of a recorded trace's name.
const ending = ".jsonl.gz"

// Traces gives all traces of a folder, at least so many, by name.
func Traces(t testing.TB, dir string, least int) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*"+ending))
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) < least {
		t.Fatalf("%d recorded traces in %s, want %d at least", len(paths), dir, least)
	}
	all := make(map[string][]byte, len(paths))
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ending)
		all[name] = Trace(t, dir, name)
	}
	return all
}

// Trace gives one.
func Trace(t testing.TB, dir, name string) []byte {
	t.Helper()
	path := filepath.Join(dir, name+ending)
	packed, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	unpack, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	text, err := io.ReadAll(unpack)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return text
}
