// SPDX-License-Identifier: Apache-2.0

package nft

// This file writes sets: by name, or element by element where they stand inline.

import (
	"bytes"
	"math/big"
	"strings"
)

// set writes a set where a rule refers to it.
func (p *printer) set(n *node) string {
	s := n.set
	switch {
	case !s.Anonymous():
		return "@" + s.Name
	case s.Flags&SetEval != 0:
		return s.Name
	}
	parts := n.parts()
	var text []string
	for _, sp := range s.spans(parts) {
		text = append(text, p.element(s, sp, parts, n))
	}
	return "{ " + strings.Join(text, ", ") + " }"
}

// parts are the parts of a set's keys: types as the set has them, lengths of
// numbers as what they are compared to tells.
func (n *node) parts() []part {
	own := n.set.keyParts()
	if len(own) != len(n.items) {
		return own
	}
	for i, item := range n.items {
		if own[i].bits == 0 {
			own[i].bits, own[i].order = item.bits, item.order
		}
	}
	return own
}

// ElementText is an element as nft prints it: key, comment and what it maps to.
func (rs *Ruleset) ElementText(s *Set, e *Element) string {
	p := &printer{names: rs.names, table: rs.Table(s.Family, s.Table)}
	parts := s.keyParts()
	for _, sp := range s.spans(parts) {
		if sp.elem == e || len(e.Key) > 0 && bytes.Equal(sp.elem.Key, e.Key) {
			return p.element(s, sp, parts, nil)
		}
	}
	return ""
}

// element writes one element.
func (p *printer) element(s *Set, sp span, parts []part, n *node) string {
	text := "*"
	if sp.first != nil {
		text = p.key(s, sp, parts, n)
	}
	e := sp.elem
	for _, x := range e.Exprs {
		word, ok := actionText(x)
		if !ok {
			word = opaqueText(x)
		}
		text += " " + word
	}
	if e.Timeout > 0 {
		text += " timeout " + durationText(e.Timeout)
	}
	if e.Comment != "" {
		text += " comment " + quote(e.Comment)
	}
	switch {
	case e.Verdict != nil:
		text += " : " + e.Verdict.String()
	case e.Object != "":
		text += " : " + quote(e.Object)
	case len(e.Data) > 0:
		text += " : " + p.data(s, e.Data)
	}
	return text
}

// key writes a key or a range of keys.
func (p *printer) key(s *Set, sp span, parts []part, n *node) string {
	first, last := sp.first, sp.last
	words := make([]string, 0, len(parts))
	for i, k := range parts {
		size, whole := k.size()
		if i == len(parts)-1 && len(parts) == 1 {
			size = uint(len(first))
		}
		if uint(len(first)) < size {
			break
		}
		words = append(words, p.span(s, k, first[:size], last[:size], n))
		first, last = first[min(whole, uint(len(first))):], last[min(whole, uint(len(last))):]
	}
	return strings.Join(words, " . ")
}

// span writes one part of a key, or the range of it.
func (p *printer) span(s *Set, k part, first, last []byte, n *node) string {
	if k.typ.class == classString {
		return stringSpan(k, first, last)
	}
	if s.Flags&SetInterval != 0 {
		k.order = netOrder // ranges of numbers are kept in network order
	}
	value := func(b []byte) *node {
		v := valueOf(b)
		v.typ, v.order, v.split = k.typ, k.order, true
		if n != nil && n.cut > 0 {
			v.cutBits(n.shift, n.cut)
		}
		return v
	}
	return p.between(value(first), value(last))
}

// between writes a range: as one value, as a network, or with both ends.
func (p *printer) between(first, last *node) string {
	if first.num.Cmp(last.num) == 0 {
		return p.node(first)
	}
	if first.typ.prefix {
		if length, ok := networkLength(first.number(), last.number(), first.bits); ok {
			return p.node(&node{kind: nodePrefix, left: first, length: length})
		}
	}
	return p.node(&node{kind: nodeRange, left: first, right: last})
}

// stringSpan writes a name, or the beginning that a range of names shares.
func stringSpan(k part, first, last []byte) string {
	if bytes.Equal(first, last) {
		return stringText(first, k.typ)
	}
	end := 0
	for end < len(first) && first[end] == last[end] {
		end++
	}
	return quote(string(bytes.TrimRight(first[:end], "\x00")) + "*")
}

// data writes what a key maps to.
func (p *printer) data(s *Set, data []byte) string {
	parts := s.dataParts()
	if len(parts) == 1 && parts[0].typ.bits > 0 {
		parts[0].bits = min(parts[0].bits, parts[0].typ.bits)
	}
	var whole uint
	for _, k := range parts {
		_, w := k.size()
		whole += w
	}
	first, last := data, data
	if uint(len(data)) >= 2*whole && whole > 0 {
		first, last = data[:whole], data[whole:]
	}
	words := make([]string, 0, len(parts))
	for _, k := range parts {
		size, w := k.size()
		if uint(len(first)) < size || uint(len(last)) < size {
			break
		}
		words = append(words, p.datum(k, first[:size], last[:size]))
		first, last = first[min(w, uint(len(first))):], last[min(w, uint(len(last))):]
	}
	return strings.Join(words, " . ")
}

// datum writes one part of an element's data.
func (p *printer) datum(k part, first, last []byte) string {
	if k.typ.class == classString {
		return stringText(first, k.typ)
	}
	a, b := valueOf(first), valueOf(last)
	a.typ, a.order, b.typ, b.order = k.typ, k.order, k.typ, k.order
	return p.between(a, b)
}

// bigOf is a number read from bytes.
func bigOf(b []byte) *big.Int { return new(big.Int).SetBytes(b) }
