// SPDX-License-Identifier: Apache-2.0

// The table itself: names, faults and findings fit, and nothing is left out.

package story

import (
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/fault"
)

// TestScenarioTable checks the table itself; it needs no root.
func TestScenarioTable(t *testing.T) {
	type death struct {
		kind      cluster.Kind
		proto     string
		direction string
	}
	deaths := map[death]bool{}
	for _, d := range cluster.Dataplanes() {
		seen := map[string]bool{}
		for _, s := range Of(d) {
			if seen[s.Name] {
				t.Errorf("%s is there twice", s.Name)
			}
			seen[s.Name] = true
			if s.Fault != "" {
				if _, err := fault.Find(s.Fault); err != nil {
					t.Errorf("%s: %v", s.Name, err)
				}
			}
			if (s.Expect.Code == "") != strings.Contains(s.Name, "/healthy") {
				t.Errorf("%s expects finding %q", s.Name, s.Expect.Code)
			}
			if found, err := Find(s.Name); err != nil || found.Name != s.Name {
				t.Errorf("Find(%q): %v", s.Name, err)
			}
			deaths[death{d.Kind(), s.Traffic.Proto, string(s.Expect.Direction)}] = true
		}
	}
	for _, kind := range anyKind {
		for _, proto := range allProtos {
			for _, direction := range []string{"forward", "return"} {
				if !deaths[death{kind, proto, direction}] {
					t.Errorf("no scenario in which %s dies %s on a %s node", proto, direction, kind)
				}
			}
		}
	}
}
