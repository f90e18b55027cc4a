// SPDX-License-Identifier: Apache-2.0

// lanes.go joins the packets that went the same way into lanes: what is drawn is
// true of every packet of a lane, but that some of them ended earlier than others.

package report

import (
	"cmp"
	"slices"

	"github.com/pathtrace/pathtrace/output/text"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// maxLanes is how many ways are drawn side by side.
const maxLanes = 4

// lane is one way, and the packets that went it.
type lane struct {
	direction model.Direction
	stops     []*stop
	packets   int
	died      int
	stories   []*story
}

// stop is a station of a lane.
type stop struct {
	station
	passed int      // packets that came by
	deaths []*story // those that ended here against their sender's will
	after  []*stop  // what killed packets between here and the next station
}

// lanesOf joins stories into lanes, and gives those to draw: the ones in which
// most died or, that being equal, most went; one of each direction at least. It
// says how many packets are in the others.
func lanesOf(stories []*story) (lanes []*lane, leftOut int) {
	var all []*lane
	for _, s := range longestFirst(stories) {
		if len(s.way.stations) == 0 {
			leftOut += s.count
			continue
		}
		l := fitting(all, s)
		if l == nil {
			l = &lane{direction: s.first.Direction}
			all = append(all, l)
		}
		l.take(s)
	}
	if len(all) == 0 {
		return nil, leftOut
	}
	lanes = pick(byWeight(all), maxLanes)
	for _, l := range lanes {
		l.withDeaths()
	}
	for _, l := range all {
		if !slices.Contains(lanes, l) {
			leftOut += l.packets
		}
	}
	return lanes, leftOut
}

// byWeight orders lanes by what matters: the ones in which most died first.
func byWeight(lanes []*lane) []*lane {
	sorted := slices.Clone(lanes)
	slices.SortStableFunc(sorted, func(a, b *lane) int {
		return cmp.Or(cmp.Compare(b.died, a.died), cmp.Compare(b.packets, a.packets))
	})
	return sorted
}

// longestFirst orders stories so that a way comes before those that end earlier
// on it.
func longestFirst(stories []*story) []*story {
	sorted := slices.Clone(stories)
	slices.SortStableFunc(sorted, func(a, b *story) int {
		return cmp.Compare(len(b.way.stations), len(a.way.stations))
	})
	return sorted
}

func side(l *lane) int {
	if l.direction == model.Return {
		return 1
	}
	return 0
}

// fitting finds the lane on which a story went all its way.
func fitting(lanes []*lane, s *story) *lane {
	for _, l := range lanes {
		if l.direction == s.first.Direction && l.covers(s.way.stations) {
			return l
		}
	}
	return nil
}

func (l *lane) covers(way []station) bool {
	if len(way) > len(l.stops) {
		return false
	}
	for i := range way {
		if !way[i].same(&l.stops[i].station) {
			return false
		}
	}
	return true
}

// take adds a story's packets.
func (l *lane) take(s *story) {
	for i, at := range s.way.stations {
		if i == len(l.stops) {
			l.stops = append(l.stops, &stop{station: at})
		}
		l.stops[i].passed += s.count
		l.stops[i].merge(at.detail)
		l.stops[i].odd = l.stops[i].odd || at.odd
		l.stops[i].visits = max(l.stops[i].visits, at.visits)
	}
	l.packets += s.count
	l.stories = append(l.stories, s)
	if s.first.Outcome.Died() {
		l.died += s.count
		l.stops[s.way.ended].dies(s)
	}
}

// dies notes packets that ended here or, killed by something that is no station,
// right after it.
func (s *stop) dies(dead *story) {
	if dead.way.death == nil {
		s.deaths = append(s.deaths, dead)
		return
	}
	for _, after := range s.after {
		if after.title == dead.way.death.title && after.detail == dead.way.death.detail {
			after.deaths = append(after.deaths, dead)
			return
		}
	}
	s.after = append(s.after, &stop{station: *dead.way.death, passed: dead.count, deaths: []*story{dead}})
}

// withDeaths puts what killed packets between stations in its place among them.
func (l *lane) withDeaths() {
	var stops []*stop
	for _, s := range l.stops {
		stops = append(append(stops, s), s.after...)
	}
	l.stops = stops
}

// deadEnd tells whether no packet of the lane got where it was to go.
func (l *lane) deadEnd() bool { return l.died == l.packets }

// startsIn tells whether a lane's packets begin in a band.
func (l *lane) startsIn(b *band) bool { return slices.Contains(b.lanes[l], l.stops[0]) }

// goal is where the lane's packets were to go.
func (l *lane) goal() string { return l.stories[0].first.Dst.String() }

// band is a part of the drawing: what happens at one place.
type band struct {
	place string
	lanes map[*lane][]*stop // in the order from top to bottom
}

// bandsOf cuts lanes at their places and lays the parts beside each other. The
// way back goes up, so that a place is at the same height both ways.
func bandsOf(lanes []*lane) []*band {
	var bands []*band
	for _, l := range lanes {
		at := 0
		for _, part := range l.parts() {
			place := part[0].place
			i := slices.IndexFunc(bands[at:], func(b *band) bool { return b.place == place })
			if i < 0 {
				bands = slices.Insert(bands, at, &band{place: place, lanes: map[*lane][]*stop{}})
				i = 0
			}
			at += i
			bands[at].lanes[l] = part
			at++
		}
	}
	return bands
}

// parts are a lane's stops from top to bottom, cut where the place changes.
func (l *lane) parts() [][]*stop {
	stops := slices.Clone(l.stops)
	if l.direction == model.Return {
		slices.Reverse(stops)
	}
	var parts [][]*stop
	for i, s := range stops {
		if i == 0 || stops[i-1].place != s.place {
			parts = append(parts, nil)
		}
		parts[len(parts)-1] = append(parts[len(parts)-1], s)
	}
	return parts
}

// addGoals ends lanes that are dead ends with the place their packets were to
// reach, as far as that is known.
func addGoals(lanes []*lane, known map[string]string) {
	for _, l := range lanes {
		if !l.deadEnd() || len(l.stops) == 0 {
			continue
		}
		goal := l.goal()
		place, ok := known[goal]
		if !ok {
			place = "to be reached: " + goal
		}
		if last := l.stops[len(l.stops)-1]; last.place == place {
			continue
		}
		l.stops = append(l.stops, &stop{station: station{kind: kindBeyond, place: place, title: goal, detail: "not reached"}})
	}
}

// homes says at which place an address is: where the two ends of the trace were
// found, and where packets were seen to begin and to end.
func homes(stories []*story, ends ...*model.End) map[string]string {
	known, places := map[string]string{}, map[uint32]string{}
	for _, s := range stories {
		p := s.first
		for i := range p.Hops {
			places[p.Hops[i].Netns] = text.Place(p.Hops[i].Place, p.Hops[i].Netns)
		}
		if stations := s.way.stations; len(stations) > 0 {
			known[p.Src.String()] = stations[0].place
			if o := p.Outcome; o == model.Delivered || o == model.LeftNode {
				known[p.Dst.String()] = stations[s.way.ended].place
			}
		}
	}
	for _, e := range ends {
		place, seen := places[e.Netns]
		if e.Netns == 0 || !seen {
			place = "behind " + e.Interface
		}
		if e.Netns == 0 && e.Interface == "" {
			continue
		}
		for _, address := range e.Addresses.Strings() {
			known[address] = place
		}
	}
	return known
}
