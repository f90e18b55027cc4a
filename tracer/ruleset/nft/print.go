// SPDX-License-Identifier: Apache-2.0

package nft

// This file writes rules and their parts.

import (
	"fmt"
	"strings"
)

// Text is the rule as `nft -a list ruleset` of nftables 1.0.6 prints it, without
// the handle and without the values of counters, quotas and the like. Rules with
// matches or targets of xtables keep those as xt match "name"; a rule that jumps
// to an anonymous chain has its rules in the same line, behind semicolons.
func (rs *Ruleset) Text(r *Rule) string {
	t := rs.Table(r.Family, r.Table)
	if t == nil {
		return ""
	}
	p := &printer{names: rs.names, table: t}
	text := p.statements(r)
	if r.Comment != "" {
		text = append(text, "comment "+quote(r.Comment))
	}
	return strings.Join(text, " ")
}

// printer writes what belongs to one table.
type printer struct {
	names *names
	table *Table
	// numeric: no words for numbers, as nft writes ranges.
	numeric bool
	depth   int // of anonymous chains
}

// statements writes the statements of a rule.
func (p *printer) statements(r *Rule) []string {
	d := newDeducer(r.Family)
	var text []string
	for _, s := range d.finish(statements(p.table, r)) {
		if t := s.write(p); t != "" {
			text = append(text, t)
		}
	}
	return text
}

// quote writes a string; nft does not escape.
func quote(s string) string { return `"` + s + `"` }

// node writes one node.
func (p *printer) node(n *node) string {
	switch n.kind {
	case nodeValue:
		return p.value(n)
	case nodePayload:
		return payloadText(n)
	case nodeMeta:
		return metaText(n.meta, metaFields[n.meta])
	case nodeCT:
		return ctText(n.ct, ctFields[n.ct.Key], n.ctNet)
	case nodeOption:
		return optionText(n)
	case nodeLoad:
		if n.left != nil {
			return n.text + p.node(n.left) + n.suffix
		}
		return n.text + n.suffix
	case nodeBinary:
		return p.operand(n, n.left) + " " + opWords[n.op] + " " + p.operand(n, n.right)
	case nodeSwap:
		return p.node(n.left)
	case nodeCompare:
		return p.compare(n)
	case nodeRange:
		was := p.numeric
		p.numeric = true
		text := p.node(n.left) + "-" + p.node(n.right)
		p.numeric = was
		return text
	case nodePrefix:
		return p.prefix(n)
	case nodeList:
		return p.flags(n.items[0], ",")
	case nodeConcat:
		return p.join(n.items, " . ")
	case nodeSet:
		return p.set(n)
	case nodeMap:
		word := " map "
		if n.right.set.VerdictMap() {
			word = " vmap "
		}
		return p.node(n.left) + word + p.node(n.right)
	case nodeFlags:
		return p.flagCompare(n)
	}
	return fmt.Sprintf("[ node %d ]", n.kind)
}

func (p *printer) join(items []*node, by string) string {
	text := make([]string, len(items))
	for i, n := range items {
		text[i] = p.node(n)
	}
	return strings.Join(text, by)
}

// compare writes a comparison; the equals sign only where it is not clear.
func (p *printer) compare(n *node) string {
	left, right := p.node(n.left), p.node(n.right)
	var word string
	switch {
	case n.op == opEq && !saysEquals(n), n.op == opImplicit:
		return left + " " + right
	case n.op == opNone:
		word = "!"
	default:
		word = opWords[n.op]
	}
	return left + " " + word + " " + right
}

// saysEquals tells whether nft writes == in a comparison.
func saysEquals(n *node) bool {
	if n.right.bitmask() && n.right.kind == nodeValue && !n.right.many() {
		return true
	}
	return n.left.kind == nodeBinary
}

// many tells whether a constant is more than one flag.
func (n *node) many() bool { return n.split && n.bitmask() && n.num.Sign() != 0 && !single(n.num) }

// precedence of operators: the higher, the looser.
func precedence(op operator) int {
	switch op {
	case opLshift, opRshift:
		return 1
	case opAnd:
		return 2
	case opXor:
		return 3
	case opOr:
		return 4
	}
	return 0
}

// operand writes one side of a computation, in parentheses where it binds less.
func (p *printer) operand(parent, n *node) string {
	text := p.node(n)
	inner := 0
	switch {
	case n.kind == nodeBinary:
		inner = precedence(n.op)
	case n.kind == nodeValue && n.many():
		inner = precedence(opOr)
	}
	if inner > precedence(parent.op) {
		return "(" + text + ")"
	}
	return text
}

// flagCompare writes a comparison of flags under a mask.
func (p *printer) flagCompare(n *node) string {
	text := p.node(n.left)
	if n.op == opNeq {
		text += " !="
	}
	return text + " " + p.flags(n.items[0], ",") + " / " + p.flags(n.items[1], ",")
}

// prefix writes a value with the length of its prefix, or the beginning of a
// string.
func (p *printer) prefix(n *node) string {
	return p.node(n.left) + fmt.Sprintf("/%d", n.length)
}

// payloadText writes a field by its name, raw payload by its place.
func payloadText(n *node) string {
	if n.field != nil {
		return protocols[n.proto].name + " " + n.field.name
	}
	return fmt.Sprintf("@%s,%d,%d", layerTokens[n.layer], n.offset, n.bits)
}

func metaText(key MetaKey, f metaField) string {
	if f.plain {
		return f.token
	}
	return "meta " + f.token
}

// ctText writes a property of a connection; net is the word before addresses
// whose family follows from elsewhere.
func ctText(e CT, f ctField, net string) string {
	words := "ct "
	switch e.Direction {
	case 0:
		words += "original " + net
	case 1:
		words += "reply " + net
	}
	return words + f.token
}

// optionText writes an option and its field.
func optionText(n *node) string {
	word, _ := optionsOf(n.ext.Op)
	name := n.extName
	switch {
	case n.ext.Present && n.ext.Op == ExthdrIPv6:
		return "exthdr " + nameOr(name, "unknown-exthdr")
	case n.ext.Present && name != "":
		return word + name
	case n.ext.Present:
		return fmt.Sprintf("%s%d", word, n.ext.Type)
	case n.field == nil && n.ext.Op == ExthdrTCPOpt:
		return fmt.Sprintf("%s@%d,%d,%d", word, n.ext.Type, n.offset, n.bits)
	case n.field == nil:
		return word + nameOr(name, fmt.Sprintf("%d", n.ext.Type)) + fmt.Sprintf(" @%d,%d", n.offset, n.bits)
	}
	if n.ext.Op == ExthdrTCPOpt && n.ext.Type == tcpSack && n.offset >= sackFirstBlock {
		if block := (n.offset - sackFirstBlock) / sackBlock; block > 0 {
			name += fmt.Sprint(block)
		}
	}
	return word + name + " " + n.field.name
}

func nameOr(name, other string) string {
	if name == "" {
		return other
	}
	return name
}
