// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/nfnetlink"
	"github.com/pathtrace/pathtrace/tracer/ruleset/legacy"
)

// legacyKey is one legacy table of one namespace.
type legacyKey struct {
	netns  uint32
	family string
	table  string
}

// legacyHistory is a table as it was read, the newest last. The contents of a
// table (xt_table_info) are never changed in place: replacing it makes new ones,
// at another address as long as the old are there, and counts a generation. So
// address and generation together name the contents for good.
//
// With fentry every table has generations of its own. Without, the generation
// counts what is allocated for new tables anywhere on the machine; then equal
// rules at the same address, before and after, stand for what was in between.
type legacyHistory struct {
	address  uint64 // struct xt_table
	versions []*legacyVersion
}

type legacyVersion struct {
	content    uint64 // 0: read before a packet told the address
	generation uint64
	table      *legacy.Table
	// rulings are those made before: packets of a flow mostly take the same way.
	rulings map[string]ruling
}

// keptRulings bounds the rulings that are remembered of one version.
const keptRulings = 1024

// keptVersions bounds the versions of a table that are remembered, and keptBytes
// what all but the newest two may take: one of 100,000 rules takes some 10 MB.
const (
	keptVersions = 16
	keptBytes    = 16 << 20
)

func (h *legacyHistory) find(content, generation uint64) *legacyVersion {
	for _, v := range slices.Backward(h.versions) {
		if v.content == content && v.generation == generation {
			return v
		}
	}
	return nil
}

// between finds contents that were read before and after a generation.
func (h *legacyHistory) between(content, generation uint64) *legacyVersion {
	for i, v := range h.versions {
		if v.generation > generation || v.content != content && v.content != 0 {
			continue
		}
		for _, later := range h.versions[i+1:] {
			if later.content != content && v.content != 0 {
				break // it had other contents in between
			}
			if later.content == content && later.generation >= generation && later.table.Fingerprint() == v.table.Fingerprint() {
				return later
			}
		}
	}
	return nil
}

func (h *legacyHistory) String() string {
	var all []string
	for _, v := range h.versions {
		all = append(all, fmt.Sprintf("%#x of %d", v.content, v.generation))
	}
	return strings.Join(all, ", ")
}

func (b *ruleBook) legacyRuling(e *record) ruling {
	key := legacyKey{e.Netns, nfnetlink.Family(e.Pf), cString(e.table.Table[:])}
	h := b.legacy[key]
	if h == nil {
		h = &legacyHistory{}
		b.legacy[key] = h
	}
	h.address = e.table.Address
	find := h.find
	if e.Fn == fnLink {
		find = func(content, generation uint64) *legacyVersion {
			return cmp.Or(h.find(content, generation), h.between(content, generation))
		}
	}
	v := find(e.table.Content, e.table.Generation)
	if v == nil {
		if err := b.readLegacy(key, h); err != nil {
			return unknownRules("%v", err)
		}
		if v = find(e.table.Content, e.table.Generation); v == nil {
			b.verbose(fmt.Sprintf("legacy table %s: the packet met contents %#x of generation %d, read were %s", key.table, e.table.Content, e.table.Generation, h))
			return unknownRules("the table was replaced before it could be read")
		}
	}
	t := v.table
	if len(t.Entries) != int(e.table.Number) || t.Size != e.table.Size {
		return unknownRules("the table that was read has %d entries in %d bytes, the packet met one of %d in %d", len(t.Entries), t.Size, e.table.Number, e.table.Size)
	}
	return v.ruling(e)
}

// ruling orders what counted, once for each set of rules.
func (v *legacyVersion) ruling(e *record) ruling {
	key := matchKey(e)
	if r, known := v.rulings[key]; known {
		return r
	}
	if len(v.rulings) >= keptRulings {
		clear(v.rulings)
	}
	r := orderRuling(v.table, e)
	v.rulings[key] = r
	return r
}

// matchKey is all of an event that a ruling depends on.
func matchKey(e *record) string {
	key := []byte{e.Hook, e.Fn}
	key = binary.NativeEndian.AppendUint32(key, uint32(e.Result))
	for i := range e.table.M[:e.table.Matches] {
		m := &e.table.M[i]
		key = binary.NativeEndian.AppendUint32(key, uint32(m.Rule))
		key = binary.NativeEndian.AppendUint32(key, m.Count)
	}
	return string(key)
}

// readLegacy reads a table as it is now, with the name of its contents.
func (b *ruleBook) readLegacy(key legacyKey, h *legacyHistory) error {
	var t *legacy.Table
	content, generation, err := b.peek(h.address)
	if err != nil {
		return err
	}
	// equal rules are kept once: at a node of 500 pods a table is 10 MB
	var was *legacy.Table
	if n := len(h.versions); n > 0 {
		was = h.versions[n-1].table
	}
	if err := b.in(key.netns, func() (err error) { t, err = b.shelf.ReadAgain(key.family, key.table, was); return err }); err != nil {
		return err
	}
	again, still, err := b.peek(h.address)
	if err != nil {
		return err
	}
	if again != content || still != generation {
		return nil // replaced under way: the next tick reads it again
	}
	h.keep(content, generation, t)
	b.epoch++
	return nil
}

func (h *legacyHistory) keep(content, generation uint64, t *legacy.Table) {
	h.versions = append(h.versions, &legacyVersion{content, generation, t, make(map[string]ruling)})
	h.versions = slices.Delete(h.versions, 0, h.tooMany())
}

// tooMany counts the versions, of the oldest ones, that are not to be kept.
func (h *legacyHistory) tooMany() int {
	held := 0
	for i, v := range slices.Backward(h.versions) {
		n := len(h.versions) - i
		if n > 2 && v.table != h.versions[i+1].table {
			held += v.table.Held()
		}
		if n > keptVersions || held > keptBytes {
			return i + 1
		}
	}
	return 0
}

// tickLegacy reads the tables again that were replaced.
func (b *ruleBook) tickLegacy() {
	for key, h := range b.legacy {
		if h.address == 0 {
			continue // no packet has met it yet
		}
		content, generation, err := b.peek(h.address)
		if err != nil || h.find(content, generation) != nil {
			continue
		}
		if err := b.readLegacy(key, h); err != nil {
			b.verbose(fmt.Sprintf("rules of %s: %v", key.table, err))
			delete(b.legacy, key) // gone with its namespace, most likely
		}
	}
}

// orderRuling makes a way through the table of the counters that rose.
func orderRuling(t *legacy.Table, e *record) ruling {
	var matched []legacy.Match
	for _, m := range e.table.M[:e.table.Matches] {
		matched = append(matched, legacy.Match{Ordinal: int(m.Rule), Count: uint64(m.Count)})
	}
	path, err := t.Order(int(e.Hook)-1, matched)
	if err != nil {
		return unknownRules("%v", err)
	}
	r := ruling{source: model.RuleExact}
	decided := -1
	for _, i := range t.Visible(path.Ordinals) {
		rule, err := t.Rule(i)
		if err != nil {
			return unknownRules("%v", err)
		}
		if i == path.Deciding {
			decided = len(r.rules)
		}
		r.rules = append(r.rules, modelRule(rule))
	}
	if decided >= 0 {
		r.decided = &r.rules[decided]
	}
	r.ends = path.Verdict
	kernel := verdictName(uint32(e.Result))
	if path.Verdict == "reject" && kernel == "drop" {
		r.verdict = "reject"
	}
	if e.Fn == fnLink {
		return r // the verdict at hand is of all that stands between two links
	}
	switch {
	case path.Inside && kernel != "drop":
		return unknownRules("the packet was let go, but nothing that matched lets it")
	case r.verdict == "" && path.Verdict != "" && path.Verdict != kernel && !path.Inside:
		return unknownRules("the kernel's verdict is %s, that of the rules that matched %s", kernel, path.Verdict)
	}
	return r
}

func modelRule(r legacy.Rule) model.Rule {
	return model.Rule{Family: r.Family, Table: r.Table, Chain: r.Chain, Number: r.Number, Text: r.Text, Comment: r.Comment()}
}
