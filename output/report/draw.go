// SPDX-License-Identifier: Apache-2.0

// draw.go lays lanes out as a drawing: places are frames from top to bottom, the
// ways forward run down through them and the ways back up. It only decides where
// things stand; page.html says how they look.

package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pathtrace/pathtrace/output/text"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// sheet is how much room there is. Lengths are in CSS pixels.
type sheet struct {
	name     string // the class that shows it where it fits
	lanes    int    // how many fit beside each other
	width    int    // of all of them
	lane     int    // width of a lane at most
	char     float64
	charMono float64
}

// sheets are the two sizes: a screen's and a phone's.
func sheets() []sheet {
	return []sheet{
		{name: "wide", lanes: maxLanes, width: 1036, lane: 440, char: 8.4, charMono: 7.5},
		{name: "narrow", lanes: 2, width: 344, lane: 344, char: 8, charMono: 6.7},
	}
}

const (
	sheetPad   = 6
	headHeight = 50
	bandLabel  = 30
	bandPad    = 12
	bandGap    = 12
	stopHeight = 44
	badgeRoom  = 30 // height that a death adds
	badgeHigh  = 24
	trackX     = 22 // of a lane's line from its left
	labelX     = 42 // of the words beside it
	maxBadges  = 3
)

// drawing is a drawing ready to be written.
type drawing struct {
	Name          string
	Width, Height int
	Frames        []frame
	Heads         []label
	Tracks        []track
	Stops         []mark
	Badges        []badge
}

type frame struct {
	X, Y, Width, Height int
	Label               label
	Beyond              bool
}

// label is a line of words; Full is what they say when they are cut short.
type label struct {
	X, Y       int
	Text, Full string
	Class      string
}

// track is a piece of a lane's line; Arrow is the path of its arrow head.
type track struct {
	X, From, To int
	Arrow       string
	Class       string
}

// mark is a station.
type mark struct {
	X, Y          int
	Class         string
	Title, Detail label
	Full          string
	Dead          bool
}

// badge tells of packets that died, and leads to them.
type badge struct {
	X, Y, Width, Height int
	Text                label
	Href, Full          string
}

// drawings lays out all lanes on sheets of one size, the first sheet with what
// matters most of each direction.
func drawings(lanes []*lane, s sheet) []drawing {
	var out []drawing
	for rest := byWeight(lanes); len(rest) > 0; {
		page := pick(rest, s.lanes)
		rest = slices.DeleteFunc(rest, func(l *lane) bool { return slices.Contains(page, l) })
		out = append(out, draw(page, bandsOf(page), s))
	}
	return out
}

// pick takes so many lanes, of both directions if there are, forward first.
func pick(lanes []*lane, most int) []*lane {
	picked := slices.Clone(lanes[:min(most, len(lanes))])
	other := slices.IndexFunc(lanes, func(l *lane) bool { return l.direction != lanes[0].direction })
	if other >= len(picked) {
		picked[len(picked)-1] = lanes[other]
	}
	slices.SortStableFunc(picked, func(a, b *lane) int { return cmp.Compare(side(a), side(b)) })
	return picked
}

// draw lays out lanes on one sheet.
func draw(lanes []*lane, bands []*band, s sheet) drawing {
	width := min(s.lane, s.width/len(lanes))
	d := drawing{Name: s.name, Width: 2*sheetPad + width*len(lanes)}
	p := pen{sheet: s, width: width, to: &d, y: map[*stop]int{}}
	for i, l := range lanes {
		p.head(l, p.left(i))
	}
	y := headHeight
	for _, b := range bands {
		y = p.band(b, lanes, y) + bandGap
	}
	d.Height = y - bandGap + sheetPad
	for i, l := range lanes {
		p.tracks(l, p.left(i)+trackX)
	}
	return d
}

// pen draws on one sheet.
type pen struct {
	sheet sheet
	width int
	to    *drawing
	y     map[*stop]int
}

func (p *pen) left(lane int) int { return sheetPad + lane*p.width }

func (p *pen) head(l *lane, x int) {
	words := fmt.Sprintf("%s, %s", l.direction, plural(l.packets, "packet", "packets"))
	p.to.Heads = append(p.to.Heads,
		p.label(x+14, 18, words, p.width-18, p.sheet.char, string(l.direction)),
		p.label(x+14, 36, what(l), p.width-18, p.sheet.charMono, "detail"))
}

// what says what sort of packets went a way.
func what(l *lane) string {
	var words []string
	for _, s := range l.stories {
		p := s.first
		say := p.Src.String() + " > " + p.Dst.String()
		if p.ICMP != "" {
			say = "ICMP " + p.ICMP
		}
		if !slices.Contains(words, say) {
			words = append(words, say)
		}
	}
	return strings.Join(words, ", ")
}

// band draws a place from y on, and gives where it ends.
func (p *pen) band(b *band, lanes []*lane, y int) int {
	high := 0
	for _, stops := range b.lanes {
		high = max(high, height(stops))
	}
	top, bottom := y+bandLabel, y+bandLabel+high+bandPad-6
	for i, l := range lanes {
		at := top
		if l.startsIn(b) != (l.direction == model.Return) {
			at = top + high - height(b.lanes[l]) // near to where it goes to, or comes from
		}
		for _, s := range b.lanes[l] {
			at = p.stop(s, l, p.left(i), at)
		}
	}
	whole := p.to.Width - 2*sheetPad
	p.to.Frames = append(p.to.Frames, frame{
		X: sheetPad, Y: y, Width: whole, Height: bottom - y, Beyond: b.beyond(),
		Label: p.label(sheetPad+labelX, y+20, b.place, whole-labelX-8, p.sheet.charMono+0.6, "place"),
	})
	return bottom
}

// height is how much room the stations of a lane at one place take.
func height(stops []*stop) (high int) {
	for _, s := range stops {
		high += stopHeight + badgeRoom*min(len(s.deaths), maxBadges+1)
	}
	return high
}

// stop draws a station at y, and gives where the next one stands.
func (p *pen) stop(s *stop, l *lane, x, y int) int {
	room := p.width - labelX - 4
	p.y[s] = y + 14
	detail := s.detail
	if parts := strings.Split(detail, " · "); len(s.deaths) > 0 { // the table that killed is the last one told
		detail = strings.Join(append(parts[len(parts)-1:], parts[:len(parts)-1]...), " · ")
	}
	if s.visits > 1 {
		detail = strings.TrimPrefix(fmt.Sprintf("%s · %d times", detail, s.visits), " · ")
	}
	m := mark{
		X: x + trackX, Y: y + 14, Class: strings.TrimSpace(string(l.direction) + " " + string(s.kind)),
		Title:  p.label(x+labelX, y+15, s.title, room, p.sheet.char, "title"),
		Detail: p.label(x+labelX, y+31, detail, room, p.sheet.charMono, "detail"),
		Full:   strings.TrimSuffix(s.title+": "+detail, ": "),
		Dead:   len(s.deaths) > 0,
	}
	switch {
	case m.Dead:
		m.Class += " dead"
	case s.passed == 0:
		m.Class += " unreached"
	case s.odd:
		m.Class += " odd"
	}
	p.to.Stops = append(p.to.Stops, m)
	y += stopHeight
	for i, story := range s.deaths {
		if i == maxBadges && len(s.deaths) > maxBadges+1 {
			p.badge(story, fmt.Sprintf("and %d more", packets(s.deaths[i:])), x+labelX-4, y)
			return y + badgeRoom
		}
		p.badge(story, p.died(story), x+labelX-4, y)
		y += badgeRoom
	}
	return y
}

// died says of what the packets of a story died, as far as there is room.
func (p *pen) died(s *story) string {
	words := fmt.Sprintf("%d %s", s.count, strings.ToLower(text.Outcome(s.first.Outcome)))
	if d := s.first.Drop; d != nil && d.Reason != "" && float64(len(words)+2+len(d.Reason)) < float64(p.badgeWidth())/p.sheet.char {
		words += ": " + d.Reason
	}
	return words
}

// badgeWidth is how much room the words of a badge have.
func (p *pen) badgeWidth() int { return p.width - labelX - 18 }

func (p *pen) badge(s *story, words string, x, y int) {
	l := p.label(x+10, y+badgeHigh/2-4, words, p.badgeWidth(), p.sheet.char, "died")
	full := words
	if s.first.Drop != nil {
		full += ", " + text.Cause(s.first.Drop)
	}
	p.to.Badges = append(p.to.Badges, badge{
		X: x, Y: y - 4, Width: int(float64(utf8.RuneCountInString(l.Text))*p.sheet.char) + 20, Height: badgeHigh,
		Text: l, Href: "#" + s.anchor(), Full: full + ": show the packets",
	})
}

// anchor is where a story's packets are told.
func (s *story) anchor() string { return fmt.Sprintf("packets-%d", s.number) }

// tracks draws a lane's line from station to station.
func (p *pen) tracks(l *lane, x int) {
	for i := 1; i < len(l.stops); i++ {
		from, to := p.y[l.stops[i-1]], p.y[l.stops[i]]
		t := track{X: x, From: from, To: to, Class: string(l.direction), Arrow: arrow(x, (from+to)/2, l.direction)}
		if l.stops[i].passed == 0 {
			t.Class = "unreached"
		}
		p.to.Tracks = append(p.to.Tracks, t)
	}
}

// arrow is the path of an arrow head at the middle of a piece of line.
func arrow(x, y int, d model.Direction) string {
	if d == model.Return {
		return fmt.Sprintf("M%d %dl5 -6l5 6z", x-5, y+3)
	}
	return fmt.Sprintf("M%d %dl5 6l5 -6z", x-5, y-3)
}

// label cuts words to the room they have.
func (p *pen) label(x, y int, words string, room int, char float64, class string) label {
	full := text.Harmless(words)
	fits := max(int(float64(room)/char), 4)
	short := full
	if runes := []rune(full); len(runes) > fits {
		short = strings.TrimRight(string(runes[:fits-1]), " ") + "…"
	}
	return label{X: x, Y: y, Text: short, Full: full, Class: class}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// beyond tells whether nothing in a band was seen by this node.
func (b *band) beyond() bool {
	for _, stops := range b.lanes {
		if slices.ContainsFunc(stops, func(s *stop) bool { return s.kind != kindBeyond }) {
			return false
		}
	}
	return true
}
