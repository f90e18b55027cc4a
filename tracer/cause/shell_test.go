// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// A shell that is given a rule's words gets just the words that iptables-save means.
func TestShellRule(t *testing.T) {
	for text, want := range map[string][]string{
		`FORWARD -s 10.0.0.0/8 ! -d 10.1.0.0/16 -j DROP`:            {"FORWARD", "-s", "10.0.0.0/8", "!", "-d", "10.1.0.0/16", "-j", "DROP"},
		`C -m comment --comment "what a rule is for" -j DROP`:       {"C", "-m", "comment", "--comment", "what a rule is for", "-j", "DROP"},
		"C --comment \"$(touch /tmp/pwned) `id`\" -j DROP":          {"C", "--comment", "$(touch /tmp/pwned) `id`", "-j", "DROP"},
		`C --comment "it's \"quoted\" and \\ more; reboot" -j DROP`: {"C", "--comment", `it's "quoted" and \ more; reboot`, "-j", "DROP"},
		`a;reboot -p udp --comment $HOME -j $(id)`:                  {"a;reboot", "-p", "udp", "--comment", "$HOME", "-j", "$(id)"},
		`C --comment "" -j DROP`:                                    {"C", "--comment", "", "-j", "DROP"},
	} {
		out, err := exec.Command("sh", "-c", `printf '%s\n' `+shellRule(text)).Output()
		if err != nil || string(out) != strings.Join(want, "\n")+"\n" {
			t.Errorf("%s: %s, %v: the shell sees %q, want %q", text, shellRule(text), err, out, want)
		}
	}
	if plain := `FORWARD -m comment --comment "cali:abc" -j DROP`; shellRule(plain) != plain {
		t.Errorf("%s became %s", plain, shellRule(plain))
	}
}

func TestShellWord(t *testing.T) {
	for name, want := range map[string]string{"cali-FORWARD": "cali-FORWARD", "cali40s:web": "cali40s:web", "a b": "'a b'", "it's": `'it'\''s'`, "": "''", "x;reboot": "'x;reboot'"} {
		if got := shellWord(name); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
}

// A pod that calls its interface as a command would be does not get that run.
func TestPasteable(t *testing.T) {
	state := madeNode()
	state.Places[nodeNS].Links[3].Name = "x;reboot"
	found := diagnoseAll(t, state, dead("NEIGH_FAILED", "neigh_invalidate+0x7e", func(p *model.Packet) { p.Drop.Interface, p.Drop.IfIndex = "x;reboot", 5 }))
	if len(found) != 1 || !strings.Contains(strings.Join(found[0].Fix, "\n"), "arping -I 'x;reboot' ") {
		t.Fatalf("told %+v", found)
	}
	if bare := strings.ReplaceAll(strings.Join(found[0].Fix, "\n"), "'x;reboot'", ""); strings.Contains(bare, "reboot") {
		t.Errorf("unquoted: %q", found[0].Fix)
	}
}
