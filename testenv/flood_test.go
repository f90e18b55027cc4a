// SPDX-License-Identifier: Apache-2.0

// The flood counts exactly: on a healthy node all that was sent arrives, behind
// a rule that drops nothing does.

package testenv

import (
	"testing"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/fault"
	"github.com/pathtrace/pathtrace/testenv/traffic"
)

func TestFlood(t *testing.T) {
	e := newTestEnv(t, cluster.Options{Dataplane: cluster.CalicoLegacy})
	spec := traffic.FloodSpec{Src: server, Dst: client, Packets: 5000, Rate: 20000}
	r, err := traffic.Flood(t.Context(), e, spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v, %.0f pps", r, r.PPS())
	if r.Sent != spec.Packets || r.SendErrors != 0 || r.Lost() != 0 || r.Duplicates != 0 {
		t.Errorf("flood lost packets: %+v", r)
	}
	if pps := r.PPS(); pps > 1.1*float64(spec.Rate) {
		t.Errorf("flood ran at %.0f pps, want about %d", pps, spec.Rate)
	}
	applied, err := fault.Break(t.Context(), e, "rule-drop", traffic.Spec{Proto: "udp", Src: server, Dst: client, Port: traffic.FloodPort})
	if err != nil {
		t.Fatal(err)
	}
	spec.Packets = 500
	if r, err = traffic.Flood(t.Context(), e, spec); err != nil {
		t.Fatal(err)
	}
	if r.Sent != spec.Packets || r.Received != 0 || r.Lost() != spec.Packets {
		t.Errorf("flood behind a drop rule: %+v", r)
	}
	if err := applied.Undo(); err != nil {
		t.Fatal(err)
	}
}
