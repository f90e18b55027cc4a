// SPDX-License-Identifier: Apache-2.0

package nft

// This file searches sets and maps for a key.

import (
	"bytes"
	"slices"
)

// buildIndex makes exact sets quick to search.
func (s *Set) buildIndex() {
	if s.Flags&SetInterval != 0 {
		s.ranges = s.spans(nil)
		return
	}
	s.index = make(map[string]int, len(s.Elements))
	for i := range s.Elements {
		s.index[string(s.Elements[i].Key)] = i
	}
}

// Find gives the element that a key falls on, as the kernel finds it: the key
// itself, the range it lies in, else the catch-all element; nil when there is
// none. The key is the bytes in the registers: parts of a concatenation are
// padded with zeros to four bytes each, numbers are in the order the packet or
// the kernel has them.
func (s *Set) Find(key []byte) *Element {
	if s.index != nil && len(key) > 0 {
		if i, ok := s.index[string(key)]; ok {
			return &s.Elements[i]
		}
		return s.catchAll()
	}
	for _, sp := range s.all() {
		if sp.first != nil && s.covers(sp, key) {
			return sp.elem
		}
	}
	return s.catchAll()
}

// all gives the keys and ranges of keys.
func (s *Set) all() []span {
	if s.ranges != nil {
		return s.ranges
	}
	return s.spans(nil)
}

// mayBreak tells that the element has a statement of its own (a limit, a quota)
// that may say no though the key is there (nft_set_elem_update_expr,
// include/net/netfilter/nf_tables.h, 5.17 to 7.3).
func (e *Element) mayBreak() bool {
	return slices.ContainsFunc(e.Exprs, func(x Expr) bool {
		switch x.(type) {
		case Counter, Last:
			return false
		}
		return true
	})
}

// Contains tells whether a key is in the set.
func (s *Set) Contains(key []byte) bool { return s.Find(key) != nil }

func (s *Set) catchAll() *Element {
	for i := range s.Elements {
		if s.Elements[i].CatchAll {
			return &s.Elements[i]
		}
	}
	return nil
}

// covers tells whether a key lies in a span; in concatenations each part has to.
func (s *Set) covers(sp span, key []byte) bool {
	if len(key) != len(sp.first) {
		return false
	}
	if !s.concatRanges() {
		return bytes.Compare(sp.first, key) <= 0 && bytes.Compare(key, sp.last) <= 0
	}
	first, last := sp.first, sp.last
	for _, k := range s.keyParts() {
		_, whole := k.size()
		whole = min(whole, uint(len(key)))
		if whole == 0 {
			return false
		}
		if bytes.Compare(first[:whole], key[:whole]) > 0 || bytes.Compare(key[:whole], last[:whole]) > 0 {
			return false
		}
		first, last, key = first[whole:], last[whole:], key[whole:]
	}
	return true
}
