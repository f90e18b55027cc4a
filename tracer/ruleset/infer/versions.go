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
	// A table is looked at again whenever a packet came later than the last look,
	// but looks may not take more than one part in lookShare of the time, counted
	// over so much of it that lookCredit can be saved up.
	lookShare  = 20
	lookCredit = 500 * time.Millisecond
	// keptVersions bounds the versions of a table that are remembered.
	keptVersions = 4
	// readTime bounds one read.
	readTime = 10 * time.Second
)

// errTooOften: looking again would take too much time.
var errTooOften = errors.New("they are looked at as often as they may be")

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
	looked   time.Time     // last
	credit   time.Duration // time that looks may take
}

func (b *Book) history(k key) *history {
	h := b.histories[k]
	if h == nil {
		h = &history{looked: b.now(), credit: lookCredit}
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

// catchUp looks at a table again if it is not known how it was at a time.
func (b *Book) catchUp(k key, h *history, at time.Time) error {
	if v := h.newest(); v != nil && !at.After(v.until) {
		return nil
	}
	if h.credit += b.now().Sub(h.looked) / lookShare; h.credit > lookCredit {
		h.credit = lookCredit
	}
	if h.credit <= 0 {
		return errTooOften
	}
	return b.refresh(k, h)
}

// refresh looks at a table.
func (b *Book) refresh(k key, h *history) error {
	if err := b.present(k); err != nil {
		return err
	}
	start := b.now()
	var rules ruleset
	old := h.newest()
	err := b.read(k, func(ctx context.Context) (err error) { rules, err = b.again(ctx, k, old); return err })
	end := b.now()
	h.looked, h.credit = end, h.credit-end.Sub(start)
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

// present fails if the kernel has no nf_tables to ask: asking would load it.
func (b *Book) present(k key) error {
	if k.backend != node.BackendNFT || b.nft {
		return nil
	}
	has, err := b.ns.HasNFT()
	if err == nil && !has {
		err = errNoNFT
	}
	if err != nil {
		return fmt.Errorf("%s table %s: %w", k.family, k.table, err)
	}
	b.nft = true
	return nil
}

// read runs fn in the table's namespace.
func (b *Book) read(k key, fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(b.ctx, readTime)
	defer cancel()
	if err := b.ns.Do(k.netns, func() error { return fn(ctx) }); err != nil {
		return fmt.Errorf("rules of %s: %w", b.ns.Place(k.netns), err)
	}
	return nil
}

var errNoNFT = errors.New("nf_tables is not loaded")

// again reads a table; old is what it was, and comes back if nothing changed.
func (b *Book) again(ctx context.Context, k key, old *version) (ruleset, error) {
	switch k.backend {
	case node.BackendLegacy:
		return readLegacy(b.Legacy, k, rulesOf[*legacyTable](old))
	case node.BackendNFT:
		return readNFT(ctx, k, rulesOf[*nftTable](old))
	}
	return nil, fmt.Errorf("backend %q: want %s or %s", k.backend, node.BackendLegacy, node.BackendNFT)
}

// rulesOf gives a version's rules, nil where there is none.
func rulesOf[T ruleset](v *version) (rules T) {
	if v != nil {
		rules, _ = v.rules.(T)
	}
	return rules
}
