// SPDX-License-Identifier: Apache-2.0

// A pod that is restarted under a running trace is followed to its new place,
// and that is told before the packets that follow.

package scenario

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

func TestPodRestart(t *testing.T) {
	p := readPlan(t)
	for _, c := range []struct {
		name string
		on   cluster.Dataplane
		keep bool // the address
	}{
		{"calico-new-address", cluster.CalicoNFT, false},
		{"calico-same-address", cluster.CalicoLegacy, true},
		{"flannel", cluster.FlannelNFT, false},
	} {
		if !slices.Contains(p.dataplanes, c.on) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t, cluster.Options{Dataplane: c.on})
			tr, err := StartTrace(t.Context(), p.bin, "--backend", p.backend, "--netns", e.Node(1).Netns.Path,
				"--cni-cache", e.Node(1).CNICache, "--src", "default/client", "--dst", "default/server", "--proto", "tcp")
			if err != nil {
				t.Fatal(err)
			}
			wantExchange(t, e, tr)
			for _, name := range []string{"default/client", "default/server"} {
				restart(t, e, tr, e.Pod(name), c.keep)
				wantExchange(t, e, tr)
			}
			sum, err := tr.Stop()
			if err != nil {
				t.Fatal(err)
			}
			if sum.LostEvents+sum.LostPackets > 0 || sum.Forward.Died()+sum.Return.Died() > 0 {
				t.Errorf("summary: %+v", sum)
			}
		})
	}
}

// restart ends a pod and starts it again, and wants both told.
func restart(t *testing.T, e *cluster.Env, tr *Trace, pod *cluster.Pod, keep bool) {
	t.Helper()
	was := pod.IPv4
	if err := e.StopPod(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	gone := awaitEvent(t, tr, "endpoint-gone", pod.FullName(), "")
	if !strings.HasPrefix(gone.Text, pod.FullName()+" is gone") {
		t.Errorf("text: %s", gone.Text)
	}
	if err := e.StartPod(context.WithoutCancel(t.Context()), pod, keep); err != nil {
		t.Fatal(err)
	}
	wired := time.Now()
	now := awaitEvent(t, tr, "endpoint-changed", pod.FullName(), "restarted: now "+pod.IPv4.String())
	t.Logf("told %v after the pod was there: %s", now.Time.Sub(wired), now.Text)
	if !strings.Contains(now.Text, "(was "+was.String()) {
		t.Errorf("text: %s", now.Text)
	}
	if now.End == nil || now.End.Interface != pod.HostInterface || now.End.Netns != uint32(pod.Netns.Inode) ||
		!slices.ContainsFunc(now.End.Addresses, func(a netip.Prefix) bool { return a.Addr() == pod.IPv4 }) {
		t.Errorf("end: %+v", now.End)
	}
}

// movedWithin bounds the wait for an end's move to be told: an emulated CPU needs
// seconds to look for it, and looks the less often.
const movedWithin = time.Minute

// awaitEvent waits for the next event of a kind about an end that says text.
func awaitEvent(t *testing.T, tr *Trace, what, object, text string) model.NodeEvent {
	t.Helper()
	for deadline := time.Now().Add(movedWithin); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for _, e := range tr.NodeEvents() {
			if e.What == what && e.Object == object && strings.Contains(e.Text, text) {
				return e
			}
		}
	}
	t.Fatalf("no %s of %s was told with %q: %v", what, object, text, tr.NodeEvents())
	return model.NodeEvent{}
}

// wantExchange sends between the two pods and wants every packet of it told, at
// both ends by name, both ways.
func wantExchange(t *testing.T, e *cluster.Env, tr *Trace) {
	t.Helper()
	sent, err := traffic.Send(t.Context(), e, traffic.Spec{Src: "default/client", Dst: "default/server", Proto: "tcp", Count: 1, Timeout: 5 * time.Second})
	if err != nil || sent.Outcome != traffic.Answered {
		t.Fatalf("traffic: %v, %v", sent, err)
	}
	client, server := e.Pod("default/client"), e.Pod("default/server")
	var told []model.Packet
	for deadline := time.Now().Add(toldWithin); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if told = ofPort(tr.Packets(), sent.Local.Port()); len(told) >= 8 {
			break
		}
	}
	seen := map[model.Direction]int{}
	for _, p := range told {
		seen[p.Direction]++
		from, to := client, server
		if p.Direction == model.Return {
			from, to = server, client
		}
		if p.Outcome != model.Delivered || p.Src != from.IPv4 || p.Dst != to.IPv4 ||
			p.Hops[0].Place != from.FullName() || p.Hops[len(p.Hops)-1].Place != to.FullName() {
			t.Errorf("told: %s, from %s to %s", tell(p), p.Hops[0].Place, p.Hops[len(p.Hops)-1].Place)
		}
	}
	if seen[model.Forward] < 4 || seen[model.Return] < 3 {
		t.Errorf("told of the exchange: %v", seen)
	}
}
