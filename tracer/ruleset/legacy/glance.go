// SPDX-License-Identifier: Apache-2.0

package legacy

// This file passes over most entries of a big table without unpacking them.

import (
	"encoding/binary"
	"net/netip"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// misses tells at a glance that an entry does not match a packet: its addresses
// or its protocol are others. False: the entry has to be asked.
func (t *Table) misses(i int, p *packet.Packet) bool {
	lay := &t.layout
	packed, n := t.kept(i)
	g := glance{packed, n, lay.addr}
	var asked [2 * unitLen]byte // from the protocol on
	binary.NativeEndian.PutUint32(asked[:], g.unit(lay.protocol))
	binary.NativeEndian.PutUint32(asked[unitLen:], g.unit(lay.protocol+unitLen))
	proto, flags, inverted := u16(asked[:]), asked[lay.flags-lay.protocol], asked[lay.flags+1-lay.protocol]
	switch {
	case proto != 0 && flags&lay.proto == lay.proto && inverted&invertProto == 0 && proto != int(p.Proto):
		return true
	case inverted&invertSrc == 0 && g.differs(0, p.Src):
		return true
	}
	return inverted&invertDst == 0 && g.differs(lay.addr, p.Dst)
}

// glance reads single units of a packed header.
type glance struct {
	packed []byte
	n      int // bytes that were packed
	addr   int // bytes of an address
}

// unit gives the unit at an offset.
func (g glance) unit(offset int) uint32 { return unitAt(g.packed, g.n, offset/unitLen) }

// differs compares an address with the one at an offset, whose mask lies two
// addresses behind. Addresses of another family are not told apart here.
func (g glance) differs(at int, a netip.Addr) bool {
	if g.addr == 4 {
		a = a.Unmap()
	}
	if a.BitLen() != 8*g.addr {
		return false
	}
	raw := a.As16()
	for u := 0; u < g.addr; u += unitLen {
		mask := g.unit(at + 2*g.addr + u)
		if mask != 0 && (g.unit(at+u)^u32(raw[16-g.addr+u:]))&mask != 0 {
			return true
		}
	}
	return false
}
