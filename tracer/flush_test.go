// SPDX-License-Identifier: Apache-2.0

package tracer

// What is handed over, and counted.

import (
	"errors"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// collector is a sink that keeps packets, and refuses when full.
type collector struct {
	packets []*model.Packet
	room    int
}

var errFull = errors.New("disk full")

func (c *collector) Start(*model.Start) error { return nil }
func (c *collector) Packet(p *model.Packet) error {
	if len(c.packets) == c.room {
		return errFull
	}
	c.packets = append(c.packets, p)
	return nil
}
func (c *collector) Node(*model.NodeEvent) error    { return nil }
func (c *collector) Finding(*model.Finding) error   { return nil }
func (c *collector) Summary(s *model.Summary) error { return nil }

func TestHandOver(t *testing.T) {
	packets := []*model.Packet{
		{ID: 1, Direction: model.Forward, Outcome: model.Dropped},
		{ID: 2, Direction: model.Return, Outcome: model.Delivered},
		{ID: 3, Direction: model.Forward, Outcome: model.LeftNode},
		{ID: 4, Direction: model.Forward, Outcome: model.LeftNode},
	}
	tr := &Tracer{cfg: Config{Packets: 3}}
	sum, sink := &model.Summary{}, &collector{room: 9}
	if err := tr.handOver(sink, sum, packets); err != nil {
		t.Fatal(err)
	}
	if err := tr.handOver(sink, sum, packets); err != nil {
		t.Fatal(err)
	}
	if len(sink.packets) != 3 || sum.Forward != (model.Counts{Seen: 2, Dropped: 1, LeftNode: 1}) || sum.Return != (model.Counts{Seen: 1, Delivered: 1}) {
		t.Errorf("told %d packets, summary %+v", len(sink.packets), sum)
	}
	if n, died := tr.Progress(); n != 3 || died != 1 {
		t.Errorf("progress %d, %d", n, died)
	}
	if err := (&Tracer{}).handOver(&collector{room: 1}, sum, packets); !errors.Is(err, errFull) {
		t.Errorf("error %v, want the sink's", err)
	}
}
