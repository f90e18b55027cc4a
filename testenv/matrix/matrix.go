// SPDX-License-Identifier: Apache-2.0

// Package matrix sums up what the scenario tests found: which cause was told
// right on which kernel and kind of node.
//
//	scenario tests -> lines "result {...}" among their output -> Read -> Table
package matrix

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Result is one scenario of one run, and what the trace told of it. A scenario
// that was tried twice has two; the last one counts.
type Result struct {
	Kernel     string   `json:"kernel"` // such as 6.12
	Backend    string   `json:"backend"`
	Scenario   string   `json:"scenario"`         // dataplane/case-proto
	Code       string   `json:"code,omitempty"`   // expected; empty: nothing is to be found
	Confidence string   `json:"found,omitempty"`  // of the finding; empty: there was none
	Alarms     []string `json:"alarms,omitempty"` // codes found under this trace that nothing had caused
}

// mark begins a line's result, wherever in the line.
const mark = "result {"

// Line is a result as the tests print it.
func (r Result) Line() (string, error) {
	text, err := json.Marshal(r)
	return "result " + string(text), err
}

// Read takes the results out of tests' output and adds them to those there are.
func Read(in io.Reader, results []Result) ([]Result, error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		_, text, ok := strings.Cut(lines.Text(), mark)
		if !ok {
			continue
		}
		var r Result
		if err := json.Unmarshal([]byte("{"+text), &r); err != nil {
			return nil, fmt.Errorf("result %q: %w", lines.Text(), err)
		}
		same := func(o Result) bool {
			return o.Kernel == r.Kernel && o.Backend == r.Backend && o.Scenario == r.Scenario
		}
		if i := slices.IndexFunc(results, same); i >= 0 {
			results[i] = r
			continue
		}
		results = append(results, r)
	}
	return results, lines.Err()
}

// KernelSeries is the running kernel's, such as 6.12.
func KernelSeries() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	parts := strings.SplitN(unix.ByteSliceToString(u.Release[:]), ".", 3)
	return strings.Join(parts[:min(2, len(parts))], "."), nil
}

// HealthyTwin ends the name of a scenario's healthy traffic.
const HealthyTwin = ", healthy"

// Wrong lists the scenarios of which something was missed or made up, by the
// names that they have as tests.
func Wrong(results []Result) (names []string) {
	for _, r := range results {
		if len(r.Alarms) == 0 && (r.Code == "" || r.verdict() != miss) {
			continue
		}
		if name := strings.TrimSuffix(r.Scenario, HealthyTwin); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// verdict is how well a fault was told; the greater is the worse.
type verdict int

const (
	notMade verdict = iota
	ok
	likely
	miss
)

func (v verdict) String() string { return []string{"-", "ok", "likely", "MISS"}[v] }

func (r Result) verdict() verdict {
	switch r.Confidence {
	case "":
		return miss
	case "certain":
		return ok
	}
	return likely
}

// Totals are the sums of a table.
type Totals struct {
	OK, Likely, Missed int // faults, told certainly, likely, not at all
	Healthy            int // scenarios without a fault
	Alarms             int // scenarios under whose trace something was found that nothing had caused
}

func (t Totals) String() string {
	return fmt.Sprintf("%d faults: %d ok, %d likely, %d missed; %d healthy; false alarms in %d", t.OK+t.Likely+t.Missed, t.OK, t.Likely, t.Missed, t.Healthy, t.Alarms)
}

// Good tells that nothing was missed and nothing made up.
func (t Totals) Good() bool { return t.Missed+t.Alarms == 0 }
