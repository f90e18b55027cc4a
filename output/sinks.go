// SPDX-License-Identifier: Apache-2.0

// sinks.go holds sinks that stand before other sinks: Tee for several outputs
// of one trace (the screen and a file), DropsOnly for --drops-only.

package output

import (
	"errors"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// Tee gives a sink that hands every object to all of sinks in order. One that
// fails does not keep the others from getting it; the errors are joined.
func Tee(sinks ...model.Sink) model.Sink { return tee(sinks) }

type tee []model.Sink

func (t tee) each(do func(model.Sink) error) error {
	var errs []error
	for _, s := range t {
		errs = append(errs, do(s))
	}
	return errors.Join(errs...)
}

func (t tee) Start(o *model.Start) error {
	return t.each(func(s model.Sink) error { return s.Start(o) })
}

func (t tee) Packet(o *model.Packet) error {
	return t.each(func(s model.Sink) error { return s.Packet(o) })
}

func (t tee) Node(o *model.NodeEvent) error {
	return t.each(func(s model.Sink) error { return s.Node(o) })
}

func (t tee) Finding(o *model.Finding) error {
	return t.each(func(s model.Sink) error { return s.Finding(o) })
}

func (t tee) Summary(o *model.Summary) error {
	return t.each(func(s model.Sink) error { return s.Summary(o) })
}

// DropsOnly gives a sink that hands on to s everything but the packets that
// fared well: delivered, consumed in good order, or sent off this node. A
// packet whose fate is unknown stays, since it may have died. The summary
// still counts them all.
func DropsOnly(s model.Sink) model.Sink { return dropsOnly{s} }

type dropsOnly struct{ model.Sink }

func (d dropsOnly) Packet(p *model.Packet) error {
	switch p.Outcome {
	case model.Delivered, model.Consumed, model.LeftNode:
		return nil
	}
	return d.Sink.Packet(p)
}
