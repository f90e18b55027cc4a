// SPDX-License-Identifier: Apache-2.0

// What --probe says an application would have seen, on a healthy node and on
// broken ones, beside what the trace of that probe says. Judge is testenv's own
// sender, which sends the same from the same pod under the same fault.

package scenario

import (
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/story"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// probeCase is one scenario of testenv's table and what a probe says of it.
type probeCase struct {
	name  string
	error string // errno; "": none
	says  string // how the words begin
	exit  int
}

func probeCases(kind cluster.Kind) []probeCase {
	cases := []probeCase{
		{"healthy-tcp", "", "connected in ", 0},
		{"healthy-udp", "", "answered in ", 0},
		{"healthy-icmp", "", "answered in ", 0},
		{"healthy-ipv6-tcp", "", "connected in ", 0},
		{"rule-drop-tcp", "", "timed out: no answer within ", 2},
		{"rule-reject-tcp", "ECONNREFUSED", "connection refused after ", 2},
		{"no-listener-tcp", "ECONNREFUSED", "connection refused after ", 2},
		{"no-listener-udp", "ECONNREFUSED", "connection refused after ", 2},
		{"pod-output-drop-icmp", "EPERM", "operation not permitted after ", 2},
		{"neighbor-failed-tcp", "EHOSTUNREACH", "no route to host after ", 2},
	}
	if kind == cluster.Calico {
		cases = append(cases, probeCase{"no-route-icmp", "ENETUNREACH", "network is unreachable after ", 2})
	}
	return cases
}

func TestProbe(t *testing.T) {
	p := readPlan(t)
	for _, d := range p.oneOfEachKind(cluster.CalicoNFT, cluster.FlannelLegacy) {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			e := newEnv(t, cluster.Options{Dataplane: d})
			for _, c := range probeCases(d.Kind()) {
				t.Run(c.name, func(t *testing.T) { probeScenario(t, p, e, c) })
			}
		})
	}
}

// probeScenario breaks the node and probes under a trace.
func probeScenario(t *testing.T, p plan, e *cluster.Env, c probeCase) {
	s, err := story.Find(string(e.Dataplane) + "/" + c.name)
	if err != nil {
		t.Fatal(err)
	}
	applied, err := s.Apply(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := applied.Undo(); err != nil {
			t.Error(err)
		}
	}()
	tr := s.Traffic
	tr.Count, tr.Timeout = 1, 5*time.Second
	app, err := traffic.Send(t.Context(), e, tr)
	if err != nil {
		t.Fatal(err)
	}
	probe := tr.Proto
	if probe != "icmp" {
		probe += ":" + strconv.Itoa(portOf(tr))
	}
	_, dst := ends(t, e, tr) // one family, as the sender
	proc := launch(t, exec.CommandContext(t.Context(), p.bin, "-o", "json", "--backend", p.backend, "--netns", e.Node(1).Netns.Path,
		"--cni-cache", e.Node(1).CNICache, "--src", tr.Src, "--dst", dst, "--proto", tr.Proto, "--probe", probe))
	status := proc.wait(t, ReadyWithin)
	all := proc.told(t)
	if all.summary == nil || len(all.summary.Probes) != 1 {
		t.Fatalf("summary %+v; it wrote: %s", all.summary, proc.errors(t))
	}
	got := all.summary.Probes[0]
	t.Logf("the application: %v; the probe: %+v", app, got)
	if got.Error != c.error || !strings.HasPrefix(got.Text, c.says) || got.Answered != (c.exit == 0) || got.From != tr.Src {
		t.Errorf("the probe said %+v", got)
	}
	if app.Outcome != viewOf(got) {
		t.Errorf("the application saw %v, the probe %+v", app, got)
	}
	if line := "probe " + tr.Proto + " " + tr.Src + " -> "; !strings.Contains(proc.errors(t), line) {
		t.Errorf("no line %q on standard error: %s", line, proc.errors(t))
	}
	if status != c.exit {
		t.Errorf("exit status %d, want %d", status, c.exit)
	}
	if !slices.ContainsFunc(all.packets, func(pk model.Packet) bool { return ofProbe(pk, got) && (pk.Outcome.Died() == (c.exit == 2)) }) {
		t.Errorf("no packet of the probe is told as it fared: %d packets", len(all.packets))
		for _, pk := range all.packets {
			t.Logf("told: %s", tell(pk))
		}
	}
}

func portOf(t traffic.Spec) int {
	if t.Port != 0 {
		return t.Port
	}
	return cluster.DefaultPort
}

// ofProbe tells the packets that the probe sent.
func ofProbe(p model.Packet, probe model.Probe) bool {
	return p.Direction == model.Forward && p.Dst == probe.Dst && p.DstPort == probe.DstPort
}

// viewOf puts what a probe saw into testenv's words.
func viewOf(p model.Probe) traffic.Outcome {
	switch {
	case p.Answered:
		return traffic.Answered
	case p.Error == "":
		return traffic.TimedOut
	case p.Error == "ECONNREFUSED":
		return traffic.Refused
	case p.Error == "EPERM":
		return traffic.NotSent
	}
	return traffic.Unreachable
}
