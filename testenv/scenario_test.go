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
	"github.com/pathtrace/pathtrace/testenv/story"
	"github.com/pathtrace/pathtrace/testenv/traffic"
)

// TestScenarios runs every scenario on every dataplane.
func TestScenarios(t *testing.T) {
	for _, d := range cluster.Dataplanes() {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel() // nearly all of it is waiting for silence
			plain := newStand(t, cluster.Options{Dataplane: d, Nodes: 2})
			proxied := plain // where IPVS serves services, it always does
			if !d.IPVS() {
				proxied = newStand(t, cluster.Options{Dataplane: d, KubeProxy: true})
			}
			for _, s := range story.Of(d) {
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
func (s *stand) run(t *testing.T, of story.Scenario, test func(t *testing.T, e *cluster.Env)) {
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
func runScenario(t *testing.T, e *cluster.Env, s story.Scenario, before, after func()) {
	t.Helper()
	ctx := t.Context()
	applied, err := s.Apply(ctx, e)
	if err != nil {
		t.Fatal(err)
	}
	before()
	s.Traffic.Count = 1
	if slices.Equal(s.Expect.Sender, []traffic.Outcome{traffic.TimedOut}) { // nothing will come: no need to wait long for it
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
			for _, s := range story.Of(d) {
				name := strings.TrimSuffix(s.Name, "-"+s.Traffic.Proto)
				if done[name] || s.Expect.Code == "" {
					continue
				}
				done[name] = true
				on.run(t, s, func(t *testing.T, e *cluster.Env) {
					var drops []drop
					runScenario(t, e, s, func() { kernel.mark(t, s.Name) }, func() { drops = kernel.await(t, s.Name, func(drops []drop) bool { return explains(s.Expect, drops) }) })
					checkDrops(t, s.Expect, drops)
				})
			}
		})
	}
}

// explains tells whether one of the drops is one that the expectation names.
// Where the kernel's record names no functions, the reason alone must do.
func explains(x story.Expect, drops []drop) bool {
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
func checkDrops(t *testing.T, x story.Expect, drops []drop) {
	t.Helper()
	t.Logf("the kernel reported %v", drops)
	if !explains(x, drops) {
		t.Errorf("want a drop for one of %v in one of %v; the kernel reported %v", x.Reasons, x.Functions, drops)
	}
}
