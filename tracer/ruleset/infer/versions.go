// SPDX-License-Identifier: Apache-2.0

package infer

// This file keeps what a table was like over time. A packet is told after it was
// there; in between the rules may have changed. So each version has the times
// at which it was seen to stand, and a packet that came between two versions is
// held against both.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pathtrace/pathtrace/tracer/node"
)

const (
	// A table is looked at again for a later packet, but not sooner than this,
	// and only so often that it takes one part in lookShare of the time.
	lookAgain = 10 * time.Millisecond
	lookShare = 20
	// Rules that do not explain what was seen are looked at again sooner.
	unexplainedShare = 4
	// keptVersions bounds the versions of a table that are remembered.
	keptVersions = 4
	// readTime bounds one read.
	readTime = 10 * time.Second
)

// key is one table of a namespace.
type key struct {
	netns                  uint32
	backend, family, table string
}

func keyOf(netns uint32, t Target) key { return key{netns, t.Backend, t.Family, t.Table} }

// version is a table as it was.
type version struct {
	rules       ruleset
	from, until time.Time // first and last time it was seen to stand
}

// history is a table over time, the newest version last.
type history struct {
	versions []*version
	looked   time.Time
	cost     time.Duration // of the last look
	failed   error         // of the last look
}

func (b *Book) history(k key) *history {
	h := b.histories[k]
	if h == nil {
		h = &history{}
		b.histories[k] = h
	}
	return h
}

func (h *history) newest() *version {
	if len(h.versions) == 0 {
		return nil
	}
	return h.versions[len(h.versions)-1]
}

// at gives the versions that may have stood at a time: one, or two if it changed
// about then. A packet from before the first look is held against what was found
// then.
func (h *history) at(t time.Time) []*version {
	for i, v := range slices.Backward(h.versions) {
		if t.Before(v.from) && i > 0 {
			continue
		}
		if t.After(v.until) && i+1 < len(h.versions) {
			return h.versions[i : i+2]
		}
		return h.versions[i : i+1]
	}
	return nil
}

// pause is how long a look serves.
func (h *history) pause() time.Duration { return max(lookAgain, lookShare*h.cost) }

// catchUp looks at a table again if it is not known how it was at a time.
func (b *Book) catchUp(k key, h *history, at time.Time, pause time.Duration) error {
	if v := h.newest(); v != nil && !at.After(v.until) {
		return nil
	}
	return b.refresh(k, h, pause)
}

// refresh looks at a table again unless that was done a pause ago or less.
func (b *Book) refresh(k key, h *history, pause time.Duration) error {
	start := b.now()
	if !h.looked.IsZero() && start.Sub(h.looked) < pause {
		return h.failed
	}
	h.looked = start
	var rules ruleset
	old := h.newest()
	err := b.read(k, func(ctx context.Context) (err error) { rules, err = again(ctx, k, old); return err })
	end := b.now()
	h.cost, h.failed = end.Sub(start), err
	switch {
	case err != nil:
		return err
	case old != nil && rules == old.rules:
		old.until = start
	default:
		h.versions = append(h.versions, &version{rules, end, end})
		if n := len(h.versions) - keptVersions; n > 0 {
			h.versions = slices.Delete(h.versions, 0, n)
		}
	}
	return nil
}

// read runs fn in the table's namespace.
func (b *Book) read(k key, fn func(context.Context) error) error {
	if k.backend == node.BackendNFT && !b.nft {
		// Asking would load it.
		has, err := b.ns.HasNFT()
		if err != nil {
			return err
		}
		if !has {
			return fmt.Errorf("%s table %s: %w", k.family, k.table, errNoNFT)
		}
		b.nft = true
	}
	ctx, cancel := context.WithTimeout(b.ctx, readTime)
	defer cancel()
	if err := b.ns.Do(k.netns, func() error { return fn(ctx) }); err != nil {
		return fmt.Errorf("rules of %s: %w", b.ns.Place(k.netns), err)
	}
	return nil
}

var errNoNFT = errors.New("nf_tables is not loaded")

// again reads a table; old is what it was, and comes back if nothing changed.
func again(ctx context.Context, k key, old *version) (ruleset, error) {
	switch k.backend {
	case node.BackendLegacy:
		return readLegacy(k)
	case node.BackendNFT:
		var was *nftTable
		if old != nil {
			was, _ = old.rules.(*nftTable)
		}
		return readNFT(ctx, k, was)
	}
	return nil, fmt.Errorf("backend %q: want %s or %s", k.backend, node.BackendLegacy, node.BackendNFT)
}
