// SPDX-License-Identifier: Apache-2.0

package rulebook

// This file reads what stands in a network namespace: the only place that does. A
// read lies between two looks at the kernel's own name for what was read
// (version.go); where the two differ, it was replaced meanwhile and is read again.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/legacy"
	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
)

// Kernel is what the kernel half tells of rule sets.
type Kernel interface {
	// Look tells what the rule sets of the calling thread's network namespace are
	// now: nft's, and of the legacy table with that name ("" for none) and family,
	// which may be known by its address already; and what that family's routes are.
	Look(family, table string, address uint64) (bpf.Looked, error)
	// What a generation of legacy tables counts now: those that were made, wherever
	// on the machine; or how often that one was replaced; or, where neither can be
	// seen, nothing.
	CountsNewTables() bool
	CountsReplacements() bool
}

var (
	// errTooOften: reading again would take too much time.
	errTooOften = errors.New("they change faster than they may be read")
	// errChanging: they were replaced each time while they were read.
	errChanging = errors.New("they were replaced each time while they were read")
)

const (
	// readTries bounds the reads of what is replaced under way.
	readTries = 3
	// readTime bounds one read: nothing else is done meanwhile.
	readTime = 3 * time.Second
	// How many versions are kept, and how many rules in those of an nft rule set, or
	// bytes in those of a legacy table but for the newest two: a packet is told
	// within seconds.
	keptVersions = 16
	keptRules    = 20_000
	keptBytes    = 16 << 20
	// When a commit that was seen has surely ended: it takes less than a microsecond
	// for each element that it changes.
	settlesIn        = 2 * time.Second
	settlesByElement = 20 * time.Microsecond
)

// space is what is known of the rule sets of one network namespace.
type space struct {
	netns  uint32
	nft    nftHistory
	legacy map[tableKey]*legacyTable
	// It is looked at again and again: always, or while packets meet rules here.
	pinned bool
	asked  uint64 // when a packet did last (kernel clock)
	// looked is when it was looked at last, trouble what went wrong then; that is
	// told once.
	looked  uint64
	trouble error
	failing bool
	heard   *nftRules // whose expressions are known
}

// nftHistory is a namespace's nft rule set over time.
type nftHistory struct{ history[*nftRules] }

// tableKey is a legacy table of a namespace.
type tableKey struct{ family, table string }

func (k tableKey) compare(other tableKey) int {
	return cmp.Or(strings.Compare(k.family, other.family), strings.Compare(k.table, other.table))
}

// legacyTable is one table of a namespace over time.
type legacyTable struct {
	history[*legacyRules]
	address uint64 // struct xt_table, where a packet told it; 0: not known
}

func newSpace(netns uint32) *space {
	return &space{netns: netns, legacy: make(map[tableKey]*legacyTable)}
}

// table gives a legacy table's history.
func (s *space) table(k tableKey) *legacyTable {
	t := s.legacy[k]
	if t == nil {
		t = &legacyTable{}
		s.legacy[k] = t
		s.looked = 0 // what was looked at before does not hold it
	}
	return t
}

// unhear has the rules heard again.
func (s *space) unhear() {
	s.heard = nil
	for _, t := range s.legacy {
		if v := t.newest(); v != nil {
			v.rules.heard = false
		}
	}
}

// reader reads rule sets.
type reader struct {
	ctx    context.Context
	ns     *node.Namespaces
	kernel Kernel        // nil: nothing is loaded yet
	now    func() uint64 // CLOCK_MONOTONIC, ns
	leave  *leave        // nil: as often as is asked
	hasNFT bool
	reads  int // rule sets that were read, new or changed
}

// in runs fn in a namespace of the node.
func (r *reader) in(netns uint32, fn func() error) error {
	if err := r.ns.Do(netns, fn); err != nil {
		return fmt.Errorf("rules of %s: %w", r.ns.Place(netns), err)
	}
	return nil
}

// all brings everything that is known of a namespace up to date, and finds what is
// there besides.
func (r *reader) all(s *space) error {
	return r.in(s.netns, func() error {
		return errors.Join(r.names(s), r.known(s))
	})
}

// names finds the legacy tables of the calling thread's namespace.
func (r *reader) names(s *space) error {
	var errs []error
	for _, family := range []string{legacy.IPv4, legacy.IPv6} {
		names, err := legacy.Names(family)
		errs = append(errs, err)
		for _, name := range names {
			s.table(tableKey{family, name})
		}
	}
	return errors.Join(errs...)
}

// known brings up to date what is known of the calling thread's namespace.
func (r *reader) known(s *space) error {
	errs := []error{r.nft(s)}
	for k, t := range s.legacy {
		err := r.legacy(k, t)
		if errors.Is(err, legacy.ErrNoTable) {
			delete(s.legacy, k)
			continue
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// look asks the kernel half between two times.
func (r *reader) look(family, table string, address uint64) (moment, bpf.Looked, error) {
	m := moment{after: r.now()}
	l, err := r.kernel.Look(family, table, address)
	m.before = r.now()
	return m, l, err
}

// --- legacy ---

// lookLegacy tells which version of a table stands.
func (r *reader) lookLegacy(k tableKey, t *legacyTable) (moment, error) {
	m, l, err := r.look(k.family, k.table, t.address)
	if err != nil {
		return m, fmt.Errorf("%s table %s: %w", k.family, k.table, err)
	}
	m.stamp, m.print = r.legacyStamp(l.Content, l.Generation), l.Print
	return m, nil
}

// legacyStamp names a version of a legacy table. Address and generation together
// do: what is freed may be used again only by what was made since. The generation
// alone does not, as what was made before may come into use at any time; it tells
// as much as that equal rules found twice are all that was there in between. The
// address alone does not, as it is used again by the next table but one.
func (r *reader) legacyStamp(content, generation uint64) stamp {
	switch {
	case content != 0 && (r.kernel.CountsNewTables() || r.kernel.CountsReplacements()):
		return stamp{content, generation}
	case r.kernel.CountsNewTables():
		return stamp{0, generation + 1}
	}
	return stamp{}
}

// legacy brings a table of the calling thread's namespace up to date.
func (r *reader) legacy(k tableKey, t *legacyTable) error {
	for try := 0; ; try++ {
		first, err := r.lookLegacy(k, t)
		if err != nil {
			return err
		}
		if t.still(first) {
			return nil
		}
		if !r.leave.given() {
			return errTooOften
		}
		var was *legacyRules
		if v := t.newest(); v != nil {
			was = v.rules
		}
		rules, last, err := r.readLegacy(k, t, was)
		switch {
		case err != nil:
			return err
		case first.stamp == last.stamp && first.print == last.print:
			same := was != nil && rules.table == was.table
			if same {
				rules = was
			}
			t.read(first, last, rules, r.replacedOnce(t, first.stamp), same && first.stamp != stamp{} && t.newest().stamp == first.stamp)
			t.forget(t.worthKeeping())
			return nil
		case try+1 == readTries:
			return errChanging
		}
	}
}

// replacedOnce tells that the version with a name came right after the newest one.
func (r *reader) replacedOnce(t *legacyTable, s stamp) bool {
	v := t.newest()
	return v != nil && r.kernel.CountsReplacements() && s.place != 0 && v.stamp.place != 0 && s.turn == v.stamp.turn+1
}

func (r *reader) readLegacy(k tableKey, t *legacyTable, was *legacyRules) (*legacyRules, moment, error) {
	began := time.Now()
	var old *legacy.Table
	if was != nil {
		old = was.table
	}
	table, err := legacy.ReadAgain(k.family, k.table, old)
	r.leave.spent(time.Since(began))
	if err != nil {
		return nil, moment{}, err
	}
	if table != old {
		r.reads++
	}
	last, err := r.lookLegacy(k, t)
	return newLegacyRules(table), last, err
}

// worthKeeping counts the newest versions that are kept: two, and as many more as
// do not hold too much.
func (t *legacyTable) worthKeeping() int {
	held := 0
	for i, v := range slices.Backward(t.versions) {
		n := len(t.versions) - i
		if n > 2 && v.rules.table != t.versions[i+1].rules.table { // equal rules are held once
			held += v.rules.table.Held()
		}
		if n > keptVersions || held > keptBytes {
			return n - 1
		}
	}
	return len(t.versions)
}

// --- nft ---

// nftCommits marks the name of a version that netlink told: the kernel half was not
// there yet, or cannot tell.
const nftCommits = 1 << 41

// rename gives the newest version the kernel half's name, where it has netlink's.
func (h *nftHistory) rename(s stamp) {
	v := h.newest()
	if v != nil && v.stamp.place&nftCommits != 0 && s.place&nftCommits == 0 && v.stamp.commits() == s.commits() {
		v.stamp = s
	}
}

// lookNFT tells which version of the rule set stands.
func (r *reader) lookNFT() (moment, error) {
	m := moment{after: r.now()}
	if r.kernel != nil {
		var l bpf.Looked
		var err error
		if m, l, err = r.look("", "", 0); err != nil {
			return m, err
		}
		if l.Nft != 0 {
			m.stamp = nftStamp(l.Nft)
			return m, nil
		}
	}
	generation, err := nft.Generation(r.ctx)
	m.before = r.now()
	m.stamp = stamp{nftCommits | uint64(generation), 0}
	return m, err
}

// nftStamp names a version of an nft rule set as the kernel half does.
func nftStamp(s uint64) stamp {
	if s == 0 {
		return stamp{}
	}
	return stamp{s, 0}
}

// commits is the number of commits in a name.
func (s stamp) commits() uint32 { return uint32(s.place) }

// nft brings the rule set of the calling thread's namespace up to date.
func (r *reader) nft(s *space) error {
	if !r.hasNFT {
		has, err := r.ns.HasNFT()
		if err != nil || !has {
			return err // asking would load it
		}
		r.hasNFT = true
	}
	for try := 0; ; try++ {
		first, err := r.lookNFT()
		if err != nil {
			return err
		}
		s.nft.rename(first.stamp)
		still := s.nft.still(first)
		if still && !s.nft.settles(first.after) {
			return nil
		}
		if !r.leave.given() {
			if still {
				return nil
			}
			return errTooOften
		}
		rules, last, err := r.readNFT(s.nft.newest(), still)
		switch {
		case errors.Is(err, nft.ErrBusy):
			return errChanging
		case err != nil:
			return err
		case first.stamp == last.stamp && rules.set.Generation == first.stamp.commits():
			if still {
				s.nft.settle(first, last, rules)
			} else {
				s.nft.came(first, last, rules)
			}
			s.nft.forget(min(keptVersions, max(2, keptRules/max(1, rules.set.Count()))))
			return nil
		case try+1 == readTries:
			return errChanging
		}
	}
}

// came notes a version that was not read before. What its commit changed last may
// not be in it yet.
func (h *nftHistory) came(first, last moment, rules *nftRules) {
	v := h.newest()
	next := v != nil && last.stamp.commits() == v.stamp.commits()+1
	if v != nil {
		before := v.rules.set
		if !next {
			before = nil
		}
		if n := rules.set.Unsettle(before); n >= 0 {
			rules.settles = first.after + uint64(settlesIn+time.Duration(n)*settlesByElement)
		}
	}
	h.read(first, last, rules, next, false)
}

// settles tells that the newest version is to be read once more.
func (h *nftHistory) settles(now uint64) bool {
	at := h.newest().rules.settles
	return at != 0 && now > at
}

// readNFT reads the rule set; anew though there was no commit, if that is asked.
func (r *reader) readNFT(was *version[*nftRules], anew bool) (*nftRules, moment, error) {
	ctx, cancel := context.WithTimeout(r.ctx, readTime)
	defer cancel()
	began := time.Now()
	defer func() { r.leave.spent(time.Since(began)) }()
	var set *nft.Ruleset
	var err error
	if was == nil || anew {
		set, err = nft.Read(ctx)
	} else {
		set, err = was.rules.set.Refresh(ctx)
	}
	if err != nil {
		return nil, moment{}, err
	}
	rules, err := newNFTRules(set)
	if err != nil {
		return nil, moment{}, err
	}
	r.reads++
	last, err := r.lookNFT()
	return rules, last, err
}
