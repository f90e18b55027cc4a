// SPDX-License-Identifier: Apache-2.0

package walk

// This file tells what several ways have in common: that is certain, whichever
// of them the packet took.

import (
	"slices"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// Agreement is what all outcomes of a walk have in common.
type Agreement[M comparable] struct {
	Sure     []M // what surely matched, in order, without what decided
	Deciding []M // what may have decided, each once
	Verdict  string
	// Packet has no marks on which the outcomes do not agree.
	Packet packet.Packet
}

// Only is a walk without the outcomes whose verdict does not fit.
func (w Walk[M]) Only(fits func(verdict string) bool) Walk[M] {
	w.Outcomes = slices.DeleteFunc(slices.Clone(w.Outcomes), func(o Outcome[M]) bool { return !fits(o.Verdict) })
	return w
}

// Agreement is what the outcomes agree on; there must be one.
func (w Walk[M]) Agreement() Agreement[M] {
	first := &w.Outcomes[0]
	a := Agreement[M]{Sure: first.sure(), Verdict: first.Verdict, Packet: first.Packet}
	for i := range w.Outcomes {
		o := &w.Outcomes[i]
		a.Sure = commonStart(a.Sure, o.sure())
		if !slices.Contains(a.Deciding, o.Deciding()) {
			a.Deciding = append(a.Deciding, o.Deciding())
		}
		if o.Verdict != a.Verdict {
			a.Verdict = ""
		}
		agree(&a.Packet, &o.Packet)
	}
	return a
}

// sure is what surely matched before the deciding step.
func (o *Outcome[M]) sure() []M {
	var all []M
	for _, s := range o.Steps[:len(o.Steps)-1] {
		if s.Certain {
			all = append(all, s.Match)
		}
	}
	return all
}

// commonStart is what two lists begin with alike.
func commonStart[M comparable](a, b []M) []M {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return a[:n:n]
}

// agree leaves of a packet's marks those that another way left it with, too.
func agree(p, other *packet.Packet) {
	p.Mark, p.CT.Mark = agreed(p.Mark, other.Mark), agreed(p.CT.Mark, other.CT.Mark)
	p.TOS, p.TTL = agreed(p.TOS, other.TOS), agreed(p.TTL, other.TTL)
}

// agreed is a fact on which two ways agree, else unknown.
func agreed[T comparable](a, b packet.Fact[T]) packet.Fact[T] {
	if a != b {
		return packet.Fact[T]{}
	}
	return a
}
