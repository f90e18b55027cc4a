// SPDX-License-Identifier: Apache-2.0

package legacy_test

// What a table has counted between two readings, and how that is compared with
// what was foreseen.

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/ruleset/legacy"
)

// ordinals is the way to an outcome.
func ordinals(o legacy.Outcome) []int {
	var way []int
	for _, s := range o.Steps {
		way = append(way, s.Match)
	}
	return way
}

// settle waits until a table has counted what is expected since it was read, or
// for a second, and gives what it has counted for a hook.
func settle(p *place, before *legacy.Table, hook int, want []legacy.Match) []legacy.Match {
	p.t.Helper()
	for end := time.Now().Add(time.Second); ; time.Sleep(10 * time.Millisecond) {
		got := risen(before, p.read(before.Family, before.Name), hook)
		if !differ(got, want) || time.Now().After(end) {
			return got
		}
	}
}

// risen is what counted at a hook between two readings of a table: in the chains
// that it leads to, since other packets pass the others (the answers to rejected
// ones, and the packet itself at another hook).
func risen(before, after *legacy.Table, hook int) []legacy.Match {
	chains := map[string]bool{}
	reach(before, legacy.HookName(hook), chains)
	var all []legacy.Match
	for i, e := range before.Entries {
		x, _ := before.Counters(i)
		y, _ := after.Counters(i)
		if y > x && chains[e.Chain] {
			all = append(all, legacy.Match{Ordinal: i, Count: y - x})
		}
	}
	return all
}

// reach adds a chain and all that it leads to.
func reach(table *legacy.Table, chain string, chains map[string]bool) {
	if chains[chain] {
		return
	}
	chains[chain] = true
	for _, e := range table.Entries {
		if e.Chain == chain && e.Target >= 0 {
			reach(table, table.Entries[e.Target].Chain, chains)
		}
	}
}

func differ(a, b []legacy.Match) bool {
	set := func(ms []legacy.Match) map[int]uint64 {
		m := map[int]uint64{}
		for _, x := range ms {
			m[x.Ordinal] = x.Count
		}
		return m
	}
	return !maps.Equal(set(a), set(b))
}

// told is a set of entries for people.
func told(table *legacy.Table, ms []legacy.Match) string {
	var all []string
	slices.SortFunc(ms, func(a, b legacy.Match) int { return a.Ordinal - b.Ordinal })
	for _, m := range ms {
		e := table.Entries[m.Ordinal]
		all = append(all, fmt.Sprintf("%s %s/%d (%d)", e.Kind, e.Chain, e.Number, m.Count))
	}
	return strings.Join(all, ", ")
}

// compareCounters compares the counters that the differences above came from
// with those of the tool, rule by rule.
func compareCounters(t *testing.T, p *place) {
	t.Helper()
	line := regexp.MustCompile(`(?m)^(\[\d+:\d+\] -A .*|:\S+ [A-Z]+ \[\d+:\d+\])$`)
	compared := 0
	for _, table := range p.tables() {
		var own []string
		for i, e := range table.Entries {
			packets, bytes := table.Counters(i)
			switch e.Kind {
			case legacy.KindRule:
				own = append(own, fmt.Sprintf("[%d:%d] %s", packets, bytes, table.Text(i)))
			case legacy.KindPolicy:
				own = append(own, fmt.Sprintf("%s [%d:%d]", table.Text(i), packets, bytes))
			}
		}
		want := line.FindAllString(p.c.In(p.name, "iptables-legacy-save -c -t "+table.Name), -1)
		slices.Sort(own)
		slices.Sort(want)
		differences(t, "counters of "+table.Name, strings.Join(own, "\n"), strings.Join(want, "\n"))
		compared += len(want)
	}
	t.Logf("%d counters compared with iptables-legacy-save -c", compared)
}
