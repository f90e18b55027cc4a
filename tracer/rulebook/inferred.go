// SPDX-License-Identifier: Apache-2.0

package rulebook

// This file asks what rules a packet would have met where the kernel half could
// not see them: nft and nat on the tracepoint backend. What comes of it is
// labelled so (rule_source: inferred), with what could not be evaluated.

import (
	"slices"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/tracer/journey"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/nfnetlink"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/infer"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
	facts "github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// A packet is evaluated for every table that lets it go on, so only so many of
// them each second are; those that die always are.
const inferredPerSecond = 200

// budget is how many more passages may be evaluated in a second.
type budget struct {
	second int64
	left   int
}

func (b *budget) take(now time.Time) bool {
	if s := now.Unix(); s != b.second {
		b.second, b.left = s, inferredPerSecond
	}
	if b.left == 0 {
		return false
	}
	b.left--
	return true
}

// Infer tells what rules a packet would have met that a table let go on
// (accept) or not (drop).
func (b *Book) Infer(p journey.Passage, verdict string) journey.Ruling {
	if verdict == "accept" && !b.budget.take(time.Now()) {
		return ruling{}
	}
	q := question{
		target: infer.Target{Backend: p.Table.Backend, Family: p.Table.Family, Table: p.Table.Table, Chain: p.Table.Chain, Hook: p.HookName()},
		packet: factsOf(p), verdict: verdict,
		world: b.seenBy(p),
	}
	q.packet.World = q.world
	s := b.space(p.Netns)
	if p.Table.Backend == node.BackendLegacy {
		key := tableKey{p.Table.Family, p.Table.Table}
		return inferred(b, s, &s.table(key).history, q.world.passed, q, func(l *legacyRules) infer.Rules { return infer.Legacy(l.table) })
	}
	return inferred(b, s, &s.nft.history, q.world.passed, q, func(n *nftRules) infer.Rules { return n.askable(p.Table.Family, p.Table.Table) })
}

// question is a packet and the verdict that was seen.
type question struct {
	target  infer.Target
	packet  *facts.Packet
	verdict string
	world   *world
}

// world is what rules ask about the node while a packet passes them.
type world struct {
	*infer.World
	sets   *setMemory
	passed passed
	unsure []string // ipsets of which it is not known what they held
	routes routesMet
	now    func() uint64 // names the routes that stand
	moved  bool          // they are not those that the packet met
}

var _ facts.World = (*world)(nil)

// seenBy is what rules ask about the node for a packet on its way through a table.
func (b *Book) seenBy(p journey.Passage) *world {
	return &world{World: b.world(p.Netns), sets: b.sets.in(p.Netns), passed: b.passedBy(p),
		routes: routesOf(p), now: func() uint64 { return b.routesNow(p.Netns, nfnetlink.Family(p.PF)) }}
}

// IPSet implements facts.World.
func (w *world) IPSet(set string, dirs []bool, p *facts.Packet) facts.Answer {
	in := w.sets.answer(setAsk{set, dirs, p}, w.passed)
	if in == facts.Unknown && !slices.Contains(w.unsure, set) {
		w.unsure = append(w.unsure, set)
	}
	return in
}

// rulingOf is what the rules say of a packet as it is told, with what of the node
// was not known.
func (w *world) rulingOf(ask func() infer.Ruling) ruling {
	w.unsure, w.moved = nil, false
	r := rulingOf(ask())
	if r.Decided == nil && r.Unknown != "" && len(w.unsure) > 0 {
		r.Unknown += "; not known: what ipset " + strings.Join(w.unsure, ", ") + " held then"
	}
	if r.Decided == nil && r.Unknown != "" && w.moved {
		r.Unknown += "; not known: the routes then, which have changed since"
	}
	return r
}

// passedBy is the packet's way through a table as the sightings before and behind
// it tell.
func (b *Book) passedBy(p journey.Passage) passed {
	if p.After {
		// it came out where it was seen, and went in behind the sighting before
		w := passed{begin: p.At.Ts, end: p.At.Ts, first: nftStamp(p.At.Nft), final: nftStamp(p.At.Nft)}
		if p.Before.Id != 0 && p.Before.Netns == p.At.Netns {
			w.begin, w.first = p.Before.Ts, nftStamp(p.Before.Nft)
		}
		return w
	}
	w := passed{begin: p.At.Ts, end: max(p.At.Ts, p.Until.Ts)}
	switch {
	case p.Table.Backend != node.BackendLegacy:
		w.first, w.final = nftStamp(p.At.Nft), nftStamp(p.Until.Nft)
		if p.Contents != nil && p.Contents.Chain[0] != 0 { // it told itself what it was as the packet came
			w.first = nftStamp(p.Contents.Generation)
		}
	case p.Contents != nil:
		w.first = b.read.legacyStamp(p.Contents.Content, p.Contents.Generation)
		w.final, w.print = w.first, p.Contents.Print
	}
	return w
}

// inferred holds a packet against the version that it met, or against those that
// come into question.
func inferred[T any](b *Book, s *space, h *history[T], p passed, q question, rules func(T) infer.Rules) ruling {
	m, late := meet(b, s, h, p)
	ask := func(v T) ruling {
		set := rules(v)
		if set == nil {
			return unknownRules("there was no such table")
		}
		return q.world.rulingOf(func() infer.Ruling { return infer.Ask(set, q.target, q.packet, q.verdict) })
	}
	if m.sure != nil {
		return ask(m.sure.rules)
	}
	return doubt[T]{passed: p, met: m, ask: ask, wall: b.wall, late: late}.ruling()
}

// rulingOf is what the rules say of a packet as it is told.
func rulingOf(got infer.Ruling) ruling {
	r := ruling{Source: model.RuleInferred, Rules: got.Rules, Decided: got.Decided, Unknown: got.Unknown, Ends: got.Verdict, Open: got.Unevaluated, NotAsked: got.NotAsked}
	if got.Verdict == "reject" || got.Verdict == "queue" {
		r.Verdict = got.Verdict
	}
	r.Queue = queueOf(r)
	if r.Decided == nil {
		r.Candidates = candidates(ruling{Candidates: got.Alternatives})
	}
	if len(r.Candidates) > 0 {
		r.Unknown = "one of " + ruleNames(r.Candidates) + ": " + got.Unknown
	}
	if len(r.Rules) == 0 && r.Decided == nil && r.Unknown == "" {
		return ruling{}
	}
	return r
}

// queueOf is the number of the queue that a ruling ends in, nil if the rule names
// none or several.
func queueOf(r ruling) *uint16 {
	if r.Ends != "queue" || r.Decided == nil {
		return nil
	}
	first, last, ok := meaning.Queues(r.Decided.Text)
	if !ok || first != last {
		return nil
	}
	return &first
}

// world is what rules of a namespace ask about the node.
func (b *Book) world(netns uint32) *infer.World {
	w := b.worlds[netns]
	if w == nil {
		w = infer.NewWorld(b.read.ns, netns)
		b.worlds[netns] = w
	}
	return w
}
