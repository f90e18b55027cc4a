// SPDX-License-Identifier: Apache-2.0

// Packet marks: what a rule tests and what it makes of them. A drop rule that
// tests nothing but a mark is explained by the rule that set it.

package meaning

import (
	"fmt"
	"strconv"
	"strings"
)

// markTest is mark & mask == value, or != when inverted.
type markTest struct {
	mask, value uint32
	inverted    bool
}

// wantsSet tells whether the test asks for bits that a rule has set; that bits
// are clear is what every packet begins with and needs no cause.
func (t markTest) wantsSet() bool {
	if t.inverted {
		return t.value&t.mask == 0
	}
	return t.value&t.mask != 0
}

// String is the test as iptables prints it: value/mask.
func (t markTest) String() string {
	if t.inverted {
		return fmt.Sprintf("other than %#x/%#x", t.value, t.mask)
	}
	return fmt.Sprintf("%#x/%#x", t.value, t.mask)
}

// markEffect is mark = mark & and ^ xor, the form that xt_MARK uses
// (net/netfilter/xt_mark.c, Linux 6.12) and that nft's expressions come down to.
// Of an unknown one only the bits it may change are known: those not in and.
type markEffect struct {
	and, xor uint32
	unknown  bool
}

// touches tells whether the effect may change one of the bits.
func (e markEffect) touches(mask uint32) bool { return (^e.and|e.xor)&mask != 0 }

// satisfies tells whether the test holds after the effect, whatever the mark was.
func (e markEffect) satisfies(t markTest) bool {
	if e.unknown {
		return false
	}
	fixed := ^e.and & t.mask
	if t.inverted { // one bit that differs will do
		return (e.xor^t.value)&fixed != 0
	}
	return fixed == t.mask && e.xor&t.mask == t.value&t.mask
}

// after is the effect of two statements of one rule, first before e.
func (e *markEffect) after(first *markEffect) *markEffect {
	if first == nil {
		return e
	}
	return &markEffect{
		and:     first.and & e.and,
		xor:     first.xor&e.and ^ e.xor,
		unknown: first.unknown || e.unknown,
	}
}

// apply adds one operator of an expression.
func (e *markEffect) apply(operator string, v uint32) bool {
	switch operator {
	case "&", "and":
		e.and, e.xor = e.and&v, e.xor&v
	case "|", "or":
		e.and, e.xor = e.and&^v, e.xor|v
	case "^", "xor":
		e.xor ^= v
	default:
		return false
	}
	return true
}

// parseNumber reads a mark, decimal or hexadecimal.
func parseNumber(s string) (uint32, bool) {
	v, err := strconv.ParseUint(strings.Trim(s, "();"), 0, 32)
	return uint32(v), err == nil
}

// parseValueMask reads value[/mask].
func parseValueMask(s string) (value, mask uint32, ok bool) {
	v, m, masked := strings.Cut(s, "/")
	if value, ok = parseNumber(v); !ok || !masked {
		return value, ^uint32(0), ok
	}
	mask, ok = parseNumber(m)
	return value, mask, ok
}

// parseSaveMark reads the options of iptables' mark match and tells how many
// words they take, 0 if they are not what they ought to be.
func parseSaveMark(words []word) (markTest, int) {
	var t markTest
	n := 0
	if n < len(words) && words[n].is("!") {
		t.inverted = true
		n++
	}
	if n+1 >= len(words) || !words[n].is("--mark") {
		return t, 0
	}
	var ok bool
	if t.value, t.mask, ok = parseValueMask(words[n+1].text); !ok {
		return t, 0
	}
	return t, n + 2
}

// saveMarkEffect is what a target makes of the mark, nil if nothing. The words
// begin with -j.
func saveMarkEffect(target string, words []word) *markEffect {
	switch target {
	case "MARK":
		for i, w := range words[:len(words)-1] {
			if e := saveMarkOption(w.text, words[i+1].text); e != nil {
				return e
			}
		}
		return &markEffect{unknown: true}
	case "CONNMARK": // --restore-mark copies the connection's, which is not in the rule
		for _, w := range words {
			if w.is("--restore-mark") {
				return &markEffect{unknown: true}
			}
		}
	}
	return nil
}

// saveMarkOption is the effect of one option of MARK: iptables-save prints all
// of them as --set-xmark, people write the others (libxt_MARK, iptables 1.8.9).
func saveMarkOption(option, argument string) *markEffect {
	v, m, ok := parseValueMask(argument)
	switch {
	case !ok:
		return nil
	case option == "--set-xmark":
		return &markEffect{and: ^m, xor: v}
	case option == "--set-mark":
		return &markEffect{and: ^(m | v), xor: v}
	case option == "--and-mark":
		return &markEffect{and: v}
	case option == "--or-mark":
		return &markEffect{and: ^v, xor: v}
	case option == "--xor-mark":
		return &markEffect{and: ^uint32(0), xor: v}
	}
	return nil
}

// parseNFTMark reads what follows "meta mark" in a test: "& mask == value",
// "!= value", "value". 0 words: something else.
func parseNFTMark(words []word) (markTest, int) {
	t := markTest{mask: ^uint32(0)}
	at := func(n int) string {
		if n < len(words) && !words[n].quoted {
			return words[n].text
		}
		return ""
	}
	n := 0
	if at(0) == "&" || at(0) == "and" {
		var ok bool
		if t.mask, ok = parseNumber(at(1)); !ok {
			return t, 0
		}
		n = 2
	}
	if at(n) == "==" || at(n) == "!=" {
		t.inverted = at(n) == "!="
		n++
	}
	var ok bool
	if t.value, ok = parseNumber(at(n)); !ok {
		return t, 0
	}
	return t, n + 1
}

// parseNFTEffect reads what follows "meta mark set" and tells how many words it
// takes: a number, or the mark with operators. Anything else (a connection's
// mark, a map) leaves the mark unknown.
func parseNFTEffect(words []word) (*markEffect, int) {
	text := func(n int) string {
		if n < len(words) {
			return strings.Trim(words[n].text, "()")
		}
		return ""
	}
	if v, ok := parseNumber(text(0)); ok {
		return &markEffect{xor: v}, 1
	}
	n := 0
	if text(n) == "meta" {
		n++
	}
	if text(n) != "mark" {
		return &markEffect{unknown: true}, n
	}
	n++
	e := &markEffect{and: ^uint32(0)}
	for {
		v, ok := parseNumber(text(n + 1))
		if !ok || !e.apply(text(n), v) {
			return e, n
		}
		n += 2
	}
}
