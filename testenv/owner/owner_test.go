// SPDX-License-Identifier: Apache-2.0

// Whose a name is, and whether he lives.

package owner

import (
	"os"
	"path/filepath"
	"testing"
)

func TestParseOwner(t *testing.T) {
	for _, c := range []struct {
		name string
		want owner
		ours bool
	}{
		{"pt-12-3456-1-node1", owner{12, 3456}, true},
		{"pathtrace-testenv-12-3456-2", owner{12, 3456}, true},
		{"pt-12-3456", owner{}, false},
		{"pt-x-1-1-a", owner{}, false},
		{"pt-0-1-1-a", owner{}, false},
		{"cni-1234", owner{}, false},
	} {
		got, ours := parse(c.name)
		if ours != c.ours || ours && got != c.want {
			t.Errorf("parse(%q) = %v, %v; want %v, %v", c.name, got, ours, c.want, c.ours)
		}
	}
}

func TestOwnerAlive(t *testing.T) {
	me, err := self()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		owner owner
		want  bool
	}{{me, true}, {owner{me.pid, me.start + 1}, false}, {owner{1 << 22, 1}, false}} {
		if got, err := c.owner.alive(); err != nil || got != c.want {
			t.Errorf("%v.alive() = %v, %v; want %v", c.owner, got, err, c.want)
		}
	}
}

// TestClaim: two environments that stand at once share no name.
func TestClaim(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	seen := map[string]bool{}
	for range 2 {
		name, dir, err := Claim()
		if err != nil {
			t.Fatal(err)
		}
		if seen[name] || seen[dir] {
			t.Errorf("%s, %s was given twice", name, dir)
		}
		seen[name], seen[dir] = true, true
		for _, made := range []string{name + "-node1", filepath.Base(dir)} {
			if o, ours := parse(made); !ours || o.pid != os.Getpid() {
				t.Errorf("%s does not say whose it is: %v, %v", made, o, ours)
			}
		}
	}
}
