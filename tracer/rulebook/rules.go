// SPDX-License-Identifier: Apache-2.0

// Package rulebook turns what the kernel half saw of a table (bpf/rules.h) into rules
// as people know them. The rule sets are read from the namespace the packet was
// in, and a rule is named only if what was read is what the packet met: a table
// or rule that is gone by now is told as such, never replaced by what stands in
// its place today.
package rulebook

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/journey"
	"github.com/pathtrace/pathtrace/tracer/ruleset/infer"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// unknownRules is a ruling that names nothing.
func unknownRules(format string, args ...any) journey.Ruling {
	return journey.Ruling{Unknown: fmt.Sprintf(format, args...)}
}

// Config is what a rule book works with.
type Config struct {
	Survey *Survey // of the node, as the trace began
	// Peek asks the kernel half for what a legacy table holds right now: the
	// address of its contents, and how often legacy tables were replaced.
	Peek func(table uint64) (content, generation uint64, err error)
	// Skipped counts the programs that the kernel has left out; nil where it
	// leaves out none.
	Skipped func() uint64
	Handles bool                   // the backend listens to nft's expressions: rules are told by handle
	Unheard []string               // nft expressions in use that the kernel half does not listen to
	Wall    func(uint64) time.Time // of the kernel's clock
}

// Book holds the rule sets of the node's namespaces, old ones too while
// packets may still be told by them.
type Book struct {
	*Survey
	cfg       Config
	books     map[uint32]*meaning.Book
	sentences sentences
	infer     *infer.Book
	budget    budget
	// unseen lists nft expressions in use that the kernel half does not listen to.
	unseen []string
	// completeSince is when it last began to listen to one more (kernel clock):
	// before, rules that end with it were not seen.
	completeSince uint64
	// skips is what cfg.Skipped was in the past, the newest last.
	skips []skipMark
	// Told counts the rulings given, missing those that name no rule although
	// the kernel half followed the packet through the table.
	told, missing int
}

// skipMark is the number of programs left out up to a time of the kernel's clock.
type skipMark struct{ at, count uint64 }

// keptSkips bounds how far back it is remembered.
const keptSkips = 64

// MarkSkips notes how many programs were left out up to now.
func (b *Book) MarkSkips(now uint64) {
	if b.cfg.Skipped == nil {
		return
	}
	b.skips = append(b.skips, skipMark{now, b.cfg.Skipped()})
	if n := len(b.skips) - keptSkips; n > 0 {
		b.skips = slices.Delete(b.skips, 0, n)
	}
}

// allRan tells that no program was left out around a time: then a rule that was
// not seen to match did not.
func (b *Book) allRan(at uint64) bool {
	if b.cfg.Skipped == nil {
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

// New keeps the book from here on, from what was found in a survey.
func New(cfg Config) *Book {
	b := &Book{Survey: cfg.Survey, cfg: cfg, books: make(map[uint32]*meaning.Book), infer: infer.New(cfg.Survey.ctx, cfg.Survey.ns), unseen: cfg.Unheard}
	b.fresh = nil // the kernel half was asked for all of those when it was attached
	b.MarkSkips(b.now())
	return b
}

// Listening notes that the kernel half listens to all expressions since a time of
// its clock, but for those unheard.
func (b *Book) Listening(since uint64, unheard []string) {
	b.completeSince, b.unseen = since, unheard
}

// ByHandle tells that the kernel half tells nft's rules by handle.
func (b *Book) ByHandle() bool { return b.cfg.Handles }

// Missing counts the rulings that name no rule although the kernel half followed
// the packet through the table.
func (b *Book) Missing() int { return b.missing }

// Ruling tells the rules behind a table's event.
func (b *Book) Ruling(e *journey.Record) journey.Ruling {
	r := b.ruling(e)
	b.told++
	if r.Unknown != "" {
		b.missing++
		b.verbose(fmt.Sprintf("rules of %s %s in %s: %s", journey.CString(e.Table.Table[:]), journey.CString(e.Table.Chain[:]), b.ns.Place(e.Netns), r.Unknown))
	}
	return r
}

func (b *Book) ruling(e *journey.Record) journey.Ruling {
	if why := unsure(e.Table); why != "" {
		return unknownRules("%s", why)
	}
	if e.Table.Chain[0] != 0 {
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
func (b *Book) Tick(now time.Time) {
	b.tickLegacy()
	if b.cfg.Handles {
		b.tickNFT(now)
	}
	if err := b.infer.Tick(); err != nil {
		b.verbose(err.Error())
	}
}

// Places lists the namespaces of pods whose rules are held.
func (b *Book) Places() []uint32 {
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

// Forget drops the rules of a namespace that has ended: its number is given out
// again, and so are the handles of its rules.
func (b *Book) Forget(netns uint32) {
	delete(b.nft, netns)
	delete(b.books, netns)
	maps.DeleteFunc(b.legacy, func(k legacyKey, _ *legacyHistory) bool { return k.netns == netns })
}
