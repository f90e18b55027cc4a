// SPDX-License-Identifier: Apache-2.0

package legacy_test

// These tests feed Parse with real tables, kept in testdata/blobs as the kernel
// gave them, and with damaged ones. FAMILY-NAME.table is a struct ipt_getinfo
// with the entries behind it, FAMILY-NAME.save what iptables-save printed.

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/ruleset/legacy"
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// blob is a table of testdata.
type blob struct {
	family, name  string
	info, entries []byte
}

func blobs(t testing.TB) []blob {
	t.Helper()
	paths, err := filepath.Glob("testdata/blobs/*.table")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no tables in testdata/blobs: %v", err)
	}
	var all []blob
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(path), ".table")
		family, _, _ := strings.Cut(name, "-")
		all = append(all, blob{family, name, raw[:legacy.SizeOfInfo], raw[legacy.SizeOfInfo:]})
	}
	return all
}

func TestParseKeptTables(t *testing.T) {
	for _, b := range blobs(t) {
		table, err := legacy.Parse(b.family, b.info, b.entries)
		if err != nil {
			t.Fatal(err)
		}
		differences(t, b.name, table.Save(), fixture(t, "blobs", b.name+".save"))
	}
}

func TestTruncatedTables(t *testing.T) {
	for _, b := range blobs(t) {
		for n := range len(b.entries) {
			short := slices.Clone(b.info)
			for _, info := range [][]byte{b.info, short} {
				binary.NativeEndian.PutUint32(short[80:], uint32(n)) // ipt_getinfo.size
				_, err := legacy.Parse(b.family, info, b.entries[:n])
				if !errors.Is(err, legacy.ErrCorrupt) || !strings.Contains(err.Error(), "table") {
					t.Fatalf("%s cut to %d bytes: %v", b.name, n, err)
				}
			}
		}
		for n := range len(b.info) {
			if _, err := legacy.Parse(b.family, b.info[:n], b.entries); !errors.Is(err, legacy.ErrCorrupt) {
				t.Fatalf("%s: information cut to %d bytes: %v", b.name, n, err)
			}
		}
	}
}

func TestDamagedTables(t *testing.T) {
	b := blobs(t)[0]
	lay := map[string]struct{ target, next int }{"ip": {88, 90}, "ip6": {140, 142}}[b.family]
	tests := []struct {
		about  string
		damage func(info, entries []byte)
		want   string
	}{
		{"an entry of no length", func(_, e []byte) { binary.NativeEndian.PutUint16(e[lay.next:], 0) }, "entry 0 at offset 0"},
		{"an entry that ends beyond the table", func(_, e []byte) { binary.NativeEndian.PutUint16(e[lay.next:], 0xfff8) }, "beyond the last"},
		{"a target within the header", func(_, e []byte) { binary.NativeEndian.PutUint16(e[lay.target:], 8) }, "header"},
		{"a target behind the entry", func(_, e []byte) { binary.NativeEndian.PutUint16(e[lay.target:], 0xfff0) }, "too soon"},
		{"one entry too few", func(i, _ []byte) { binary.NativeEndian.PutUint32(i[76:], 3) }, "3 announced"},
		{"more entries than there can be", func(i, _ []byte) { binary.NativeEndian.PutUint32(i[76:], 1<<31) }, "do not fit"},
		{"a hook that begins nowhere", func(i, _ []byte) { binary.NativeEndian.PutUint32(i[36+4*output:], 4) }, "belongs to no chain"},
		{"a policy that is none", func(i, _ []byte) { binary.NativeEndian.PutUint32(i[56+4*output:], 0) }, "OUTPUT"},
	}
	for _, test := range tests {
		t.Run(test.about, func(t *testing.T) {
			info, entries := slices.Clone(b.info), slices.Clone(b.entries)
			test.damage(info, entries)
			_, err := legacy.Parse(b.family, info, entries)
			if !errors.Is(err, legacy.ErrCorrupt) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

// FuzzParse also lets Order explain what Walk finds. Run it with
// -fuzzminimizetime 1x: minimizing whole tables takes longer than finding them.
func FuzzParse(f *testing.F) {
	for _, b := range blobs(f) {
		f.Add(b.family == legacy.IPv6, b.info, b.entries)
	}
	f.Fuzz(func(t *testing.T, six bool, info, entries []byte) {
		family := legacy.IPv4
		if six {
			family = legacy.IPv6
		}
		table, err := legacy.Parse(family, info, entries)
		if err != nil {
			if !errors.Is(err, legacy.ErrCorrupt) {
				t.Fatalf("%v is not ErrCorrupt", err)
			}
			return
		}
		table.Save()
		p := &packet.Packet{Family: family, Proto: 6, SrcPort: packet.Known[uint16](1), DstPort: packet.Known[uint16](80)}
		for hook := range legacy.Hooks {
			if !table.Has(hook) {
				continue
			}
			walk, err := table.Walk(p, hook)
			if err != nil || len(walk.Outcomes) == 0 && walk.Complete {
				t.Fatalf("hook %d: %+v, %v", hook, walk, err)
			}
			for _, o := range walk.Outcomes {
				explain(t, table, hook, o)
			}
		}
	})
}

// explain lets Order explain what Walk says: both follow the same rules.
func explain(t *testing.T, table *legacy.Table, hook int, o legacy.Outcome) {
	t.Helper()
	var way []int
	for _, s := range o.Steps {
		way = append(way, s.Match)
	}
	path, err := table.Order(hook, counted(way))
	if errors.Is(err, legacy.ErrUnexplained) && len(way) > 0 {
		t.Fatalf("%s: Walk went %v, Order: %v", legacy.HookName(hook), way, err)
	}
	if err == nil && !path.Ambiguous && !path.Inside && !slices.Equal(path.Ordinals, way) {
		t.Fatalf("%s: Walk went %v, Order %v", legacy.HookName(hook), way, path.Ordinals)
	}
}
