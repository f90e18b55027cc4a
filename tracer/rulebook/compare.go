// SPDX-License-Identifier: Apache-2.0

package rulebook

// Rules of nft that only compare (`ip saddr 10.0.0.1`, no statement) do nothing,
// and their last expression is none that could be listened to: the kernel
// compares inside nft_do_chain() itself (net/netfilter/nf_tables_core.c:
// nft_cmp_fast_eval and its like, 5.17 to 7.3). Which of them a packet came by
// follows from the rules that were seen to match; whether they matched is asked
// of the packet. Those that surely did are told as inferred among the others.

import (
	"slices"
	"time"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/journey"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// comparesOnly tells a rule whose matching leaves no trace.
func comparesOnly(r *nft.Rule) bool {
	if len(r.Exprs) == 0 {
		return false
	}
	switch r.Exprs[len(r.Exprs)-1].(type) {
	case nft.Cmp, nft.Range:
		return true
	}
	return false
}

// comparing are the chains that have rules which only compare.
func (n *nftRules) comparing() map[*nft.Chain]bool {
	if n.compared == nil {
		n.compared = make(map[*nft.Chain]bool)
		for _, t := range n.set.Tables {
			for _, c := range t.Chains {
				if slices.ContainsFunc(c.Rules, comparesOnly) {
					n.compared[c] = true
				}
			}
		}
	}
	return n.compared
}

// comesByComparison tells whether the packet came to a chain that has such rules.
func (n *nftRules) comesByComparison(t *nft.Table, ev *bpf.EventTable) bool {
	all := n.comparing()
	if len(all) == 0 {
		return false
	}
	if all[t.Chain(journey.CString(ev.Chain[:]))] {
		return true
	}
	for i := range ev.M[:ev.Matches] {
		if at, ok := n.find(ruleHandle{ev.Address, ev.M[i].Rule}); ok && all[t.Chain(at.leadsTo(keyOfMatch(ev, i)))] {
			return true
		}
	}
	return false
}

// Compared implements journey.Rules.
func (b *Book) Compared(p journey.Passage, e *journey.Record, r journey.Ruling) journey.Ruling {
	n := b.stood(b.space(p.Netns), e)
	if n == nil || len(b.listens.unheard) > 0 {
		return r
	}
	t := n.set.Table(p.Table.Family, p.Table.Table)
	if t == nil || t.Handle != e.Table.Address || !n.comesByComparison(t, e.Table) {
		return r
	}
	if journey.VerdictName(uint32(e.Result)) == "accept" && !b.budget.take(time.Now()) {
		return r
	}
	q := factsOf(p)
	q.World = b.seenBy(p)
	w := way{table: t, named: t.Chain, matches: func(x *nft.Rule) bool {
		return n.set.Matches(q, t, x) == packet.Yes
	}, tell: func(x *nft.Rule) model.Rule { return n.tell(ruleAt{t, x}) }}
	return w.through(n.find, e.Table, r)
}

// way is a packet's way through a base chain, gone once more along the rules
// that were seen to match.
type way struct {
	table   *nft.Table
	named   func(chain string) *nft.Chain
	matches func(*nft.Rule) bool // surely, by itself
	tell    func(*nft.Rule) model.Rule
	chain   *nft.Chain // at hand; nil: the base chain has ended
	next    int        // rule of it
	callers []wayBack
	rules   []model.Rule
}

type wayBack struct {
	chain *nft.Chain
	next  int
}

// pass comes by the rules of the chain at hand up to one, none of which was seen
// to match.
func (w *way) pass(upto int) {
	for ; w.next < upto; w.next++ {
		if r := w.chain.Rules[w.next]; comparesOnly(r) && w.matches(r) {
			told := w.tell(r)
			told.Inferred = true
			w.rules = append(w.rules, told)
		}
	}
}

// leave goes back to the caller.
func (w *way) leave() {
	n := len(w.callers)
	if n == 0 {
		w.chain = nil
		return
	}
	w.chain, w.next = w.callers[n-1].chain, w.callers[n-1].next
	w.callers = w.callers[:n-1]
}

// through gives the ruling with the rules that only compare; as it is where the
// way cannot be followed, or rules on it changed what later ones compare.
func (w *way) through(find func(ruleHandle) (ruleAt, bool), ev *bpf.EventTable, r journey.Ruling) journey.Ruling {
	w.chain = w.named(journey.CString(ev.Chain[:]))
	seen := int(ev.Matches)
	if w.chain == nil || w.chain.Handle != ev.ChainHandle || seen > len(r.Rules) {
		return r
	}
	decided, ended := -1, false
	for i := range seen {
		found, ok := find(ruleHandle{ev.Address, ev.M[i].Rule})
		if !ok || ended || found.table != w.table || changesPacket(found.rule) || !w.comeTo(found.rule) {
			return r
		}
		if r.Decided == &r.Rules[i] {
			decided = len(w.rules)
		}
		w.rules = append(w.rules, r.Rules[i])
		w.next++
		if ended, ok = w.obey(ev, i, found); !ok {
			return r
		}
	}
	for w.chain != nil && !ended {
		w.pass(len(w.chain.Rules))
		w.leave()
	}
	if r.Decided != nil && decided < 0 {
		decided = len(w.rules) + len(r.Rules) - 1 - seen // the policy
	}
	r.Rules = append(w.rules, r.Rules[seen:]...)
	if r.Decided != nil {
		r.Decided = &r.Rules[decided]
	}
	return r
}

// comeTo goes on to a rule that matched: chains at whose end nothing was decided
// are left on the way. False: it does not lie ahead.
func (w *way) comeTo(r *nft.Rule) bool {
	for w.chain != nil && (w.chain.Name != r.Chain || r.Number <= w.next) {
		w.pass(len(w.chain.Rules))
		w.leave()
	}
	if w.chain == nil || r.Number > len(w.chain.Rules) || w.chain.Rules[r.Number-1] != r {
		return false
	}
	w.pass(r.Number - 1)
	return true
}

// obey does what a rule said. ended: its verdict is final; ok is false where the
// chain it leads to is not known.
func (w *way) obey(ev *bpf.EventTable, i int, found ruleAt) (ended, ok bool) {
	code := int32(ev.M[i].Verdict)
	switch code {
	case nft.VerdictReturn:
		w.leave()
	case nft.VerdictJump, nft.VerdictGoto:
		to := w.named(found.leadsTo(keyOfMatch(ev, i)))
		if to == nil {
			return false, false
		}
		if code == nft.VerdictJump {
			w.callers = append(w.callers, wayBack{w.chain, w.next})
		}
		w.chain, w.next = to, 0
	}
	return code >= 0, true
}

// leadsTo is the chain that a rule jumps or goes to; of a verdict map by the
// registers it was asked with.
func (r ruleAt) leadsTo(regs *bpf.MapKey) string {
	for _, x := range r.rule.Exprs {
		if v, ok := x.(nft.Immediate); ok && v.Dst == nft.RegVerdict {
			return v.Verdict.Chain
		}
	}
	if regs == nil {
		return ""
	}
	if _, e := r.found(regs); e != nil && e.Verdict != nil {
		return e.Verdict.Chain
	}
	return ""
}

// changesPacket tells a rule that may change what later ones compare.
func changesPacket(r *nft.Rule) bool {
	for _, x := range r.Exprs {
		switch x := x.(type) {
		case nft.Counter, nft.Last, nft.Log, nft.Cmp, nft.Range, nft.Limit, nft.Quota, nft.Connlimit, nft.Bitwise, nft.Byteorder,
			nft.FIB, nft.RT, nft.Socket, nft.Numgen, nft.Hash, nft.Lookup, nft.Immediate, nft.Reject, nft.Queue, nft.Dynset, nft.Match:
		case nft.Payload:
			if x.Src != nft.RegNone {
				return true
			}
		case nft.Meta:
			if x.Src != nft.RegNone {
				return true
			}
		case nft.CT:
			if x.Src != nft.RegNone {
				return true
			}
		default:
			return true
		}
	}
	return false
}
