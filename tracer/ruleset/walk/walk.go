// SPDX-License-Identifier: Apache-2.0

// Package walk follows a packet through rules where the kernel could not be
// watched doing it, for every kind of rules alike: legacy and nft only evaluate
// one step on one way. A condition that cannot be evaluated leaves both ways
// open; both are followed, and what they agree on is still certain. Nothing is
// rounded: a walk that depends on what was not seen gives its alternatives, and
// one that was too long to be followed to all its ends says so.
//
//	walk.go       follows ways       outcome.go    what it comes to
//	way.go        one packet's way   agreement.go  what outcomes have in common
package walk

import (
	"iter"
	"slices"
)

// Limits of a walk. Rules that are as open as to need more forks tell nothing
// anyway; steps bound loops, which only damaged rules have.
const (
	maxForks = 16
	maxSteps = 1 << 18
)

// Next is how a way goes on after a step. The zero is the usual: it does so
// alone.
type Next[S any] struct {
	// Ended: this way is not followed further.
	Ended bool
	// Forks are ways that the packet may have taken as well; nil for none. They are
	// followed after this one, the last first; no more are made than may be.
	Forks iter.Seq[S]
}

// Fork is a way that goes on beside another one.
func Fork[S any](other S) Next[S] {
	return Next[S]{Forks: func(yield func(S) bool) { yield(other) }}
}

// Walker follows ways. S is a way with whatever its rules keep of it, M what
// matches on it. The zero is ready to be used, once.
type Walker[S any, M comparable] struct {
	key          func(*S) string
	todo         []S             // ways still to be followed, the next one last
	seen         map[string]bool // keys that ways parted with
	forks, steps int
	result       Walk[M]
}

// Follow follows a way and all that part from it to their ends. step does one
// step on a way. key names all that the rest of a way depends on: of ways that
// parted with the same key one is followed, as they end alike; "" is like none.
func (w *Walker[S, M]) Follow(first S, step func(*S) Next[S], key func(*S) string) Walk[M] {
	w.key, w.seen, w.result.Complete = key, map[string]bool{}, true
	w.todo = append(w.todo, first)
	for len(w.todo) > 0 {
		last := len(w.todo) - 1
		s := w.todo[last]
		w.todo = w.todo[:last]
		for w.mayStep() && w.goesOn(&s, step(&s)) {
		}
	}
	return w.result
}

// goesOn notes the ways that part from one, and tells whether that one goes on.
// It does not once there are too many: the walk is then as good as it gets.
func (w *Walker[S, M]) goesOn(s *S, next Next[S]) bool {
	if next.Forks == nil {
		return !next.Ended
	}
	goesOn := !next.Ended && w.isNew(s)
	for other := range next.Forks {
		if !w.isNew(&other) {
			continue
		}
		if !w.mayFork() {
			return false
		}
		w.todo = append(w.todo, other)
	}
	return goesOn
}

// isNew tells whether no way parted in the same state before.
func (w *Walker[S, M]) isNew(s *S) bool {
	key := w.key(s)
	if w.seen[key] {
		return false
	}
	if key != "" {
		w.seen[key] = true
	}
	return true
}

// mayFork counts a fork, and tells whether there may be as many.
func (w *Walker[S, M]) mayFork() bool {
	w.forks++
	return w.within(w.forks, maxForks)
}

// mayStep counts a step, and tells whether there may be as many.
func (w *Walker[S, M]) mayStep() bool {
	w.steps++
	return w.within(w.steps, maxSteps)
}

func (w *Walker[S, M]) within(n, limit int) bool {
	if n > limit {
		w.Incomplete()
	}
	return n <= limit
}

// Left is how many forks there may still be.
func (w *Walker[S, M]) Left() int { return max(0, maxForks-w.forks) }

// Incomplete notes that the packet may take ways that are not followed.
func (w *Walker[S, M]) Incomplete() { w.result.Complete = false }

// Note adds to the conditions that could not be evaluated.
func (w *Walker[S, M]) Note(conditions ...string) {
	for _, c := range conditions {
		if !slices.Contains(w.result.Unknown, c) {
			w.result.Unknown = append(w.result.Unknown, c)
		}
	}
}

// End notes that a way ends at its last step with a verdict.
func (w *Walker[S, M]) End(way *Way[M], verdict string) Next[S] {
	w.result.add(way, verdict)
	return Next[S]{Ended: true}
}

// EndOr notes that a way may end at its last step; the other one is where it goes
// if it does not.
func (w *Walker[S, M]) EndOr(way *Way[M], verdict string, other S) Next[S] {
	w.End(way, verdict)
	next := Fork(other)
	next.Ended = true
	return next
}
