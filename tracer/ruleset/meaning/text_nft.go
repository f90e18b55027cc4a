// SPDX-License-Identifier: Apache-2.0

// A rule's line in nft's own form.

package meaning

import "strings"

// nftActions are the words that end a rule of nft.
var nftActions = map[string]string{
	"accept": "accept", "drop": "drop", "reject": "reject", "return": "return",
	"continue": "continue", "queue": "queue",
	"dnat": "nat", "snat": "nat", "masquerade": "nat", "redirect": "nat",
}

// nftReader walks over the words of a rule.
type nftReader struct {
	words []word
	next  int
	line  line
}

func parseNFTLine(words []word) line {
	r := nftReader{words: words, line: line{markOnly: true, action: "continue"}}
	for r.next < len(r.words) {
		start := r.next
		keep := r.step()
		if r.next <= start {
			r.next = start + 1
		}
		if keep {
			r.line.words = append(r.line.words, r.words[start:min(r.next, len(r.words))]...)
		}
	}
	return r.line
}

// at is the n-th word from here, an empty one beyond the end.
func (r *nftReader) at(n int) word {
	if r.next+n < len(r.words) {
		return r.words[r.next+n]
	}
	return word{}
}

// step reads one expression or statement and tells whether it stays among the
// line's words.
func (r *nftReader) step() bool {
	w := r.at(0)
	if w.quoted {
		return r.other(1)
	}
	switch w.text {
	case "#": // "# handle 7"
		r.next = len(r.words)
		return false
	case "comment":
		r.line.comments = append(r.line.comments, r.at(1).text)
		r.next += 2
		return false
	case "counter":
		r.next++
		if r.at(0).is("packets") {
			r.next += 4
		}
		return true
	case "log":
		return r.log()
	case "meta", "mark":
		return r.meta()
	case "ct":
		return r.ct()
	case "{":
		return r.braces()
	case "vmap":
		r.line.action = "map"
		if name, ok := strings.CutPrefix(r.at(1).text, "@"); ok {
			r.line.target = name
		}
		return r.other(1)
	case "jump", "goto":
		r.line.action, r.line.target = w.text, r.at(1).text
		r.next += 2
		return true
	}
	if action, ok := nftActions[w.text]; ok {
		r.line.action, r.line.target = action, w.text
		if action == "reject" || action == "nat" || action == "queue" {
			r.line.words = append(r.line.words, r.words[r.next])
			return r.options()
		}
		r.next++
		return true
	}
	return r.other(1)
}

// other passes over words that test something else than a mark.
func (r *nftReader) other(n int) bool {
	r.line.markOnly = false
	r.next += n
	return true
}

// options passes over what follows a verdict that has options, up to the
// comment: `dnat to 10.0.0.1`, `reject with icmp type host-unreachable`.
func (r *nftReader) options() bool {
	r.next++
	for r.next < len(r.words) && !r.at(0).is("comment") && !r.at(0).is("#") {
		r.line.words = append(r.line.words, r.at(0))
		r.next++
	}
	return false
}

// log passes over a log statement, which tests nothing.
func (r *nftReader) log() bool {
	r.next++
	for {
		switch w := r.at(0); {
		case w.is("prefix"), w.is("level"), w.is("group"), w.is("snaplen"), w.is("queue-threshold"), w.is("flags"):
			r.next += 2
		default:
			return true
		}
	}
}

// braces passes over an anonymous set or map: the verdicts in it are not the
// rule's.
func (r *nftReader) braces() bool {
	depth := 0
	for ; r.next < len(r.words); r.next++ {
		switch w := r.at(0); {
		case w.is("{"):
			depth++
		case w.is("}"):
			if depth--; depth == 0 {
				return r.other(1)
			}
		}
	}
	return r.other(0)
}

// ct passes over a conntrack expression, whose values look like verdicts ("ct
// status dnat") and whose mark is not the packet's.
func (r *nftReader) ct() bool {
	r.line.markOnly = false
	if !r.at(1).is("status") && !r.at(1).is("mark") {
		r.next += 2
		return true
	}
	r.next += 2
	if r.at(0).is("set") { // ct mark set meta mark: up to the verdict
		for r.next++; r.next < len(r.words); r.next++ {
			w := r.at(0)
			if _, verdict := nftActions[w.text]; verdict || w.is("jump") || w.is("goto") || w.is("comment") || w.is("#") {
				return true
			}
		}
		return true
	}
	if r.at(0).is("!=") || r.at(0).is("==") || r.at(0).is("!") {
		r.next++
	}
	if !r.at(0).is("{") {
		r.next++
	}
	return true
}

// meta reads what is done with the packet's mark; other meta keys are tests.
func (r *nftReader) meta() bool {
	n := 1
	if r.at(0).is("meta") {
		if !r.at(1).is("mark") {
			return r.other(2)
		}
		n = 2
	} else if r.next > 0 && r.words[r.next-1].is(".") {
		return r.other(1) // a piece of a key: fib saddr . mark . iif
	}
	r.next += n
	if r.at(0).is("set") {
		r.next++
		effect, n := parseNFTEffect(r.words[r.next:])
		r.line.effect = effect.after(r.line.effect)
		r.next += n
		return true
	}
	test, n := parseNFTMark(r.words[r.next:])
	if n == 0 {
		return r.other(0)
	}
	r.line.tests = append(r.line.tests, test)
	r.next += n
	return true
}
