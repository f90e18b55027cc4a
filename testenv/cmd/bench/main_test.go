// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBadInput: one line that says what is wrong, before anything is built.
func TestBadInput(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
	}{
		{"--frobnicate", "unknown flag: --frobnicate: see bench --help"},
		{"what", `argument "what" is not understood`},
		{"--rounds 0", "--rounds 0"},
		{"--endpoints 3", "3 endpoints: the node can have"},
		{"--dataplane flannel-nft", "the benchmark's node is a Calico one"},
		{"--dataplane x", `dataplane "x" does not exist`},
		{"--traffic udp,quic", "--traffic quic: take one of"},
		{"--own --growth", "take one of them"},
		{"--own --guard", "leave --own and --growth out"},
		{"tables", "no file of results named"},
		{"tables /nonexistent/file", "/nonexistent/file"},
	} {
		err := run(t.Context(), strings.Fields(c.args), &bytes.Buffer{}, &bytes.Buffer{})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("bench %s: %v, want one line with %q", c.args, err, c.want)
		}
	}
}

// TestTables: saved results come out as tables; a damaged file names its line.
func TestTables(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results.jsonl")
	text := `{"type":"unavailable","unavailable":{"tool":"fentry","why":"refused"}}` + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"tables", file}, &out, &out); err != nil || !strings.Contains(out.String(), "| fentry | refused |") {
		t.Errorf("%v: %s", err, out.String())
	}
	if err := os.WriteFile(file, []byte(text+"{broken\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), []string{"tables", file}, &out, &out); err == nil || !strings.Contains(err.Error(), "line 2 of the results") {
		t.Errorf("damaged file: %v", err)
	}
}

// TestBuilds: every backend of the build and further builds take part.
func TestBuilds(t *testing.T) {
	o, err := parse([]string{"--backends", "tracepoint", "--build", "new=/tmp/x --backend fentry"}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	all, err := o.pathtraces()
	if err != nil || len(all) != 2 || all[1].name != "new" || all[1].bin != "/tmp/x" || strings.Join(all[1].args, " ") != "--backend fentry" {
		t.Errorf("%+v, %v", all, err)
	}
	for _, bad := range []string{"new", "=x", "new="} {
		o.builds = []string{bad}
		if _, err := o.pathtraces(); err == nil {
			t.Errorf("--build %q passes", bad)
		}
	}
}
