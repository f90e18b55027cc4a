// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The report is beside what is printed, and tells the same.
func TestReport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "trace.html")
	r := finish(t, play(t, "short delivered dropped", with("--report", file)...))
	r.want(t, 2)
	if !strings.Contains(r.stdout, "forward  2 seen, 1 delivered, 1 dropped") {
		t.Errorf("printed: %s", r.stdout)
	}
	page := load(t, file)
	for _, want := range []string{"1 of 2 packets died on this node", "10.0.0.1", "DROPPED", "delivered"} {
		if !strings.Contains(page, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
}

// --drops-only holds for the report too.
func TestReportDropsOnly(t *testing.T) {
	file := filepath.Join(t.TempDir(), "trace.html")
	finish(t, play(t, "short delivered dropped", with("--report", file, "--drops-only")...)).want(t, 2)
	page := load(t, file)
	if strings.Count(page, `<details class="packet`) != 1 || !strings.Contains(page, "1 of 2 packets died") {
		t.Errorf("the report has %d packets, want the one that died", strings.Count(page, `<details class="packet`))
	}
}

// What cannot be written is said before the trace begins, and nothing is left
// behind; what fails at the end is said after the verdict.
func TestReportFails(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct{ path, says string }{
		{filepath.Join(dir, "missing", "trace.html"), "no such file or directory"},
		{dir, "is not a regular file: name a file to write"},
		{"/dev/full", "is not a regular file: name a file to write"},
	} {
		r := finish(t, play(t, "short delivered", with("--report", tc.path)...))
		r.want(t, 1, "pathtrace: report "+tc.path+": "+tc.says+"\n")
		if strings.Contains(r.stderr, "tracing") || r.stdout != "" {
			t.Errorf("traced all the same: %s%s", r.stderr, r.stdout)
		}
	}
	gone := filepath.Join(dir, "gone")
	if err := os.Mkdir(gone, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(gone, "trace.html")
	r := finish(t, play(t, "delivered", with("--report", file, "--", "rm", "-r", gone)...))
	r.want(t, 1, "pathtrace: report "+file+": no such file or directory\n")
	if !strings.Contains(r.stdout, "forward  1 seen, 1 delivered") {
		t.Errorf("no verdict: %s", r.stdout)
	}
}

// A reader that went away ends the trace, not the report.
func TestReportWithoutReader(t *testing.T) {
	file := filepath.Join(t.TempDir(), "trace.html")
	cmd := play(t, "short delivered dropped", with("--report", file)...)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	cmd.Stdout = writer
	_ = cmd.Run() // its status is that of the packets seen until then
	if page := load(t, file); !strings.Contains(page, "</html>") {
		t.Error("no whole report")
	}
}

func load(t *testing.T, file string) string {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
