// SPDX-License-Identifier: Apache-2.0

package rulebook

// This file says of the rule that ended a packet what it is for, in the words of
// whoever wrote it: the policy, the service, the rule that set the mark it tests.

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/ruleset/legacy"
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
	if s.epoch != b.epoch || len(s.said) >= keptSentences || time.Since(s.since) > chainsValid {
		*s = sentences{since: time.Now(), epoch: b.epoch, said: make(map[string]string), buffer: s.buffer}
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

// chainsValid is how long chains that were read serve to explain rules.
const chainsValid = time.Second

// chainOf gives all rules of the chain that a rule is in, as they were read last.
func (b *Book) chainOf(netns uint32, r meaning.Rule) []meaning.Rule {
	if r.Backend == "legacy" {
		h := b.legacy[legacyKey{netns, r.Family, r.Table}]
		if h == nil || len(h.versions) == 0 {
			return nil
		}
		return legacyChain(h.versions[len(h.versions)-1].table, r.Chain)
	}
	h := b.nft[netns]
	if h == nil || h.now == nil {
		return nil
	}
	if time.Since(h.asked) > chainsValid {
		if err := b.readNFT(netns, h); err != nil {
			b.verbose(fmt.Sprintf("nft rules: %v", err))
		}
	}
	t := h.now.Table(r.Family, r.Table)
	if t == nil || t.Chain(r.Chain) == nil {
		return nil
	}
	var all []meaning.Rule
	for _, rule := range t.Chain(r.Chain).Rules {
		key := nftRuleKey{t.Handle, rule.Handle}
		all = append(all, meaning.RuleOf("nft", h.tell(key, h.rules[key])))
	}
	return all
}

func legacyChain(t *legacy.Table, chain string) []meaning.Rule {
	var all []meaning.Rule
	for i, e := range t.Entries {
		if e.Chain != chain || e.Kind != legacy.KindRule {
			continue
		}
		if r, err := t.Rule(i); err == nil {
			all = append(all, meaning.RuleOf("legacy", modelRule(r)))
		}
	}
	return all
}
