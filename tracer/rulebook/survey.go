// SPDX-License-Identifier: Apache-2.0

package rulebook

// This file reads the rule sets of the node before anything is attached: what to
// listen to depends on what its rules end with.

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pathtrace/pathtrace/tracer/journey"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/legacy"
)

// Survey is what was read of the node's rule sets so far.
type Survey struct {
	ctx     context.Context
	ns      *node.Namespaces
	legacy  map[legacyKey]*legacyHistory
	nft     map[uint32]*nftHistory
	epoch   int             // counts the rule sets that were read, new or changed
	inUse   map[string]bool // nft expressions that rules end with, anywhere on the node
	fresh   []string        // those of them that were not asked for yet
	counts  model.RuleSets  // of the node's own namespace, at the start
	now     func() uint64   // the kernel's clock
	verbose func(string)
}

// Read reads the rule sets of the node, and what its pods' nft rules end with.
// What cannot be read is told and left out: a rule is then named when it can be.
func Read(ctx context.Context, ns *node.Namespaces, verbose func(string)) *Survey {
	ctx = context.WithoutCancel(ctx) // packets are told after the trace was told to stop
	b := &Survey{ctx: ctx, ns: ns, verbose: verbose, now: journey.Clock{}.Now, inUse: make(map[string]bool),
		legacy: make(map[legacyKey]*legacyHistory), nft: make(map[uint32]*nftHistory)}
	b.read()
	return b
}

func (b *Survey) read() {
	self := b.ns.Node().Inode
	var tables []*legacy.Table
	err := b.in(self, func() (err error) { tables, err = legacy.ReadAll(); return err })
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
func (b *Survey) Counts() *model.RuleSets {
	c := b.counts
	return &c
}

// InUse lists the expressions that rules end with, anywhere on the node.
func (b *Survey) InUse() []string { return slices.Sorted(maps.Keys(b.inUse)) }

// Fresh gives the expressions that came into use since it was last asked.
func (b *Survey) Fresh() []string {
	f := b.fresh
	b.fresh = nil
	return f
}

// readNFT brings the history up to date.
func (b *Survey) readNFT(netns uint32, h *nftHistory) error {
	h.asked = time.Now()
	from, was := b.now(), h.now
	err := b.in(netns, func() error { return h.refresh(b.ctx) })
	if h.now != was {
		b.epoch++
	}
	if err == nil {
		if h.now != was {
			h.keepBases(b.now())
		}
		h.read = from
	}
	h.cost = time.Since(h.asked)
	b.noteExpressions(h)
	return err
}

// noteExpressions notes what the rules of a namespace may end with: each
// expression but those that a later one of the rule follows.
func (b *Survey) noteExpressions(h *nftHistory) {
	if h.now == nil || h.now == h.noted {
		return
	}
	h.noted = h.now
	for _, t := range h.now.Tables {
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				for _, name := range enders(r.Exprs) {
					if !b.inUse[name] {
						b.inUse[name] = true
						b.fresh = append(b.fresh, name)
					}
				}
			}
		}
	}
}

// in runs fn in a namespace of the node.
func (b *Survey) in(netns uint32, fn func() error) error {
	if err := b.ns.Do(netns, fn); err != nil {
		return fmt.Errorf("%s: %w", b.ns.Place(netns), err)
	}
	return nil
}
