// SPDX-License-Identifier: Apache-2.0

// The parts that need no root: names, texts, rewriting.

package testenv

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/fault"
	"github.com/pathtrace/pathtrace/testenv/owner"
	"github.com/pathtrace/pathtrace/testenv/traffic"
)

func TestBadInput(t *testing.T) {
	e := &cluster.Env{Dataplane: cluster.CalicoLegacy}
	for _, c := range []struct {
		traffic traffic.Spec
		want    string
	}{
		{traffic.Spec{Proto: "icmp", Src: "nobody", Dst: "10.0.0.1"}, `"nobody" is neither a pod`},
		{traffic.Spec{Proto: "icmp", Src: "external", Dst: "nobody"}, `"nobody" is neither an address`},
		{traffic.Spec{Proto: "icmp", Src: "external", Dst: "svc:a/b"}, `no service "a/b"`},
		{traffic.Spec{Proto: "sctp", Src: "external", Dst: "10.0.0.1"}, `"sctp": take icmp, tcp or udp`},
	} {
		if _, err := traffic.Send(context.Background(), e, c.traffic); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v gives %v; want %q in it", c.traffic, err, c.want)
		}
	}
	if _, err := fault.Break(context.Background(), e, "nonsense", traffic.Spec{}); err == nil || !strings.Contains(err.Error(), "rule-drop") {
		t.Errorf("an unknown fault gives %v; want an error that lists those there are", err)
	}
	if _, err := fault.Break(context.Background(), e, "ttl-loop", traffic.Spec{}); err == nil || !strings.Contains(err.Error(), "takes 2 nodes") {
		t.Errorf("a fault that does not fit gives %v", err)
	}
	if _, err := cluster.New(context.Background(), cluster.Options{Dataplane: cluster.CalicoLegacy, Nodes: 3}); err == nil {
		t.Error("three nodes give no error")
	}
}

// TestMain lets the test binary play the owner that is killed.
func TestMain(m *testing.M) {
	if os.Getenv("TESTENV_VICTIM") != "" {
		playVictim()
	}
	os.Exit(m.Run())
}

// playVictim builds an environment, says so, and waits to be killed.
func playVictim() {
	e, err := cluster.New(context.Background(), cluster.Options{Dataplane: cluster.CalicoLegacy})
	if err != nil {
		os.Stderr.WriteString(err.Error())
		os.Exit(1)
	}
	if err := e.Node(1).Netns.Start(exec.Command("sleep", "300")); err != nil {
		os.Exit(1)
	}
	os.Stdout.WriteString(envName(e) + " " + e.StateDir + "\n")
	time.Sleep(time.Minute)
	os.Exit(1)
}

// TestCleanStale kills an owner and removes what it left, but not what a living
// one owns.
func TestCleanStale(t *testing.T) {
	alive := newTestEnv(t, cluster.Options{Dataplane: cluster.CalicoLegacy})
	victim := exec.CommandContext(t.Context(), os.Args[0])
	victim.Env = append(os.Environ(), "TESTENV_VICTIM=1")
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	var name, state string
	if _, err := fmt.Fscan(out, &name, &state); err != nil {
		t.Fatalf("the victim said nothing: %v", err)
	}
	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	victim.Wait() // killed, as wanted
	if left := netnsOf(t, name); len(left) == 0 {
		t.Fatalf("the victim %s left nothing to clean", name)
	}
	removed, err := owner.CleanStale()
	if err != nil {
		t.Fatal(err)
	}
	if left := netnsOf(t, name); len(left) > 0 {
		t.Errorf("CleanStale left %v, removed %v", left, removed)
	}
	if _, err := os.Stat(state); err == nil {
		t.Errorf("CleanStale left %s", state)
	}
	if left := netnsOf(t, envName(alive)); len(left) == 0 {
		t.Error("CleanStale removed what a living owner owns")
	}
}

// TestFaultRuleText: a fault's rule is listed as the fault says.
func TestFaultRuleText(t *testing.T) {
	for _, d := range []cluster.Dataplane{cluster.CalicoLegacy, cluster.CalicoNFT, cluster.FlannelNFTables} {
		e := newTestEnv(t, cluster.Options{Dataplane: d})
		for _, name := range []string{"rule-drop", "rule-reject", "rule-drop-return", "split-rulesets"} {
			for _, sent := range []traffic.Spec{
				{Proto: "tcp", Src: client, Dst: server}, {Proto: "udp", Src: client, Dst: server, Port: 53},
				{Proto: "icmp", Src: client, Dst: server}, {Proto: "icmp", Src: client, Dst: server, IPv6: true},
			} {
				applied, err := fault.Break(t.Context(), e, name, sent)
				if err != nil {
					t.Fatal(err)
				}
				checkListed(t, e, applied)
				if err := applied.Undo(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func checkListed(t *testing.T, e *cluster.Env, a *fault.Applied) {
	t.Helper()
	v6 := map[string]string{"ip": "", "ip6": "6"}[a.Rule.Family]
	cmd := []string{"ip" + v6 + "tables-" + a.Rule.Backend + "-save"}
	if strings.HasPrefix(a.Rule.Table, "site-") {
		cmd = []string{"nft", "list", "table", a.Rule.Family, a.Rule.Table}
	}
	out, err := e.RunTool(t.Context(), e.Node(1).Netns, "", cmd...)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		if strings.TrimSpace(line) == a.Rule.Text {
			return
		}
	}
	t.Errorf("%s: %q is not listed as such in\n%s", a.Fault.Name, a.Rule.Text, out)
}
