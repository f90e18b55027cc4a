// SPDX-License-Identifier: Apache-2.0

package rulebook

// This file names the rules of nft tables by the handles that the kernel half saw.
// A handle is a rule's for good, so that any version that holds it will do; what
// changes in place, a chain's policy, is asked of the version that stood.

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/journey"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
)

// nftRuling tells the rules behind the event of a base chain.
func (b *Book) nftRuling(e *journey.Record) ruling {
	s := b.space(e.Netns)
	t := e.Table
	r := ruling{Source: model.RuleExact}
	var last *nft.Rule
	for i := range t.M[:t.Matches] {
		rules, at, ok := b.byHandle(s, e, ruleHandle{t.Address, t.M[i].Rule})
		if !ok {
			gone := unknownRules("rule with handle %d of table %s: gone before it could be read", t.M[i].Rule, journey.CString(t.Table[:]))
			gone.Unread = true
			return gone
		}
		last = at.rule
		rule := rules.tell(at)
		if key := keyOfMatch(t, i); key != nil && rules == b.stood(s, e) {
			rule.Element = element(rules, at, key) // sets change under a rule
		}
		r.Rules = append(r.Rules, rule)
	}
	if !b.listens.complete(e.Ts) {
		return unknownRules("rules of a new kind came into use while the packet was on its way")
	}
	return b.decide(s, e, r, last)
}

// stood is the version that the packet met; nil: not known which.
func (b *Book) stood(s *space, e *journey.Record) *nftRules {
	m := s.nft.at(b.passedNFT(e))
	if m.sure == nil {
		return nil
	}
	return m.sure.rules
}

// byHandle finds a rule, in the version that the packet met if that was read, else
// in the newest that holds it.
func (b *Book) byHandle(s *space, e *journey.Record, h ruleHandle) (*nftRules, ruleAt, bool) {
	find := func() (*nftRules, ruleAt, bool) {
		if n := b.stood(s, e); n != nil {
			if at, ok := n.find(h); ok {
				return n, at, true
			}
		}
		for _, v := range slices.Backward(s.nft.versions) {
			if at, ok := v.rules.find(h); ok {
				return v.rules, at, true
			}
		}
		return nil, ruleAt{}, false
	}
	rules, at, ok := find()
	if !ok {
		b.catchUp(s, e.Ts)
		rules, at, ok = find()
	}
	return rules, at, ok
}

// passedNFT is the packet's way through a base chain: the name as it began is in
// the table's part of the event, the name at its end in every event's.
func (b *Book) passedNFT(e *journey.Record) passed {
	return passed{begin: e.Ts, end: e.Ts, first: nftStamp(e.Table.Generation), final: nftStamp(e.Nft)}
}

// decide finds what set the verdict: the rule that matched last if its verdict
// is final, the base chain's policy if not.
func (b *Book) decide(s *space, e *journey.Record, r ruling, last *nft.Rule) ruling {
	t := e.Table
	kernel := journey.VerdictName(uint32(e.Result))
	if n := int(t.Matches); n > 0 && final(t.M[n-1].Verdict) {
		said := journey.VerdictName(t.M[n-1].Verdict)
		if said != kernel {
			return unknownRules("the kernel's verdict is %s, that of the rules that matched %s", kernel, said)
		}
		r.Decided = &r.Rules[n-1]
		if kernel == "drop" && rejects(last) {
			r.Verdict = "reject"
		}
		return r
	}
	switch {
	case kernel != "accept" && !b.listens.allRan(e.Ts):
		return unknownRules("no rule seen to decide, but the kernel left programs out at the time: one may have")
	case kernel != "accept" && len(b.listens.unheard) > 0:
		return unknownRules("no rule seen to decide, but rules that end with %s cannot be seen here", strings.Join(b.listens.unheard, ", "))
	}
	policy, ok := b.policy(s, e, kernel)
	if !ok {
		return unknownRules("no rule seen to decide, and %s was not read as the policy of chain %s then", kernel, journey.CString(t.Chain[:]))
	}
	r.Rules = append(r.Rules, policy)
	r.Decided = &r.Rules[len(r.Rules)-1]
	return r
}

// policy tells the policy of the base chain that a packet met: of the version that
// stood, or of those on either side of its time, as far as it is the verdict seen.
func (b *Book) policy(s *space, e *journey.Record, verdict string) (model.Rule, bool) {
	m, _ := meet(b, s, &s.nft.history, b.passedNFT(e)) // those next to it will do
	for _, v := range m.either() {
		if t, c := v.rules.base(e.Table.Address, e.Table.ChainHandle); c != nil && c.Policy == verdict {
			return v.rules.teller(t).Policy(c), true
		}
	}
	return model.Rule{}, false
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
func keyOfMatch(t *bpf.EventTable, i int) *bpf.MapKey {
	for k := range t.Key[:min(int(t.Keys), len(t.Key))] {
		if int(t.Key[k].Match) == i {
			return &t.Key[k]
		}
	}
	return nil
}

// element is the element of the rule's verdict map that was found with the
// registers as they were; "" if the map has none such any more.
func element(n *nftRules, at ruleAt, regs *bpf.MapKey) string {
	if set, e := at.found(regs); e != nil {
		return n.set.ElementText(set, e)
	}
	return ""
}

// found is the same, as the map has it; nil if it has none.
func (r ruleAt) found(regs *bpf.MapKey) (*nft.Set, *nft.Element) {
	for _, x := range slices.Backward(r.rule.Exprs) {
		look, ok := x.(nft.Lookup)
		if !ok || look.Dst != nft.RegVerdict {
			continue
		}
		set := r.table.Set(look.Set)
		if set == nil || look.Src < 0 || 4*int(look.Src)+int(set.KeyLen) > 4*len(regs.Reg) {
			return nil, nil
		}
		var raw []byte
		for _, word := range regs.Reg {
			raw = binary.NativeEndian.AppendUint32(raw, word)
		}
		key := raw[4*int(look.Src):]
		return set, set.Find(key[:set.KeyLen])
	}
	return nil, nil
}
