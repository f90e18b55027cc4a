// SPDX-License-Identifier: Apache-2.0

package nft

// Messages that make no sense give an error or odd text, never a panic. Seeds
// are the kernel's own messages for the corpus.

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/nfnetlink"
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// Kinds of fuzzed messages.
const (
	kindRule = iota
	kindSet
	kindElements
	kindChain
	kindTable
	kindObject
	kindFlowtable
	kindCount
)

// rawDump gives the kernel's messages for everything in a namespace.
func rawDump(t testing.TB, s *space) map[byte][][]byte {
	t.Helper()
	all := map[byte][][]byte{}
	s.do(func() error {
		dump := func(kind byte, ask, answer uint16, body []byte) error {
			msgs, err := nfnetlink.Dump(t.Context(), ask, answer, body)
			all[kind] = append(all[kind], msgs...)
			return err
		}
		for kind, ask := range map[byte]uint16{kindRule: msgGetRule, kindSet: msgGetSet, kindChain: msgGetChain, kindTable: msgGetTable, kindObject: msgGetObj} {
			if err := dump(kind, ask, ask-1, nfnetlink.Header(0)); err != nil {
				return fmt.Errorf("dump %d: %w", ask, err)
			}
		}
		for _, msg := range all[kindSet] {
			set, err := decodeSet(msg)
			if err != nil {
				return err
			}
			body := nfnetlink.PutText(nfnetlink.PutText(nfnetlink.Header(msg[0]), attrTable, set.Table), attrElemSet, set.Name)
			if err := dump(kindElements, msgGetElem, msgNewElem, body); err != nil {
				return err
			}
		}
		return nil
	})
	return all
}

func FuzzParse(f *testing.F) {
	script, _ := corpusScript(f)
	s := newSpace(f, script, corpusDevice)
	rs := s.read()
	for kind, msgs := range rawDump(f, s) {
		for _, m := range msgs {
			f.Add(kind, m)
		}
	}
	f.Fuzz(func(_ *testing.T, kind byte, msg []byte) { digest(rs, kind%kindCount, msg) })
}

// digest does with a message all that can be done with it.
func digest(rs *Ruleset, kind byte, msg []byte) {
	switch kind {
	case kindRule:
		if r, err := decodeRule(msg); err == nil {
			useRule(rs, r)
		}
	case kindSet:
		if set, err := decodeSet(msg); err == nil {
			useSet(rs, set)
		}
	case kindElements:
		for _, t := range rs.Tables {
			for _, real := range t.Sets {
				set := *real
				set.Elements, set.ranges, set.index = nil, nil, nil
				if decodeElements(&set, msg) == nil {
					useSet(rs, &set)
				}
			}
		}
	case kindChain:
		_, _ = decodeChain(msg)
	case kindTable:
		_, _ = decodeTable(msg)
	case kindObject:
		_, _ = decodeObject(msg)
	case kindFlowtable:
		_, _ = decodeFlowtable(msg)
	}
}

// useRule writes and evaluates a rule in the tables there are.
func useRule(rs *Ruleset, r *Rule) {
	for _, t := range rs.Tables {
		r.Family, r.Table = t.Family, t.Name
		_ = rs.Text(r)
		chain := &Chain{Family: t.Family, Table: t.Name, Name: "fuzz", Hook: "FORWARD", Policy: "accept", Rules: []*Rule{r}}
		t.chains["fuzz"] = chain
		_, _ = rs.Walk(&packet.Packet{Family: FamilyIP, Proto: 6}, nil, t.Family, t.Name, "fuzz")
		delete(t.chains, "fuzz")
	}
}

// useSet writes and searches a set.
func useSet(rs *Ruleset, s *Set) {
	s.buildIndex()
	p := &printer{names: rs.names, table: rs.Tables[0]}
	anonymous := *s
	anonymous.Flags = s.Flags&^SetEval | SetAnonymous
	_ = p.set(&node{kind: nodeSet, set: &anonymous})
	s.Find(make([]byte, min(s.KeyLen, maxData)))
	for i := range s.Elements {
		s.Find(s.Elements[i].Key)
	}
	_, _ = s.candidates(hidden(int(min(s.KeyLen, maxData))))
}

// TestBrokenMessages is a short run of what FuzzParse does at length: real
// messages with bytes changed and cut.
func TestBrokenMessages(t *testing.T) {
	script, _ := corpusScript(t)
	s := newSpace(t, script, corpusDevice)
	rs := s.read()
	r := rand.New(rand.NewPCG(1, 2))
	var n int
	for kind, msgs := range rawDump(t, s) {
		for _, m := range msgs {
			for range 8 {
				broken := append([]byte{}, m...)
				for range 1 + r.IntN(3) {
					broken[r.IntN(len(broken))] = byte(r.Uint32())
				}
				if r.IntN(3) == 0 {
					broken = broken[:r.IntN(len(broken))]
				}
				digest(rs, kind, broken)
				n++
			}
		}
	}
	t.Logf("%d messages", n)
}
