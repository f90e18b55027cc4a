// SPDX-License-Identifier: Apache-2.0

// The guard against getting slower: ratios of this run against those that were
// committed. A ratio is of two rates of one run, so that it can be compared
// between machines; a rate cannot.

package bench

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
)

// Allowed is how much less others may keep than the baseline says, as a share
// of their untraced rate.
const Allowed = 0.10

//go:embed baseline.json
var committed []byte

// Baseline is what others kept: by label of the setting, tool and kind of
// traffic, the ratio by CPU time.
type Baseline map[string]map[string]map[Kind]float64

// CommittedBaseline is the one of this tree.
func CommittedBaseline() (Baseline, error) { return ParseBaseline(committed) }

// ParseBaseline reads one.
func ParseBaseline(text []byte) (Baseline, error) {
	var b Baseline
	if err := json.Unmarshal(text, &b); err != nil {
		return nil, fmt.Errorf("baseline: %w", err)
	}
	return b, nil
}

// Check compares results got under a label with the baseline. It gives a line
// for everything that got worse by more than is allowed, and for everything the
// baseline has and the results do not.
func (b Baseline) Check(label string, got []Comparison) ([]string, error) {
	tools, ok := b[label]
	if !ok {
		return nil, fmt.Errorf("the baseline has nothing for %q: run with --baseline-out to make one, and commit it", label)
	}
	var worse []string
	for tool, byKind := range tools {
		for kind, was := range byKind {
			i := slices.IndexFunc(got, func(c Comparison) bool { return c.Tool == tool && c.Kind == kind })
			if i < 0 {
				worse = append(worse, fmt.Sprintf("%s %s: not measured, though the baseline has it", tool, kind))
				continue
			}
			if is := got[i].CPURatio; is < was-Allowed {
				worse = append(worse, fmt.Sprintf("%s %s: others keep %.2f of their rate (rounds %s), the baseline is %.2f: more than %.0f points less",
					tool, kind, is, spread(got[i].CPULow, got[i].CPUHigh), was, 100*Allowed))
			}
		}
	}
	slices.Sort(worse)
	return worse, nil
}

// With gives the baseline with results taken over under a label. The control
// and other people's tools are left out.
func (b Baseline) With(label string, tools []string, got []Comparison) Baseline {
	out := Baseline{}
	for l, t := range b {
		out[l] = t
	}
	entry := map[string]map[Kind]float64{}
	for _, c := range got {
		if !slices.Contains(tools, c.Tool) {
			continue
		}
		if entry[c.Tool] == nil {
			entry[c.Tool] = map[Kind]float64{}
		}
		entry[c.Tool][c.Kind] = float64(int(c.CPURatio*100+0.5)) / 100
	}
	out[label] = entry
	return out
}
