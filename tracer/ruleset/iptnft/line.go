// SPDX-License-Identifier: Apache-2.0

package iptnft

// This file reads the expressions of one rule in order and gathers what they
// say: the header (struct ipt_ip or ip6t_ip6), matches, and one target. Values
// go through registers, so what a comparison is about is what was loaded into
// its register before.

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
	"github.com/pathtrace/pathtrace/tracer/ruleset/xt"
)

// Registers: 16 slots of 4 bytes (NFT_REG32_00 to NFT_REG32_15).
const (
	slots    = 16
	slotSize = 4
)

// value is what a register holds; source is the expression that loaded it: a
// nft.Payload, nft.Meta or nft.Immediate, nil if that is not understood.
type value struct {
	source nft.Expr
	mask   []byte // applied since; nil: none
}

// match is an xtables match of the rule.
type match struct {
	name     string
	revision uint8
	blob     []byte
}

// line is a rule being read.
type line struct {
	ctx     xt.Context
	table   *nft.Table
	regs    [slots]value
	head    header
	matches []match
	target  string // as printed, with -j or -g
}

func newLine(t *nft.Table, sets xt.SetNames) *line {
	return &line{ctx: xt.Context{Family: t.Family, Sets: sets}, table: t, head: newHeader(t.Family)}
}

// take reads one expression; false: iptables has no words for it.
func (l *line) take(e nft.Expr) bool {
	if _, ok := e.(nft.Counter); ok {
		return true
	}
	if l.target != "" {
		return false // a rule of iptables does one thing, and does it last
	}
	switch e := e.(type) {
	case nft.Payload:
		return e.Src < 0 && l.load(e.Dst, e.Len, e)
	case nft.Meta:
		if e.Src >= 0 {
			return l.set(e)
		}
		return l.load(e.Dst, metaSize(e.Key), e)
	case nft.Bitwise:
		return l.mask(e)
	case nft.Cmp:
		return l.test(e.Src, test{op: e.Op, data: e.Data})
	case nft.Range:
		return l.test(e.Src, test{op: e.Op, data: e.From, to: e.To})
	case nft.Match:
		if e.Rev > 0xff {
			return false
		}
		l.add(match{e.Name, uint8(e.Rev), e.Info})
		return true
	}
	act, ok := actions[e.Kind()]
	return ok && act(l, e)
}

// load notes what a register holds from now on. It covers as many slots as the
// value needs; what they held before is gone.
func (l *line) load(dst nft.Reg, size uint32, source nft.Expr) bool {
	if dst < 0 || dst >= slots || size > slots*slotSize {
		return false
	}
	n := max((int(size)+slotSize-1)/slotSize, 1)
	for i := int(dst); i < min(int(dst)+n, slots); i++ {
		l.regs[i] = value{}
	}
	l.regs[dst] = value{source: source}
	return true
}

// mask notes that only some bits of a value are looked at.
func (l *line) mask(e nft.Bitwise) bool {
	if e.Op != nft.BitwiseMaskXor || e.Src < 0 || e.Src >= slots || e.Dst < 0 || e.Dst >= slots {
		return false
	}
	v := l.regs[e.Src]
	if v.source == nil || v.mask != nil || len(e.Mask) == 0 || len(bytes.Trim(e.Xor, "\x00")) > 0 {
		return false
	}
	if !l.load(e.Dst, e.Len, v.source) {
		return false
	}
	l.regs[e.Dst].mask = e.Mask
	return true
}

// test is a comparison of a value with data, or with the range from data to to.
type test struct {
	op       nft.Op
	data, to []byte
	mask     []byte // of the bits looked at; nil: all
}

// equality tells whether the test is "equal" or "not equal" to one value.
func (t test) equality() bool { return t.to == nil && (t.op == nft.OpEq || t.op == nft.OpNeq) }

// test reads a comparison: what it is about is in the register.
func (l *line) test(src nft.Reg, t test) bool {
	if src < 0 || src >= slots || len(t.data) == 0 || t.to != nil && len(t.to) != len(t.data) {
		return false
	}
	v := l.regs[src]
	t.mask = v.mask
	if t.mask != nil && len(t.mask) != len(t.data) {
		return false
	}
	switch source := v.source.(type) {
	case nft.Payload:
		return len(t.data) <= int(source.Len) && l.testPayload(source, t)
	case nft.Meta:
		read, ok := metaTests[source.Key]
		return ok && read(l, t)
	}
	return false
}

// testPayload finds the header field that a comparison is about.
func (l *line) testPayload(p nft.Payload, t test) bool {
	for _, f := range fields {
		if f.covers(l, p, t) {
			return f.read(l, t)
		}
	}
	return false
}

func (l *line) add(m match) { l.matches = append(l.matches, m) }

// text puts the line together.
func (l *line) text(chain string) (text, comment string, ok bool) {
	head, err := xt.DecodeEntry(l.ctx.Family, l.head.blob)
	if err != nil {
		return "", "", false
	}
	words := []string{"-A " + chain}
	if s := head.Text(); s != "" {
		words = append(words, s)
	}
	var comments []string
	for _, m := range l.matches {
		decoded := xt.DecodeMatch(l.ctx, m.name, m.revision, m.blob)
		words = append(words, decoded.Text())
		if c := decoded.Comment(); c != "" {
			comments = append(comments, c)
		}
	}
	if l.target != "" {
		words = append(words, l.target)
	}
	return strings.Join(words, " "), strings.Join(comments, "; "), true
}

// commentMatch is the match for a comment that was attached to the rule and not
// put into it (struct xt_comment_info, xt_comment.h).
func commentMatch(comment string) match {
	const size = 256 // the last byte is NUL
	blob := make([]byte, size)
	copy(blob[:size-1], comment)
	return match{name: "comment", blob: blob}
}

// quoted is a free string as iptables-save writes it. xt's printer of comments
// does it for us, for strings shorter than a comment's 256 bytes.
func quoted(s string) string {
	m := commentMatch(s)
	text := xt.DecodeMatch(xt.Context{}, m.name, m.revision, m.blob).Text()
	return strings.TrimPrefix(text, fmt.Sprintf("-m %s --comment ", m.name))
}
