// SPDX-License-Identifier: Apache-2.0

package nft

// This file holds what the tests share: namespaces of their own, rule sets
// loaded by nft, and nft's listing taken apart.

import (
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

// inNetns runs a function on a thread inside a namespace. The thread ends with
// it: it is never unlocked.
func inNetns(t testing.TB, path string, do func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		f, err := os.Open(path)
		if err != nil {
			done <- err
			return
		}
		defer f.Close()
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- do()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// space is a namespace with a rule set.
type space struct {
	*nodetest.Cluster
	t testing.TB
}

// newSpace makes a namespace that nft has loaded a script into.
func newSpace(t testing.TB, script string, setup ...string) *space {
	t.Helper()
	s := &space{Cluster: nodetest.New(t), t: t}
	s.Add("n")
	s.In("n", setup...)
	s.load(script)
	return s
}

func (s *space) load(script string) {
	s.t.Helper()
	s.InStdin("n", script, "nft", "-f", "-")
}

// do runs a function inside the namespace.
func (s *space) do(f func() error) {
	s.t.Helper()
	inNetns(s.t, s.Path("n"), f)
}

// read reads the rule set.
func (s *space) read() *Ruleset {
	s.t.Helper()
	var rs *Ruleset
	s.do(func() (err error) { rs, err = Read(s.t.Context()); return err })
	return rs
}

// list gives the rules as nft lists them.
func (s *space) list() []listed {
	s.t.Helper()
	return parseListing(s.t, s.In("n", "nft -a list ruleset"))
}

// listed is a rule in nft's listing.
type listed struct {
	family, table, chain string
	number               int
	handle               uint64
	text                 string
}

var (
	tableLine = regexp.MustCompile(`^table (\S+) (\S+) \{`)
	chainLine = regexp.MustCompile(`^\t(chain|set|map|flowtable|counter|quota|limit|ct \w+|synproxy|secmark) (\S+) \{`)
	ruleLine  = regexp.MustCompile(`^\t\t(.*\S)? +# handle (\d+)$|^\t\t# handle (\d+)$`)
)

// parseListing takes the output of nft -a list ruleset apart.
func parseListing(t testing.TB, text string) []listed {
	t.Helper()
	var all []listed
	var at listed
	for line := range strings.SplitSeq(text, "\n") {
		if m := tableLine.FindStringSubmatch(line); m != nil {
			at = listed{family: m[1], table: m[2]}
			continue
		}
		if m := chainLine.FindStringSubmatch(line); m != nil {
			at.chain, at.number = "", 0
			if m[1] == "chain" {
				at.chain = m[2]
			}
			continue
		}
		m := ruleLine.FindStringSubmatch(line)
		if m == nil || at.chain == "" {
			continue
		}
		at.number++
		at.text = normal(m[1])
		n, err := strconv.ParseUint(m[2]+m[3], 10, 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		at.handle = n
		all = append(all, at)
	}
	return all
}

var (
	counterValues = regexp.MustCompile(`counter packets \d+ bytes \d+`)
	quotaUsed     = regexp.MustCompile(`(quota (?:over )?\d+ \w+) used \d+ \w+`)
	lastUsed      = regexp.MustCompile(`last used (never|[0-9a-z]+)`)
)

// normal takes out of nft's text what the package leaves out: values.
func normal(text string) string {
	text = counterValues.ReplaceAllString(text, "counter")
	text = quotaUsed.ReplaceAllString(text, "$1")
	return lastUsed.ReplaceAllString(text, "last")
}

// compare compares every rule with nft's listing and tells how many there are.
func (s *space) compare() int {
	s.t.Helper()
	rs, want := s.read(), s.list()
	if rs.Count() != len(want) {
		s.t.Errorf("%d rules read, nft lists %d", rs.Count(), len(want))
	}
	for _, w := range want {
		r, ok := rs.Rule(w.family, w.table, w.chain, w.handle)
		if !ok {
			s.t.Errorf("%s %s %s handle %d: not read: %s", w.family, w.table, w.chain, w.handle, w.text)
			continue
		}
		if r.Number != w.number {
			s.t.Errorf("handle %d: number %d, nft lists it as %d", w.handle, r.Number, w.number)
		}
		if got := rs.Text(r); got != w.text {
			s.t.Errorf("%s %s %s handle %d\n got: %s\nwant: %s", w.family, w.table, w.chain, w.handle, got, w.text)
		}
	}
	return len(want)
}
