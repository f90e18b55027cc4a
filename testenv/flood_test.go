// SPDX-License-Identifier: Apache-2.0

// The flood counts exactly: on a healthy node all that was sent arrives, behind
// a rule that drops nothing does.

package testenv

import (
	"testing"

	"github.com/pathtrace/pathtrace/testenv/cluster"
)

func TestFlood(t *testing.T) {
	e := newTestEnv(t, cluster.Options{Dataplane: cluster.CalicoLegacy})
	spec := FloodSpec{Src: server, Dst: client, Packets: 5000, Rate: 20000}
	r, err := Flood(t.Context(), e, spec)
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
	applied, err := Break(t.Context(), e, "rule-drop", Traffic{Proto: "udp", Src: server, Dst: client, Port: FloodPort})
	if err != nil {
		t.Fatal(err)
	}
	spec.Packets = 500
	if r, err = Flood(t.Context(), e, spec); err != nil {
		t.Fatal(err)
	}
	if r.Sent != spec.Packets || r.Received != 0 || r.Lost() != spec.Packets {
		t.Errorf("flood behind a drop rule: %+v", r)
	}
	if err := applied.Undo(); err != nil {
		t.Fatal(err)
	}
}

func TestFloodCount(t *testing.T) {
	f := &flood{spec: FloodSpec{Packets: 10}, seen: make([]uint64, 1)}
	highest := -1
	for _, number := range []int{0, 1, 3, 2, 2, 9, 10} { // 10 is beyond the last
		highest = f.count(number, highest)
	}
	want := FloodResult{Received: 5, Duplicates: 1, Reordered: 1}
	if f.received != want || highest != 9 {
		t.Errorf("counted %+v, highest %d; want %+v, 9", f.received, highest, want)
	}
}
