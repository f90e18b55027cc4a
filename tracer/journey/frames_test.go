// SPDX-License-Identifier: Apache-2.0

package journey

// What becomes of the records that hold packet bytes.

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// frameRecord is a record as the kernel half sends it.
func frameRecord(head bpf.Frame, data []byte) []byte {
	return append(bytes.Clone(rawOf(&head)), data...)
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestFrameOf(t *testing.T) {
	const (
		macs = "020000000001 020000000002"
		none = "000000000000 000000000000"
		ip4  = "45000018 00004000 4011abcd 0af40102 0a630002 aabbccdd"
		ip6  = "60000000 00043a40 fd000001000000000000000000000002 fd000099000000000000000000000002 8000abcd"
	)
	for _, c := range []struct {
		name      string
		link      uint32
		tci       uint16 // of a tag beside the bytes; 0: none
		data      string
		snap      int
		want      string
		synthetic bool
	}{
		{"ethernet", 14, 0, macs + "0800" + ip4, 100, macs + "0800" + ip4, false},
		{"cut by us as by the kernel", 14, 0, macs + "0800" + ip4, 20, macs + "0800" + ip4[:13], false},
		{"cut within its header", 14, 0, macs, 10, "020000000001 02000000", false},
		{"a tag in the bytes", 18, 0, macs + "8100 0007 86dd" + ip6, 100, macs + "8100 0007 86dd" + ip6, false},
		{"a tag beside the bytes", 14, 0x2007, macs + "0800" + ip4, 100, macs + "8100 2007 0800" + ip4, false},
		{"a tag beside the bytes, cut", 14, 0x2007, macs + "0800" + ip4, 24, macs + "8100 2007 0800" + ip4[:13], false},
		{"no header, IPv4", 0, 0, ip4, 100, none + "0800" + ip4, true},
		{"no header, IPv6", 0, 0, ip6, 100, none + "86dd" + ip6, true},
		{"no header, cut", 0, 0, ip6, 30, none + "86dd" + "60000000 00043a40 fd000001 00000000", true},
		{"a header of another kind", 16, 0, "0000 0001 0006 020000000001 0000 0800" + ip4, 100, none + "0800" + ip4, true},
		{"an old header written over", 14, 0, macs + "0045" + ip4, 100, none + "0800" + ip4, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := unhex(t, c.data)
			head := bpf.Frame{Number: 7, Length: uint32(len(data)), Link: c.link}
			if c.tci != 0 {
				head.VlanProto, head.VlanTci = 0x0081, c.tci // network order, as x86 reads it
			}
			f := newFrames(c.snap)
			got := f.of(7)
			if err := f.add(frameRecord(head, data[:min(len(data), c.snap)])); err != nil {
				t.Fatal(err)
			}
			want := unhex(t, c.want)
			if !bytes.Equal(got.Bytes, want) || got.Synthetic != c.synthetic || got.LinkType != 1 {
				t.Errorf("%x, synthetic %v, link type %d, want %x, %v", got.Bytes, got.Synthetic, got.LinkType, want, c.synthetic)
			}
			length := len(data)
			if c.tci != 0 {
				length += 4
			}
			if c.synthetic {
				length += 14 - int(c.link)
			}
			if int(got.Length) != length {
				t.Errorf("length %d, want %d", got.Length, length)
			}
			f.settle([]model.Hop{{Frame: got}})
			if f.cut+f.lost != 0 || len(f.halfs) != 0 {
				t.Errorf("%d cut, %d lost, %d waiting", f.cut, f.lost, len(f.halfs))
			}
		})
	}
}

func TestFramesFindTheirEvents(t *testing.T) {
	f := newFrames(100)
	data := append(make([]byte, 12), 8, 0, 0x45)
	add := func(number, length uint32) {
		t.Helper()
		if err := f.add(frameRecord(bpf.Frame{Number: number, Length: length, Link: 14}, data)); err != nil {
			t.Fatal(err)
		}
	}
	if f.of(0) != nil {
		t.Error("an event without bytes got some")
	}
	early := f.of(1)
	never := f.of(9)
	hops := []model.Hop{{Frame: early}, {}, {Frame: never}, {Frame: never}}
	add(1, 15)
	f.settle(hops)
	if f.lost != 1 || f.cut != 0 || hops[0].Frame != early || hops[2].Frame != nil || hops[3].Frame != nil || len(early.Bytes) != 15 {
		t.Errorf("%d without bytes, hops %+v", f.lost, hops)
	}
	add(2, 90)
	late := f.of(2)
	f.settle([]model.Hop{{Frame: late}, {Frame: late}})
	if len(late.Bytes) != 15 || late.Length != 90 || f.cut != 1 {
		t.Errorf("frame %+v, %d cut: the kernel half could read no more than 15 of 90 bytes", late, f.cut)
	}
	// events that are lost leave bytes behind
	for n := range uint32(3 * frameMemory) {
		add(n-frameMemory, 15) // numbers begin again after the last one
	}
	if len(f.halfs) > frameMemory {
		t.Errorf("%d frames kept whose events never came", len(f.halfs))
	}
	if err := f.add(make([]byte, 20)); err == nil || !strings.Contains(err.Error(), "event of 20 bytes") {
		t.Errorf("a record that is too short: %v", err)
	}
}

// A frame's record is told from an event's by its first eight bytes.
func TestIsFrame(t *testing.T) {
	event := rawOf(&bpf.Event{Ts: 1, Kind: bpf.KindReceive})
	if isFrame(event) || !isFrame(frameRecord(bpf.Frame{Number: 1}, nil)) || isFrame(nil) {
		t.Error("frames and events are not told apart")
	}
}

// FuzzFrame: whatever a record holds, a frame comes out that fits its own sizes.
func FuzzFrame(f *testing.F) {
	f.Add(frameRecord(bpf.Frame{Number: 1, Length: 40, Link: 14, VlanProto: 0x81}, make([]byte, 40)), uint16(64))
	f.Fuzz(func(t *testing.T, raw []byte, snap uint16) {
		if len(raw) >= 8 {
			binary.LittleEndian.PutUint64(raw, 0)
		}
		frames := newFrames(int(snap))
		if err := frames.add(raw); err != nil {
			return
		}
		for _, got := range frames.halfs {
			if len(got.Bytes) > int(snap) || got.LinkType != 1 {
				t.Errorf("%d bytes, snap length %d: %+v", len(got.Bytes), snap, got)
			}
		}
	})
}
