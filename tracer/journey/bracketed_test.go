// SPDX-License-Identifier: Apache-2.0

package journey

// The tracepoint backend: what is told of a packet that passed some of the links
// between tables.

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
)

func legacyTable(table string) Table {
	return Table{Backend: "legacy", Family: "ip", Table: table, Function: "ipt_do_table"}
}

func nftChain(table, chain string) Table {
	return Table{Backend: "nft", Family: "inet", Table: table, Chain: chain, Function: "nft_do_chain_inet"}
}

func otherEntry(function string) Table { return Table{Function: function} }

// between is what no link parts.
func between(at ...Table) []Table { return at }

// behindAll is the index of the last link of a hook.
const behindAll = 32

// laidOut are hooks of IPv4 by namespace and number, as links part them: the
// first link stands before the first group, the last one before the last group.
type laidOut map[[2]uint32][][]Table

// bracketed lays a hook out. What is behind the last link comes last.
func (s *story) bracketed(netns uint32, hook uint8, groups ...[]Table) {
	s.tables[[2]uint32{netns, uint32(hook - 1)}] = groups
}

func (l laidOut) of(netns uint32, pf, hook uint8) [][]Table {
	if pf != unix.NFPROTO_IPV4 {
		return nil
	}
	return l[[2]uint32{netns, uint32(hook)}]
}

func (l laidOut) Passed(netns uint32, pf, hook, after, upto uint8) []Table {
	groups := l.of(netns, pf, hook)
	if after == 0 || len(groups) == 0 {
		return nil
	}
	last := uint8(len(groups)) // the link before the last group
	return slices.Concat(groups[min(after, last)-1 : max(min(after, last), min(upto, last))-1]...)
}

func (l laidOut) At(netns uint32, pf, hook, index uint8) []Table {
	groups := l.of(netns, pf, hook)
	if len(groups) == 0 {
		return nil
	}
	return groups[min(int(index), len(groups))-1]
}

func (l laidOut) Changed(uint32, uint8, uint8, uint64) ([]Table, bool) { return nil, false }
func (l laidOut) Reached(uint32)                                       {}

// besideKey is where laidOut keeps the chains of a hook of a device or bridge.
func besideKey(netns uint32, pf, hook uint8) [2]uint32 {
	return [2]uint32{netns, uint32(pf)<<16 | uint32(hook)}
}

func (l laidOut) Beside(netns uint32, pf, hook uint8, _ string, _ uint64) (all []Table, changed bool) {
	if pf != 0 {
		return slices.Concat(l[besideKey(netns, pf, hook)]...), false
	}
	for key, groups := range l {
		if key[0] == netns && key[1]>>16 != 0 {
			all = append(all, slices.Concat(groups...)...)
		}
	}
	return all, false
}

// pass tells one bracket: event.index is its number plus one.
func (p *packet) pass(i uint8, at wire, hook uint8, o ...with) *packet {
	last := int32(0)
	if i == behindAll {
		last = 1
	}
	o = append([]with{in(unix.NFPROTO_IPV4, hook), index(i), result(last)}, o...)
	return p.see(bpf.KindPass, bpf.FentryFnFN_nfHookRunBpf, at, o...)
}

func TestBracketedPath(t *testing.T) {
	s := newStory(t)
	s.bracketed(1, prerouting, between(legacyTable("raw")), between(otherEntry("ipv4_conntrack_in")), between(nftChain("nat", "pre")), nil)
	s.bracketed(1, forwardHook, between(legacyTable("filter")), nil)
	s.bracketed(3, input)
	p := syn(s).fromClient()
	p.pass(1, calicl, prerouting).pass(2, calicl, prerouting)
	p.see(bpf.KindConntrack, bpf.FentryFnFN_nfHookRunBpf, calicl, in(unix.NFPROTO_IPV4, prerouting), ct(3)).become(ct(3))
	p.pass(3, calicl, prerouting).pass(behindAll, calicl, prerouting)
	p.see(bpf.KindRoute, bpf.FentryFnFN_nfHookRunBpf, calicl, route(0, 1, calisv, "", 0))
	p.pass(1, calicl, forwardHook).pass(behindAll, calicl, forwardHook)
	p.become(ct(0)).xmit(calisv).recv(serverEth).pass(behindAll, serverEth, input)
	p.see(bpf.KindDeliver, bpf.FentryFnFN_nfHookRunBpf, serverEth, in(unix.NFPROTO_IPV4, input))
	got := s.one()
	wantOutcome(t, got, model.Delivered)
	wantHops(t, got,
		"transmit eth0@client", "receive calicl@node",
		"netfilter calicl@node PREROUTING legacy ip raw accept",
		"conntrack calicl@node PREROUTING ct=new",
		"netfilter calicl@node PREROUTING nft inet nat pre accept ct=new",
		"route calicl@node ct=new unicast table 0 dev calisv via",
		"netfilter calicl@node FORWARD legacy ip filter accept ct=new",
		"transmit calisv@node", "receive eth0@server",
		"netfilter eth0@server INPUT accept",
		"deliver eth0@server INPUT")
}

func TestBracketedConntrackInvalid(t *testing.T) {
	for _, c := range []struct {
		name, function string
		tracks         bool // conntrack was seen at work in this namespace
		ct             uint8
		invalid        bool
	}{
		{"no entry", "ipv4_conntrack_in", false, 0, true},
		{"no entry, local", "ipv4_conntrack_local", false, 0, true},
		{"an entry", "ipv4_conntrack_in", false, 3, false},
		{"untracked", "ipv4_conntrack_in", false, 8, false},
		{"assumed conntrack proves nothing", AssumedConntrack, false, 0, false},
		{"assumed conntrack at work", AssumedConntrack, true, 0, true},
		{"something else", "ip_vs_in", true, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStory(t)
			s.bracketed(1, prerouting, between(otherEntry(c.function)), nil)
			if c.tracks {
				syn(s).fromClient().see(bpf.KindConntrack, bpf.FentryFnFN_nfHookRunBpf, calicl, in(unix.NFPROTO_IPV4, prerouting), ct(3)).xmit(uplink)
				s.one()
			}
			ping(s).fromClient().pass(1, calicl, prerouting, ct(c.ct)).pass(behindAll, calicl, prerouting, ct(c.ct)).xmit(uplink)
			got := slices.Contains(hops(s.one()), "conntrack calicl@node PREROUTING ct=invalid")
			if got != c.invalid {
				t.Errorf("told invalid: %v", got)
			}
		})
	}
}

func TestDropBetweenBrackets(t *testing.T) {
	filter, chain := legacyTable("filter"), nftChain("t", "c")
	apart := func(at ...Table) (groups [][]Table) {
		for _, e := range at {
			groups = append(groups, between(e))
		}
		return groups
	}
	for _, c := range []struct {
		name     string
		groups   [][]Table
		behind   []Table
		index    uint8
		location string
		inChain  bool
		want     string // table of the drop, or candidates
	}{
		{"the only table", apart(legacyTable("mangle"), filter), nil, 2, "nf_hook_slow+0x1", true, "legacy ip filter"},
		{"the first of two", apart(legacyTable("mangle"), filter), nil, 1, "nf_hook_slow+0x1", true, "legacy ip mangle"},
		{"equal priority, freed by the hook", [][]Table{{filter, chain}}, nil, 1, "nf_hook_slow+0x1", true, "legacy ip filter"},
		{"equal priority, freed in the chain", [][]Table{{filter, chain}}, nil, 1, "nft_do_chain+0x1", true, "nft inet t c"},
		{"equal priority before 6.7: cannot tell", [][]Table{{filter, chain}}, nil, 1, "nf_hook_slow+0x1", false, "legacy table filter, nft inet table t chain c"},
		{"symbols hidden: cannot tell", [][]Table{{filter, chain}}, nil, 1, "", true, "legacy table filter, nft inet table t chain c"},
		{"two chains", [][]Table{{chain, nftChain("t", "d")}}, nil, 1, "nft_do_chain+0x1", true, "nft inet table t chain c, nft inet table t chain d"},
		{"NAT's dispatcher is no suspect", [][]Table{{otherEntry("nf_nat_ipv4_pre_routing"), nftChain("nat", "pre")}}, nil, 1, "nft_do_chain+0x1", true, "nft inet nat pre"},
		{"a foreign program is", [][]Table{{filter, otherEntry("nf_hook_run_bpf")}}, nil, 1, "nf_hook_slow+0x1", true, "legacy table filter, nf_hook_run_bpf"},
		{"conntrack itself", apart(otherEntry("ipv4_conntrack_in")), nil, 1, "nf_hook_slow+0x1", true, "ipv4_conntrack_in"},
		{"behind the last", apart(filter), between(otherEntry("nf_confirm")), behindAll, "nf_hook_slow+0x1", true, "nf_confirm"},
		{"the last group of too many", append(apart(nftChain("t", "1"), nftChain("t", "2"), nftChain("t", "3"), nftChain("t", "4"), nftChain("t", "5"), nftChain("t", "6"), nftChain("t", "7")), between(nftChain("t", "8"), nftChain("t", "9"))), nil,
			8, "nft_do_chain+0x1", true, "nft inet table t chain 8, nft inet table t chain 9"},
		{"before the first bracket", apart(filter), nil, 0, "nf_hook_slow+0x1", true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStory(t)
			s.names.inChain, s.names.hidden = c.inChain, c.location == ""
			s.bracketed(1, forwardHook, append(c.groups, c.behind)...)
			syn(s).fromClient().kfree("NETFILTER_DROP", c.location, calicl, in(unix.NFPROTO_IPV4, forwardHook), index(c.index))
			d := s.one().Drop
			got := strings.TrimSpace(strings.Join([]string{d.Backend, d.Family, d.Table, d.Chain}, " "))
			if len(d.Candidates) > 0 {
				got = strings.Join(d.Candidates.Strings(), ", ")
			}
			if got != c.want || d.Hook != "FORWARD" {
				t.Errorf("dropped at %s by %q, want %q", d.Hook, got, c.want)
			}
		})
	}
}

// Rules that nobody has read may have been those of a table that came and went: the
// only one that is known there is not named. A hook where nothing known ends
// packets so is told as such.
func TestDropByRulesNobodyRead(t *testing.T) {
	for _, c := range []struct {
		name     string
		group    []Table
		location string
		ruling   Ruling
		want     string // backend, table and why
	}{
		{"an nft table", between(nftChain("t", "c")), "nft_do_chain+0x1", Ruling{Unknown: "replaced", Unread: true}, "nft  replaced"},
		{"its rules were read", between(nftChain("t", "c")), "nft_do_chain+0x1", Ruling{Unknown: "one of two"}, "nft t one of two"},
		{"a legacy table stays", between(legacyTable("filter")), "nf_hook_slow+0x1", Ruling{Unknown: "replaced", Unread: true}, "legacy filter replaced"},
		{"no such table is known there", between(nftChain("t", "c")), "nf_hook_slow+0x1", Ruling{}, "  nothing is known to hang there that ends packets so: it came, or was gone, about then"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStory(t)
			s.names.inChain = true
			s.asm.w.rules = alike{ruling: c.ruling}
			s.bracketed(1, forwardHook, c.group)
			syn(s).fromClient().kfree("NETFILTER_DROP", c.location, calicl, in(unix.NFPROTO_IPV4, forwardHook), index(1))
			d := s.one().Drop
			if got := strings.Join([]string{d.Backend, d.Table, d.RuleUnknown}, " "); got != c.want || d.Rule != nil {
				t.Errorf("told %q, want %q", got, c.want)
			}
		})
	}
}

// A rule that was seen to match and was gone before it could be read: what stood
// before and after is told with it. A rule that was read asks nothing.
func TestRuleGoneUnread(t *testing.T) {
	for _, c := range []struct {
		name, want string
		ruling     Ruling
	}{
		{"gone", "before: A; after: B", Ruling{Unknown: "handle 7: gone", Unread: true}},
		{"not vouched for", "late", Ruling{Unknown: "late"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStory(t)
			s.asm.w.rules = seenAnd{alike{ruling: Ruling{Unknown: "before: A; after: B", Unread: true}}, c.ruling}
			p := syn(s).fromClient()
			p.see(bpf.KindTable, bpf.FentryFnFN_nftDoChain, calicl, in(unix.NFPROTO_IPV4, forwardHook), table("filter", "FORWARD", unix.NFPROTO_IPV4, 0))
			p.kfree("NETFILTER_DROP", "nft_do_chain+0x1", calicl, in(unix.NFPROTO_IPV4, forwardHook))
			if d := s.one().Drop; d.Rule != nil || d.Table != "filter" || d.RuleUnknown != c.want {
				t.Errorf("told table %q, rule %v, unknown %q, want %q", d.Table, d.Rule, d.RuleUnknown, c.want)
			}
		})
	}
}

// seenAnd says one thing of what was seen in the kernel, and another when asked.
type seenAnd struct {
	alike
	seen Ruling
}

func (a seenAnd) Ruling(*Record) Ruling { return a.seen }

// alike says the same of every packet.
type alike struct {
	noRules
	ruling Ruling
}

func (a alike) Infer(Passage, string) Ruling { return a.ruling }
