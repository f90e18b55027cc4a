// SPDX-License-Identifier: Apache-2.0

// Every scenario: its healthy traffic passes, its fault breaks the traffic as
// the sender is expected to see it, the kernel gives a reason that the table
// names, and undoing mends it.

package testenv

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/fault"
)

// TestScenarioTable checks the table itself; it needs no root.
func TestScenarioTable(t *testing.T) {
	type death struct {
		kind      cluster.Kind
		proto     string
		direction string
	}
	deaths := map[death]bool{}
	for _, d := range cluster.Dataplanes() {
		seen := map[string]bool{}
		for _, s := range Scenarios(d) {
			if seen[s.Name] {
				t.Errorf("%s is there twice", s.Name)
			}
			seen[s.Name] = true
			if s.Fault != "" {
				if _, err := fault.Find(s.Fault); err != nil {
					t.Errorf("%s: %v", s.Name, err)
				}
			}
			if (s.Expect.Code == "") != strings.Contains(s.Name, "/healthy") {
				t.Errorf("%s expects finding %q", s.Name, s.Expect.Code)
			}
			if found, err := FindScenario(s.Name); err != nil || found.Name != s.Name {
				t.Errorf("FindScenario(%q): %v", s.Name, err)
			}
			deaths[death{d.Kind(), s.Traffic.Proto, string(s.Expect.Direction)}] = true
		}
	}
	for _, kind := range anyKind {
		for _, proto := range allProtos {
			for _, direction := range []string{"forward", "return"} {
				if !deaths[death{kind, proto, direction}] {
					t.Errorf("no scenario in which %s dies %s on a %s node", proto, direction, kind)
				}
			}
		}
	}
}

// TestScenarios runs every scenario on every dataplane.
func TestScenarios(t *testing.T) {
	for _, d := range cluster.Dataplanes() {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel() // nearly all of it is waiting for silence
			plain := newStand(t, cluster.Options{Dataplane: d, Nodes: 2})
			proxied := newStand(t, cluster.Options{Dataplane: d, KubeProxy: true})
			for _, s := range Scenarios(d) {
				on := plain
				if s.KubeProxy {
					on = proxied
				}
				on.run(t, s, func(t *testing.T, e *cluster.Env) { runScenario(t, e, s, func() {}, func() {}) })
			}
		})
	}
}

// stand is an environment that many cases use one after the other.
type stand struct {
	opts cluster.Options
	env  *cluster.Env
}

func newStand(t *testing.T, opts cluster.Options) *stand {
	t.Helper()
	return &stand{opts, newTestEnv(t, opts)}
}

// run makes one case. What one that fails leaves behind is nobody else's: the
// next gets an environment of its own.
func (s *stand) run(t *testing.T, of Scenario, test func(t *testing.T, e *cluster.Env)) {
	t.Helper()
	if t.Run(strings.TrimPrefix(of.Name, string(of.Dataplane)+"/"), func(t *testing.T) { test(t, s.env) }) {
		return
	}
	if err := s.env.Close(); err != nil {
		t.Error(err)
	}
	s.env = newTestEnv(t, s.opts)
}

// runScenario breaks, sends, mends; before and after enclose the sending.
func runScenario(t *testing.T, e *cluster.Env, s Scenario, before, after func()) {
	t.Helper()
	ctx := t.Context()
	applied, err := s.Apply(ctx, e)
	if err != nil {
		t.Fatal(err)
	}
	before()
	s.Traffic.Count = 1
	if slices.Equal(s.Expect.Sender, silent) { // nothing will come: no need to wait long for it
		s.Traffic.Timeout = 200 * time.Millisecond
	}
	r, err := s.Run(ctx, e)
	after()
	if err := applied.Undo(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(s.Expect.Sender, r.Outcome) {
		t.Errorf("%v; want one of %v", r, s.Expect.Sender)
	}
	if err := s.Check(ctx, e); err != nil {
		t.Errorf("after the fault: %v", err)
	}
}

// TestKernelAgrees compares the table with what this kernel says of each drop:
// every case once, on one Calico and one Flannel node.
func TestKernelAgrees(t *testing.T) {
	for _, d := range []cluster.Dataplane{cluster.CalicoLegacy, cluster.FlannelNFTables} {
		t.Run(string(d), func(t *testing.T) {
			on := newStand(t, cluster.Options{Dataplane: d, Nodes: 2, KubeProxy: true})
			kernel := newKernelLog(t)
			done := map[string]bool{}
			for _, s := range Scenarios(d) {
				name := strings.TrimSuffix(s.Name, "-"+s.Traffic.Proto)
				if done[name] || s.Expect.Code == "" {
					continue
				}
				done[name] = true
				on.run(t, s, func(t *testing.T, e *cluster.Env) {
					var drops []drop
					runScenario(t, e, s, func() { kernel.mark(t, s.Name) }, func() { drops = kernel.await(t, s.Name, s.Expect.explains) })
					s.Expect.checkDrops(t, drops)
				})
			}
		})
	}
}

// explains tells whether one of the drops is one that the expectation names.
// Where the kernel's record names no functions, the reason alone must do.
func (x Expect) explains(drops []drop) bool {
	if len(x.Reasons)+len(x.Functions) == 0 {
		return true
	}
	return slices.ContainsFunc(drops, func(d drop) bool {
		reasonFits := len(x.Reasons) == 0 || slices.Contains(x.Reasons, d.reason)
		placeFits := len(x.Functions) == 0 || !d.symbolic() ||
			slices.ContainsFunc(x.Functions, func(f string) bool { return strings.HasPrefix(d.location, f) })
		return reasonFits && placeFits
	})
}

// checkDrops wants one drop that the expectation names.
func (x Expect) checkDrops(t *testing.T, drops []drop) {
	t.Helper()
	t.Logf("the kernel reported %v", drops)
	if !x.explains(drops) {
		t.Errorf("want a drop for one of %v in one of %v; the kernel reported %v", x.Reasons, x.Functions, drops)
	}
}
