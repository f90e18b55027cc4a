// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// printed gives what a subcommand prints.
func printed(t *testing.T, args ...string) string {
	t.Helper()
	r := finish(t, play(t, "short", args...))
	r.want(t, 0)
	return r.stdout
}

// tool finds a program that a test needs. Where CI runs all are there
// (.ci/deps.sh).
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is not installed, and CI has it: see .ci/deps.sh", name)
		}
		t.Skipf("%s is not installed: apt-get install %s", name, name)
	}
	return path
}

// The manual has every flag that the program takes and none that it refuses, and
// what renders manuals has nothing to complain of.
func TestManual(t *testing.T) {
	page := printed(t, "man")
	told, err := flagsTold()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pathtrace.8")
	if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
	mandoc := tool(t, "mandoc")
	if said, err := exec.CommandContext(t.Context(), mandoc, "-T", "lint", "-W", "style", file).CombinedOutput(); err != nil || len(said) > 0 {
		t.Errorf("mandoc: %v\n%s", err, said)
	}
	text, err := exec.CommandContext(t.Context(), mandoc, "-T", "ascii", "-O", "width=78", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	plain := overstruck(string(text))
	for _, f := range told {
		if !strings.Contains(plain, "--"+f.Name) {
			t.Errorf("--%s is not in the manual", f.Name)
		}
	}
	for _, want := range []string{"pathtrace --src END --dst END [flags]", "completion SHELL", "pathtrace -s client -d prod/db -p 5432", "At least one packet died"} {
		if !strings.Contains(plain, want) {
			t.Errorf("the manual lacks %q:\n%s", want, plain)
		}
	}
}

// overstruck takes out how a teletype made letters bold: each printed, stepped
// back over and printed again.
func overstruck(text string) string {
	var out []rune
	for _, r := range text {
		switch r {
		case '\b':
			out = out[:max(len(out)-1, 0)]
		default:
			out = append(out, r)
		}
	}
	return string(out)
}

// completions are asked of every shell: what is typed, and some of what has to be
// and of what must not be proposed.
var completions = []struct {
	typed []string // the last word is being typed
	has   []string
	lacks []string
}{
	{[]string{""}, []string{"doctor", "man", "completion"}, []string{"bash"}},
	{[]string{"--re"}, []string{"--report", "--ready-file"}, []string{"--src"}},
	{[]string{"-s", "a", "--output", ""}, []string{"text", "json", "wide"}, []string{"--src", "doctor"}},
	{[]string{"-o", "j"}, []string{"json"}, []string{"text"}},
	{[]string{"--backend", "f"}, []string{"fentry"}, []string{"auto"}},
	{[]string{"--proto", ""}, []string{"tcp", "udp", "icmp", "sctp"}, nil},
	{[]string{"--probe", "t"}, []string{"tcp:"}, []string{"icmp"}},
	{[]string{"--src", "l"}, []string{"lo"}, nil},
	{[]string{"completion", ""}, []string{"bash", "zsh", "fish"}, []string{"doctor"}},
	{[]string{"--report", "fi"}, []string{"file.html"}, nil},
}

// TestBash completes in a real bash.
func TestBash(t *testing.T) {
	script := printed(t, "completion", "bash")
	dir := folder(t)
	for _, tc := range completions {
		run := script + "\nCOMP_WORDS=(pathtrace \"$@\"); COMP_CWORD=$#; compopt() { :; }; _pathtrace; printf '%s\\n' \"${COMPREPLY[@]}\""
		proposes(t, dir, tc.typed, tc.has, tc.lacks, exec.CommandContext(t.Context(), tool(t, "bash"), append([]string{"--norc", "-uc", run, "bash"}, tc.typed...)...))
	}
	// As bash cuts it at the equals sign.
	run := script + "\nCOMP_WORDS=(pathtrace --output = j); COMP_CWORD=3; _pathtrace; echo \"${COMPREPLY[@]}\""
	proposes(t, dir, []string{"--output=j"}, []string{"json"}, []string{"text"}, exec.CommandContext(t.Context(), tool(t, "bash"), "--norc", "-uc", run))
	// After -- comes a command.
	run = script + "\nCOMP_WORDS=(pathtrace -s a -- ec); COMP_CWORD=4; compopt() { :; }; _pathtrace; printf '%s\\n' \"${COMPREPLY[@]}\""
	proposes(t, dir, []string{"--", "ec"}, []string{"echo"}, []string{"--src"}, exec.CommandContext(t.Context(), tool(t, "bash"), "--norc", "-uc", run))
}

// TestFish completes in a real fish.
func TestFish(t *testing.T) {
	dir := folder(t)
	script := filepath.Join(dir, "c.fish")
	if err := os.WriteFile(script, []byte(printed(t, "completion", "fish")), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tc := range completions {
		line := "pathtrace " + strings.Join(tc.typed, " ")
		cmd := exec.CommandContext(t.Context(), tool(t, "fish"), "--no-config", "-c", "source c.fish; complete -C \"$argv\"", line)
		proposes(t, dir, tc.typed, tc.has, tc.lacks, cmd)
	}
}

// TestZsh completes in a real zsh, at a terminal that another zsh plays: zsh shows
// what it proposes nowhere else.
func TestZsh(t *testing.T) {
	zsh := tool(t, "zsh")
	dir := folder(t)
	if err := os.WriteFile(filepath.Join(dir, "_pathtrace"), []byte(printed(t, "completion", "zsh")), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{
		"pathtrace --output=j", "json",
		"pathtrace -s a --backend f", "fentry",
		"pathtrace comp", "completion",
		"pathtrace completion f", "fish",
		"pathtrace --report fi", "file.html",
		"pathtrace --dro", "--drops-only",
		"pathtrace -s a -- readonl", "readonly",
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, zsh, append([]string{"-f", "-c", zshTerminal, "zsh"}, args...)...)
	cmd.Dir = dir
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
}

// zshTerminal types in an interactive zsh: of every two arguments the first and a
// tab, and ends well if the second is shown then.
const zshTerminal = `
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z 'autoload -U compinit; compinit -u -D; source ./_pathtrace; print REA""DY'
zpty -r z out '*READY*' || exit 1
for typed shows in "$@"; do
	print -r -- "$typed becomes $shows"
	zpty -w -n z "$typed"$'\t'
	zpty -r z out "*$shows*" || exit 1
	zpty -w -n z $'\x15'
done
zpty -d z
`

// folder has a file to complete.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file.html"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// proposes checks what a shell prints as proposals, one a line, with or without a
// description behind a tab.
func proposes(t *testing.T, dir string, typed, has, lacks []string, shell *exec.Cmd) {
	t.Helper()
	shell.Dir = dir
	out, err := shell.Output()
	if err != nil {
		t.Errorf("%q: %v", typed, err)
		return
	}
	var words []string
	for line := range strings.Lines(string(out)) {
		word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
		words = append(words, word)
	}
	for _, want := range has {
		if !slices.Contains(words, want) {
			t.Errorf("%q: %q is not proposed, but %q", typed, want, words)
		}
	}
	for _, not := range lacks {
		if slices.Contains(words, not) {
			t.Errorf("%q: %q is proposed", typed, not)
		}
	}
}

// A mistyped subcommand says what there is.
func TestManualBadInput(t *testing.T) {
	for _, tc := range []struct {
		args []string
		says string
	}{
		{[]string{"completion"}, "completion needs a shell: use one of bash, zsh, fish"},
		{[]string{"completion", "tcsh"}, `unknown shell "tcsh": use one of bash, zsh, fish`},
		{[]string{"man", "x"}, `unexpected argument "x": pathtrace man takes none`},
	} {
		finish(t, play(t, "short", tc.args...)).want(t, 1, "pathtrace: "+tc.says+"\n")
	}
}
