// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/fault"
	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// TestTwoFaults breaks a node in two ways at once: both are found, nothing else,
// and the one that explains more packets comes first.
func TestTwoFaults(t *testing.T) {
	p := readPlan(t)
	t.Run("policy forward, rp_filter on return", func(t *testing.T) { policyAndReversePath(t, p) })
	t.Run("mtu, interface that flaps", func(t *testing.T) { sizeAndFlaps(t, p) })
}

// expected is what a finding must say.
type expected struct {
	code      string
	direction model.Direction
}

func wantFindings(t *testing.T, tr *Trace, want ...expected) {
	t.Helper()
	if _, err := tr.Stop(); err != nil {
		t.Fatal(err)
	}
	found := tr.Findings()
	for i, w := range want {
		if i >= len(found) || found[i].Code != w.code || found[i].Direction != w.direction {
			t.Errorf("finding %d: want %s, %s; found: %s", i+1, w.code, w.direction, codes(found))
		}
	}
	if len(found) > len(want) {
		t.Errorf("found more than is wrong: %s", codes(found))
	}
	if t.Failed() {
		for _, pk := range tr.Packets() {
			t.Logf("told: %s", tell(pk))
		}
	}
}

func startTwo(t *testing.T, p plan, e *cluster.Env, tr traffic.Spec, dst string) *Trace {
	t.Helper()
	src, only := ends(t, e, tr)
	if dst == "" {
		dst = only
	}
	trace, err := StartTrace(t.Context(), p.bin, "--backend", p.backend, "--netns", e.Node(1).Netns.Path, "--src", src, "--dst", dst, "--proto", tr.Proto)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(trace.Kill)
	return trace
}

func send(t *testing.T, e *cluster.Env, tr traffic.Spec, want traffic.Outcome) {
	t.Helper()
	r, err := traffic.Send(t.Context(), e, tr)
	if err != nil {
		t.Fatal(err)
	}
	if r.Outcome != want {
		t.Errorf("%v; want %s", r, want)
	}
}

// policyAndReversePath: requests to one pod die of a policy; those to a pod of
// the other node arrive by another way than its replies, which a strict filter
// refuses.
func policyAndReversePath(t *testing.T, p plan) {
	e := newEnv(t, cluster.Options{Dataplane: cluster.CalicoLegacy, Nodes: 2})
	here := traffic.Spec{Proto: "icmp", Src: "default/client", Dst: "default/server", Count: 4, Timeout: 200 * time.Millisecond}
	there := here
	there.Dst, there.Count = "default/web2", 2
	// neighbours are known, so that nothing else can be missing
	for _, tr := range []traffic.Spec{here, there} {
		tr.Timeout = answerWithin
		send(t, e, tr, traffic.Answered)
	}
	if _, err := fault.Break(t.Context(), e, "policy-deny", here); err != nil {
		t.Fatal(err)
	}
	node := e.Node(1)
	if _, err := node.Netns.Run(t.Context(), "", "ip", "route", "add", e.Pod(there.Dst).IPv4.String(), "via", e.Node(2).Addr.String(), "dev", node.Uplink); err != nil {
		t.Fatal(err)
	}
	if err := node.Netns.Sysctl(netns.Setting{Path: "ipv4/conf/" + node.Tunnel + "/rp_filter", Value: "1"}); err != nil {
		t.Fatal(err)
	}
	trace := startTwo(t, p, e, here, "any")
	send(t, e, here, traffic.TimedOut)
	send(t, e, there, traffic.TimedOut)
	settle(p)
	wantFindings(t, trace, expected{"policy-deny", model.Forward}, expected{"rp-filter", model.Return})
}

// answerWithin is waited for answers that must come.
const answerWithin = 2 * time.Second

// sizeAndFlaps: the way to the pod is too narrow for some packets, and its
// interface goes down and up again.
func sizeAndFlaps(t *testing.T, p plan) {
	e := newEnv(t, cluster.Options{Dataplane: cluster.CalicoLegacy})
	big := traffic.Spec{Proto: "icmp", Src: "default/client", Dst: "default/server", Count: 3, Size: 1372, DontFragment: true, Timeout: 200 * time.Millisecond}
	small := traffic.Spec{Proto: "icmp", Src: big.Src, Dst: big.Dst, Count: 1, Timeout: 200 * time.Millisecond}
	warm := small
	warm.Timeout = answerWithin
	send(t, e, warm, traffic.Answered)
	if _, err := fault.Break(t.Context(), e, "mtu", big); err != nil {
		t.Fatal(err)
	}
	trace := startTwo(t, p, e, big, "")
	for range 2 {
		down, err := fault.Break(t.Context(), e, "interface-down", small)
		if err != nil {
			t.Fatal(err)
		}
		send(t, e, small, traffic.TimedOut)
		settle(p)
		if err := down.Undo(); err != nil {
			t.Fatal(err)
		}
		send(t, e, warm, traffic.Answered)
		send(t, e, big, traffic.TooBig)
	}
	settle(p)
	wantFindings(t, trace, expected{"mtu", model.Forward}, expected{"interface-down", model.Forward})
}
