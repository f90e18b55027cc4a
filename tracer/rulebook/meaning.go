// SPDX-License-Identifier: Apache-2.0

package rulebook

// This file says of the rule that ended a packet what it is for, in the words of
// whoever wrote it: the policy, the service, the rule that set the mark it tests.

import (
	"encoding/binary"
	"slices"
	"strconv"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// Explain adds to a packet's deciding rule what it means.
func (b *Book) Explain(p *model.Packet) {
	if p.Drop == nil || p.Drop.Rule == nil {
		return
	}
	rule := *p.Drop.Rule // the hop's own copy stays as it is
	path := meaning.Path{Rules: meaning.WayTo(p), Verdict: "drop", In: p.Drop.Interface}
	if p.Outcome == model.Rejected {
		path.Verdict = "reject"
	}
	rule.Meaning = b.sentence(p.Drop.Netns, path)
	p.Drop.Rule = &rule
}

// sentences are those said before: most packets of a flow die alike, and to
// explain one asks for whole chains.
type sentences struct {
	since  time.Time // the oldest; they are said anew after chainsValid
	epoch  int       // of the rules that were read
	said   map[string]string
	buffer []byte // of the key
}

// keptSentences bounds those that are remembered.
const keptSentences = 1024

// sentence says what the deciding rule of a path means, as the node's chains
// were read last.
func (b *Book) sentence(netns uint32, path meaning.Path) string {
	s := &b.sentences
	if s.epoch != b.read.reads || len(s.said) >= keptSentences || time.Since(s.since) > chainsValid {
		*s = sentences{since: time.Now(), epoch: b.read.reads, said: make(map[string]string), buffer: s.buffer}
	}
	s.buffer = appendPath(binary.NativeEndian.AppendUint32(s.buffer[:0], netns), path)
	if said, ok := s.said[string(s.buffer)]; ok {
		return said
	}
	key := string(s.buffer)
	said := b.bookOf(netns).Explain(path).Sentence
	s.said[key] = said
	return said
}

// appendPath writes all that a path's meaning depends on.
func appendPath(key []byte, p meaning.Path) []byte {
	add := func(words ...string) {
		for _, w := range words {
			key = binary.NativeEndian.AppendUint32(key, uint32(len(w)))
			key = append(key, w...)
		}
	}
	add(p.Verdict, p.In, p.Out)
	for _, r := range p.Rules {
		add(r.Backend, r.Family, r.Table, r.Chain, strconv.Itoa(r.Number), r.Text, r.Element, strconv.Itoa(len(r.Comments)))
		add(r.Comments...)
	}
	return key
}

// bookOf gives what is known of a namespace's chains.
func (b *Book) bookOf(netns uint32) *meaning.Book {
	book := b.books[netns]
	if book == nil {
		book = meaning.NewBook(meaning.Known{Chain: func(r meaning.Rule) []meaning.Rule { return b.chainOf(netns, r) }})
		b.books[netns] = book
	}
	return book
}

// chainsValid is how long a sentence serves, though nothing was read since.
const chainsValid = time.Second

// chainOf gives all rules of the chain that a rule is in: of the newest version
// that holds that rule, since the packet is told after it met it.
func (b *Book) chainOf(netns uint32, r meaning.Rule) []meaning.Rule {
	s := b.spaces[netns]
	if s == nil {
		return nil
	}
	if r.Backend == node.BackendLegacy {
		t := s.legacy[tableKey{r.Family, r.Table}]
		if t == nil {
			return nil
		}
		return holding(&t.history, r, func(l *legacyRules) []meaning.Rule { return slices.Collect(l.all(r.Chain)) })
	}
	return holding(&s.nft.history, r, func(n *nftRules) []meaning.Rule { return n.chain(r.Family, r.Table, r.Chain) })
}

// holding gives a chain as the newest version has it in which a rule stands where
// it does; of none, as the newest does.
func holding[T any](h *history[T], r meaning.Rule, chain func(T) []meaning.Rule) []meaning.Rule {
	var newest []meaning.Rule
	for i, v := range slices.Backward(h.versions) {
		rules := chain(v.rules)
		if r.Number == 0 || slices.ContainsFunc(rules, func(o meaning.Rule) bool { return o.Number == r.Number && o.Text == r.Text }) {
			return rules
		}
		if i == len(h.versions)-1 {
			newest = rules
		}
	}
	return newest
}
