// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"bytes"
	"path/filepath"
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
	settled := changing{sink(c), func(p *model.Packet) {
		if p.Drop != nil && p.Drop.Tunnel == nil {
			p.Drop.Tunnel = diedIn(filepath.Base(path))
		}
		connections.Settle(p)
	}}
	if err := model.ReadJSON(bytes.NewReader(trace), settled); err != nil {
		t.Fatal(err)
	}
}

// diedIn is the outer header that the deaths of a recording were in on their way into
// the node. These were recorded before a death told it; it is as the node's tunnel, the
// rule and the packets of the other direction have it, which is all but the source port.
func diedIn(recording string) *model.Tunnel {
	switch recording {
	case "flannel-legacy_vxlan-blocked-return-udp":
		return &model.Tunnel{Kind: "vxlan", VNI: 1, Src: node2, Dst: node1, DstPort: 8472}
	case "calico-legacy_checksum-tunnel-icmp":
		return &model.Tunnel{Kind: "vxlan", VNI: 4096, Src: node2, Dst: node1, DstPort: 4789}
	}
	return nil
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
