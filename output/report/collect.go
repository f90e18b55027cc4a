// SPDX-License-Identifier: Apache-2.0

// collect.go keeps the packets of a trace in bounded memory: one of each story in
// full, of the others that they were there, and beyond the limits how many were
// left out. Packets that died have room of their own, so that a flood of others
// cannot push them out.

package report

import (
	"crypto/sha256"
	"time"

	"github.com/pathtrace/pathtrace/output/text"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// Limits of what a report holds. A browser shows as much without effort.
const (
	maxDied     = 200   // stories of packets that died
	maxOthers   = 100   // stories of others
	maxMentions = 20    // packets of one story told by number and time
	maxHops     = 300   // hops of one packet
	maxAllHops  = 60000 // hops of all together, and the rules they matched: some 15 MB
	maxRules    = 1000
	maxMatches  = 20000 // rules told at the hops that matched them; beyond, how many
	maxFindings = 50
	maxEvents   = 200
)

// limit is what a collection keeps at most.
type limit struct{ died, others, hops, allHops, mentions int }

func limits() limit { return limit{maxDied, maxOthers, maxHops, maxAllHops, maxMentions} }

// story is packets that fared the same.
type story struct {
	number      int           // from 1, in the order they were first seen
	first       *model.Packet // told in full
	hopsLeftOut int           // of first
	count       int           // packets, the first included
	last        time.Time     // when the last of them was seen
	mentions    []mention     // of those after the first, the first few
	way         way
}

// mention names a packet of a story.
type mention struct {
	ID   uint64
	Time time.Time
	Flow string
}

// collection is the packets of a trace. It is ready to use with its limit set.
type collection struct {
	limit   limit
	list    []*story
	by      map[[sha256.Size]byte]*story
	died    int // stories
	hops    int // and their rules
	leftOut leftOut
}

// leftOut counts packets that are in none of the stories kept.
type leftOut struct{ died, others int }

// add takes a packet in. It gives the story if the packet is its first one, and
// nil if it is told already or is left out.
func (c *collection) add(p *model.Packet) *story {
	if c.by == nil {
		c.by = map[[sha256.Size]byte]*story{}
	}
	id := sha256.Sum256([]byte(text.StoryKey(p)))
	if s := c.by[id]; s != nil {
		s.more(p, c.limit.mentions)
		return nil
	}
	if c.full(p) {
		if p.Outcome.Died() {
			c.leftOut.died++
		} else {
			c.leftOut.others++
		}
		return nil
	}
	s := &story{number: len(c.list) + 1, count: 1, last: p.Time}
	s.first, s.hopsLeftOut = shortened(p, c.limit.hops)
	s.way = wayOf(p) // of all hops: how often it came by is counted
	c.list, c.by[id] = append(c.list, s), s
	for i := range s.first.Hops {
		c.hops += 1 + len(s.first.Hops[i].Rules)
	}
	if p.Outcome.Died() {
		c.died++
	}
	return s
}

func (c *collection) full(p *model.Packet) bool {
	if c.hops >= c.limit.allHops {
		return true
	}
	if p.Outcome.Died() {
		return c.died >= c.limit.died
	}
	return len(c.list)-c.died >= c.limit.others
}

func (s *story) more(p *model.Packet, mentions int) {
	s.count++
	s.last = p.Time
	if len(s.mentions) < mentions {
		s.mentions = append(s.mentions, mention{p.ID, p.Time, text.Flow(p)})
	}
}

// shortened gives a copy of the packet without bytes and with so many hops at
// most: those in the middle of too many are left out, since the first tell where
// it came from and the last what became of it.
func shortened(p *model.Packet, most int) (short *model.Packet, leftOut int) {
	c := *p
	keep := len(p.Hops)
	if keep > most {
		keep, leftOut = most, len(p.Hops)-most
	}
	c.Hops = make([]model.Hop, 0, keep)
	head := keep - keep/4
	c.Hops = append(c.Hops, p.Hops[:head]...)
	c.Hops = append(c.Hops, p.Hops[len(p.Hops)-(keep-head):]...)
	for i := range c.Hops {
		c.Hops[i].Frame = nil
	}
	return &c, leftOut
}
