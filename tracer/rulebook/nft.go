// SPDX-License-Identifier: Apache-2.0

package rulebook

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/journey"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/ruleset/ipset"
	"github.com/pathtrace/pathtrace/tracer/ruleset/iptnft"
	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
)

// nftHistory is the nftables rule set of one namespace, and every rule that was
// ever read of it. The handle of a table is used once in a namespace, that of a
// chain or rule once in a table (net/netfilter/nf_tables_api.c: table_handle,
// nf_tables_alloc_handle), and a rule is never changed in place: handles name
// a rule for good, also after it is gone.
type nftHistory struct {
	now     *nft.Ruleset
	rules   map[nftRuleKey]nftRule
	bases   map[nftRuleKey][]baseSpan // of base chains, as they were, the newest last
	told    map[nftRuleKey]model.Rule // as they are told; until the next read, which may number them anew
	asked   time.Time                 // when it was last looked for changes
	cost    time.Duration             // of the last read
	read    uint64                    // when the last good read began (kernel clock)
	failing bool
	noted   *nft.Ruleset // whose expressions are known
}

type nftRuleKey struct{ table, rule uint64 } // or, of bases, the chain

// baseSpan is a base chain while its policy was the same: unlike a rule, that
// changes in place. It did so between two times of the kernel's clock: when it was
// last read otherwise (0: never was), and when it was first read so.
type baseSpan struct {
	table        *nft.Table
	chain        *nft.Chain
	since, first uint64
}

// nftRule is a rule with what its text needs: the rule set it was read with, its
// table, and the names of ipsets.
type nftRule struct {
	set   *nft.Ruleset
	table *nft.Table
	rule  *nft.Rule
	names ipset.Names
}

const (
	// How often a namespace that the flow goes through is asked whether its
	// rules changed, at most; and how much of our time reading them may take.
	nftPoll      = 20 * time.Millisecond
	nftPollShare = 1
	// keptRules bounds the rules that are remembered.
	keptRules = 200_000
	// keptPolicies bounds the changes of one chain's policy that are remembered,
	// keptBases the base chains.
	keptPolicies = 32
	keptBases    = 1000
)

func (b *Book) nftRuling(e *journey.Record) journey.Ruling {
	h := b.nftOf(e.Netns)
	ev := e.Table
	r := journey.Ruling{Source: model.RuleExact}
	var last *nft.Rule
	for i := range ev.M[:ev.Matches] {
		m := &ev.M[i]
		found, ok := h.rules[nftRuleKey{ev.Address, m.Rule}]
		if !ok {
			if err := b.readNFT(e.Netns, h); err != nil {
				return unknownRules("%v", err)
			}
			if found, ok = h.rules[nftRuleKey{ev.Address, m.Rule}]; !ok {
				return unknownRules("rule with handle %d of table %s: gone before it could be read", m.Rule, journey.CString(ev.Table[:]))
			}
		}
		last = found.rule
		rule := h.tell(nftRuleKey{ev.Address, m.Rule}, found)
		if key := keyOfMatch(ev, i); key != nil {
			rule.Element = found.element(key)
		}
		r.Rules = append(r.Rules, rule)
	}
	if len(b.fresh) > 0 || e.Ts < b.completeSince {
		return unknownRules("rules of a new kind came into use while the packet was on its way")
	}
	return b.decide(h, e, r, last)
}

// decide finds what set the verdict: the rule that matched last if its verdict
// is final, the base chain's policy if not.
func (b *Book) decide(h *nftHistory, e *journey.Record, r journey.Ruling, last *nft.Rule) journey.Ruling {
	ev := e.Table
	kernel := journey.VerdictName(uint32(e.Result))
	if n := int(ev.Matches); n > 0 && final(ev.M[n-1].Verdict) {
		said := journey.VerdictName(ev.M[n-1].Verdict)
		if said != kernel {
			return unknownRules("the kernel's verdict is %s, that of the rules that matched %s", kernel, said)
		}
		r.Decided = &r.Rules[n-1]
		if kernel == "drop" && rejects(last) {
			r.Verdict = "reject"
		}
		return r
	}
	key := nftRuleKey{ev.Address, ev.ChainHandle}
	base := h.base(key, kernel, e.Ts)
	if base == nil && h.read < e.Ts { // what was read since would tell no more
		if err := b.readNFT(e.Netns, h); err != nil {
			return unknownRules("%v", err)
		}
		base = h.base(key, kernel, e.Ts)
	}
	switch {
	case len(h.bases[key]) == 0:
		return unknownRules("chain %s was gone before it could be read", journey.CString(ev.Chain[:]))
	case kernel != "accept" && !b.allRan(e.Ts):
		return unknownRules("no rule seen to decide, but the kernel left programs out at the time: one may have")
	case len(b.unseen) > 0 && kernel != "accept":
		return unknownRules("no rule seen to decide, but rules that end with %s cannot be seen here", strings.Join(b.unseen, ", "))
	case base == nil:
		return unknownRules("no rule seen to decide, and %s was not read as the policy of chain %s then", kernel, journey.CString(ev.Chain[:]))
	}
	chain := base.chain
	policy := model.Rule{Family: chain.Family, Table: chain.Table, Chain: chain.Name, Text: "policy " + chain.Policy}
	if text, ok := iptnft.Policy(base.table, chain); ok {
		policy.Text = text
	}
	r.Rules = append(r.Rules, policy)
	r.Decided = &r.Rules[len(r.Rules)-1]
	return r
}

// enders lists the expressions by which the kernel half can see that a rule
// matched: its last one, and any that sets a verdict.
func enders(exprs []nft.Expr) []string {
	var names []string
	for i, x := range exprs {
		ends := i == len(exprs)-1
		switch x := x.(type) {
		case nft.Immediate:
			ends = ends || x.Dst == nft.RegVerdict
		case nft.Lookup:
			ends = ends || x.Dst == nft.RegVerdict
		}
		if ends {
			names = append(names, x.Kind())
		}
	}
	return names
}

// final tells a verdict that ends the traversal from one that leads on (enum
// nft_verdicts: negative numbers).
func final(verdict uint32) bool { return int32(verdict) >= 0 }

// rejects tells whether a rule answers the sender.
func rejects(r *nft.Rule) bool {
	return slices.ContainsFunc(r.Exprs, func(x nft.Expr) bool {
		if target, ok := x.(nft.Target); ok {
			return target.Name == "REJECT"
		}
		_, ok := x.(nft.Reject)
		return ok
	})
}

// keyOfMatch gives the registers with which the i-th match asked a verdict map.
func keyOfMatch(ev *bpf.EventTable, i int) *bpf.MapKey {
	for k := range ev.Key[:min(int(ev.Keys), len(ev.Key))] {
		if int(ev.Key[k].Match) == i {
			return &ev.Key[k]
		}
	}
	return nil
}

// model is the rule as it is told: in iptables' words where iptables wrote it.
func (r nftRule) model() model.Rule {
	m := model.Rule{Family: r.rule.Family, Table: r.rule.Table, Chain: r.rule.Chain, Number: r.rule.Number,
		Handle: r.rule.Handle, Comment: r.rule.Comment}
	printer := iptnft.Printer{Sets: r.names}
	if text, comment, ok := printer.Text(r.table, r.rule); ok {
		m.Text, m.Comment = text, comment
		return m
	}
	m.Text = r.set.Text(r.rule)
	return m
}

// tell is a rule as it is told.
func (h *nftHistory) tell(key nftRuleKey, r nftRule) model.Rule {
	m, known := h.told[key]
	if !known {
		m = r.model()
		h.told[key] = m
	}
	return m
}

// element is the element of the rule's verdict map that was found with the
// registers as they were; "" if the map has none such any more.
func (r nftRule) element(regs *bpf.MapKey) string {
	for _, x := range slices.Backward(r.rule.Exprs) {
		look, ok := x.(nft.Lookup)
		if !ok || look.Dst != nft.RegVerdict {
			continue
		}
		set := r.table.Set(look.Set)
		if set == nil || look.Src < 0 || 4*int(look.Src)+int(set.KeyLen) > 4*len(regs.Reg) {
			return ""
		}
		var raw []byte
		for _, word := range regs.Reg {
			raw = binary.NativeEndian.AppendUint32(raw, word)
		}
		key := raw[4*int(look.Src):]
		if e := set.Find(key[:set.KeyLen]); e != nil {
			return r.set.ElementText(set, e)
		}
		return ""
	}
	return ""
}

func newNFTHistory() *nftHistory {
	return &nftHistory{rules: make(map[nftRuleKey]nftRule), bases: make(map[nftRuleKey][]baseSpan), told: make(map[nftRuleKey]model.Rule)}
}

// nftOf gives the history of a namespace.
func (b *Book) nftOf(netns uint32) *nftHistory {
	h := b.nft[netns]
	if h == nil {
		h = newNFTHistory()
		b.nft[netns] = h
	}
	return h
}

func (h *nftHistory) refresh(ctx context.Context) (err error) {
	was := h.now
	if was == nil {
		h.now, err = nft.Read(ctx)
	} else {
		h.now, err = was.Refresh(ctx)
	}
	if err != nil || h.now == was {
		return err
	}
	var names ipset.Names
	if len(h.now.Tables) > 0 { // most pods have none, and names take longer than rules
		if names, err = ipset.ReadNames(); err != nil && !errors.Is(err, ipset.ErrNoSupport) {
			return err
		}
	}
	if len(h.rules) > keptRules {
		clear(h.rules)
	}
	clear(h.told)
	for _, t := range h.now.Tables {
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				h.rules[nftRuleKey{t.Handle, r.Handle}] = nftRule{h.now, t, r, names}
			}
		}
	}
	return nil
}

// keepBases notes the base chains of a rule set that is not the one of the last
// read, and was read by a time. A chain that is gone stays as it was.
func (h *nftHistory) keepBases(by uint64) {
	if len(h.bases) > keptBases {
		clear(h.bases)
	}
	for _, t := range h.now.Tables {
		for _, c := range t.Chains {
			if !c.Base() {
				continue
			}
			key := nftRuleKey{t.Handle, c.Handle}
			spans := h.bases[key]
			var since uint64
			if n := len(spans); n > 0 {
				if spans[n-1].chain.Policy == c.Policy {
					spans[n-1].table, spans[n-1].chain = t, c
					continue
				}
				since = h.read
			}
			if len(spans) >= keptPolicies {
				spans = spans[1:]
			}
			h.bases[key] = append(spans, baseSpan{t, c, since, by})
		}
	}
}

// base gives the base chain as it may have been at a time, with the policy that
// the packet met: between two reads that differ it changed at a time that is not
// known, and behind the last one it may have.
func (h *nftHistory) base(key nftRuleKey, policy string, at uint64) *baseSpan {
	spans := h.bases[key]
	for i := range spans {
		s := &spans[i]
		until := uint64(math.MaxUint64)
		if i+1 < len(spans) {
			until = spans[i+1].first
		}
		if s.chain.Policy == policy && s.since <= at && at <= until {
			return s
		}
	}
	return nil
}

// tickNFT looks for commits in the namespaces the flow went through.
func (b *Book) tickNFT(now time.Time) {
	for netns, h := range b.nft {
		if now.Sub(h.asked) < max(nftPoll, nftPollShare*h.cost) {
			continue
		}
		if err := b.readNFT(netns, h); err != nil && !h.failing {
			h.failing = true
			b.verbose(fmt.Sprintf("nft rules: %v", err))
		}
	}
}
