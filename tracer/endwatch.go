// SPDX-License-Identifier: Apache-2.0

package tracer

// This file notices, beside the trace, that an end is not where it was: its pod
// was restarted, its service has other backends. It only looks; what follows
// from it is done by the trace (ends.go).

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/pathtrace/pathtrace/tracer/endpoint"
	"github.com/pathtrace/pathtrace/tracer/recall"
)

// move is one end's change. A name that is gone keeps the place it had.
type move struct {
	dst  bool // --dst's, else --src's
	now  endpoint.Endpoint
	gone bool
	text string
	at   time.Time
}

// endWatch asks again where the ends are, whenever the node's links come or go
// and now and then.
type endWatch struct {
	resolver *endpoint.Resolver // of its own: it may wait for the API for seconds
	names    *endpoint.Names
	verbose  func(string)
	ends     [2]watchedEnd
	moves    chan move
	wake     func() // tells the trace that there is a move
	stop     context.CancelFunc
	done     sync.WaitGroup
}

// watchedEnd is an end as it was found last.
type watchedEnd struct {
	endpoint.Endpoint
	missing time.Time // since when it is not found; zero: it is there
	told    bool      // that it is gone
	failure string    // why it could not be asked for last, told once
}

// How often is looked.
const (
	startLook = time.Second // once
	// A pod's wiring is made in steps: interface, address, route, CNI's cache.
	firstLook = 30 * time.Millisecond
	lastLook  = 10 * time.Second // after a link came or went
	// Without any sign of a change.
	everyLocal  = 15 * time.Second
	everyRemote = 5 * time.Second // other nodes' pods and services: only the API tells
	whileGone   = time.Second
	// An end is said to be gone when it was not found for so long.
	goneFor = 300 * time.Millisecond
	// Looking may take this part of one CPU in the long run, and so much at once:
	// a node where pods come and go all the time is looked at less often.
	lookShare  = 20
	lookCredit = time.Second
	mostWait   = 5 * time.Second
)

// watchEnds starts watching.
func watchEnds(f *flow, sources endpoint.Sources, verbose func(string), wake func()) (*endWatch, error) {
	names := f.places.names
	ctx, stop := context.WithCancel(context.Background())
	changes, err := f.ns.LinkChanges(ctx)
	if err != nil {
		stop()
		return nil, err
	}
	sources.Warn = nil // what is worth it was said at the start
	w := &endWatch{
		resolver: endpoint.NewResolverWith(f.ns, sources), names: names, verbose: verbose,
		ends: [2]watchedEnd{{Endpoint: f.src}, {Endpoint: f.dst}}, moves: make(chan move, 8), wake: wake, stop: stop,
	}
	w.done.Add(2)
	go func() {
		defer w.done.Done()
		if err := names.LearnCluster(ctx); err != nil && ctx.Err() == nil {
			verbose("names of services and nodes: " + err.Error())
		}
	}()
	go func() {
		defer w.done.Done()
		w.run(ctx, changes)
	}()
	return w, nil
}

// close ends the watching.
func (w *endWatch) close() error {
	w.stop()
	w.done.Wait()
	return w.resolver.Close()
}

// run looks until ctx is done: in ever longer steps after a change, then at
// leisure.
func (w *endWatch) run(ctx context.Context, changes <-chan struct{}) {
	step := lastLook + 1 // nothing has changed, but since the ends were resolved
	next := time.Now().Add(startLook)
	var free time.Time // from when on it may be looked again
	budget := recall.Allowance{Share: lookShare, Saved: lookCredit, Longest: mostWait}
	timer := time.NewTimer(startLook)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changes:
			step = firstLook
			next = earlier(next, time.Now().Add(step))
		case <-timer.C:
			began := time.Now()
			for i := range w.ends {
				w.look(ctx, i)
			}
			free = time.Now().Add(budget.Spend(time.Now(), time.Since(began)))
			step *= 3
			next = time.Now().Add(w.pause(step))
		}
		timer.Reset(max(0, time.Until(next), time.Until(free)))
	}
}

func earlier(x, y time.Time) time.Time {
	if x.Before(y) {
		return x
	}
	return y
}

// pause is how long to wait for the next look.
func (w *endWatch) pause(step time.Duration) time.Duration {
	pause := everyLocal
	for _, e := range w.ends {
		switch {
		case e.Service != nil || e.Node != "":
			pause = min(pause, everyRemote)
		case !e.missing.IsZero():
			pause = min(pause, whileGone)
		}
	}
	if step <= lastLook {
		pause = min(pause, step)
	}
	return pause
}

// look asks where an end is now.
func (w *endWatch) look(ctx context.Context, i int) {
	e := &w.ends[i]
	now, change, err := w.resolver.Again(ctx, e.Endpoint)
	at := time.Now()
	switch {
	case ctx.Err() != nil:
		return
	case errors.Is(err, endpoint.ErrUnknown) || err == nil && unwired(e.Endpoint, now):
		w.missing(ctx, i, at)
		return
	case err != nil:
		if e.failure != err.Error() {
			e.failure = err.Error()
			w.verbose("look for an end again: " + e.failure)
		}
		return
	}
	if change == "" && e.told {
		change = e.Endpoint.Title() + " is back, where it was"
	}
	if change == "" {
		*e = watchedEnd{Endpoint: e.Endpoint}
		return
	}
	*e = watchedEnd{Endpoint: now}
	w.rename(ctx)
	w.names.Learn(now)
	w.send(ctx, move{dst: i == 1, now: now, text: change, at: at})
}

// rename looks for the names of this node's pods again.
func (w *endWatch) rename(ctx context.Context) {
	if err := w.names.Refresh(ctx); err != nil && ctx.Err() == nil {
		w.verbose("names of new pods: " + err.Error())
	}
}

// unwired tells that a pod of this node has lost its interface: it is on its way
// out, or on its way in.
func unwired(old, now endpoint.Endpoint) bool {
	return old.Kind == endpoint.KindPod && old.HostIfIndex != 0 && now.HostIfIndex == 0 && now.Node == ""
}

// missing notes that an end was not found.
func (w *endWatch) missing(ctx context.Context, i int, at time.Time) {
	e := &w.ends[i]
	if e.missing.IsZero() {
		e.missing = at
	}
	if e.told || at.Sub(e.missing) < goneFor {
		return
	}
	e.told = true
	w.names.Forget(e.Endpoint)
	w.rename(ctx)
	w.send(ctx, move{dst: i == 1, now: e.Endpoint, gone: true, text: e.Endpoint.Title() + " is gone: packets to where it was are followed until it comes back", at: at})
}

func (w *endWatch) send(ctx context.Context, m move) {
	select {
	case w.moves <- m:
		w.wake()
	case <-ctx.Done():
	}
}

// changeable tells that an end may be somewhere else sooner or later.
func changeable(ends ...endpoint.Endpoint) bool {
	return slices.ContainsFunc(ends, func(e endpoint.Endpoint) bool {
		switch e.Kind {
		case endpoint.KindPod, endpoint.KindService, endpoint.KindInterface:
			return true
		case endpoint.KindAddress:
			return e.HostIfIndex != 0 // what else may be entered by is not limited to its interface
		}
		return false
	})
}
