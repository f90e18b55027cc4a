// SPDX-License-Identifier: Apache-2.0

package pcapng

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// collect is a sink that keeps packets.
type collect struct {
	nothing
	packets []*model.Packet
	hops    int
}

func (c *collect) Packet(p *model.Packet) error {
	c.packets = append(c.packets, p)
	c.hops += len(p.Hops)
	return nil
}

// nothing is a sink that takes nothing in.
type nothing struct{}

func (nothing) Start(*model.Start) error     { return nil }
func (nothing) Packet(*model.Packet) error   { return nil }
func (nothing) Node(*model.NodeEvent) error  { return nil }
func (nothing) Finding(*model.Finding) error { return nil }
func (nothing) Summary(*model.Summary) error { return nil }

// packetsOf gives the packets of a recorded trace with 60 bytes at each hop.
func packetsOf(b *testing.B, trace string) collect {
	b.Helper()
	var c collect
	if err := model.ReadJSON(bytes.NewReader(traces(b)[trace]), &c); err != nil {
		b.Fatal(err)
	}
	for _, p := range c.packets {
		for i := range p.Hops {
			p.Hops[i].Frame = &model.Frame{LinkType: 1, Bytes: make([]byte, 74), Length: 74}
		}
	}
	return c
}

// cpuSeconds is the processor time this process has used, which other work on
// the machine does not change much.
func cpuSeconds(b *testing.B) float64 {
	b.Helper()
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()).Seconds()
}

// What writing costs: packets, and packet blocks, a second, into a real file.
func BenchmarkWrite(b *testing.B) {
	c := packetsOf(b, "calico-legacy_policy-deny-tcp.healthy")
	for _, all := range []bool{true, false} {
		b.Run(fmt.Sprintf("all=%t", all), func(b *testing.B) {
			file, err := os.Create(filepath.Join(b.TempDir(), "x.pcapng"))
			if err != nil {
				b.Fatal(err)
			}
			defer file.Close()
			w := New(file, Options{All: all, SnapLen: 256, Late: file})
			if err := w.Start(&model.Start{}); err != nil {
				b.Fatal(err)
			}
			blocks, packets, began := 0, 0, cpuSeconds(b)
			for b.Loop() {
				p := c.packets[packets%len(c.packets)]
				if err := w.Packet(p); err != nil {
					b.Fatal(err)
				}
				packets++
				if all {
					blocks += len(p.Hops)
				}
				if packets%1000 == 0 { // the disk is not what is measured
					if _, err := file.Seek(0, io.SeekStart); err != nil {
						b.Fatal(err)
					}
				}
			}
			took := cpuSeconds(b) - began
			b.ReportMetric(float64(packets)/took, "packets/cpu-s")
			b.ReportMetric(float64(blocks)/took, "blocks/cpu-s")
			b.ReportMetric(float64(w.Size())/float64(packets), "B/packet")
		})
	}
}
