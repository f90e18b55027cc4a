// SPDX-License-Identifier: Apache-2.0

package tracer

// This file turns what the kernel half saw of a table (bpf/rules.h) into rules
// as people know them. The rule sets are read from the namespace the packet was
// in, and a rule is named only if what was read is what the packet met: a table
// or rule that is gone by now is told as such, never replaced by what stands in
// its place today.

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/infer"
	"github.com/pathtrace/pathtrace/tracer/ruleset/legacy"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// ruling is what is known of the rules that one table or base chain applied.
type ruling struct {
	rules   []model.Rule // those that matched, in order; a policy that decided comes last
	decided *model.Rule  // the one that set the verdict; nil: none did, or not known
	verdict string       // more exact than the kernel's number: reject; "" as the kernel said
	ends    string       // the verdict that the rules come to; "" where they do not tell
	unknown string       // why the rules are not known; "" when they are
	source  model.RuleSource
	open    []string // inferred: what could not be evaluated on the way
}

// drops tells that the rules themselves end the packet.
func (r ruling) drops() bool {
	return r.ends == "drop" || r.ends == "reject"
}

// unknownRules is a ruling that names nothing.
func unknownRules(format string, args ...any) ruling {
	return ruling{unknown: fmt.Sprintf(format, args...)}
}

// ruleBook holds the rule sets of the node's namespaces, old ones too while
// packets may still be told by them.
type ruleBook struct {
	ctx       context.Context
	ns        *node.Namespaces
	peek      tablePeek
	shelf     *legacy.Shelf // of the tables in legacy, for all that read them
	legacy    map[legacyKey]*legacyHistory
	nft       map[uint32]*nftHistory
	books     map[uint32]*meaning.Book
	epoch     int // counts the rule sets that were read, new or changed
	sentences sentences
	infer     *infer.Book
	budget    budget
	wall      func(uint64) time.Time // of the kernel's clock
	inUse     map[string]bool        // nft expressions that rules end with, anywhere on the node
	fresh     []string               // those of them that were not asked for yet
	counts    model.RuleSets         // of the node's own namespace, at the start
	verbose   func(string)
	// unseen lists nft expressions in use that the kernel half does not listen to.
	unseen []string
	// completeSince is when it last began to listen to one more (kernel clock):
	// before, rules that end with it were not seen.
	completeSince uint64
	evals         bool // the backend listens to nft's expressions: rules are told by handle
	// skipped counts the programs that the kernel has left out (attachment.skipped);
	// skips is what it was in the past, the newest last.
	skipped func() uint64
	skips   []skipMark
	now     func() uint64 // the kernel's clock
	// Told counts the rulings given, missing those that name no rule although
	// the kernel half followed the packet through the table.
	told, missing int
}

// skipMark is the number of programs left out up to a time of the kernel's clock.
type skipMark struct{ at, count uint64 }

// keptSkips bounds how far back it is remembered.
const keptSkips = 64

// MarkSkips notes how many programs were left out up to now.
func (b *ruleBook) MarkSkips(now uint64) {
	if b.skipped == nil {
		return
	}
	b.skips = append(b.skips, skipMark{now, b.skipped()})
	if n := len(b.skips) - keptSkips; n > 0 {
		b.skips = slices.Delete(b.skips, 0, n)
	}
}

// allRan tells that no program was left out around a time: then a rule that was
// not seen to match did not.
func (b *ruleBook) allRan(at uint64) bool {
	if b.skipped == nil {
		return true
	}
	if n := len(b.skips); n == 0 || b.skips[n-1].at <= at {
		b.MarkSkips(b.now()) // serves all that was seen before it
	}
	newest := b.skips[len(b.skips)-1]
	for _, m := range slices.Backward(b.skips) {
		if m.at < at {
			return m.count == newest.count
		}
	}
	return false
}

// tablePeek asks the kernel half for what a legacy table holds right now: the
// address of its contents, and how often legacy tables were replaced.
type tablePeek func(table uint64) (content, generation uint64, err error)

func newRuleBook(ctx context.Context, ns *node.Namespaces, verbose func(string)) *ruleBook {
	ctx = context.WithoutCancel(ctx) // packets are told after the trace was told to stop
	b := &ruleBook{ctx: ctx, ns: ns, verbose: verbose, now: clock{}.now, inUse: make(map[string]bool), shelf: legacy.NewShelf(),
		legacy: make(map[legacyKey]*legacyHistory), nft: make(map[uint32]*nftHistory), books: make(map[uint32]*meaning.Book), infer: infer.New(ctx, ns)}
	b.infer.Legacy = b.shelf
	return b
}

// Ruling tells the rules behind a table's event.
func (b *ruleBook) Ruling(e *record) ruling {
	r := b.ruling(e)
	b.told++
	if r.unknown != "" {
		b.missing++
		b.verbose(fmt.Sprintf("rules of %s %s in %s: %s", cString(e.table.Table[:]), cString(e.table.Chain[:]), b.ns.Place(e.Netns), r.unknown))
	}
	return r
}

func (b *ruleBook) ruling(e *record) ruling {
	if why := unsure(e.table); why != "" {
		return unknownRules("%s", why)
	}
	if e.table.Chain[0] != 0 {
		return b.nftRuling(e)
	}
	return b.legacyRuling(e)
}

// unsure tells why the kernel half itself does not vouch for what it saw.
func unsure(t *bpf.EventTable) string {
	switch {
	case t.Rules&bpf.RulesLate != 0:
		return "the packet was in the table already when it was first seen"
	case t.Rules&bpf.RulesReplaced != 0:
		return "the table was replaced while the packet was in it"
	case t.Rules&bpf.RulesTooLarge != 0:
		return fmt.Sprintf("the table has %d rules, more than are covered", t.Number)
	case t.Rules&bpf.RulesTooMany != 0:
		return fmt.Sprintf("more than %d rules matched", len(t.M))
	case t.Rules&bpf.RulesMixed != 0:
		return "another packet went through the table at the same time on this CPU"
	}
	return ""
}

// Tick keeps up with rule sets that change, so that what packets met is known
// although it is replaced soon.
func (b *ruleBook) Tick(now time.Time) {
	b.tickLegacy()
	if b.evals {
		b.tickNFT(now)
	}
	if err := b.infer.Tick(); err != nil {
		b.verbose(err.Error())
	}
}

// Survey reads the rule sets of the node, and what its pods' nft rules end with.
// What cannot be read is told and left out: a rule is then named when it can be.
func (b *ruleBook) Survey() {
	self := b.ns.Node().Inode
	var tables []*legacy.Table
	err := b.in(self, func() (err error) { tables, err = b.shelf.ReadAll(); return err })
	if err != nil {
		b.verbose(fmt.Sprintf("legacy rules: %v", err))
	}
	for _, t := range tables {
		b.counts.Legacy += t.Rules()
		h := &legacyHistory{}
		h.keep(0, 0, t)
		b.legacy[legacyKey{self, t.Family, t.Name}] = h
	}
	if has, err := b.ns.HasNFT(); err != nil || !has {
		return
	}
	for _, in := range append([]uint32{self}, b.ns.Members()...) {
		h := newNFTHistory()
		if err := b.readNFT(in, h); err != nil {
			b.verbose(fmt.Sprintf("nft rules: %v", err))
			continue
		}
		if in == self {
			b.counts.NFT = h.now.Count()
		}
		if len(h.now.Tables) > 0 {
			b.nft[in] = h
		}
	}
}

// Counts are the rules of the node's own namespace when the trace began.
func (b *ruleBook) Counts() *model.RuleSets {
	c := b.counts
	return &c
}

// Fresh gives the expressions that came into use since it was last asked.
func (b *ruleBook) Fresh() []string {
	f := b.fresh
	b.fresh = nil
	return f
}

// places lists the namespaces of pods whose rules are held.
func (b *ruleBook) places() []uint32 {
	var all []uint32
	for in := range b.nft {
		all = append(all, in)
	}
	for key := range b.legacy {
		all = append(all, key.netns)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// forget drops the rules of a namespace that has ended: its number is given out
// again, and so are the handles of its rules.
func (b *ruleBook) forget(netns uint32) {
	delete(b.nft, netns)
	delete(b.books, netns)
	maps.DeleteFunc(b.legacy, func(k legacyKey, _ *legacyHistory) bool { return k.netns == netns })
}

// in runs fn in a namespace of the node.
func (b *ruleBook) in(netns uint32, fn func() error) error {
	if err := b.ns.Do(netns, fn); err != nil {
		return fmt.Errorf("%s: %w", b.ns.Place(netns), err)
	}
	return nil
}
