// SPDX-License-Identifier: Apache-2.0

package cause

// This file puts a Collector into the way of a trace's objects. What is certain is
// told at once.

import "github.com/pathtrace/pathtrace/tracer/model"

// Sink gives a sink that hands everything on to next, takes note of it on the
// way, and tells the findings just before the summary.
func (c *Collector) Sink(next model.Sink) model.Sink { return &sink{Sink: next, c: c} }

type sink struct {
	model.Sink
	c *Collector
}

// Start implements model.Sink.
func (s *sink) Start(o *model.Start) error {
	s.c.Start(o)
	return s.Sink.Start(o)
}

// Packet implements model.Sink.
func (s *sink) Packet(o *model.Packet) error {
	certain := s.c.Packet(o)
	if err := s.Sink.Packet(o); err != nil || certain == nil {
		return err
	}
	return s.Sink.Finding(certain)
}

// Node implements model.Sink.
func (s *sink) Node(o *model.NodeEvent) error {
	s.c.Node(o)
	return s.Sink.Node(o)
}

// Summary implements model.Sink.
func (s *sink) Summary(o *model.Summary) error {
	// SkippedRuns is left out: the kernel leaves out one program while it runs on that CPU
	// already, and each packet passes several (kernel/bpf/trampoline.c 6.12,
	// __bpf_prog_enter_recur): a hop is missing then, never a whole packet
	s.c.incomplete = o.LostEvents+o.LostPackets+o.SampledOut > 0
	o.Faults = 0
	for _, f := range s.c.Findings() {
		if f.Fault() {
			o.Faults++
		}
		if err := s.Sink.Finding(&f); err != nil {
			return err
		}
	}
	return s.Sink.Summary(o)
}
