// SPDX-License-Identifier: Apache-2.0

package watch

// This file folds what happens again and again: an interface that flaps, an agent
// that writes its rules every second.

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
)

const (
	// foldAfter is how many of a kind are told one by one.
	foldAfter = 4
	// foldFor is how long the others are gathered; a kind that was quiet for so
	// long begins anew.
	foldFor = 5 * time.Second
	// maxFolds bounds the kinds told apart.
	maxFolds = 256
)

// folds are the kinds of events of late.
type folds map[foldKey]*fold

// foldKey is what events of a kind have in common. Up and down are one kind.
type foldKey struct {
	what   string
	object string
	netns  uint32
	comm   string // not the pid: some tool is run anew each time
}

// fold is one kind.
type fold struct {
	told   int       // one by one
	last   time.Time // of any
	first  time.Time // of those gathered
	counts map[string]int
	event  model.NodeEvent // the last of those gathered
}

func keyOfEvent(e *model.NodeEvent) foldKey {
	k := foldKey{what: e.What, object: e.Object, netns: e.Netns}
	switch e.What {
	case model.LinkUp, model.LinkDown:
		k.what = "link"
	case model.RouteAdded, model.RouteDeleted, model.RouteReplaced:
		k.what = "route"
	}
	if e.By != nil {
		k.comm = e.By.Comm
	}
	return k
}

// add takes an event and gives what is to be told.
func (f folds) add(e model.NodeEvent) []model.NodeEvent {
	k := keyOfEvent(&e)
	of := f[k]
	var out []model.NodeEvent
	if of == nil {
		if len(f) >= maxFolds {
			out = f.rest()
			clear(f)
		}
		of = &fold{}
		f[k] = of
	}
	of.last = e.Time
	if of.told < foldAfter {
		of.told++
		return append(out, e)
	}
	if of.counts == nil {
		of.counts, of.first = make(map[string]int), e.Time
	}
	of.counts[e.What]++
	of.event = e
	return out
}

// due tells what was gathered for long enough, and forgets what was quiet.
func (f folds) due(now time.Time) (out []model.NodeEvent) {
	for k, of := range f {
		switch {
		case of.counts != nil && now.Sub(of.first) >= foldFor:
			out = append(out, of.take())
		case of.counts == nil && now.Sub(of.last) >= foldFor:
			delete(f, k)
		}
	}
	return inOrder(out)
}

// rest tells all that was gathered.
func (f folds) rest() (out []model.NodeEvent) {
	for _, of := range f {
		if of.counts != nil {
			out = append(out, of.take())
		}
	}
	return inOrder(out)
}

func inOrder(events []model.NodeEvent) []model.NodeEvent {
	slices.SortFunc(events, func(a, b model.NodeEvent) int {
		if c := a.Time.Compare(b.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Object, b.Object)
	})
	return events
}

// take makes one event of those gathered.
func (of *fold) take() model.NodeEvent {
	e := of.event
	e.Until, e.Time = e.Time, of.first
	for _, n := range of.counts {
		e.Times += n
	}
	if e.Times > 1 {
		e.Text = of.words(e.Until.Sub(e.Time)) + "; at last: " + e.Text
	}
	of.counts = nil
	return e
}

// words counts: "cali1a2b again and again, within 1.8 s 4 times set DOWN and 5 times set UP".
func (of *fold) words(within time.Duration) string {
	var parts []string
	for _, what := range []string{model.LinkDown, model.LinkUp} {
		if n := of.counts[what]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d times set %s", n, map[string]string{model.LinkDown: "DOWN", model.LinkUp: "UP"}[what]))
		}
	}
	if len(parts) == 0 {
		n := 0
		for _, c := range of.counts {
			n += c
		}
		parts = append(parts, fmt.Sprintf("%d changes of the kind", n))
	}
	return fmt.Sprintf("%s again and again, within %.1f s %s", of.event.Object, within.Seconds(), strings.Join(parts, " and "))
}
