// SPDX-License-Identifier: Apache-2.0

// told.go is what other outputs for people borrow, so that all of them say the
// same in the same words.

package text

import (
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// Weight is how much a hop matters to somebody who reads the story.
type Weight int

// Weights.
const (
	Routine Weight = Weight(routine) // what every packet goes through
	Notable Weight = Weight(notable) // the packet was changed
	Odd     Weight = Weight(odd)     // a healthy packet has none
)

// StoryKey is the same for two packets exactly if telling both would say the
// same twice.
func StoryKey(p *model.Packet) string { return storyKey(p) }

// Hop puts one hop into words.
func Hop(h *model.Hop) (words string, weight Weight) {
	said := tell(h)
	return clean(said.String()), Weight(said.level)
}

// Flow says what a packet is: "TCP 10.0.0.1:1 > 10.0.0.2:80 [S]".
func Flow(p *model.Packet) string { return flow(p) }

// Outcome says what became of a packet: "DROPPED", "delivered".
func Outcome(o model.Outcome) string { return outcomeWord(o) }

// WhereEnded says where a packet that did not die was last: " to default/server".
func WhereEnded(p *model.Packet) string { return clean(whereEnded(p)) }

// Cause says in half a sentence what a packet died of and where.
func Cause(d *model.Drop) string { return clean(cause(d)) }

// Place names a network namespace, Device an interface.
func Place(name string, netns uint32) string { return clean(place(name, netns)) }

// Device names an interface: its name, else its index, else nothing.
func Device(name string, index uint32) string { return clean(device(name, index)) }

// RuleName names a rule without its text: "7 of chain FORWARD in table filter".
func RuleName(r model.Rule) string { return ruleName(r) }

// ShortRule names a rule in as few letters as do: "FORWARD#3".
func ShortRule(r model.Rule) string { return clean(shortRule(r)) }

// Filter names hook, table, chain and backend of a death.
func Filter(d *model.Drop) string { return filterWords(d) }

// Tunnel is what carried a packet: kind, number and outer header.
func Tunnel(t *model.Tunnel) string { return clean(tunnelWords(t)) }

// Trust says how far the rule of a death can be trusted.
func Trust(s model.RuleSource) string { return strings.TrimPrefix(sourceWords(s), ", ") }

// RulesOfDeath are the rules that matched in the table that dropped the packet,
// in order.
func RulesOfDeath(p *model.Packet) []model.Rule { return rulesOfDeath(p) }

// End says what one end of the trace was resolved to.
func End(e *model.End) string { return clean(endWords(e)) }

// Plane says what carries packets another way, with what it means.
func Plane(p model.Plane) string {
	return clean(planeWords(p) + ": " + strings.Join(p.Says, "; "))
}

// Narrowed says how the flow was narrowed: "tcp port 80".
func Narrowed(s *model.Start) string { return flowWords(s) }

// Counts sums one direction up: "3 seen, 2 delivered, 1 dropped".
func Counts(c model.Counts) string { return countWords(c) }

// Callers are the functions that led to the one that dropped, innermost first.
func Callers(d *model.Drop) []string { return callers(d) }

// PacketIDs writes ascending ids short: "#4", "#4-#9", "#3 #5 #8", "#3..#41".
func PacketIDs(ids []uint64) string { return packetIDs(ids) }

// Harmless gives text with everything that is not printable written as a Go
// escape.
func Harmless(text string) string { return harmless(text) }

// clean takes the glue out that holds lines of text together.
func clean(words string) string { return strings.ReplaceAll(words, glue, " ") }
