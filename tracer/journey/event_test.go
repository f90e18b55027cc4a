// SPDX-License-Identifier: Apache-2.0

package journey

// Samples of the ring buffer: right, cut short, and made of noise.

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
)

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		name string
		kind uint8
		size uintptr
		part func(Record) bool // the part of this kind is there
	}{
		{"transmit", bpf.KindTransmit, unsafe.Sizeof(bpf.Event{}), func(r Record) bool { return true }},
		{"unknown", 200, unsafe.Sizeof(bpf.Event{}), func(r Record) bool { return true }},
		{"table", bpf.KindTable, unsafe.Offsetof(bpf.EventTable{}.M), func(r Record) bool { return r.Table != nil }},
		{"route", bpf.KindRoute, unsafe.Sizeof(bpf.EventRoute{}), func(r Record) bool { return r.route != nil }},
		{"fib", bpf.KindFib, unsafe.Sizeof(bpf.EventRoute{}), func(r Record) bool { return r.route != nil }},
		{"neighbour", bpf.KindNeigh, unsafe.Sizeof(bpf.EventNeigh{}), func(r Record) bool { return r.neigh != nil }},
		{"conntrack", bpf.KindConntrack, unsafe.Sizeof(bpf.EventCt{}), func(r Record) bool { return r.ct != nil }},
		{"drop", bpf.KindDrop, unsafe.Sizeof(bpf.EventDrop{}), func(r Record) bool { return r.drop != nil }},
		{"module", bpf.KindModule, unsafe.Sizeof(bpf.EventModule{}), func(r Record) bool { return r.module != nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw := make([]byte, c.size)
			raw[unsafe.Offsetof(bpf.Event{}.Kind)] = c.kind
			binary.LittleEndian.PutUint64(raw[unsafe.Offsetof(bpf.Event{}.Id):], 42)
			r, err := Decode(raw)
			if err != nil || r.Id != 42 || r.Kind != c.kind || !c.part(r) {
				t.Errorf("decoded %+v, %v", r, err)
			}
			if _, err := Decode(append(raw, 1, 2, 3)); err != nil {
				t.Errorf("with more behind it: %v", err)
			}
			for _, n := range []int{0, 1, int(unsafe.Sizeof(bpf.Event{})) - 1, len(raw) - 1} {
				_, err := Decode(raw[:n])
				if err == nil || !strings.Contains(err.Error(), "bytes") || strings.Contains(err.Error(), "\n") {
					t.Errorf("%d bytes: error %v, want one line with the size", n, err)
				}
				if err != nil && len(err.Error()) > 200 {
					t.Errorf("%d bytes: error of %d characters", n, len(err.Error()))
				}
			}
		})
	}
}

func TestDecodeCopies(t *testing.T) {
	raw := (&sample{Event: bpf.Event{Kind: bpf.KindDrop}, drop: bpf.EventDrop{Location: 7}}).raw()
	r, err := Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	clear(raw)
	if r.drop.Location != 7 || r.Kind != bpf.KindDrop {
		t.Error("the reader's buffer is still in use")
	}
}

// FuzzAssembler turns noise into events: each is made of a few bytes that
// choose among what matters (kind, place, packet, skb, tuple), and raw noise
// for the rest. Whatever comes, every packet is told once and in full.
func FuzzAssembler(f *testing.F) {
	f.Add([]byte{1, 2, 0, 0, 0, 2, 1, 0, 0, 0, 18, 1, 0, 0, 0})
	f.Add([]byte{bpf.KindTable, 1, 3, 1, 0x23, bpf.KindDrop, 1, 3, 1, 0x23, bpf.KindPass, 3, 1, 2, 0xff})
	// seen elsewhere first, and with another IP id here
	f.Add([]byte("006010\x00\x00\x00\x01&1220ZB7110000012110000101180&Q1B711000001211\xe6\xe6\xe6\xe60000101180&A1\xb0001290"))
	f.Add([]byte("every byte of this is noise, and some of it is a fragment of another packet"))
	f.Fuzz(func(t *testing.T, noise []byte) {
		if r, err := Decode(noise); err == nil && r.Kind == bpf.KindModule && r.module == nil {
			t.Error("a module event without its part")
		}
		s := newStory(t)
		s.bracketed(1, forwardHook, between(otherEntry("ipv4_conntrack_in")), between(legacyTable("filter"), nftChain("t", "c")), nil)
		told := 0
		check := func(ps []*model.Packet) {
			for _, p := range ps {
				told++
				if p.ID != uint64(told) || len(p.Hops) == 0 || p.Outcome == "" || p.Outcome.Died() != (p.Drop != nil) {
					t.Fatalf("packet %d: %+v", told, p)
				}
				for _, h := range p.Hops {
					// where a copy was is not always known
					if h.Stage == "" || h.Netns != 0 && !(nodeMap{}).Belongs(h.Netns) || h.Netns == 0 && h.Place != "" {
						t.Fatalf("packet %d: hop %+v", told, h)
					}
				}
			}
		}
		for len(noise) >= 5 {
			e := fuzzEvent(t, noise[:5], noise)
			noise = noise[5:]
			s.asm.add(&e, s.now)
			if e.Mark&3 == 0 {
				s.now = s.now.Add(time.Duration(e.Mark) * time.Millisecond)
				check(s.asm.Due(s.now, false))
			}
		}
		check(s.asm.Due(s.now, true))
		if n := len(s.asm.active) + len(s.asm.alias) + len(s.asm.byFlow); n != 0 {
			t.Fatalf("%d things kept after all was told", n)
		}
	})
}

// fuzzEvent makes an event of five bytes of choice and any noise.
func fuzzEvent(t *testing.T, c, noise []byte) Record {
	var x sample
	for _, part := range [][]byte{rawOf(&x.Event), rawOf(&x.table), rawOf(&x.route), rawOf(&x.neigh), rawOf(&x.ct), rawOf(&x.drop)} {
		for i := range part {
			part[i] = noise[i%len(noise)]
		}
	}
	x.Kind = c[0] % (bpf.KindModule + 2)
	if x.Kind == bpf.KindModule {
		x.Kind = 200 // modules are no packets: read() keeps them apart; an unknown kind instead
	}
	x.Netns = uint32(c[1] % 6)
	x.Hook, x.Pf = c[2]%8, unix.NFPROTO_IPV4
	x.Id, x.Skb = uint64(c[3]%4), uint64(c[3]/4%4)
	x.Index = c[3] / 16
	x.T = tupleOf(t, []uint8{1, 6, 17, 58}[c[4]%4], tcpClient, tcpServer)
	x.T.Sport = uint16(c[4] / 4 % 2)
	x.Flags = c[2] &^ bpf.FlagTentative
	x.Mark = uint32(c[4])
	e, err := Decode(x.raw())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func rawOf[T any](v *T) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)) }
