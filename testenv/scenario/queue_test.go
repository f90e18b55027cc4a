// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/fault"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// TestQueueWithListener sends packets to a queue that a program listens on: what
// it lets go on is delivered and nothing is found, what it drops is its doing.
// That nobody listens is among the scenarios.
func TestQueueWithListener(t *testing.T) {
	p := readPlan(t)
	e := newEnv(t, cluster.Options{Dataplane: cluster.FlannelLegacy})
	tr := traffic.Spec{Proto: "udp", Src: "default/client", Dst: "default/server", Count: 2, Timeout: answerWithin}
	send(t, e, tr, traffic.Answered)
	if _, err := fault.Break(t.Context(), e, "queue-no-listener", tr); err != nil {
		t.Fatal(err)
	}
	for _, accept := range []bool{true, false} {
		t.Run(map[bool]string{true: "accepts", false: "drops"}[accept], func(t *testing.T) {
			l, err := fault.ListenQueue(e.Node(1).Netns, fault.Queue, accept)
			if err != nil {
				t.Fatal(err)
			}
			trace := startTwo(t, p, e, tr, "")
			if accept {
				send(t, e, tr, traffic.Answered)
			} else {
				short := tr
				short.Timeout /= 5
				send(t, e, short, traffic.TimedOut)
			}
			settle(p)
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			if l.Taken.Load() < int64(tr.Count) {
				t.Fatalf("the listener was handed %d packets", l.Taken.Load())
			}
			if accept {
				wantFindings(t, trace)
			} else {
				wantFindings(t, trace, expected{"rule-drop", model.Forward})
			}
			wantQueued(t, trace, accept)
		})
	}
}

// wantQueued wants every request told as sent to the queue, by the verdict of its
// table or, where it died, by the drop.
func wantQueued(t *testing.T, trace *Trace, accept bool) {
	t.Helper()
	requests := 0
	for _, pk := range trace.Packets() {
		if pk.Direction != model.Forward || pk.Proto != "udp" {
			continue
		}
		requests++
		queued := slices.ContainsFunc(pk.Hops, func(h model.Hop) bool {
			return h.Table == "filter" && h.Verdict == "queue" && h.Queue != nil && *h.Queue == fault.Queue
		})
		if accept && (!queued || pk.Outcome != model.Delivered) {
			t.Errorf("not told as queued and delivered: %s", tell(pk))
		}
		d := pk.Drop
		if !accept && (d == nil || d.Queue == nil || *d.Queue != fault.Queue || d.Rule == nil || !strings.Contains(d.Rule.Text, "NFQUEUE")) {
			t.Errorf("not told as dropped by the queue's listener: %s %+v", tell(pk), d)
		}
	}
	if requests == 0 {
		t.Error("no request was told")
	}
}
