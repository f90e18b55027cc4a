// SPDX-License-Identifier: Apache-2.0

package legacy_test

// These tests hand sets of matched entries of a real table to Order, shuffled,
// and expect the one way that ipt_do_table could have taken.

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/ruleset/legacy"
)

// Hooks of the filter table (NF_INET_*).
const (
	input   = 1
	forward = 2
	output  = 3
)

const walks = `*filter
:INPUT ACCEPT
:FORWARD DROP
:OUTPUT ACCEPT
:a -
:b -
:g -
:twice -
-A FORWARD -s 10.0.0.1/32 -j a
-A FORWARD -s 10.0.0.2/32 -g g
-A FORWARD -p tcp -j twice
-A FORWARD -p udp -j MARK --set-xmark 0x1/0xffffffff
-A FORWARD -p tcp -m tcp --dport 80 -j twice
-A FORWARD -s 10.0.0.3/32 -j REJECT --reject-with icmp-port-unreachable
-A FORWARD -s 10.0.0.4/32 -j RETURN
-A FORWARD -s 10.0.0.5/32 -j DROP
-A FORWARD -m comment --comment "matches everything"
-A a -p tcp -j b
-A a -p udp -j RETURN
-A a -p icmp -j ACCEPT
-A b -p tcp -m tcp --dport 1 -j DROP
-A g -p tcp -j a
-A g -p udp -j RETURN
-A twice -m mark --mark 0x1 -j ACCEPT
-A twice -s 10.0.0.9/32 -j MARK --set-xmark 0x1/0xffffffff
-A INPUT -i eth0 -j DROP
-A OUTPUT -p tcp -m tcp --dport 1 -j ACCEPT
-A OUTPUT -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1000
COMMIT
`

// entries finds entries by words such as "FORWARD:1", "FORWARD:policy", "a:end".
func entries(t *testing.T, table *legacy.Table, words string) []int {
	t.Helper()
	var all []int
	for _, word := range strings.Fields(words) {
		chain, which, _ := strings.Cut(word, ":")
		i := -1
		switch which {
		case "policy":
			i = table.Ordinal(chain, 0)
		case "end":
			i = slices.IndexFunc(table.Entries, func(e legacy.Entry) bool { return e.Chain == chain && e.Kind == legacy.KindReturn })
		default:
			n, err := strconv.Atoi(which)
			if err != nil {
				t.Fatal(err)
			}
			i = table.Ordinal(chain, n)
		}
		if i < 0 {
			t.Fatalf("no entry %s", word)
		}
		all = append(all, i)
	}
	return all
}

// counted is what the kernel would count for a walk, in no order.
func counted(way []int) []legacy.Match {
	counts := map[int]uint64{}
	for _, i := range way {
		counts[i]++
	}
	var all []legacy.Match
	for i, n := range counts {
		all = append(all, legacy.Match{Ordinal: i, Count: n})
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

func TestOrder(t *testing.T) {
	_, table := filter(t, walks)
	tests := []struct {
		about     string
		hook      int
		way       string // in order
		verdict   string
		deciding  string // "" : the last one
		ambiguous bool
	}{
		{about: "through two chains", hook: forward, way: "FORWARD:1 a:1 b:1", verdict: "drop"},
		{about: "out of two chains", hook: forward, way: "FORWARD:1 a:1 b:end a:end FORWARD:9 FORWARD:policy", verdict: "drop"},
		{about: "an explicit return", hook: forward, way: "FORWARD:1 a:2 FORWARD:9 FORWARD:policy", verdict: "drop"},
		{about: "goto: the end of the chain leads to the policy", hook: forward, way: "FORWARD:2 g:1 a:end g:end FORWARD:policy", verdict: "drop"},
		{about: "goto: so does a return", hook: forward, way: "FORWARD:2 g:2 FORWARD:policy", verdict: "drop"},
		{about: "accepted in a chain called by a chain gone to", hook: forward, way: "FORWARD:2 g:1 a:3", verdict: "accept"},
		{about: "return from a built-in chain", hook: forward, way: "FORWARD:7 FORWARD:policy", verdict: "drop"},
		{about: "a target that goes on", hook: forward, way: "FORWARD:4 FORWARD:9 FORWARD:policy", verdict: "drop"},
		{about: "a target that rejects", hook: forward, way: "FORWARD:4 FORWARD:6", verdict: "reject"},
		{about: "nothing but the policy", hook: input, way: "INPUT:policy", verdict: "accept"},
		{about: "a chain left twice", hook: forward, way: "FORWARD:3 twice:end FORWARD:5 twice:end FORWARD:8", verdict: "drop"},
		{about: "accepted at the second visit", hook: forward, way: "FORWARD:3 twice:2 twice:end FORWARD:5 twice:1", verdict: "accept"},
		{about: "marked at the first or at the second visit", hook: forward,
			way: "FORWARD:3 twice:2 twice:end FORWARD:5 twice:end FORWARD:9 FORWARD:policy", verdict: "drop", ambiguous: true},
	}
	for _, test := range tests {
		t.Run(test.about, func(t *testing.T) {
			way := entries(t, table, test.way)
			path, err := table.Order(test.hook, counted(way))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(path.Ordinals, way) || path.Deciding != way[len(way)-1] || path.Verdict != test.verdict ||
				path.Ambiguous != test.ambiguous || path.Inside {
				t.Errorf("got %+v, want %v", path, way)
			}
		})
	}
}

func TestSetsThatNoWalkExplains(t *testing.T) {
	_, table := filter(t, walks)
	tests := []struct {
		about string
		hook  int
		way   string
	}{
		{"the end of a chain is missing", forward, "FORWARD:1 FORWARD:9 FORWARD:policy"},
		{"the policy is missing", forward, "FORWARD:7"},
		{"a chain nobody called", forward, "a:1 b:1"},
		{"another hook's policy", forward, "FORWARD:9 FORWARD:policy INPUT:policy"},
		{"two packets", forward, "FORWARD:6 FORWARD:7 FORWARD:policy"},
		{"one packet, twice", forward, "FORWARD:8 FORWARD:8"},
		{"a chain left more often than entered", forward, "FORWARD:1 a:end a:end FORWARD:9 FORWARD:policy"},
		{"passed a rule that matches everything", forward, "FORWARD:policy"},
		{"nothing, where no match could drop", input, ""},
	}
	for _, test := range tests {
		t.Run(test.about, func(t *testing.T) {
			path, err := table.Order(test.hook, counted(entries(t, table, test.way)))
			if !errors.Is(err, legacy.ErrUnexplained) {
				t.Errorf("got %+v, %v, want ErrUnexplained", path, err)
			}
		})
	}
	for _, m := range []legacy.Match{{Ordinal: -1, Count: 1}, {Ordinal: len(table.Entries), Count: 1}, {Ordinal: 0, Count: 1 << 63}} {
		if path, err := table.Order(forward, []legacy.Match{m}); !errors.Is(err, legacy.ErrUnexplained) {
			t.Errorf("%+v: got %+v, %v", m, path, err)
		}
	}
	if _, err := table.Order(0, nil); err == nil {
		t.Error("the filter table has a walk at PREROUTING")
	}
}

func TestDroppedInsideARule(t *testing.T) {
	_, table := filter(t, walks)
	tests := []struct {
		about   string
		hook    int
		way     string
		suspect bool
	}{
		{about: "after a mark, before a match on a port", hook: forward, way: "FORWARD:4"},
		{about: "in a chain", hook: forward, way: "FORWARD:1 a:1"},
		{about: "before anything matched", hook: forward, way: ""},
		{about: "maybe by the target that matched last", hook: output, way: "OUTPUT:2", suspect: true},
	}
	for _, test := range tests {
		t.Run(test.about, func(t *testing.T) {
			way := entries(t, table, test.way)
			path, err := table.Order(test.hook, counted(way))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(path.Ordinals, way) || path.Deciding != -1 || !path.Inside || path.Verdict != "drop" || path.Suspect != test.suspect {
				t.Errorf("got %+v, want %v and no deciding rule", path, way)
			}
		})
	}
}

// TestManyVisits is about the bound of the search: a chain entered 30 times,
// half of them with a match, has more orders than can be tried.
func TestManyVisits(t *testing.T) {
	rules := "*filter\n:INPUT ACCEPT\n:FORWARD DROP\n:OUTPUT ACCEPT\n:c -\n"
	var way string
	for n := 1; n <= 30; n++ {
		rules += fmt.Sprintf("-A FORWARD -m mark --mark 0x%x/0x%x -j c\n", n, n)
		way += fmt.Sprintf(" FORWARD:%d c:end", n)
		if n <= 15 {
			way += " c:1"
		}
	}
	_, table := filter(t, rules+"-A c -p tcp -j MARK --set-xmark 0x1/0x1\nCOMMIT\n")
	path, err := table.Order(forward, counted(entries(t, table, way+" FORWARD:policy")))
	if err != nil || !path.Ambiguous || path.Deciding != table.Ordinal("FORWARD", 0) {
		t.Errorf("got %+v, %v, want the policy, the order not certain", path, err)
	}
	if path, err := table.Order(forward, counted(entries(t, table, way))); !errors.Is(err, legacy.ErrUnexplained) {
		t.Errorf("without a policy: got %+v, %v", path, err)
	}
}

func TestVisibleLeavesOutEndsOfChains(t *testing.T) {
	_, table := filter(t, walks)
	got := table.Visible(entries(t, table, "FORWARD:1 a:1 b:end a:end FORWARD:9 FORWARD:policy"))
	if want := entries(t, table, "FORWARD:1 a:1 FORWARD:9 FORWARD:policy"); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
