// SPDX-License-Identifier: Apache-2.0

package walk

// This file holds what a walk comes to.

import (
	"slices"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// Outcome is one way a walk can end.
type Outcome[M comparable] struct {
	Steps   []Step[M] // one way there; the last one decided
	Verdict string    // accept, drop, reject, queue, stolen, stop; "" where not known
	// Packet is the packet as it leaves the rules: with the marks set in it.
	// Marks on which the ways there do not agree are unknown.
	Packet packet.Packet
}

// Deciding is what decided.
func (o *Outcome[M]) Deciding() M { return o.Steps[len(o.Steps)-1].Match }

// Walk is what rules make of a packet.
type Walk[M comparable] struct {
	Outcomes []Outcome[M] // all ways it can end, one for each verdict of each match that decides
	Unknown  []string     // what could not be evaluated: "limit of filter/FORWARD rule 3"
	Complete bool         // false: there are more ways than were followed
}

// Certain is the outcome if there can be no other. Its last step is certain then,
// whatever the ones before.
func (w Walk[M]) Certain() (Outcome[M], bool) {
	if !w.Complete || len(w.Outcomes) != 1 {
		return Outcome[M]{}, false
	}
	o := w.Outcomes[0]
	o.Steps = slices.Clone(o.Steps)
	o.Steps[len(o.Steps)-1].Certain = true
	return o, true
}

// add notes the end of a way. One that ends as another did adds only doubt about
// the packet.
func (w *Walk[M]) add(way *Way[M], verdict string) {
	end := Outcome[M]{Steps: way.Steps, Verdict: verdict, Packet: way.Packet}
	for i := range w.Outcomes {
		if o := &w.Outcomes[i]; o.Verdict == verdict && o.Deciding() == end.Deciding() {
			agree(&o.Packet, &end.Packet)
			return
		}
	}
	end.Steps = slices.Clone(end.Steps)
	w.Outcomes = append(w.Outcomes, end)
}

// Named is a walk in the words of those who are told: name gives them, and the
// zero for what they do not know as a step. Steps that are not certain are left
// out, but for the deciding ones.
func Named[N, M comparable](w Walk[M], name func(M) (N, error)) (Walk[N], error) {
	named := Walk[N]{Unknown: w.Unknown, Complete: w.Complete}
	var none N
	for _, o := range w.Outcomes {
		n := Outcome[N]{Verdict: o.Verdict, Packet: o.Packet}
		for i, s := range o.Steps {
			decides := i == len(o.Steps)-1
			if !s.Certain && !decides {
				continue
			}
			m, err := name(s.Match)
			if err != nil {
				return Walk[N]{}, err
			}
			if m != none || decides {
				n.Steps = append(n.Steps, Step[N]{m, s.Certain})
			}
		}
		named.Outcomes = append(named.Outcomes, n)
	}
	return named, nil
}
