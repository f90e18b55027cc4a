// SPDX-License-Identifier: Apache-2.0

package xt

// No bytes may make a decoder, its evaluation or its effect panic: blobs come
// from a kernel that may be newer than this code.

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// fuzzFamilies are the families a fuzzed number chooses from.
func fuzzFamilies() []string { return []string{FamilyIPv4, FamilyIPv6, FamilyInet, FamilyBridge} }

// fuzzPackets are one packet of which everything is known, and one of which
// nothing is.
func fuzzPackets() []packet.Packet {
	return []packet.Packet{{}, {
		Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("fd00::1"), Proto: protoTCP,
		SrcPort: packet.Known(uint16(1)), DstPort: packet.Known(uint16(2)), TCPFlags: packet.Known(uint8(2)),
		Length: packet.Known(uint32(60)), TTL: packet.Known(uint8(64)), TOS: packet.Known(uint8(0)), Fragment: packet.Known(false),
		In: packet.Known("eth0"), Out: packet.Known(""), PhysIn: packet.Known("a"), PhysOut: packet.Known(""), Mark: packet.Known(uint32(1)),
		CT: packet.Conntrack{State: packet.Known(packet.StateNew), Reply: packet.Known(false), Original: packet.Known(packet.Tuple{}),
			Answer: packet.Known(packet.Tuple{}), Status: packet.Known(uint32(0)), Mark: packet.Known(uint32(0))},
		World: world{},
	}}
}

func FuzzDecodeMatch(f *testing.F) {
	for i := range matches {
		for family := range fuzzFamilies() {
			f.Add(uint8(family), matches[i].name, matches[i].last, make([]byte, (matches[i].size+7)&^7))
			f.Add(uint8(family), matches[i].name, matches[i].last, []byte(strings.Repeat("\xff", matches[i].size)))
		}
	}
	f.Fuzz(func(t *testing.T, family uint8, name string, revision uint8, data []byte) {
		m := DecodeMatch(Context{Family: fuzzFamilies()[family%4], Sets: names16{}}, name, revision, data)
		if !strings.HasPrefix(m.Text(), "-m ") {
			t.Errorf("match prints as %q", m.Text())
		}
		for _, p := range fuzzPackets() {
			if a := m.Eval(&p); m.Opaque && a != packet.Unknown {
				t.Errorf("opaque match answers %v", a)
			}
		}
	})
}

func FuzzDecodeTarget(f *testing.F) {
	for i := range targets {
		for family := range fuzzFamilies() {
			f.Add(uint8(family), targets[i].name, targets[i].last, make([]byte, (targets[i].size+7)&^7))
			f.Add(uint8(family), targets[i].name, targets[i].last, []byte(strings.Repeat("\xff", targets[i].size)))
		}
	}
	f.Fuzz(func(t *testing.T, family uint8, name string, revision uint8, data []byte) {
		tg := DecodeTarget(Context{Family: fuzzFamilies()[family%4]}, name, revision, data)
		if !strings.HasPrefix(tg.Text(), "-j ") {
			t.Errorf("target prints as %q", tg.Text())
		}
		if tg.Opaque && tg.Kind != Undecided {
			t.Errorf("opaque target is decided: %v", tg.Kind)
		}
		for _, p := range fuzzPackets() {
			tg.Apply(&p)
		}
	})
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add(uint8(0), make([]byte, EntrySizeIPv4))
	f.Add(uint8(1), []byte(strings.Repeat("\xff", EntrySizeIPv6)))
	f.Fuzz(func(t *testing.T, family uint8, data []byte) {
		e, err := DecodeEntry(fuzzFamilies()[family%4], data)
		if err != nil {
			return
		}
		e.Text()
		for _, p := range fuzzPackets() {
			e.Eval(&p)
		}
	})
}

// names16 knows every set as s.
type names16 struct{}

func (names16) SetName(uint16) (string, bool) { return "s", true }
