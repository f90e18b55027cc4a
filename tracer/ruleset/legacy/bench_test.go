// SPDX-License-Identifier: Apache-2.0

package legacy_test

// What a traced packet costs on a node with many rules: its order is found, or
// the table is walked, once per table that it passes.

import (
	"net/netip"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/ruleset/legacy"
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
	"golang.org/x/sys/unix"
)

func BenchmarkTenThousandRules(b *testing.B) {
	p := newPlace(b)
	p.restore(legacy.IPv4, bigTable(10000))
	var info, entries []byte
	p.do(func() (err error) { info, entries, err = legacy.Raw(legacy.IPv4, "filter"); return err })
	table, err := legacy.Parse(legacy.IPv4, info, entries)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("Parse", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if _, err := legacy.Parse(legacy.IPv4, info, entries); err != nil {
				b.Fatal(err)
			}
		}
	})
	last := &packet.Packet{ // the last rule of the last chain
		Family: legacy.IPv4, Src: netip.MustParseAddr("10.99.99.1"), Dst: netip.MustParseAddr("10.99.0.1"),
		Proto: unix.IPPROTO_TCP, SrcPort: packet.Known[uint16](1), DstPort: packet.Known[uint16](1999), Fragment: packet.Known(false),
	}
	var way []int
	b.Run("Walk", func(b *testing.B) {
		for range b.N {
			walk, err := table.Walk(last, forward)
			if o, certain := walk.Certain(); err != nil || !certain || o.Verdict != "drop" || table.Entries[o.Deciding()].Number != 99 {
				b.Fatalf("%+v, %v", walk, err)
			} else {
				way = ordinals(o)
			}
		}
	})
	b.Run("Order", func(b *testing.B) {
		for range b.N {
			if path, err := table.Order(forward, counted(way)); err != nil || path.Deciding != way[len(way)-1] {
				b.Fatalf("%+v, %v", path, err)
			}
		}
	})
}
