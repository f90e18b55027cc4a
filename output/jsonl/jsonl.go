// SPDX-License-Identifier: Apache-2.0

// Package jsonl writes a trace as JSON Lines, the form that programs read
// (docs/json.md): one object a line, each handed to the writer at once and
// whole, so that a reader at the other end of a pipe never waits for a line
// that is already known.
package jsonl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// Writer is a model.Sink that writes JSON Lines.
type Writer struct {
	w io.Writer
}

// New gives a Writer on w, which gets exactly one Write per object.
func New(w io.Writer) *Writer { return &Writer{w: w} }

// Start writes the start object.
func (w *Writer) Start(s *model.Start) error {
	o := *s
	o.Type = model.TypeStart
	return w.write(o.Type, &o)
}

// Packet writes a packet object. Its list of hops is never null.
func (w *Writer) Packet(p *model.Packet) error {
	o := *p
	o.Type = model.TypePacket
	if o.Hops == nil {
		o.Hops = []model.Hop{}
	}
	return w.write(o.Type, &o)
}

// Node writes a node object.
func (w *Writer) Node(e *model.NodeEvent) error {
	o := *e
	o.Type = model.TypeNode
	return w.write(o.Type, &o)
}

// Finding writes a finding object. Its list of evidence is never null.
func (w *Writer) Finding(f *model.Finding) error {
	o := *f
	o.Type = model.TypeFinding
	if o.Evidence == nil {
		o.Evidence = []string{}
	}
	return w.write(o.Type, &o)
}

// Summary writes the summary object. Its list of missed hooks is never null.
func (w *Writer) Summary(s *model.Summary) error {
	o := *s
	o.Type = model.TypeSummary
	if o.MissedHooks == nil {
		o.MissedHooks = []model.MissedHook{}
	}
	return w.write(o.Type, &o)
}

// write encodes first and writes second: a line is never half there because
// its end could not be encoded.
func (w *Writer) write(kind string, object any) error {
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(object); err != nil {
		return fmt.Errorf("%s as JSON: %w", kind, err)
	}
	_, err := w.w.Write(line.Bytes())
	return err
}
