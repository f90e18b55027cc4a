// SPDX-License-Identifier: Apache-2.0

package infer

// This file holds the ways through a rule set against the verdict that was seen.

import (
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
	"github.com/pathtrace/pathtrace/tracer/ruleset/walk"
)

// Rules are a table that can be asked about a packet. They are never changed.
type Rules interface {
	// walk gives all ways of a packet through the target, in the rules that people
	// know.
	walk(p *packet.Packet, target Target) (walk.Walk[model.Rule], error)
	// nat tells whether the target's rules are NAT's.
	nat(target Target) bool
	// hook is where the target hangs; "" if it is not known.
	hook(target Target) string
}

// decide drops the ways that end otherwise than was seen, and tells what is left.
func decide(w walk.Walk[model.Rule], seen string) Ruling {
	fit := w.Only(func(verdict string) bool { return fits(verdict, seen) })
	r := Ruling{Unevaluated: w.Unknown}
	if len(fit.Outcomes) == 0 {
		r.Unknown = unexplained(w, seen)
		return r
	}
	common := fit.Agreement()
	if len(common.Deciding) > 1 || !w.Complete {
		r.Rules, r.Alternatives, r.Unknown = common.Sure, common.Deciding, undecided(w, common.Deciding)
		return r
	}
	r.Rules = append(common.Sure, common.Deciding[0])
	r.Decided, r.Verdict, r.Mark = &r.Rules[len(r.Rules)-1], common.Verdict, common.Packet.Mark
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

// mostListed bounds the conditions listed in a sentence.
const mostListed = 3

// undecided says why several rules are left.
func undecided(w walk.Walk[model.Rule], candidates []model.Rule) string {
	var why []string
	if len(candidates) > 1 {
		why = append(why, fmt.Sprintf("one of %d rules", len(candidates)))
	}
	if !w.Complete {
		why = append(why, "there are more ways through the rules than were followed")
	}
	if len(w.Unknown) > 0 {
		why = append(why, "not seen: "+list(w.Unknown))
	}
	return strings.Join(why, "; ")
}

// unexplained says what the rules would have done instead of what was seen.
func unexplained(w walk.Walk[model.Rule], seen string) string {
	if !w.Complete {
		return fmt.Sprintf("no way through the rules that was followed ends with %s; there are more than were followed", seen)
	}
	var instead []string
	for _, o := range w.Outcomes {
		instead = append(instead, o.Verdict+" by "+where(o.Deciding()))
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
