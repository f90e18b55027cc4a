// SPDX-License-Identifier: Apache-2.0

// Package jsonl writes a trace as JSON Lines, the form that programs read
// (docs/json.md): one object a line, each handed to the writer at once and
// whole, so that a reader at the other end of a pipe never waits for a line
// that is already known.
package jsonl

import (
	"fmt"
	"io"
	"reflect"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// Writer is a model.Sink that writes JSON Lines.
type Writer struct {
	w    io.Writer
	line []byte // under construction

	start, packet, node, finding, summary encoder
}

// New gives a Writer on w, which gets exactly one Write per object.
func New(w io.Writer) *Writer {
	return &Writer{
		w:     w,
		start: encoderOf(reflect.TypeFor[model.Start]()), packet: encoderOf(reflect.TypeFor[model.Packet]()),
		node: encoderOf(reflect.TypeFor[model.NodeEvent]()), finding: encoderOf(reflect.TypeFor[model.Finding]()),
		summary: encoderOf(reflect.TypeFor[model.Summary]()),
	}
}

// Start writes the start object.
func (w *Writer) Start(s *model.Start) error {
	o := *s
	o.Type = model.TypeStart
	return write(w, w.start, o.Type, &o)
}

// Packet writes a packet object. Its list of hops is never null.
func (w *Writer) Packet(p *model.Packet) error {
	o := *p
	o.Type = model.TypePacket
	if o.Hops == nil {
		o.Hops = []model.Hop{}
	}
	return write(w, w.packet, o.Type, &o)
}

// Node writes a node object.
func (w *Writer) Node(e *model.NodeEvent) error {
	o := *e
	o.Type = model.TypeNode
	return write(w, w.node, o.Type, &o)
}

// Finding writes a finding object. Its list of evidence is never null.
func (w *Writer) Finding(f *model.Finding) error {
	o := *f
	o.Type = model.TypeFinding
	if o.Evidence == nil {
		o.Evidence = []string{}
	}
	return write(w, w.finding, o.Type, &o)
}

// Summary writes the summary object. Its list of missed hooks is never null.
func (w *Writer) Summary(s *model.Summary) error {
	o := *s
	o.Type = model.TypeSummary
	if o.MissedHooks == nil {
		o.MissedHooks = []model.MissedHook{}
	}
	return write(w, w.summary, o.Type, &o)
}

// keptLine bounds the memory that is kept from one line to the next.
const keptLine = 1 << 20

// write encodes first and writes second: a line is never half there because
// its end could not be encoded.
func write[T any](w *Writer, encode encoder, kind string, object *T) error {
	line, err := encode(w.line[:0], reflect.ValueOf(object).Elem())
	if err != nil {
		return fmt.Errorf("%s as JSON: %w", kind, err)
	}
	line = append(line, '\n')
	if w.line = line; len(line) > keptLine {
		w.line = nil
	}
	_, err = w.w.Write(line)
	return err
}
