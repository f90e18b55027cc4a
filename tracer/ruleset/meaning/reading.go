// SPDX-License-Identifier: Apache-2.0

// A path with every rule's text taken apart: what the explainers ask.

package meaning

import "strings"

// reading is a path being explained.
type reading struct {
	book  *Book
	path  Path
	lines []line // of path.Rules
}

func (b *Book) read(p Path) *reading {
	r := &reading{book: b, path: p, lines: make([]line, len(p.Rules))}
	for i, rule := range p.Rules {
		r.lines[i] = parseLine(rule)
	}
	return r
}

func (r *reading) last() int  { return len(r.lines) - 1 }
func (r *reading) rule() Rule { return r.path.Rules[r.last()] }
func (r *reading) line() line { return r.lines[r.last()] }

// action is what the deciding rule does; of a verdict map what the element did,
// or else what the kernel returned, as far as that is known.
func (r *reading) action() string {
	if l := r.line(); l.action != "map" {
		return l.action
	}
	if _, verdict := elementOf(r.rule().Element); verdict != "" {
		return verdict
	}
	if r.path.Verdict != "" {
		return r.path.Verdict
	}
	return "map"
}

// isPolicy tells whether a chain's policy decided.
func (r *reading) isPolicy() bool { return r.line().policy }

// comment is the deciding rule's human comment, "" without one.
func (r *reading) comment() string { return strings.Join(humanComments(r.line().comments), "; ") }

// has tells whether the deciding rule's human comment contains a text.
func (r *reading) has(text string) bool { return strings.Contains(r.comment(), text) }

// cause is the rule that set the mark which the deciding rule tests and nothing
// else, -1 if there is none or the path does not show it.
func (r *reading) cause() int {
	l := r.line()
	if !l.markOnly || len(l.tests) == 0 {
		return -1
	}
	test := l.tests[len(l.tests)-1]
	if !test.wantsSet() {
		return -1
	}
	for i := r.last() - 1; i >= 0; i-- {
		effect := r.lines[i].effect
		if effect == nil || !effect.touches(test.mask) {
			continue
		}
		if effect.satisfies(test) {
			return i
		}
		return -1
	}
	return -1
}

// sameChain tells whether two rules are in one chain.
func sameChain(a, b Rule) bool {
	return a.Backend == b.Backend && a.Family == b.Family && a.Table == b.Table && a.Chain == b.Chain
}

// chain returns all rules of r's chain as far as they are known: the whole
// chain from the caller, or else the matched ones.
func (r *reading) chain(of Rule) []Rule {
	if r.book.known.Chain != nil {
		if rules := r.book.known.Chain(of); len(rules) > 0 {
			return rules
		}
	}
	var rules []Rule
	for _, rule := range r.path.Rules {
		if sameChain(rule, of) {
			rules = append(rules, rule)
		}
	}
	return rules
}
