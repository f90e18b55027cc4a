// SPDX-License-Identifier: Apache-2.0

// Package report writes a trace as one HTML file to look at, keep and send: the
// causes found first, then the node as the packets saw it with where they died,
// the packets with their hops, and the rules they met. The file needs nothing
// else: no network, no script for what matters. It is written when the trace
// ends; until then so much is kept of it as a report can show, however long the
// trace is.
//
// report.go is the sink; collect.go keeps the packets and rules.go the rules,
// way.go reads off a packet which stations it came by, lanes.go joins packets
// that went the same way, draw.go lays them out, page.go puts everything into the
// words of page.html.
package report

import (
	"fmt"
	"io"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// Writer is a model.Sink that writes a report at the summary.
type Writer struct {
	w        io.Writer
	start    model.Start
	stories  collection
	rules    ruleList
	findings []*model.Finding
	events   []*model.NodeEvent

	findingsLeftOut, eventsLeftOut int
	matchesTold                    int // on the page being written
}

// New gives a Writer on w, which gets nothing before the summary and the whole
// report then.
func New(w io.Writer) *Writer {
	return &Writer{w: w, stories: collection{limit: limits()}}
}

// Start keeps what is traced.
func (w *Writer) Start(s *model.Start) error {
	w.start = *s
	return nil
}

// Packet keeps a packet, or counts it to those of the same story.
func (w *Writer) Packet(p *model.Packet) error {
	if s := w.stories.add(p); s != nil {
		w.rules.add(s, p)
	}
	return nil
}

// Node keeps a change of the node.
func (w *Writer) Node(e *model.NodeEvent) error {
	if len(w.events) >= maxEvents {
		w.eventsLeftOut++
		return nil
	}
	w.events = append(w.events, e)
	return nil
}

// Finding keeps a cause. One that is told while the trace goes on comes again.
func (w *Writer) Finding(f *model.Finding) error {
	if f.Live {
		return nil
	}
	if len(w.findings) >= maxFindings {
		w.findingsLeftOut++
		return nil
	}
	w.findings = append(w.findings, f)
	return nil
}

// Summary writes the report.
func (w *Writer) Summary(s *model.Summary) error {
	if err := render(w.w, w.page(s)); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}
