// SPDX-License-Identifier: Apache-2.0

package scenario

// This file compares the findings at the end of a trace with the faults that
// were made under it: each is named by its code, and nothing else is found.

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/testenv"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// namedPackets is how many packets a finding names at most.
const namedPackets = 16

// episode is one scenario under a trace: a fault from its making to its mending.
type episode struct {
	name     string
	expect   testenv.Expect
	from, to time.Time
}

// span gives the packets of the trace that came in an episode's time.
func (ep episode) span(all []model.Packet) map[uint64]bool {
	ids := make(map[uint64]bool)
	for _, p := range before(after(all, ep.from), ep.to) {
		ids[p.ID] = true
	}
	return ids
}

// ofSpan tells whether a finding is about packets of an episode. One that has
// no packets, such as that nothing came, is about all of the trace; one that
// has more than it names may be.
func ofSpan(f model.Finding, ids map[uint64]bool) bool {
	return len(f.Packets) == 0 || len(f.Packets) >= namedPackets ||
		slices.ContainsFunc(f.Packets, func(id uint64) bool { return ids[id] })
}

// shown takes errors as lines to be read.
type shown struct {
	t interface {
		Helper()
		Logf(format string, args ...any)
	}
}

func (s shown) Helper() { s.t.Helper() }

func (s shown) Errorf(format string, args ...any) {
	s.t.Helper()
	s.t.Logf("FINDINGS: "+format, args...)
}

// checkFindings wants every fault of the trace found by its code, in its
// direction, and no other finding. Packets of connections from before the trace
// (the warm-up's end) may die of what the fault did to their connection.
func checkFindings(t interface {
	Helper()
	Errorf(format string, args ...any)
}, episodes []episode, packets []model.Packet, findings []model.Finding) {
	t.Helper()
	accounted := make([]bool, len(findings))
	ours := make(map[uint64]bool)
	for _, p := range begunHere(packets) {
		ours[p.ID] = true
	}
	for _, ep := range episodes {
		if ep.expect.Code == "" {
			continue
		}
		ids, found := ep.span(packets), false
		for i, f := range findings {
			if !ofSpan(f, ids) {
				continue
			}
			if f.Code == ep.expect.Code {
				// the same fault may meet the other direction too
				accounted[i] = true
				found = found || ep.expect.Direction == "" || f.Direction == ep.expect.Direction
			}
		}
		if !found {
			t.Errorf("%s: no finding %s, %s; found: %s", ep.name, ep.expect.Code, ep.expect.Direction, codes(findings))
			for _, p := range packets {
				if ids[p.ID] {
					t.Errorf("  told: %s", tell(p))
				}
			}
		}
	}
	for i, f := range findings {
		if !accounted[i] && (len(f.Packets) == 0 || slices.ContainsFunc(f.Packets, func(id uint64) bool { return ours[id] })) {
			line, _ := json.Marshal(f) // of strings and numbers: it cannot fail
			t.Errorf("false alarm: %s", line)
		}
	}
}

func codes(findings []model.Finding) string {
	var out []string
	for _, f := range findings {
		out = append(out, fmt.Sprintf("%s %s %s %v (%s)", f.Code, f.Direction, f.Confidence, f.Packets, f.Summary))
	}
	if len(out) == 0 {
		return "nothing"
	}
	return strings.Join(out, ", ")
}
