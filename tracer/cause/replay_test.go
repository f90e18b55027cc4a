// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"bytes"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/journey"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// replay gives what a Collector finds in a recorded trace on a recorded node.
func replay(t *testing.T, path string) []model.Finding {
	t.Helper()
	return findingsOf(t, path, func(*model.Packet) {})
}

// findingsOf is replay with packets that are changed before they are looked at.
func findingsOf(t *testing.T, path string, change func(*model.Packet)) []model.Finding {
	t.Helper()
	var told feed
	play(t, path, func(c *Collector) model.Sink { return changing{c.Sink(&told), change} })
	return told
}

// play hands a recorded trace to a sink made around a Collector on the recorded
// node.
func play(t *testing.T, path string, sink func(*Collector) model.Sink) {
	t.Helper()
	state, err := readRecorded(path + ".state.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	trace, err := readGzip(path + ".jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	c := New(state, func(line string) { t.Errorf("could not be asked: %s", line) })
	// as the tracer hands packets on
	connections := journey.NewConnections()
	settled := changing{sink(c), connections.Settle}
	if err := model.ReadJSON(bytes.NewReader(trace), settled); err != nil {
		t.Fatal(err)
	}
}

// fileName is the test data's file of a scenario, without its ending.
func fileName(scenario string) string { return strings.ReplaceAll(scenario, "/", "_") }

// feed is a sink that keeps the findings of the end.
type feed []model.Finding

func (*feed) Start(*model.Start) error    { return nil }
func (*feed) Packet(*model.Packet) error  { return nil }
func (*feed) Node(*model.NodeEvent) error { return nil }
func (f *feed) Finding(o *model.Finding) error {
	if !o.Live {
		*f = append(*f, *o)
	}
	return nil
}
func (*feed) Summary(*model.Summary) error { return nil }

// changing changes packets on their way.
type changing struct {
	model.Sink
	change func(*model.Packet)
}

func (s changing) Packet(p *model.Packet) error {
	s.change(p)
	return s.Sink.Packet(p)
}
