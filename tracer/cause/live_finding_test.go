// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"path/filepath"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// order is a sink that keeps what is told after what.
type order struct {
	feed
	types []string
	live  []model.Finding
}

func (o *order) Packet(*model.Packet) error {
	o.types = append(o.types, "packet")
	return nil
}

func (o *order) Finding(f *model.Finding) error {
	if !f.Live {
		return o.feed.Finding(f)
	}
	o.types, o.live = append(o.types, "finding"), append(o.live, *f)
	return nil
}

// What is certain is told once while the trace goes on, right after a packet, and
// again at the end; what is only likely waits for the end.
func TestLiveFindings(t *testing.T) {
	for _, w := range told {
		t.Run(w.name, func(t *testing.T) {
			var all order
			play(t, filepath.Join("testdata", fileName(w.name)), func(c *Collector) model.Sink { return c.Sink(&all) })
			if len(all.feed) != 1 {
				t.Fatalf("%d findings at the end", len(all.feed))
			}
			end := all.feed[0]
			// that no answer comes is certain only when the trace is over
			if end.Confidence == Likely || rankOf(end.Code) >= len(causes) {
				if len(all.live) > 0 {
					t.Errorf("likely, or known at the end only, but told at once: %s", words(all.live[0]))
				}
				return
			}
			if len(all.live) != 1 || all.live[0].Summary != end.Summary || all.live[0].Code != end.Code {
				t.Errorf("%d told at once: %+v; at the end: %s", len(all.live), all.live, words(end))
			}
			if all.types[0] != "packet" {
				t.Errorf("told in this order: %v", all.types)
			}
		})
	}
}
