// SPDX-License-Identifier: Apache-2.0

package legacy

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// What is packed comes out again, all of it, its beginning, and each unit alone.
func TestPack(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		raw := make([]byte, unitLen*random.IntN(80))
		for i := range raw {
			if random.IntN(9) == 0 {
				raw[i] = byte(random.Uint32())
			}
		}
		packed := append(pack([]byte{1}, raw)[1:], 0xff) // behind others, and others behind it
		if n := packedLen(packed, len(raw)); n != len(packed)-1 {
			t.Fatalf("%x takes %d bytes, told %d", raw, len(packed)-1, n)
		}
		for _, n := range []int{len(raw), unitLen * random.IntN(len(raw)/unitLen+1)} {
			got := bytes.Repeat([]byte{7}, n)
			if unpack(got, packed, len(raw)); !bytes.Equal(got, raw[:n]) {
				t.Fatalf("the first %d of %x came out as %x", n, raw, got)
			}
		}
		for u := range len(raw) / unitLen {
			if got := unitAt(packed, len(raw), u); got != u32(raw[u*unitLen:]) {
				t.Fatalf("unit %d of %x is %x", u, raw, got)
			}
		}
	}
}

// An entry that is kept is the kernel's, but for its counters, which are kept too.
func TestEntriesAreKept(t *testing.T) {
	for _, family := range []string{IPv4, IPv6} {
		info, raw := madeTable(t, family, 100, "comment", "tcp")
		lay, _ := layouts(family)
		random := rand.New(rand.NewPCG(1, 2))
		var offsets []int
		for at := 0; at < len(raw); at += u16(raw[at+lay.target+2:]) {
			offsets = append(offsets, at)
			binary.NativeEndian.PutUint64(raw[at+lay.counts:], random.Uint64()>>random.IntN(64))
			binary.NativeEndian.PutUint64(raw[at+lay.counts+8:], random.Uint64()>>random.IntN(64))
		}
		table, err := Parse(family, info, raw)
		if err != nil {
			t.Fatal(err)
		}
		for i, at := range offsets {
			want := slices.Clone(raw[at : at+u16(raw[at+lay.target+2:])])
			packets, bytes := binary.NativeEndian.Uint64(want[lay.counts:]), binary.NativeEndian.Uint64(want[lay.counts+8:])
			if p, b := table.Counters(i); p != packets || b != bytes {
				t.Errorf("entry %d: counters %d and %d, want %d and %d", i, p, b, packets, bytes)
			}
			clear(want[lay.counts : lay.counts+countsLen])
			head, target := table.entry(i)
			if got := append(head, target...); !slices.Equal(got, want) {
				t.Errorf("entry %d is %x, want %x", i, got, want)
			}
		}
	}
}

// A glance may miss that an entry does not match, never the other way.
func TestGlance(t *testing.T) {
	addrs := map[string][]string{
		IPv4: {"10.0.0.1", "10.0.0.2", "10.0.1.1", "::ffff:10.0.0.1", "fd00::1"},
		IPv6: {"fd00::1", "fd00::2", "fd01::1", "::ffff:10.0.0.1", "10.0.0.1"},
	}
	random := rand.New(rand.NewPCG(3, 4))
	missed := 0
	for family, all := range addrs {
		lay, _ := layouts(family)
		addr := func() netip.Addr {
			if i := random.IntN(len(all) + 1); i < len(all) {
				return netip.MustParseAddr(all[i])
			}
			return netip.Addr{}
		}
		info, raw := madeTable(t, family, 1, "comment")
		first := u16(raw[lay.target+2:]) // behind INPUT's policy
		for range 5000 {
			ip := raw[first : first+lay.ip]
			clear(ip)
			for i := range 2 {
				if a := netip.MustParseAddr(all[random.IntN(3)]); random.IntN(4) > 0 {
					copy(ip[i*lay.addr:], a.AsSlice())
					for b := range random.IntN(lay.addr + 1) {
						ip[(2+i)*lay.addr+b] = 0xff
					}
				}
			}
			ip[lay.protocol] = []byte{0, 6, 17}[random.IntN(3)]
			ip[lay.flags] = byte(random.IntN(2))
			ip[lay.flags+1] = byte(random.Uint32()) & []byte{0, 0x7f}[random.IntN(2)]
			table, err := Parse(family, info, raw)
			if err != nil {
				t.Fatal(err)
			}
			p := &packet.Packet{Family: family, Src: addr(), Dst: addr(), Proto: []uint8{6, 17}[random.IntN(2)], Fragment: packet.Known(false)}
			answer := table.header(1).Eval(p)
			if table.misses(1, p) {
				missed++
				if answer != packet.No {
					t.Fatalf("%s: %x does not match %v > %v of protocol %d at a glance, asked: %v", family, ip, p.Src, p.Dst, p.Proto, answer)
				}
			}
		}
	}
	if missed < 2000 {
		t.Errorf("only %d entries were seen not to match at a glance", missed)
	}
}

// What a big table takes is bounded: as many bytes for each rule, also while it is
// read and compared.
func TestHeldMemory(t *testing.T) {
	const rules = 100_000
	for _, c := range []struct {
		family  string
		matches []string
		most    uint64 // bytes for a rule
	}{
		{IPv4, []string{"tcp"}, 100},
		{IPv4, []string{"comment", "tcp"}, 140},
		{IPv6, []string{"comment", "tcp"}, 180},
	} {
		info, raw := madeTable(t, c.family, rules, c.matches...)
		before := live()
		table, err := Parse(c.family, info, raw)
		if err != nil {
			t.Fatal(err)
		}
		n := (live() - before) / rules
		if held := uint64(table.Held()) / rules; held > n || held < n*3/4 {
			t.Errorf("the table says it holds %d bytes a rule, of the heap it takes %d", held, n)
		}
		if n > c.most {
			t.Errorf("%s rules of %d bytes with %v take %d bytes each, want %d at most", c.family, len(raw)/rules, c.matches, n, c.most)
		} else {
			t.Logf("%s rules of %d bytes with %v take %d bytes each", c.family, len(raw)/rules, c.matches, n)
		}
		if n := testing.AllocsPerRun(1, func() {
			if !table.same(info, raw) {
				t.Error("the same bytes are another table's")
			}
		}); n > 50 {
			t.Errorf("to compare it took %v allocations", n)
		}
		var started, ended runtime.MemStats
		runtime.ReadMemStats(&started)
		if _, err := Parse(c.family, info, raw); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&ended)
		if n := (ended.TotalAlloc - started.TotalAlloc) / rules; n > c.most {
			t.Errorf("to parse it took %d bytes a rule, want no more than it keeps", n)
		}
		runtime.KeepAlive(table)
		runtime.KeepAlive(raw)
	}
}

// live is how many bytes of the heap are in use.
func live() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
