// SPDX-License-Identifier: Apache-2.0

package infer

// This file holds the ways through a rule set against the verdict that was seen.

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// Rules are a table that can be asked about a packet. They are never changed.
type Rules interface {
	// walk gives all ways of a packet through the target.
	walk(p *packet.Packet, target Target) (walked, error)
	// nat tells whether the target's rules are NAT's.
	nat(target Target) bool
	// hook is where the target hangs; "" if it is not known.
	hook(target Target) string
}

// walked is what a table makes of a packet.
type walked struct {
	ways     []way
	unknown  []string // conditions that could not be evaluated
	complete bool     // false: there are more ways than these
}

// way is one way through a table.
type way struct {
	sure    []model.Rule // rules that matched for sure, without the deciding one
	decides model.Rule
	verdict string // "" where the rule does not tell
	mark    packet.Fact[uint32]
}

// decide drops the ways that end otherwise than was seen, and tells what is left.
func decide(w walked, seen string) Ruling {
	fit := slices.DeleteFunc(slices.Clone(w.ways), func(x way) bool { return !fits(x.verdict, seen) })
	r := Ruling{Unevaluated: w.unknown}
	if len(fit) == 0 {
		r.Unknown = unexplained(w, seen)
		return r
	}
	r.Rules, r.Mark = fit[0].sure, fit[0].mark
	for _, x := range fit[1:] {
		r.Rules = commonStart(r.Rules, x.sure)
		if x.mark != r.Mark {
			r.Mark = packet.Fact[uint32]{}
		}
	}
	candidates := deciding(fit)
	if len(candidates) > 1 || !w.complete {
		r.Mark = packet.Fact[uint32]{}
		r.Alternatives, r.Unknown = candidates, undecided(w, candidates)
		return r
	}
	r.Rules = append(slices.Clone(r.Rules), candidates[0])
	r.Decided, r.Verdict = &r.Rules[len(r.Rules)-1], fit[0].verdict
	for _, x := range fit[1:] {
		if x.verdict != r.Verdict {
			r.Verdict = ""
		}
	}
	return r
}

// fits tells whether a way's verdict can have been seen as such. What a program
// behind a queue does, and what a target not known here decides, is open.
func fits(way, seen string) bool {
	switch {
	case way == "", seen == "", way == seen, way == "queue":
		return true
	case seen == "drop":
		return way == "reject"
	case seen == "accept":
		return way == "stop"
	}
	return false
}

// deciding lists the rules that end the ways, each once: two elements of one map
// are one rule.
func deciding(ways []way) []model.Rule {
	var all []model.Rule
	for _, x := range ways {
		if !slices.Contains(all, x.decides) {
			all = append(all, x.decides)
		}
	}
	return all
}

// commonStart is what two lists of rules begin with alike.
func commonStart(a, b []model.Rule) []model.Rule {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return a[:n:n]
}

// mostListed bounds the conditions listed in a sentence.
const mostListed = 3

// undecided says why several rules are left.
func undecided(w walked, candidates []model.Rule) string {
	var why []string
	if len(candidates) > 1 {
		why = append(why, fmt.Sprintf("one of %d rules", len(candidates)))
	}
	if !w.complete {
		why = append(why, "there are more ways through the rules than were followed")
	}
	if len(w.unknown) > 0 {
		why = append(why, "not seen: "+list(w.unknown))
	}
	return strings.Join(why, "; ")
}

// unexplained says what the rules would have done instead of what was seen.
func unexplained(w walked, seen string) string {
	if !w.complete {
		return fmt.Sprintf("no way through the rules that was followed ends with %s; there are more than were followed", seen)
	}
	var instead []string
	for _, x := range w.ways {
		instead = append(instead, x.verdict+" by "+where(x.decides))
	}
	return fmt.Sprintf("the rules as they were read do not explain the verdict %s, they would %s: they changed meanwhile, or something about the packet was not seen", seen, list(instead))
}

// where names a rule for people.
func where(r model.Rule) string {
	if r.Number == 0 {
		return fmt.Sprintf("the policy of %s/%s", r.Table, r.Chain)
	}
	return fmt.Sprintf("%s/%s rule %d", r.Table, r.Chain, r.Number)
}

// list joins words, but not too many.
func list(words []string) string {
	if n := len(words) - mostListed; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(words[:mostListed], ", "), n)
	}
	return strings.Join(words, ", ")
}
