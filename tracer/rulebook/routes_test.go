// SPDX-License-Identifier: Apache-2.0

package rulebook

import (
	"testing"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/journey"
	"github.com/pathtrace/pathtrace/tracer/ruleset/infer"
	facts "github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// An answer about routes is the packet's only if the kernel counted no change since
// the packet came to the table.
func TestRoutesThatChange(t *testing.T) {
	at := func(routes uint64) bpf.Event { return bpf.Event{Id: 1, Netns: 1, Routes: routes} }
	way := func(first, final uint64) journey.Passage { return journey.Passage{At: at(first), Until: at(final)} }
	for _, c := range []struct {
		name   string
		p      journey.Passage
		before uint64 // as they are asked
		after  uint64 // once they were
		want   facts.Answer
	}{
		{"nothing changed", way(5, 5), 5, 5, facts.Yes},
		{"changed while it was there", way(5, 6), 6, 6, facts.Unknown},
		{"changed since", way(5, 5), 6, 6, facts.Unknown},
		{"changed as they were asked", way(5, 5), 5, 6, facts.Unknown},
		{"the kernel does not tell", way(0, 0), 6, 7, facts.Yes},
		{"told behind the hook", journey.Passage{After: true, Before: at(5), At: at(5)}, 5, 5, facts.Yes},
		{"told behind the hook, changed in it", journey.Passage{After: true, Before: at(4), At: at(5)}, 5, 5, facts.Unknown},
	} {
		looks := []uint64{c.before, c.after}
		w := &world{World: infer.NewWorld(nil, 1), routes: routesOf(c.p), now: func() uint64 {
			next := looks[0]
			looks = looks[1:]
			return next
		}}
		if got := w.unchanged(func() facts.Answer { return facts.Yes }); got != c.want || w.moved != (c.want == facts.Unknown) {
			t.Errorf("%s: %s, moved %v; want %s", c.name, got, w.moved, c.want)
		}
	}
}
