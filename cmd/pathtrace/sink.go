// SPDX-License-Identifier: Apache-2.0

// sink.go stands between the tracer and the output: when standard output
// cannot be written any more (the reader went away, the disk is full) the trace
// is stopped in good order instead of failing in the middle of it.

package main

import (
	"context"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// guard hands objects on until one fails, then swallows the rest. It never
// fails itself.
type guard struct {
	next model.Sink
	stop context.CancelFunc // ends the trace
	err  error              // why it was stopped
	// probes waits for the probe to end and gives what came of it; nil: none.
	probes func() []model.Probe
}

func (g *guard) try(err error) error {
	if err != nil {
		g.err = err
		g.stop()
	}
	return nil
}

func hand[T any](g *guard, to func(*T) error, object *T) error {
	if g.err != nil {
		return nil
	}
	return g.try(to(object))
}

func (g *guard) Start(o *model.Start) error     { return hand(g, g.next.Start, o) }
func (g *guard) Packet(o *model.Packet) error   { return hand(g, g.next.Packet, o) }
func (g *guard) Node(o *model.NodeEvent) error  { return hand(g, g.next.Node, o) }
func (g *guard) Finding(o *model.Finding) error { return hand(g, g.next.Finding, o) }

// Summary adds what the probe came to, which is known here only.
func (g *guard) Summary(o *model.Summary) error {
	if g.probes != nil {
		o.Probes = g.probes()
	}
	return hand(g, g.next.Summary, o)
}
