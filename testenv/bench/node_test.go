// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
)

func buildNode(t *testing.T, size Size) *Node {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make network namespaces")
	}
	n, err := Build(t.Context(), size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// TestNode measures all kinds of traffic on a small node and compares with what
// the node's own rules counted: the traffic goes through the endpoints' chains,
// and as much of it as is told.
func TestNode(t *testing.T) {
	for _, dataplane := range []cluster.Dataplane{cluster.CalicoLegacy, cluster.CalicoNFT} {
		t.Run(string(dataplane), func(t *testing.T) {
			n := buildNode(t, Size{Dataplane: dataplane, Endpoints: 20, Fillers: 7})
			for _, kind := range Kinds() {
				s, err := n.Measure(t.Context(), kind, 150*time.Millisecond)
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%s: %.0f a second, %.0f a second of CPU time", kind, s.Rate(), s.CPURate())
				if s.Wall < 150*time.Millisecond || s.Wall > 5*time.Second || s.CPU <= 0 {
					t.Errorf("%s: took %v by the clock and %v of CPU time", kind, s.Wall, s.CPU)
				}
			}
			before := forwarded(t, n)
			s, err := n.Measure(t.Context(), UDP, 100*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			if got := forwarded(t, n) - before; got != int(s.Units) {
				t.Errorf("%.0f packets told, the rules of %s counted %d", s.Units, n.From.HostInterface, got)
			}
		})
	}
}

// forwarded is how many packets the node's rules dispatched to the sending pod's
// chain, fillers passed.
func forwarded(t *testing.T, n *Node) int {
	t.Helper()
	tools, err := iptablesOf(n.Size.Dataplane)
	if err != nil {
		t.Fatal(err)
	}
	saved, err := n.Env.Node(1).Netns.Run(t.Context(), "", tools.save, "-c", "-t", "filter")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(saved, "-A "+fillerChain+" "); got != n.Size.Fillers {
		t.Fatalf("%d filler rules, want %d", got, n.Size.Fillers)
	}
	m := regexp.MustCompile(`(?m)^\[(\d+):\d+\] -A cali-from-wl-dispatch\S* -i ` + n.From.HostInterface + ` `).FindStringSubmatch(saved)
	if m == nil {
		t.Fatalf("no rule dispatches %s:\n%s", n.From.HostInterface, saved)
	}
	count, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return count
}

// TestClonedChains: an added endpoint's rules are the recorded ones but for the
// name, as the kernel gives them back.
func TestClonedChains(t *testing.T) {
	n := buildNode(t, Size{Dataplane: cluster.CalicoLegacy, Endpoints: 6})
	saved, err := n.Env.Node(1).Netns.Run(t.Context(), "", "iptables-legacy-save", "-t", "filter")
	if err != nil {
		t.Fatal(err)
	}
	like := n.Env.Pod(modelPod).HostInterface
	for _, chain := range []string{"cali-fw-", "cali-tw-"} {
		recorded := strings.ReplaceAll(chainRules(saved, chain+like), like, n.To.HostInterface)
		if got := chainRules(saved, chain+n.To.HostInterface); got != recorded || strings.Count(got, "\n") < 8 {
			t.Errorf("rules of %s%s:\n%s\nthose recorded:\n%s", chain, n.To.HostInterface, got, recorded)
		}
	}
}

func chainRules(saved, chain string) string {
	var b strings.Builder
	for line := range strings.Lines(saved) {
		if strings.HasPrefix(line, "-A "+chain+" ") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// burden is a tool that really slows forwarding down: thousands of rules.
type burden struct{ n *Node }

func (b burden) PID() int { return os.Getpid() }

func (b burden) Stop() (Life, error) {
	return Life{}, restore(context.Background(), b.n.Env, "iptables-legacy-restore", "*filter\n-D FORWARD -j "+fillerChain+"\nCOMMIT\n")
}

// TestCompareSeesBurden: what slows others down is seen, and told from
// nothing; what does not start is told.
func TestCompareSeesBurden(t *testing.T) {
	n := buildNode(t, Size{Dataplane: cluster.CalicoLegacy, Endpoints: minEndpoints})
	plan := Plan{Kinds: []Kind{UDP}, Rounds: 3, Slot: 150 * time.Millisecond, Log: func(string) {}, Tools: []Tool{
		{Name: "many rules", start: func(ctx context.Context, n *Node) (running, error) {
			return burden{n}, restore(ctx, n.Env, "iptables-legacy-restore", "*filter\n"+fillerRules(5000)+"COMMIT\n")
		}},
		{Name: "refused", start: func(ctx context.Context, n *Node) (running, error) {
			return startProcess(ctx, processSpec{name: "refused", bin: "/bin/sh", args: []string{"-c", "echo not on this kernel >&2; exit 1"}, readyLine: "ready"})
		}},
	}}
	res, err := n.Compare(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string]float64{}
	for _, c := range res.Comparisons {
		t.Logf("%s: %.2f by the clock, %.2f by CPU time (%.2f-%.2f)", c.Tool, c.Ratio, c.CPURatio, c.CPULow, c.CPUHigh)
		kept[c.Tool] = c.CPURatio
	}
	// on a busy machine the control itself is far from 1
	if burdened, nothing := kept["many rules"], kept[Nothing]; burdened > 0.7 || nothing < 1.3*burdened {
		t.Errorf("5000 rules more leave others %.2f of their rate, nothing leaves them %.2f: the burden is not seen", burdened, nothing)
	}
	if len(res.Unavailable) != 1 || !res.Lacks("refused") || !strings.Contains(res.Unavailable[0].Why, "not on this kernel") {
		t.Errorf("took no part: %+v, want the refused one with its own words", res.Unavailable)
	}
}

func TestSizeCheck(t *testing.T) {
	for _, c := range []struct {
		change func(*Size)
		want   string // "": it is good
	}{
		{func(*Size) {}, ""},
		{func(s *Size) { s.Endpoints = 4 }, "4 endpoints: the node can have 5 to"},
		{func(s *Size) { s.Fillers = -1 }, "-1 filler rules"},
		{func(s *Size) { s.Dataplane = cluster.CalicoNFTables }, "take calico-legacy or calico-nft"},
		{func(s *Size) { s.Dataplane = cluster.FlannelNFT }, "the benchmark's node is a Calico one"},
	} {
		size := DefaultSize()
		c.change(&size)
		err := size.Check()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", size, err, c.want)
		}
	}
}

// TestProcess: ready by its own word, and what its life took.
func TestProcess(t *testing.T) {
	const script = `echo "listening on any" >&2; trap 'sleep 0.2; exit 3' INT; while :; do sleep 0.05; done`
	spec := processSpec{name: "listener", bin: "/bin/sh", args: []string{"-c", script}, readyLine: "listening on", statuses: []int{3}}
	p, err := startProcess(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	life, err := p.Stop()
	if err != nil {
		t.Fatal(err)
	}
	if life.Exit < 200*time.Millisecond || life.Exit > 5*time.Second || life.Peak < 100<<10 || life.Ready <= 0 {
		t.Errorf("%+v: want an exit after 0.2 s, some memory and a time until ready", life)
	}
	listener := Tool{start: func(ctx context.Context, n *Node) (running, error) { return startProcess(ctx, spec) }}
	h, err := Halted("halted", listener).start(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	stopped := func() bool { // soon, that is: a signal is taken when the process runs next
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.PID()))
		return err == nil && strings.Contains(string(state), ") T ")
	}
	for end := time.Now().Add(time.Second); !stopped() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if !stopped() {
		t.Error("a halted tool's process runs on")
	}
	if life, err := h.Stop(); err != nil || life.Exit < 200*time.Millisecond {
		t.Errorf("a halted tool ends as others do: %+v, %v", life, err)
	}
	spec.statuses = nil
	if p, err = startProcess(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Stop(); err == nil {
		t.Error("exit status 3 is no failure, though it is not among those that are none")
	}
	spec.args = []string{"-c", "echo cannot >&2; exit 1"}
	var refused *RefusedError
	if _, err := startProcess(t.Context(), spec); !errors.As(err, &refused) || refused.Said != "cannot" {
		t.Errorf("a program that ends at once: %v", err)
	}
}
