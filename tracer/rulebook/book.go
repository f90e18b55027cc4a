// SPDX-License-Identifier: Apache-2.0

// Package rulebook reads the rule sets of the node, the only place that does, and
// keeps them with their histories, so that a packet is told by the rules that it
// met: not by those that stand in their place when it is told. A rule is named only
// if the version that holds it is known to have been in force over the packet's
// whole way through the table; else what is known is told, and why it is not more.
//
//	version.go  a table over time: which version a packet met
//	space.go    kernel -> versions       survey.go  the same, before the trace
//	rules.go    one version, in words    doubt.go   where no version is sure
//	exact_legacy.go  counters that rose -> rules
//	exact_nft.go     handles that were seen -> rules; listening.go what was not
//	inferred.go      packet -> rules, where the kernel half could not see them
//	sets.go          ipsets over time; sets_node.go namespace -> ipsets
//	sets_ahead.go    packets that may come -> ipsets, before they do
//	meaning.go       what a rule is for
package rulebook

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/journey"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/ruleset/infer"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// Config is what a rule book works with.
type Config struct {
	Survey *Survey // of the node, as the trace began
	Kernel Kernel
	// Ends are the namespaces that the flow begins and ends in.
	Ends []uint32
	Flow Flow // what packets to expect
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
	read      *reader
	spaces    map[uint32]*space
	worlds    map[uint32]*infer.World
	sets      *setBook
	books     map[uint32]*meaning.Book
	sentences sentences
	budget    budget
	listens   listening
	handles   bool
	counts    model.RuleSets // of the node's own namespace, at the start
	wall      func(uint64) time.Time
	verbose   func(string)
	missing   int // rulings that name no rule although the kernel half followed the packet
}

// New reads every table that a packet of the flow can meet, so that it is known
// what stood there before the first one comes.
func New(cfg Config) *Book {
	read := *cfg.Survey.read
	read.kernel = cfg.Kernel
	b := &Book{read: &read, spaces: cfg.Survey.spaces, worlds: make(map[uint32]*infer.World), books: make(map[uint32]*meaning.Book),
		listens: listening{skipped: cfg.Skipped, now: read.now, unheard: cfg.Unheard, inUse: cfg.Survey.inUse},
		handles: cfg.Handles, wall: cfg.Wall, verbose: cfg.Survey.verbose}
	b.sets = newSetBook(b.read, cfg.Flow, b.verbose)
	self := read.ns.Node().Inode
	watched := append([]uint32{self}, cfg.Ends...)
	for _, in := range watched {
		b.space(in).pinned = true
	}
	for _, s := range b.spaces {
		if err := read.all(s); err != nil {
			b.tell(s, err)
		}
		s.unhear() // another book may have been made of the survey
		b.hear(s)
	}
	b.count(b.spaces[self])
	until := time.Now().Add(aheadStart)
	for _, in := range watched {
		b.sets.prepare(in, until)
	}
	b.read.leave = newLeave()
	b.listens.mark()
	return b
}

// count notes how many rules there are.
func (b *Book) count(s *space) {
	for _, t := range s.legacy {
		if v := t.newest(); v != nil {
			b.counts.Legacy += v.rules.table.Rules()
		}
	}
	if v := s.nft.newest(); v != nil {
		b.counts.NFT = v.rules.set.Count()
	}
}

// Counts are the rules of the node's own namespace when the trace began.
func (b *Book) Counts() *model.RuleSets {
	c := b.counts
	return &c
}

// space gives what is known of a namespace, which is looked at for a while.
func (b *Book) space(netns uint32) *space {
	s := b.spaces[netns]
	if s == nil {
		s = newSpace(netns)
		b.spaces[netns] = s
	}
	s.asked = b.read.now()
	return s
}

// tell says what went wrong in a namespace, until it goes right again.
func (b *Book) tell(s *space, err error) {
	if !s.failing && !errors.Is(err, errTooOften) && !errors.Is(err, errChanging) {
		s.failing = true
		b.verbose(err.Error())
	}
}

// catchUp looks at a namespace unless that was done since a time.
func (b *Book) catchUp(s *space, since uint64) error {
	if s.looked > since {
		return s.trouble
	}
	s.looked = b.read.now()
	s.trouble = b.read.in(s.netns, func() error { return b.read.known(s) })
	if s.trouble != nil {
		b.tell(s, s.trouble)
	} else {
		s.failing = false
	}
	b.hear(s)
	return s.trouble
}

// meet finds which version of its rules a packet met, looking at what stands if
// none that is known surely was. late tells why that could not be done.
func meet[T any](b *Book, s *space, h *history[T], p passed) (m met[T], late error) {
	if m = h.at(p); m.sure == nil {
		late = b.catchUp(s, p.end)
		m = h.at(p)
	}
	return m, late
}

// hear notes what the rules of a namespace may end with now, and which ipsets they
// name.
func (b *Book) hear(s *space) {
	for _, t := range s.legacy {
		if v := t.newest(); v != nil && !v.rules.heard {
			v.rules.heard = true
			asked, filled := v.rules.table.IPSets()
			b.sets.use(s.netns, asked, filled)
		}
	}
	v := s.nft.newest()
	if v == nil || v.rules == s.heard {
		return
	}
	asked, filled := v.rules.ipsets()
	b.sets.use(s.netns, asked, filled)
	s.heard = v.rules
	b.listens.use(v.rules)
}

// watchedFor is how long a namespace is looked at after a packet met rules there.
const watchedFor = 5 * time.Second

// Tick keeps up with rule sets that change, so that what packets met is known
// although it is replaced soon.
func (b *Book) Tick(time.Time) {
	now := b.read.now()
	for _, s := range b.spaces {
		if s.pinned || now-s.asked < uint64(watchedFor) {
			_ = b.catchUp(s, now) // what went wrong was told
			b.sets.tick(s.netns)
		}
	}
}

// ByHandle tells that the kernel half tells nft's rules by handle.
func (b *Book) ByHandle() bool { return b.handles }

// Fresh gives the expressions that came into use since it was last asked.
func (b *Book) Fresh() []string {
	f := b.listens.fresh
	b.listens.fresh = nil
	return f
}

// InUse lists the expressions that rules end with, anywhere on the node.
func (b *Book) InUse() []string { return slices.Sorted(maps.Keys(b.listens.inUse)) }

// Listening notes that the kernel half listens to all expressions since a time of
// its clock, but for those unheard.
func (b *Book) Listening(since uint64, unheard []string) {
	b.listens.since, b.listens.unheard = since, unheard
}

// MarkSkips notes how many programs were left out up to now.
func (b *Book) MarkSkips(uint64) { b.listens.mark() }

// Missing counts the rulings that name no rule although the kernel half followed
// the packet through the table.
func (b *Book) Missing() int { return b.missing }

// Places lists the namespaces whose rules are held.
func (b *Book) Places() []uint32 { return slices.Sorted(maps.Keys(b.spaces)) }

// Forget drops the rules of a namespace that has ended: its number is given out
// again, and so are the handles of its rules.
func (b *Book) Forget(netns uint32) {
	delete(b.spaces, netns)
	delete(b.books, netns)
	delete(b.worlds, netns)
	delete(b.sets.of, netns)
}

// Follow tells that other packets are to be expected: an end has moved.
func (b *Book) Follow(f Flow) { b.sets.follow(f) }

// Close lets go of the node's ipsets.
func (b *Book) Close() error { return b.sets.close() }

// Ruling tells the rules behind a table's event.
func (b *Book) Ruling(e *journey.Record) journey.Ruling {
	r := b.ruling(e)
	if r.Unknown != "" {
		b.missing++
		b.verbose(fmt.Sprintf("rules of %s %s in %s: %s", journey.CString(e.Table.Table[:]), journey.CString(e.Table.Chain[:]), b.read.ns.Place(e.Netns), r.Unknown))
	}
	return r
}

func (b *Book) ruling(e *journey.Record) ruling {
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

// All gives the rules of a namespace as they stand now, those of legacy tables and
// those of nft's, base chains among these by their policies; nil: there are none.
// They are put into words as they are gone through.
func (b *Book) All(netns uint32) (legacy, nft iter.Seq[meaning.Rule], err error) {
	s := b.space(netns)
	if err := b.read.all(s); err != nil && !errors.Is(err, errTooOften) {
		return nil, nil, err
	}
	b.hear(s)
	var tables []*legacyRules
	for _, k := range slices.SortedFunc(maps.Keys(s.legacy), tableKey.compare) {
		if v := s.legacy[k].newest(); v != nil {
			tables = append(tables, v.rules)
		}
	}
	if len(tables) > 0 {
		legacy = func(yield func(meaning.Rule) bool) {
			for _, t := range tables {
				for r := range t.all("") {
					if !yield(r) {
						return
					}
				}
			}
		}
	}
	if v := s.nft.newest(); v != nil && len(v.rules.set.Tables) > 0 {
		nft = v.rules.all()
	}
	return legacy, nft, nil
}
