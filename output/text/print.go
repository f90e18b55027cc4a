// SPDX-License-Identifier: Apache-2.0

// print.go lays words out on lines: colours, wrapping at the terminal's width,
// and rendering harmless whatever came from outside (interface names, process
// names and rule comments may hold escape sequences).

package text

import (
	"bytes"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// style is the ANSI SGR code of a piece of text; "" is plain.
type style string

const (
	plain  style = ""
	bold   style = "1"
	dim    style = "2"
	bad    style = "1;31" // red: what died
	good   style = "32"   // green: what arrived
	warned style = "33"   // yellow: what is odd
	moved  style = "36"   // cyan: what was rewritten
)

// span is a piece of text in one style.
type span struct {
	text  string
	style style
}

// glue is a space that a line is never broken at.
const glue = "\u00a0"

// glued makes text one unbreakable word.
func glued(text string) string { return strings.ReplaceAll(text, " ", glue) }

// page collects printed lines.
type page struct {
	buf   bytes.Buffer
	width int
	color bool
}

// para prints spans as one paragraph. Lines are broken at spaces so as to stay
// within the width; all but the first are indented by hang columns. A word
// longer than a line is left whole.
func (p *page) para(hang int, spans ...span) {
	column, gap := 0, 0
	for _, w := range words(spans) {
		if w.blank > 0 {
			gap += w.blank
			continue
		}
		if column+gap+w.width > p.width && column > hang {
			p.buf.WriteByte('\n')
			column, gap = 0, hang
		}
		p.pad(gap)
		column += gap + w.width
		gap = 0
		for _, piece := range w.pieces {
			p.emit(piece)
		}
	}
	p.buf.WriteByte('\n')
}

// verbatim prints one line as it is, however long: rule texts are for copying
// and searching, and a line break inside would spoil both.
func (p *page) verbatim(indent int, text string, s style) {
	p.pad(indent)
	p.emit(span{harmless(text), s})
	p.buf.WriteByte('\n')
}

func (p *page) blank() { p.buf.WriteByte('\n') }

func (p *page) pad(n int) { p.buf.WriteString(strings.Repeat(" ", n)) }

func (p *page) emit(s span) {
	if s.style == plain || !p.color {
		p.buf.WriteString(s.text)
		return
	}
	p.buf.WriteString("\x1b[" + string(s.style) + "m" + s.text + "\x1b[0m")
}

// word is either a run of blanks or what stands between two of them, in pieces
// of one style each.
type word struct {
	blank  int
	width  int
	pieces []span
}

// words cuts spans at their spaces. Text that touches across two spans stays
// one word.
func words(spans []span) []word {
	var out []word
	open := false // the last word may still grow
	for _, s := range spans {
		for rest := s.text; rest != ""; {
			blanks := len(rest) - len(strings.TrimLeft(rest, " "))
			if blanks > 0 {
				out = append(out, word{blank: blanks})
				rest, open = rest[blanks:], false
				continue
			}
			end := strings.IndexByte(rest, ' ')
			if end < 0 {
				end = len(rest)
			}
			text := harmless(rest[:end])
			if !open {
				out = append(out, word{})
			}
			w := &out[len(out)-1]
			w.pieces = append(w.pieces, span{text, s.style})
			w.width += utf8.RuneCountInString(text)
			rest, open = rest[end:], true
		}
	}
	return out
}

// harmless gives text with everything that is not printable written as a Go
// escape, so that nothing traced can steer a terminal. glue becomes a space.
func harmless(text string) string {
	if text = strings.ReplaceAll(text, glue, " "); plainASCII(text) {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && size == 1:
			b.WriteString(`\x` + strconv.FormatUint(uint64(text[0]), 16))
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		text = text[size:]
	}
	return b.String()
}

// plainASCII tells whether a text has nothing but printable ASCII characters.
func plainASCII(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}
