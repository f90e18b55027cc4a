// SPDX-License-Identifier: Apache-2.0

package nft

// This file knows the one thing of a rule set that does not change with its
// generation. A commit counts the generation and turns the cursor first, and then
// goes through all that it changes; sets of ranges, whose lookup structure is made
// anew for each commit, get theirs at its very end (nf_tables_commit and
// nft_set_commit_update, net/netfilter/nf_tables_api.c; nft_pipapo_commit, 5.17 to
// 7.3; nft_set_rbtree.c, 7.x). Until then packets of the new generation meet the
// elements of the old one, and so does who lists them.

import (
	"bytes"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// Unsettle marks the sets of ranges that the last commit may have changed: those
// that are not as they were in the version before, or all where that was not read.
// It gives how many elements they have, -1 where there is no such set.
func (rs *Ruleset) Unsettle(before *Ruleset) int {
	elements := -1
	for _, t := range rs.Tables {
		for _, s := range t.Sets {
			if s.Flags&SetInterval == 0 {
				continue
			}
			if o := before.same(t, s); o == nil || o.Unsettled || !slices.EqualFunc(o.Elements, s.Elements, sameElement) {
				s.Unsettled = true
				if o != nil && !o.Unsettled {
					s.Former = o
				}
				elements = max(0, elements) + len(s.Elements)
			}
		}
	}
	return elements
}

// same finds a set of a table as it is in this version, whatever it holds; nil: it
// is not there, or nothing is.
func (rs *Ruleset) same(of *Table, s *Set) *Set {
	if rs == nil {
		return nil
	}
	t := rs.Table(of.Family, of.Name)
	if t == nil || t.Handle != of.Handle {
		return nil
	}
	if o := t.Set(s.Name); o != nil && o.Handle == s.Handle {
		return o
	}
	return nil
}

// settled tells that what was found for a key does not depend on whether the
// commit had ended.
func (s *Set) settled(key datum, found []*Element, answer packet.Answer) bool {
	if !s.Unsettled {
		return true
	}
	if s.Former == nil {
		return false
	}
	was, before := s.Former.candidates(key)
	return before == answer && slices.EqualFunc(found, was, func(a, b *Element) bool { return sameElement(*a, *b) })
}

func sameVerdict(a, b *Verdict) bool {
	return a == b || a != nil && b != nil && *a == *b
}

func sameElement(a, b Element) bool {
	return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.KeyEnd, b.KeyEnd) && a.End == b.End && a.CatchAll == b.CatchAll &&
		bytes.Equal(a.Data, b.Data) && a.Object == b.Object && sameVerdict(a.Verdict, b.Verdict)
}
