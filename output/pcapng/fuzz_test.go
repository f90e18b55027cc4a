// SPDX-License-Identifier: Apache-2.0

package pcapng

import (
	"bytes"
	"errors"
	"testing"

	"github.com/pathtrace/pathtrace/output/jsonl"
	"github.com/pathtrace/pathtrace/output/text"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// Whatever a file holds, reading it ends without a panic; what it gives can be
// printed and written again, and then comes back as it is.
func FuzzRead(f *testing.F) {
	data, _ := small(f)
	f.Add(data)
	f.Add(data[:len(data)/2])
	f.Add(file(f, Options{}, made(), &model.Summary{}))
	f.Add([]byte("\x0a\x0d\x0d\x0a\x1c\x00\x00\x00\x4d\x3c\x2b\x1a"))
	f.Add([]byte("\x0a\x0d\x0d\x0a\x00\x00\x00\x1c\x1a\x2b\x3c\x4d\x00\x01\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x1c"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m memory
		var story, first bytes.Buffer
		all := sinks{jsonl.New(&first), text.New(&story, text.Options{Wide: true}), New(&m, Options{All: true, Late: &m})}
		if err := Read(bytes.NewReader(data), all); err != nil {
			return
		}
		second, err := readBack(m.data)
		if err != nil {
			t.Fatalf("written again: %v", err)
		}
		if third := first.String(); second != third {
			t.Errorf("written again:\n got %s\nwant %s", second, third)
		}
	})
}

// sinks hands objects to several sinks, up to the first that fails.
type sinks []model.Sink

func each[T any](s sinks, to func(model.Sink, *T) error, object *T) error {
	var errs []error
	for _, sink := range s {
		errs = append(errs, to(sink, object))
	}
	return errors.Join(errs...)
}

func (s sinks) Start(o *model.Start) error     { return each(s, model.Sink.Start, o) }
func (s sinks) Packet(o *model.Packet) error   { return each(s, model.Sink.Packet, o) }
func (s sinks) Node(o *model.NodeEvent) error  { return each(s, model.Sink.Node, o) }
func (s sinks) Finding(o *model.Finding) error { return each(s, model.Sink.Finding, o) }
func (s sinks) Summary(o *model.Summary) error { return each(s, model.Sink.Summary, o) }
