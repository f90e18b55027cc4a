// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"slices"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// holdFor is how long an event waits for packets that were before it: a packet is
// told a moment after its end.
const holdFor = 300 * time.Millisecond

// Teller hands a trace on to the next sink, with the changes of the node in order
// with the packets: what is no business of the flow is left out, what happens
// again and again is folded.
type Teller struct {
	model.Sink
	flow  flow
	held  []model.NodeEvent // in order of their times
	folds folds
}

// NewTeller makes a Teller before a sink.
func NewTeller(w *Watcher, next model.Sink) *Teller {
	return &Teller{Sink: next, flow: newFlow(w), folds: make(folds)}
}

// Start implements model.Sink.
func (t *Teller) Start(o *model.Start) error {
	t.flow.ends(o)
	return t.Sink.Start(o)
}

// Node implements model.Sink.
func (t *Teller) Node(e *model.NodeEvent) error {
	at, _ := slices.BinarySearchFunc(t.held, e.Time, func(h model.NodeEvent, at time.Time) int {
		if h.Time.After(at) {
			return 1
		}
		return -1
	})
	t.held = slices.Insert(t.held, at, *e)
	return nil
}

// Packet implements model.Sink.
func (t *Teller) Packet(p *model.Packet) error {
	t.flow.learn(p)
	if err := t.release(p.Time); err != nil {
		return err
	}
	return t.Sink.Packet(p)
}

// Tick tells what has waited long enough.
func (t *Teller) Tick(now time.Time) error {
	if err := t.release(now.Add(-holdFor)); err != nil {
		return err
	}
	return t.tell(t.folds.due(now))
}

// Finding implements model.Sink.
func (t *Teller) Finding(f *model.Finding) error {
	tell := t.rest
	if f.Live {
		tell = t.releaseAll // what it rests on comes first; the trace goes on
	}
	if err := tell(); err != nil {
		return err
	}
	return t.Sink.Finding(f)
}

// Summary implements model.Sink.
func (t *Teller) Summary(s *model.Summary) error {
	if err := t.rest(); err != nil {
		return err
	}
	return t.Sink.Summary(s)
}

// rest tells all there is: the trace is over.
func (t *Teller) rest() error {
	if err := t.releaseAll(); err != nil {
		return err
	}
	return t.tell(t.folds.rest())
}

// releaseAll tells the events that wait for packets.
func (t *Teller) releaseAll() error {
	if n := len(t.held); n > 0 {
		return t.release(t.held[n-1].Time)
	}
	return nil
}

// release tells the events up to a time.
func (t *Teller) release(until time.Time) error {
	n := 0
	for n < len(t.held) && !t.held[n].Time.After(until) {
		n++
	}
	for _, e := range t.held[:n] {
		if !t.flow.concerns(&e) {
			continue
		}
		if err := t.tell(t.folds.add(e)); err != nil {
			return err
		}
	}
	t.held = slices.Delete(t.held, 0, n)
	return nil
}

func (t *Teller) tell(events []model.NodeEvent) error {
	for i := range events {
		if err := t.Sink.Node(&events[i]); err != nil {
			return err
		}
	}
	return nil
}
