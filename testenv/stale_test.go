// SPDX-License-Identifier: Apache-2.0

// What an owner that was killed leaves behind is removed, and nothing else.

package testenv

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/owner"
)

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
