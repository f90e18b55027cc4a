// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/story"
	"github.com/pathtrace/pathtrace/testenv/traffic"
)

// healthyRuns of each kind of node: both make the 200 that are to give nothing.
// PATHTRACE_HEALTHY_RUNS makes it another number.
func healthyRuns(t *testing.T) int {
	t.Helper()
	text := os.Getenv("PATHTRACE_HEALTHY_RUNS")
	if text == "" {
		return 100
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("PATHTRACE_HEALTHY_RUNS=%s: not a number of runs", text)
	}
	return n
}

// TestHealthyRuns sends traffic of every kind on healthy nodes of both kinds,
// while their rules are written again and again and short-lived connections come
// and go beside it: nothing is to be found.
func TestHealthyRuns(t *testing.T) {
	p := readPlan(t)
	for _, d := range []cluster.Dataplane{cluster.CalicoLegacy, cluster.FlannelNFT} {
		t.Run(string(d), func(t *testing.T) {
			healthyNode(t, p, d)
		})
	}
}

func healthyNode(t *testing.T, p plan, d cluster.Dataplane) {
	e := newEnv(t, cluster.Options{Dataplane: d, Nodes: 2, KubeProxy: true})
	var list []story.Scenario
	traces := map[string]*Trace{} // by source: one trace serves all destinations
	for _, s := range story.Of(d) {
		if s.Expect.Code != "" {
			continue
		}
		if err := s.Check(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
		src, _ := ends(t, e, s.Healthy)
		if traces[src] != nil {
			continue
		}
		tr, err := StartTrace(t.Context(), p.bin, "--backend", p.backend, "--netns", e.Node(1).Netns.Path, "--src", src, "--dst", "any")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(tr.Kill)
		traces[src] = tr
	}
	runs := healthyRuns(t)
	stop := churn(t, e)
	for i := range runs {
		s := list[i%len(list)]
		r, err := s.RunHealthy(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		if r.Outcome != traffic.Answered {
			t.Errorf("run %d: %v", i, r)
		}
	}
	reloads, flows := stop()
	settle(p)
	packets := 0
	for src, tr := range traces {
		sum, err := tr.Stop()
		if err != nil {
			t.Fatal(err)
		}
		packets += sum.Forward.Seen + sum.Return.Seen
		lost := sum.LostEvents + sum.LostPackets
		if lost > 0 { // a busy machine: the answer may be among them
			t.Logf("from %s: %d events and %d packets lost", src, sum.LostEvents, sum.LostPackets)
		}
		for _, f := range tr.Findings() {
			if lost > 0 && f.Code == "left-node" {
				t.Logf("left-node, of a trace that lost packets: %s", f.Summary)
				continue
			}
			t.Errorf("healthy, but found from %s: %s %s: %s\n%s", src, f.Code, f.Direction, f.Summary, strings.Join(f.Evidence, "\n"))
		}
	}
	t.Logf("%d runs, %d packets, rules written %d times, %d connections beside it", runs, packets, reloads, flows)
	if packets < 2*runs || reloads == 0 || flows == 0 {
		t.Error("too little happened for its silence to say anything")
	}
}

// churn writes the node's rules again and opens short connections until it is
// stopped, and tells how often it did.
func churn(t *testing.T, e *cluster.Env) (stop func() (reloads, flows int)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	node := e.Node(1)
	tool := "iptables-" + string(e.Dataplane.Form())
	again := fmt.Sprintf("export XTABLES_LOCKFILE=%s; %s-save | %s-restore", filepath.Join(e.StateDir, "churn.lock"), tool, tool)
	var tasks sync.WaitGroup
	reloads, flows := 0, 0
	tasks.Go(func() {
		for ; ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
			if _, err := node.Netns.Run(context.WithoutCancel(ctx), "", "sh", "-c", again); err != nil {
				t.Errorf("write the rules again: %v", err)
				return
			}
			reloads++
		}
	})
	tasks.Go(func() {
		for ; ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
			// who is not traced; that it ends with the test is no matter
			_, _ = traffic.Send(context.WithoutCancel(ctx), e, traffic.Spec{Proto: "tcp", Src: "node1", Dst: "default/server", Count: 1})
			flows++
		}
	})
	return func() (int, int) {
		cancel()
		tasks.Wait()
		return reloads, flows
	}
}
