// SPDX-License-Identifier: Apache-2.0

package rulebook

import (
	"testing"

	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
)

// A rule that was not seen to match did not, if no program was left out between
// a look before the packet and one behind it. Looking asks the kernel for every
// program: one look serves all packets before it.
func TestAllRan(t *testing.T) {
	var clock, count uint64
	looks := 0
	b := &Book{Survey: &Survey{now: func() uint64 { return clock }}, cfg: Config{Skipped: func() uint64 { looks++; return count }}}
	if (&Book{}).allRan(1) != true {
		t.Error("a backend that is never left out is taken for one that may be")
	}
	b.MarkSkips(10)
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
		if got := b.allRan(c.at); got != c.want || looks != c.looks {
			t.Errorf("%s: %v after %d looks, want %v after %d", c.name, got, looks, c.want, c.looks)
		}
	}
}

// A chain's policy changes in place. A packet is told by the one that it met,
// also when another one was set before the packet was told.
func TestPolicyThatChanged(t *testing.T) {
	h := newNFTHistory()
	read := func(from, to uint64, policies ...string) {
		table := &nft.Table{Handle: 1}
		for i, p := range policies {
			table.Chains = append(table.Chains, &nft.Chain{Hook: "FORWARD", Handle: uint64(i + 1), Policy: p})
		}
		h.now = &nft.Ruleset{Tables: []*nft.Table{table}}
		h.keepBases(to)
		h.read = from
	}
	read(10, 12, "accept")
	read(20, 22, "accept")
	read(30, 32, "drop", "accept")
	read(40, 42, "drop", "accept")
	read(50, 52, "accept")
	for _, c := range []struct {
		name   string
		chain  uint64
		at     uint64
		policy string
		want   bool
	}{
		{"before the first read", 1, 5, "accept", true},
		{"read so before and behind", 1, 15, "accept", true},
		{"never read otherwise then", 1, 15, "drop", false},
		{"changed about then", 1, 25, "drop", true},
		{"not changed yet then", 1, 25, "accept", true},
		{"in between", 1, 35, "drop", true},
		{"read otherwise before and behind", 1, 35, "accept", false},
		{"put back about then", 1, 45, "drop", true},
		{"put back, and told late", 1, 39, "drop", true},
		{"long put back", 1, 60, "drop", false},
		{"as it was read last", 1, 60, "accept", true},
		{"a chain that is gone", 2, 35, "accept", true},
		{"of a chain never read", 3, 35, "accept", false},
	} {
		got := h.base(nftRuleKey{1, c.chain}, c.policy, c.at)
		if (got != nil) != c.want {
			t.Errorf("%s: %s at %d: found %v, want %v", c.name, c.policy, c.at, got != nil, c.want)
		}
		if got != nil && got.chain.Policy != c.policy {
			t.Errorf("%s: found a chain with policy %s", c.name, got.chain.Policy)
		}
	}
}
