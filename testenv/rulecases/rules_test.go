// SPDX-License-Identifier: Apache-2.0

package rulecases

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/testenv/scenario"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// readInside reads a file of /proc inside a namespace; one that is not there
// reads as empty: the kernel has no such tables.
func readInside(ns *netns.Namespace, path string) (text string, err error) {
	err = ns.Do(func() error {
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		text = string(b)
		return err
	})
	return text, err
}

// fillerRules moves filter's FORWARD beyond the first blocks of counters: 256
// rules have one block.
const fillerRules = 600

func iptablesSets(variant string) []ruleSet {
	main := ruleSet{name: "cases", filler: fillerRules}
	for _, c := range iptablesCases() {
		main.cases = append(main.cases, placedCase{ruleCase: c})
	}
	traced := ruleSet{name: "traced", traced: true, cases: main.cases}
	return append([]ruleSet{main, traced}, iptablesPolicies(variant)...)
}

func nftSets() []ruleSet {
	main := ruleSet{name: "cases"}
	for _, c := range nftCases() {
		main.cases = append(main.cases, placedCase{ruleCase: c})
	}
	policies := ruleSet{name: "policy"}
	for _, c := range nftPolicies() {
		policies.cases = append(policies.cases, placedCase{ruleCase: c})
	}
	return []ruleSet{main, {name: "traced", traced: true, cases: main.cases}, policies, {name: "policy-traced", traced: true, cases: policies.cases}}
}

// gallery runs sets of cases under as few traces as the backend allows: fentry
// sees rules that come later, so that one serves all; loading takes seconds
// under emulation. The tracepoint backend knows the tables that were there when
// it started.
type gallery struct {
	ctx  context.Context // of the test that all are part of: the trace lives as long
	p    plan
	s    *stand
	tr   *scenario.Trace
	next uint16 // number of the next case: its port
}

// TestRules puts rules in the way of packets and asks pathtrace which it was.
func TestRules(t *testing.T) {
	p := readPlan(t)
	g := &gallery{ctx: t.Context(), p: p, s: newStand(t)}
	defer g.end(t)
	wantTables(t, g.s, "before any trace", "")
	for _, f := range forms() {
		t.Run(f.name, func(t *testing.T) {
			if f.backend == "legacy" {
				g.someTables(t)
			}
			for i, set := range f.sets() {
				t.Run(set.name, func(t *testing.T) { g.run(t, f, set, i == 0) })
			}
		})
		if f.backend != "legacy" {
			wantTables(t, g.s, "after the "+f.name+" cases", "")
		}
	}
	before := tablesOf(t, g.s)
	g.end(t)
	if after := tablesOf(t, g.s); !slices.Equal(before, after) {
		t.Errorf("legacy tables before the trace ended %q, after %q", before, after)
	}
	for _, f := range forms() {
		t.Run("load-"+f.name, func(t *testing.T) { g.underLoad(t, f) })
	}
	for _, f := range forms() {
		t.Run("replaced-"+f.name, func(t *testing.T) { g.whileReplaced(t, f) })
	}
}

// end stops the trace.
func (g *gallery) end(t *testing.T) {
	if g.tr != nil {
		tr := g.tr
		g.tr = nil
		stop(t, tr)
	}
}

// lateFunctions is how long the trace may take to listen to expressions that
// came with a new rule set: they are attached one by one.
func (p plan) lateFunctions(first bool) time.Duration {
	switch {
	case !p.exact():
		return 0
	case first:
		return 4 * time.Second
	}
	return time.Second
}

// trace gives a trace of everything to and from the client that is ready.
func (g *gallery) trace(t *testing.T, first bool) {
	t.Helper()
	if !g.p.exact() {
		g.end(t)
	}
	if g.tr == nil {
		g.tr = g.s.trace(g.ctx, t, g.p, "--src", "if:"+g.s.client.HostInterface, "--dst", "any")
		return
	}
	time.Sleep(g.p.lateFunctions(first))
}

// tries bounds how often a set's packets are sent where the kernel leaves programs
// out: a packet that is told as unknown for it proves nothing.
const tries = 4

// run installs a set, sends its packets and checks what was told.
func (g *gallery) run(t *testing.T, f form, set ruleSet, first bool) {
	var r running
	for try := 1; ; try++ {
		before := misses(t)
		r = g.once(t, f, set, first)
		left := misses(t) - before
		if left == 0 || try == tries || !r.unsure(g.p) {
			break
		}
		t.Logf("the kernel left programs out %d times, and rules are unknown: once more", left)
	}
	if set.traced {
		g.compareTraces(t, f, r.cases, r.told, r.rules, r.records)
		return
	}
	for _, c := range r.cases {
		t.Run(c.name, func(t *testing.T) { g.check(t, f, c, r.told[c.port], r.rules) })
	}
	if first {
		t.Run("text", func(t *testing.T) { checkTexts(t, g.p.exact(), r.told, r.rules) })
	}
}

// running is what came of one sending of a set's packets.
type running struct {
	cases   []placedCase
	told    map[uint16][]model.Packet
	rules   listing
	records []tracedRule
}

// unsure tells that pathtrace itself says of a packet that something of it is not
// known.
func (r running) unsure(p plan) bool {
	if !p.exact() {
		return false
	}
	for _, c := range r.cases {
		if len(r.told[c.port]) == 0 {
			return true
		}
		for _, p := range r.told[c.port] {
			if p.Outcome == model.Unknown || p.Drop != nil && p.Drop.Rule == nil {
				return true
			}
			if slices.ContainsFunc(p.Hops, func(h model.Hop) bool { return h.RulesUnknown != "" }) {
				return true
			}
		}
	}
	return false
}

// once installs a set and sends its packets.
func (g *gallery) once(t *testing.T, f form, set ruleSet, first bool) running {
	t.Helper()
	cases := g.possible(t, f, set)
	for i := range cases {
		if cases[i].ends == "" {
			cases[i].ends = drops
		}
		cases[i].port = casePort + g.next
		g.next++
	}
	set.cases = cases
	if err := f.install(t.Context(), g.s, set); err != nil {
		t.Fatal(err)
	}
	rules, err := f.list(t.Context(), g.s)
	if err != nil {
		t.Fatal(err)
	}
	g.trace(t, first)
	var listener *kernelTrace
	if set.traced {
		listener = listen(t, g.s.node, f.backend)
	}
	for _, c := range cases {
		if err := g.s.send(c.packet, c.port); err != nil {
			t.Fatalf("%s: send: %v", c.name, err)
		}
	}
	r := running{cases: cases, told: g.await(t, cases), rules: rules}
	if listener != nil {
		r.records = listener.stop(t)
	}
	return r
}

// possible leaves out what this machine's own kernel, which loads no modules, has
// not. A VM's kernel has everything.
func (g *gallery) possible(t *testing.T, f form, set ruleSet) []placedCase {
	t.Helper()
	if g.p.exact() {
		return slices.Clone(set.cases)
	}
	var cases []placedCase
	for _, c := range set.cases {
		if c.module != "" {
			c.port = casePort
			if err := f.install(t.Context(), g.s, ruleSet{name: "try", cases: []placedCase{c}}); err != nil {
				t.Logf("%s left out: no %s in this kernel: %v", c.name, c.module, err)
				continue
			}
		}
		cases = append(cases, c)
	}
	return cases
}

// toldWithin bounds the wait for packets: one of whose copies has no end is told
// after 4 s.
const toldWithin = 9 * time.Second

// await gives the packets told of each case, by its port.
func (g *gallery) await(t *testing.T, cases []placedCase) map[uint16][]model.Packet {
	t.Helper()
	for deadline := time.Now().Add(toldWithin); ; time.Sleep(100 * time.Millisecond) {
		told := map[uint16][]model.Packet{}
		for _, p := range g.tr.Packets() {
			for _, c := range cases {
				if c.packet.is(&p, c.port) {
					told[c.port] = append(told[c.port], p)
				}
			}
		}
		if len(told) == len(cases) || time.Now().After(deadline) {
			return told
		}
	}
}

// tablesOf lists the legacy tables of the node and both pods.
func tablesOf(t *testing.T, s *stand) (all []string) {
	t.Helper()
	for name, ns := range map[string]*netns.Namespace{"node": s.node, "client": s.client.Netns, "server": s.server.Netns} {
		for _, file := range []string{tables4, tables6} {
			text, err := readInside(ns, file)
			if err != nil {
				t.Fatal(err)
			}
			for _, table := range strings.Fields(text) {
				all = append(all, name+" "+file[strings.LastIndex(file, "/")+1:]+" "+table)
			}
		}
	}
	slices.Sort(all)
	return all
}

// wantTables wants exactly these legacy tables anywhere.
func wantTables(t *testing.T, s *stand, when, want string) {
	t.Helper()
	if got := strings.Join(tablesOf(t, s), ", "); got != want {
		t.Errorf("%s the legacy tables are %q, want %q", when, got, want)
	}
}

// someTables makes one legacy table and sends packets through it under the
// trace: the others must not come to be.
func (g *gallery) someTables(t *testing.T) {
	t.Helper()
	if err := g.s.clear(t.Context()); err != nil {
		t.Fatal(err)
	}
	rule := "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A FORWARD -p udp --dport 4 -j DROP\nCOMMIT\n"
	if _, err := g.s.node.Run(t.Context(), rule, "iptables-legacy-restore"); err != nil {
		t.Fatal(err)
	}
	g.trace(t, true)
	for _, v6 := range []bool{false, true} {
		if err := g.s.send(packet{way: fwd, v6: v6}, 4); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Second)
	wantTables(t, g.s, "with one table, traced,", "node ip_tables_names filter")
}
