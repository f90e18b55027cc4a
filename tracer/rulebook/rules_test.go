// SPDX-License-Identifier: Apache-2.0

package rulebook

import (
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/journey"
	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
)

// A rule that was not seen to match did not, if no program was left out between
// a look before the packet and one behind it. Looking asks the kernel for every
// program: one look serves all packets before it.
func TestAllRan(t *testing.T) {
	var clock, count uint64
	looks := 0
	l := listening{now: func() uint64 { return clock }, skipped: func() uint64 { looks++; return count }}
	if (&listening{}).allRan(1) != true {
		t.Error("a backend that is never left out is taken for one that may be")
	}
	clock = 10
	l.mark()
	for _, c := range []struct {
		name             string
		clock, count, at uint64
		want             bool
		looks            int // so far
	}{
		{"before any look", 11, 0, 5, false, 1},
		{"nothing left out", 20, 0, 15, true, 2},
		{"told by the same look", 21, 0, 16, true, 2},
		{"left out after it, maybe for it", 30, 3, 25, false, 3},
		{"long before that", 31, 3, 15, false, 3},
		{"after that", 40, 3, 35, true, 4},
	} {
		clock, count = c.clock, c.count
		if got := l.allRan(c.at); got != c.want || looks != c.looks {
			t.Errorf("%s: %v after %d looks, want %v after %d", c.name, got, looks, c.want, c.looks)
		}
	}
}

// A chain's policy changes in place. A packet is told by the one that it met,
// also when another one was set before the packet was told.
func TestPolicyThatChanged(t *testing.T) {
	const table, first, second = 1, 1, 2
	s := newSpace(1)
	b := &Book{read: &reader{now: func() uint64 { return 99 }}, wall: func(ns uint64) time.Time { return time.Unix(0, int64(ns)) }}
	s.looked = 1000 // what was read is all there is
	read := func(at, until uint64, commits uint64, policies ...string) {
		of := &nft.Table{Handle: table}
		for i, p := range policies {
			of.Chains = append(of.Chains, &nft.Chain{Hook: "FORWARD", Handle: uint64(i + 1), Policy: p})
		}
		name := stamp{commits, 0}
		s.nft.read(moment{at, at, name, 0}, moment{until, until, name, 0}, &nftRules{set: &nft.Ruleset{Tables: []*nft.Table{of}}}, true, false)
	}
	read(10, 22, 1, "accept")
	read(30, 42, 2, "drop", "accept")
	read(50, 60, 3, "accept")
	for _, c := range []struct {
		name   string
		chain  uint64
		at     uint64
		policy string
		want   bool
	}{
		{"before the first read", first, 5, "accept", true},
		{"read so before and behind", first, 15, "accept", true},
		{"never read otherwise then", first, 15, "drop", false},
		{"changed about then", first, 25, "drop", true},
		{"not changed yet then", first, 25, "accept", true},
		{"in between", first, 35, "drop", true},
		{"read otherwise before and behind", first, 35, "accept", false},
		{"put back about then", first, 45, "drop", true},
		{"put back, and told late", first, 39, "drop", true},
		{"long put back", first, 60, "drop", false},
		{"as it was read last", first, 60, "accept", true},
		{"a chain that was there", second, 35, "accept", true},
		{"a chain that was not there any more", second, 55, "accept", false},
		{"of a chain never read", 3, 35, "accept", false},
	} {
		e := &journey.Record{Event: bpf.Event{Ts: c.at}, Table: &bpf.EventTable{Address: table, ChainHandle: c.chain}}
		if got, ok := b.policy(s, e, c.policy); ok != c.want || ok && got.Text != "policy "+c.policy {
			t.Errorf("%s: %s at %d: %v %+v", c.name, c.policy, c.at, ok, got)
		}
	}
}
