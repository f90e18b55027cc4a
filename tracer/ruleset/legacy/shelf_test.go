// SPDX-License-Identifier: Apache-2.0

package legacy_test

import (
	"runtime"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
	"github.com/pathtrace/pathtrace/tracer/ruleset/legacy"
)

// Who reads the same rules of the same namespace shares a table; those of another
// namespace are another table, as their sets may be other sets; and a table that
// nobody holds is read anew.
func TestShelf(t *testing.T) {
	c := nodetest.New(t)
	c.Add("a")
	c.Add("b")
	here, there := placeIn(t, c, "a"), placeIn(t, c, "b")
	rules := "*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n-A OUTPUT -s 192.0.2.1/32 -j DROP\nCOMMIT\n"
	here.restore(legacy.IPv4, rules)
	there.restore(legacy.IPv4, rules)
	shelf := legacy.NewShelf()
	read := func(p *place, old *legacy.Table) (table *legacy.Table) {
		p.do(func() (err error) { table, err = shelf.ReadAgain(legacy.IPv4, "filter", old); return err })
		return table
	}
	first := read(here, nil)
	var all []*legacy.Table
	here.do(func() (err error) { all, err = shelf.ReadAll(); return err })
	if read(here, nil) != first || len(all) != 1 || all[0] != first {
		t.Error("the same rules were read as another table")
	}
	if read(there, nil) == first {
		t.Error("two namespaces share a table")
	}
	here.restore(legacy.IPv4, "*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n")
	second := read(here, nil)
	if second == first || second.Rules() != 0 {
		t.Errorf("other rules were read as %s", second.Save())
	}
	here.restore(legacy.IPv4, rules)
	if read(here, first) != first {
		t.Error("the rules that the reader had before were read as another table")
	}
	gone := make(chan struct{})
	runtime.AddCleanup(first, func(c chan struct{}) { close(c) }, gone)
	runtime.KeepAlive(first)
	first, all = nil, nil
	runtime.GC()
	<-gone
	if again := read(here, nil); again.Rules() != 1 {
		t.Errorf("read anew: %s", again.Save())
	}
}
