// SPDX-License-Identifier: Apache-2.0

// Reading a rule's line, as iptables-save or nft prints it, no further than the
// explainers need: comments, what it does, and what it does with marks.

package meaning

import "strings"

// line is a rule's text taken apart.
type line struct {
	comments []string
	action   string // as Meaning.Action
	target   string // chain of a jump or goto, name of a verdict map without its @, other targets' names
	policy   bool   // the line of a chain, not of a rule
	tests    []markTest
	markOnly bool        // it tests nothing but marks
	bare     bool        // it tests nothing at all
	effect   *markEffect // nil: leaves the mark alone
	words    []word      // all but comments
}

// word is a piece of a line. A quoted one is never a keyword.
type word struct {
	text   string
	quoted bool
}

// is tells whether the word is a keyword.
func (w word) is(text string) bool { return !w.quoted && w.text == text }

// holds tells whether words follow one another in the line.
func (l line) holds(texts ...string) bool {
	for i := 0; i+len(texts) <= len(l.words); i++ {
		found := true
		for j, text := range texts {
			if l.words[i+j].text != text {
				found = false
				break
			}
		}
		if found {
			return true
		}
	}
	return false
}

// parseLine takes a rule's text apart.
func parseLine(r Rule) line {
	words := split(r.Text)
	var l line
	switch {
	case isChainLine(r.Text):
		l = parseChainLine(words)
	case isSaveLine(r.Text):
		l = parseSaveLine(words)
	default:
		l = parseNFTLine(words)
	}
	l.bare = l.markOnly && len(l.tests) == 0
	for _, c := range r.Comments {
		if c != "" && !contains(l.comments, c) {
			l.comments = append(l.comments, c)
		}
	}
	return l
}

// isSaveLine tells iptables-save's form of a rule from nft's.
func isSaveLine(text string) bool {
	return strings.HasPrefix(text, "-A ") || strings.HasPrefix(text, "[") || strings.HasPrefix(text, ":")
}

// isChainLine tells whether the text is a chain's with its policy: ":FORWARD
// DROP [0:0]" or "type filter hook forward priority filter; policy drop;".
func isChainLine(text string) bool {
	return strings.HasPrefix(text, ":") || strings.HasPrefix(text, "policy ") ||
		strings.HasPrefix(text, "type ") && strings.Contains(text, " hook ")
}

func parseChainLine(words []word) line {
	l := line{policy: true, words: words}
	for i, w := range words {
		if w.is("policy") && i+1 < len(words) {
			l.action = strings.TrimSuffix(words[i+1].text, ";")
		}
	}
	if strings.HasPrefix(words[0].text, ":") && len(words) > 1 {
		l.action = strings.ToLower(words[1].text)
	}
	return l
}

// split cuts a line at blanks, minding double quotes and backslashes within
// them as both tools print them.
func split(text string) []word {
	var words []word
	for i := 0; i < len(text); {
		switch {
		case text[i] == ' ' || text[i] == '\t':
			i++
		case text[i] == '"':
			value, n := unquote(text[i:])
			words = append(words, word{text: value, quoted: true})
			i += n
		default:
			n := strings.IndexAny(text[i:], " \t")
			if n < 0 {
				n = len(text) - i
			}
			words = append(words, word{text: text[i : i+n]})
			i += n
		}
	}
	return words
}

// unquote returns the value of the quoted string that text begins with, and how
// many bytes it takes. A string without an end reaches to the end of the text.
func unquote(text string) (string, int) {
	var value strings.Builder
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '"':
			return value.String(), i + 1
		case text[i] == '\\' && i+1 < len(text):
			i++
		}
		value.WriteByte(text[i])
	}
	return value.String(), len(text)
}

func contains(list []string, s string) bool {
	for _, have := range list {
		if have == s {
			return true
		}
	}
	return false
}

// humanComments are the comments without the hashes that Felix puts first into
// each rule ("cali:" and 16 characters; RuleHashPrefix, felix/rules). Native
// nftables rules have both in one comment: "cali:hash; text".
func humanComments(comments []string) []string {
	var human []string
	for _, c := range comments {
		if isCaliHash(c) {
			_, c, _ = strings.Cut(c, ";")
		}
		if c = strings.TrimSpace(c); c != "" {
			human = append(human, c)
		}
	}
	return human
}
