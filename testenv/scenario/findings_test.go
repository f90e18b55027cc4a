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

	"github.com/pathtrace/pathtrace/testenv/matrix"
	"github.com/pathtrace/pathtrace/testenv/story"
	"github.com/pathtrace/pathtrace/tracer/cause"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// namedPackets is how many packets a finding names at most.
const namedPackets = 16

// episode is one scenario under a trace: a fault from its making to its mending.
type episode struct {
	name     string
	expect   story.Expect
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

// finder is what comparing findings needs of a test.
type finder interface {
	Helper()
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
}

// checkFindings wants every fault of the trace found by its code, in its
// direction, and no other finding. Packets of connections from before the trace
// (the warm-up's end) may die of what the fault did to their connection. A result
// of each episode is printed, for the matrix.
func checkFindings(t finder, backend string, episodes []episode, packets []model.Packet, findings []model.Finding) {
	t.Helper()
	results := make([]matrix.Result, len(episodes))
	spans := make([]map[uint64]bool, len(episodes))
	accounted := make([]bool, len(findings))
	ours := make(map[uint64]bool)
	for _, p := range begunHere(packets) {
		ours[p.ID] = true
	}
	for e, ep := range episodes {
		spans[e] = ep.span(packets)
		results[e] = matrix.Result{Kernel: kernelSeries(t), Backend: backend, Scenario: ep.name, Code: ep.expect.Code}
		if ep.expect.Code == "" {
			continue
		}
		for i, f := range findings {
			if !ofSpan(f, spans[e]) || f.Code != ep.expect.Code {
				continue
			}
			accounted[i] = true // the same fault may meet the other direction too
			if (ep.expect.Direction == "" || f.Direction == ep.expect.Direction) && results[e].Confidence != cause.Certain {
				results[e].Confidence = f.Confidence
			}
		}
		if results[e].Confidence == "" {
			t.Errorf("%s: no finding %s, %s; found: %s", ep.name, ep.expect.Code, ep.expect.Direction, codes(findings))
			for _, p := range packets {
				if spans[e][p.ID] {
					t.Errorf("  told: %s", tell(p))
				}
			}
		}
	}
	for i, f := range findings {
		if accounted[i] || len(f.Packets) > 0 && !slices.ContainsFunc(f.Packets, func(id uint64) bool { return ours[id] }) {
			continue
		}
		line, _ := json.Marshal(f) // of strings and numbers: it cannot fail
		t.Errorf("false alarm: %s", line)
		if e := max(0, slices.IndexFunc(spans, func(ids map[uint64]bool) bool { return ofSpan(f, ids) })); e < len(results) {
			results[e].Alarms = append(results[e].Alarms, f.Code)
		}
	}
	for _, r := range results {
		line, _ := r.Line() // likewise
		t.Logf("%s", line)
	}
}

// kernelSeries is the running kernel's, such as 6.12.
func kernelSeries(t finder) string {
	t.Helper()
	series, err := matrix.KernelSeries()
	if err != nil {
		t.Errorf("%v", err)
	}
	return series
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
