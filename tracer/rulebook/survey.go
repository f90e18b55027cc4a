// SPDX-License-Identifier: Apache-2.0

package rulebook

// This file reads the nft rules of the node and its pods before anything is
// attached: what to listen to depends on what rules end with. Of legacy tables it is
// enough to know that they are there.

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/journey"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/legacy"
	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
)

// Survey is what the node's rule sets were before the trace.
type Survey struct {
	read    *reader
	spaces  map[uint32]*space // that have tables; legacy ones are not read yet
	inUse   map[string]bool   // nft expressions that rules end with, anywhere on the node
	verbose func(string)
}

// Read surveys the node. What cannot be read is told and left out.
func Read(ctx context.Context, ns *node.Namespaces, verbose func(string)) *Survey {
	ctx = context.WithoutCancel(ctx) // packets are told after the trace was told to stop
	s := &Survey{read: &reader{ctx: ctx, ns: ns, now: journey.Clock{}.Now}, spaces: make(map[uint32]*space), inUse: make(map[string]bool), verbose: verbose}
	all := listening{inUse: s.inUse}
	for _, in := range append([]uint32{ns.Node().Inode}, ns.Members()...) {
		space := newSpace(in)
		if err := s.read.in(in, func() error { return errors.Join(s.read.names(space), s.read.nft(space)) }); err != nil {
			verbose(err.Error())
		}
		if v := space.nft.newest(); v != nil && len(v.rules.set.Tables) > 0 {
			all.use(v.rules)
		} else if len(space.legacy) == 0 {
			continue // nothing that a packet could meet
		}
		s.spaces[in] = space
	}
	return s
}

// InUse lists the expressions that rules end with, anywhere on the node.
func (s *Survey) InUse() []string { return slices.Sorted(maps.Keys(s.inUse)) }

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

// Standing are the rule sets of a namespace as they stand, without a history.
type Standing struct {
	Legacy []*legacy.Table
	NFT    *nft.Ruleset // nil: nf_tables is not loaded
	// Why one half could not be read; nil: it was.
	LegacyErr, NFTErr error
}

// Now reads the rule sets of a namespace of the node. Neither half is asked unless
// it is there: asking would make it.
func Now(ctx context.Context, ns *node.Namespaces, netns uint32) Standing {
	var s Standing
	s.LegacyErr = ns.Do(netns, func() (err error) { s.Legacy, err = legacy.ReadAll(); return err })
	has, err := ns.HasNFT()
	if err == nil && has {
		err = ns.Do(netns, func() (err error) { s.NFT, err = nft.Read(ctx); return err })
	}
	s.NFTErr = err
	return s
}

// Err joins what went wrong.
func (s Standing) Err() error { return errors.Join(s.LegacyErr, s.NFTErr) }
