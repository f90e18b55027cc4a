// SPDX-License-Identifier: Apache-2.0

package rulebook

// This file says what is known of the rules that a packet met where no version of
// them is known to have stood all the while: the rule that all versions in question
// name, or none, and why.

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// unknownRules is a ruling that names nothing.
func unknownRules(format string, args ...any) ruling {
	return ruling{Unknown: fmt.Sprintf(format, args...)}
}

// doubt is a packet's way through rules that changed about its time.
type doubt[T any] struct {
	passed
	met[T]
	ask  func(T) ruling         // what rules say of the packet
	wall func(uint64) time.Time // of the kernel's clock
	late error                  // why they were not looked at since; nil: they were
}

// ruling is what the versions in question have in common, or why nothing is named.
func (d doubt[T]) ruling() ruling {
	before, after := d.side(d.before), d.side(d.after)
	if d.only && before.Decided != nil && after.Decided != nil && sameRule(*before.Decided, *after.Decided) && slices.EqualFunc(before.Rules, after.Rules, sameRule) {
		return after
	}
	if d.before != nil && d.after != nil && before.NotAsked && after.NotAsked {
		return after // whatever stood: it asked none of them
	}
	r := ruling{Unknown: d.words(before, after), Source: after.Source, Unread: !d.only}
	r.Open = append(before.Open, after.Open...)
	if d.only { // else it may have been a rule that nobody has read
		r.Candidates = candidates(before, after)
	}
	return r
}

func (d doubt[T]) side(v *version[T]) ruling {
	if v == nil {
		return ruling{}
	}
	return d.ask(v.rules)
}

// words says why no rule is named, and which would have been on either side.
func (d doubt[T]) words(before, after ruling) string {
	says := d.why()
	for _, side := range []struct {
		name  string
		known bool
		ruling
	}{{"before", d.before != nil, before}, {"after", d.after != nil, after}} {
		switch {
		case !side.known:
		case side.Decided != nil:
			says += fmt.Sprintf("; %s: %s", side.name, ruleName(*side.Decided))
		case len(side.Candidates) > 0:
			says += fmt.Sprintf("; %s: one of %d rules", side.name, len(side.Candidates))
		case side.Unknown != "":
			says += fmt.Sprintf("; %s: %s", side.name, side.Unknown)
		}
	}
	return says
}

func (d doubt[T]) why() string {
	switch {
	case d.changed:
		return "the rules were replaced while the packet was in them"
	case d.first.named():
		return "the rules that it met were replaced before they could be read"
	case d.before != nil && d.after != nil:
		replaced := "were replaced"
		if !d.before.stamp.named() || !d.after.stamp.named() {
			replaced = "may have been replaced" // and put back: nothing would tell
		}
		return fmt.Sprintf("the rules %s between %s and %s, and it met them at %s",
			replaced, d.clock(d.before.until), d.clock(d.after.from), d.clock(d.begin))
	case d.late != nil:
		return fmt.Sprintf("whether the rules were still those read before is not known: %v", d.late)
	case d.before != nil:
		return fmt.Sprintf("whether the rules were still those of %s is not known", d.clock(d.before.until))
	case d.after != nil:
		return fmt.Sprintf("the rules were first read at %s, after it had met them", d.clock(d.after.from))
	}
	return "the rules were not read"
}

// clock is a time of the kernel's clock as people read it.
func (d doubt[T]) clock(at uint64) string { return d.wall(at).Format("15:04:05.000") }

// candidates lists the rules of which one decided, each once.
func candidates(rulings ...ruling) []model.Rule {
	var all []model.Rule
	add := func(r model.Rule) {
		for _, known := range all {
			if sameRule(known, r) {
				return
			}
		}
		all = append(all, r)
	}
	for _, r := range rulings {
		if r.Decided != nil {
			add(*r.Decided)
		}
		for _, c := range r.Candidates {
			add(c)
		}
	}
	return all
}

// sameRule tells whether two rules are one to people: a rule that was written
// again as it was has another handle.
func sameRule(a, b model.Rule) bool {
	a.Handle, b.Handle = 0, 0
	return a == b
}

// ruleName names a rule briefly: filter/FORWARD rule 3 (comment).
func ruleName(r model.Rule) string {
	if r.Number == 0 {
		return fmt.Sprintf("the policy of %s/%s", r.Table, r.Chain)
	}
	name := fmt.Sprintf("%s/%s rule %d", r.Table, r.Chain, r.Number)
	if r.Comment != "" {
		name += " (" + strings.TrimSpace(r.Comment) + ")"
	}
	return name
}

// ruleNames names several.
func ruleNames(rules []model.Rule) string {
	var names []string
	for _, r := range rules {
		names = append(names, ruleName(r))
	}
	return strings.Join(names, ", ")
}
