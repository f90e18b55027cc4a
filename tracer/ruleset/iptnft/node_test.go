// SPDX-License-Identifier: Apache-2.0

package iptnft

// This file is what the tests share: a network namespace whose rules are written
// by the real tools, read by package nft, printed by this package, and compared
// with what the real iptables-nft-save prints.

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
	"github.com/pathtrace/pathtrace/tracer/ruleset/ipset"
	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
	"github.com/pathtrace/pathtrace/tracer/ruleset/xt"
)

// tools are the commands of a family.
var tools = map[string]string{nft.FamilyIP: "iptables-nft", nft.FamilyIP6: "ip6tables-nft"}

// node is a network namespace of its own.
type node struct {
	t testing.TB
	c *nodetest.Cluster
}

func newNode(t testing.TB) node {
	t.Helper()
	n := node{t: t, c: nodetest.New(t)}
	n.c.Add("r")
	return n
}

// try runs a command in the namespace and gives its output; the error has what it
// complains of.
func (n node) try(stdin string, words ...string) (string, error) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", n.c.Name("r")}, words...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(words, " "), err, strings.Join(strings.Fields(complaint.String()), " "))
	}
	return string(out), err
}

func (n node) run(stdin string, words ...string) string {
	n.t.Helper()
	out, err := n.try(stdin, words...)
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

// inside calls a function on a thread in the namespace. The thread is never let
// go of, so it ends with the goroutine.
func (n node) inside(do func() error) {
	n.t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		fd, err := unix.Open(n.c.Path("r"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			done <- err
			return
		}
		err = unix.Setns(fd, unix.CLONE_NEWNET)
		if err = errors.Join(err, unix.Close(fd)); err == nil {
			err = do()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		n.t.Fatal(err)
	}
}

// read reads the rule set and the names of ipsets.
func (n node) read() (rs *nft.Ruleset, sets xt.SetNames) {
	n.t.Helper()
	n.inside(func() (err error) {
		if rs, err = nft.Read(context.Background()); err != nil {
			return err
		}
		s, err := ipset.Open()
		if err != nil {
			return err
		}
		names, err := s.Names()
		sets = names
		return errors.Join(err, s.Close())
	})
	return rs, sets
}

// saved is what iptables-nft-save prints, by table and chain: the chain's line,
// then its rules, without counters.
type saved map[string]map[string][]string

// parseSaved reads iptables-nft-save's output.
func parseSaved(text string) saved {
	s := saved{}
	table := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "*"):
			table = line[1:]
			s[table] = map[string][]string{}
		case strings.HasPrefix(line, ":"):
			line, _, _ = strings.Cut(line, " [")
			name, _, _ := strings.Cut(line[1:], " ")
			s[table][name] = append(s[table][name], line)
		case strings.HasPrefix(line, "-A "):
			name := strings.Fields(line)[1]
			s[table][name] = append(s[table][name], line)
		}
	}
	return s
}

// ours is the same made by this package.
func (n node) ours(family string) saved {
	n.t.Helper()
	rs, sets := n.read()
	s := saved{}
	for _, t := range rs.Tables {
		if t.Family != family || !IsIptables(t) {
			continue
		}
		s[t.Name] = map[string][]string{}
		for _, c := range t.Chains {
			policy, ok := Policy(t, c)
			if !ok {
				policy = "no policy of chain " + c.Name
			}
			lines := []string{policy}
			for _, r := range c.Rules {
				text, _, ok := Printer{Sets: sets}.Text(t, r)
				if !ok {
					text = "not told: " + exprs(r)
				}
				lines = append(lines, text)
			}
			s[t.Name][c.Name] = lines
		}
	}
	return s
}

// exprs lists the kinds of a rule's expressions, for failures.
func exprs(r *nft.Rule) string {
	var kinds []string
	for _, e := range r.Exprs {
		kinds = append(kinds, e.Kind())
	}
	return strings.Join(kinds, " ")
}

// drop leaves out the built-in chains that are not there: iptables-nft-save
// prints all of a table's, the kernel has those that were used.
func (s saved) drop(there saved) {
	for table, chains := range s {
		for name, lines := range chains {
			if _, ok := there[table][name]; !ok && len(lines) == 1 && builtin[table][name] != (hook{}) {
				delete(chains, name)
			}
		}
	}
}

// same compares both and gives the number of rules compared.
func (n node) same(family string) int {
	n.t.Helper()
	want, got := parseSaved(n.run("", tools[family]+"-save")), n.ours(family)
	want.drop(got)
	rules := 0
	for table, chains := range want {
		for chain, lines := range chains {
			rules += len(lines) - 1
			n.sameChain(family, table, lines, got[table][chain])
		}
		if len(got[table]) != len(chains) {
			n.t.Errorf("%s table %s: %d chains, iptables-nft-save prints %d", family, table, len(got[table]), len(chains))
		}
	}
	if len(got) != len(want) {
		n.t.Errorf("%s: %d tables, iptables-nft-save prints %d", family, len(got), len(want))
	}
	return rules
}

func (n node) sameChain(family, table string, want, got []string) {
	n.t.Helper()
	for i := range max(len(want), len(got)) {
		w, g := "nothing", "nothing"
		if i < len(want) {
			w = want[i]
		}
		if i < len(got) {
			g = got[i]
		}
		if w != g {
			n.t.Errorf("%s table %s:\n     got %s\n    want %s", family, table, g, w)
		}
	}
}

// flush empties the tables of both families.
func (n node) flush() { n.run("", "nft", "flush", "ruleset") }

// sortedKeys is for messages that read the same each time.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
