// SPDX-License-Identifier: Apache-2.0

package attach

// The tracepoint backend: what lies between brackets.

import (
	"math"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/journey"
	"github.com/pathtrace/pathtrace/tracer/node"
)

func legacyHook(prio int32, table string) node.Hook {
	return node.Hook{Family: "ip", HookNum: 2, Priority: prio, Function: "ipt_do_table", Backend: node.BackendLegacy, Table: table, Chain: "", TableFamily: "ip"}
}

func nftHook(prio int32, table, chain string) node.Hook {
	return node.Hook{Family: "ip", HookNum: 2, Priority: prio, Function: "nft_do_chain_inet", Backend: node.BackendNFT, Table: table, Chain: chain, TableFamily: "inet"}
}

func otherHook(prio int32, function string) node.Hook {
	return node.Hook{Family: "ip", HookNum: 2, Priority: prio, Function: function}
}

// groupNames writes groups as "raw | ipv4_conntrack_in | mangle filter".
func groupNames(groups [][]journey.Table) string {
	var all []string
	for _, g := range groups {
		all = append(all, entryNames(g))
	}
	return strings.Join(all, " | ")
}

func entryNames(g []journey.Table) string {
	var names []string
	for _, e := range g {
		switch {
		case e.Chain != "":
			names = append(names, e.Chain)
		case e.Table != "":
			names = append(names, e.Table)
		default:
			names = append(names, e.Function)
		}
	}
	return strings.Join(names, " ")
}

func TestGroupByPriority(t *testing.T) {
	var many []node.Hook
	for i := int32(0); i < 11; i++ {
		many = append(many, nftHook(10*i, "t", string(rune('a'+i))))
	}
	for _, c := range []struct {
		name   string
		at     []node.Hook
		groups string
		behind string
		prios  []int32
	}{
		{"nothing", nil, "", "", nil},
		{"one each", []node.Hook{legacyHook(-300, "raw"), otherHook(-200, "ipv4_conntrack_in"), legacyHook(-150, "mangle"), legacyHook(0, "filter")},
			"raw | ipv4_conntrack_in | mangle | filter", "", []int32{-300, -200, -150, 0}},
		{"equal priority cannot be parted", []node.Hook{legacyHook(0, "filter"), nftHook(0, "f", "one"), nftHook(0, "f", "two"), nftHook(5, "f", "three")},
			"filter one two | three", "", []int32{0, 5}},
		{"nor can neighbours", []node.Hook{nftHook(-1, "f", "one"), legacyHook(0, "filter"), nftHook(1, "f", "two"), nftHook(3, "f", "three")},
			"one filter two | three", "", []int32{1, 3}},
		{"two apart can", []node.Hook{legacyHook(0, "filter"), nftHook(2, "f", "two")}, "filter | two", "", []int32{0, 2}},
		{"BPF programs of others stay with what runs before them", []node.Hook{legacyHook(-300, "raw"), otherHook(-250, bpfHook), otherHook(-200, "ipv4_conntrack_in"), otherHook(-100, bpfHook)},
			"raw nf_hook_run_bpf | ipv4_conntrack_in nf_hook_run_bpf", "", []int32{-300, -200}},
		{"one where our bracket would stand", []node.Hook{legacyHook(-300, "raw"), otherHook(-299, bpfHook), legacyHook(-297, "mangle")},
			"raw nf_hook_run_bpf | mangle", "", []int32{-299, -297}},
		{"one that fills the gap", []node.Hook{legacyHook(-300, "raw"), otherHook(-299, bpfHook), legacyHook(-298, "mangle"), legacyHook(0, "filter")},
			"raw nf_hook_run_bpf mangle | filter", "", []int32{-298, 0}},
		{"two that fill it", []node.Hook{legacyHook(-300, "raw"), otherHook(-299, bpfHook), otherHook(-298, bpfHook), legacyHook(-297, "mangle")},
			"raw nf_hook_run_bpf nf_hook_run_bpf mangle", "", []int32{-297}},
		{"one before everything", []node.Hook{otherHook(firstPriority, bpfHook), legacyHook(-300, "raw")},
			"nf_hook_run_bpf | raw", "", []int32{firstPriority, -300}},
		{"more groups than brackets", many, "a | b | c | d | e | f | g | h i j k", "", []int32{0, 10, 20, 30, 40, 50, 60, 100}},
		{"behind the last bracket", []node.Hook{legacyHook(0, "filter"), otherHook(math.MaxInt32-1, "nf_confirm"), otherHook(math.MaxInt32, "br_nf")},
			"filter", "nf_confirm br_nf", []int32{0}},
		{"only behind it", []node.Hook{otherHook(math.MaxInt32, "nf_confirm")}, "", "nf_confirm", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, prios := groupByPriority(c.at)
			if got := groupNames(g.groups); got != c.groups {
				t.Errorf("groups %q, want %q", got, c.groups)
			}
			if got := entryNames(g.behind); got != c.behind {
				t.Errorf("behind %q, want %q", got, c.behind)
			}
			if !slices.Equal(prios, c.prios) {
				t.Errorf("priorities %v, want %v", prios, c.prios)
			}
		})
	}
}

func TestHooksAt(t *testing.T) {
	all := []node.Hook{legacyHook(0, "filter"), {Family: "ip6", HookNum: 2, Priority: -300}, {Family: "ip", HookNum: 1, Priority: -300}, legacyHook(-300, "raw"), nftHook(0, "t", "c")}
	g, _ := groupByPriority(hooksAt(all, "ip", 2))
	if got := groupNames(g.groups); got != "raw | filter c" {
		t.Errorf("hooks of ip FORWARD: %q", got)
	}
}

func TestEntryFamilyIsTheTables(t *testing.T) {
	g, _ := groupByPriority([]node.Hook{nftHook(0, "calico", "fwd")})
	if e := g.groups[0][0]; e.Family != "inet" || e.Table != "calico" || e.Chain != "fwd" {
		t.Errorf("entry %+v", e)
	}
}

func TestPassedAndAt(t *testing.T) {
	b := newBrackets(nil, true)
	b.groups[hookKey{1, unix.NFPROTO_IPV4, 2}], _ = groupByPriority([]node.Hook{legacyHook(-150, "mangle"), otherHook(-1, "ip_vs"),
		legacyHook(0, "filter"), nftHook(0, "t", "c"), nftHook(50, "t", "d"), otherHook(math.MaxInt32, "nf_confirm")})
	for _, c := range []struct {
		after, upto uint8
		want        string
	}{
		{0, 1, ""}, {1, 2, "mangle"}, {2, 3, "ip_vs filter c"}, {1, 3, "mangle ip_vs filter c"}, {1, lastBracket, "mangle ip_vs filter c d"},
		{3, lastBracket, "d"}, {0, lastBracket, ""}, {3, 3, ""}, {lastBracket, 1, ""}, {1, 31, "mangle ip_vs filter c d"},
	} {
		if got := entryNames(b.Passed(1, unix.NFPROTO_IPV4, 2, c.after, c.upto)); got != c.want {
			t.Errorf("passed from %d to %d: %q, want %q", c.after, c.upto, got, c.want)
		}
	}
	for index, want := range map[uint8]string{1: "mangle", 2: "ip_vs filter c", 3: "d", lastBracket: "nf_confirm", 9: "nf_confirm"} {
		if got := entryNames(b.At(1, unix.NFPROTO_IPV4, 2, index)); got != want {
			t.Errorf("at %d: %q, want %q", index, got, want)
		}
	}
	if b.Passed(7, unix.NFPROTO_IPV4, 2, 1, 2) != nil || b.At(1, unix.NFPROTO_IPV6, 2, 1) != nil {
		t.Error("something is known of a hook without brackets")
	}
}

func TestBracketsOfNamespacesReachedLater(t *testing.T) {
	b := newBrackets(nil, true)
	b.done[1] = true
	for _, in := range []uint32{1, 2, 2, 3} {
		b.Reached(in)
	}
	if got := b.wanted(); !slices.Equal(got, []uint32{2, 3}) {
		t.Errorf("wanted %v", got)
	}
	if got := b.wanted(); len(got) != 0 {
		t.Errorf("wanted again %v", got)
	}
	none := newBrackets(nil, false)
	none.Reached(2)
	if got := none.wanted(); len(got) != 0 {
		t.Errorf("a backend without brackets wants %v", got)
	}
}

// A hook that got only some of its brackets would name the wrong table.
func TestHalfPlacedBracketsNameNothing(t *testing.T) {
	b := newBrackets(nil, true)
	key := hookKey{1, unix.NFPROTO_IPV4, 2}
	if err := b.bracket(key, []node.Hook{legacyHook(0, "filter")}, nil); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v, want one line", err)
	}
	if got := b.At(1, unix.NFPROTO_IPV4, 2, 1); got != nil {
		t.Errorf("names %v", got)
	}
}

// A table that was deleted after a packet had died there is still a suspect: what
// is left alone at its priority is not named in its place.
func TestTablesThatCameOrWent(t *testing.T) {
	key := hookKey{netns: 7, pf: unix.NFPROTO_IPV4, hook: 2}
	for name, tc := range map[string]struct {
		was, is []node.Hook
		want    string
		changed bool
	}{
		"the same":  {[]node.Hook{nftHook(0, "x", "cni")}, []node.Hook{nftHook(0, "x", "cni")}, "cni", false},
		"one went":  {[]node.Hook{nftHook(0, "x", "cni"), nftHook(0, "y", "guard")}, []node.Hook{nftHook(0, "x", "cni")}, "cni guard", true},
		"one came":  {[]node.Hook{nftHook(0, "x", "cni")}, []node.Hook{nftHook(0, "x", "cni"), nftHook(0, "y", "guard")}, "cni guard", true},
		"all went":  {[]node.Hook{nftHook(0, "x", "cni")}, nil, "cni", true},
		"replaced":  {[]node.Hook{nftHook(0, "x", "cni")}, []node.Hook{nftHook(0, "y", "guard")}, "cni guard", true},
		"new order": {[]node.Hook{nftHook(0, "x", "cni"), nftHook(9, "y", "guard")}, []node.Hook{nftHook(0, "y", "guard"), nftHook(9, "x", "cni")}, "cni guard", true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBrackets(nil, true)
			b.groups[key], _ = groupByPriority(tc.was)
			b.now[key.netns] = hookListing{at: 2, hooks: tc.is}
			tables, changed := b.Changed(key.netns, key.pf, key.hook, 1)
			if got := entryNames(tables); got != tc.want || changed != tc.changed {
				t.Errorf("%q, %v; want %q, %v", got, changed, tc.want, tc.changed)
			}
		})
	}
}
