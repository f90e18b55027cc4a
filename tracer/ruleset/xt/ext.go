// SPDX-License-Identifier: Apache-2.0

package xt

// Reading an extension's struct field by field, by offset. A row's size was
// checked before, so a decoder reads within bounds as long as it keeps to the
// struct's constant offsets.

import (
	"bytes"
	"encoding/binary"
	"net/netip"
)

// ext is a blob with what is needed to read it.
type ext struct {
	Context
	rev  uint8
	data []byte
}

func (e ext) u8(off int) uint8   { return e.data[off] }
func (e ext) u16(off int) uint16 { return binary.NativeEndian.Uint16(e.data[off:]) }
func (e ext) u32(off int) uint32 { return binary.NativeEndian.Uint32(e.data[off:]) }
func (e ext) u64(off int) uint64 { return binary.NativeEndian.Uint64(e.data[off:]) }

// be16 and be32 read a field that the kernel keeps in network order.
func (e ext) be16(off int) uint16 { return binary.BigEndian.Uint16(e.data[off:]) }
func (e ext) be32(off int) uint32 { return binary.BigEndian.Uint32(e.data[off:]) }

// str reads a char array up to its NUL, or all of it if it has none.
func (e ext) str(off, size int) string {
	s := e.data[off : off+size]
	if i := bytes.IndexByte(s, 0); i >= 0 {
		s = s[:i]
	}
	return string(s)
}

// addressed tells whether a union nf_inet_addr can be read: only the rule's
// family tells which of its members is meant.
func (e ext) addressed() bool {
	return e.Family == FamilyIPv4 || e.Family == FamilyIPv6
}

// bits is the length of the family's addresses.
func (e ext) bits() int {
	if e.Family == FamilyIPv4 {
		return 32
	}
	return 128
}

// addr reads a union nf_inet_addr (include/uapi/linux/netfilter.h).
func (e ext) addr(off int) netip.Addr {
	if e.Family == FamilyIPv4 {
		return e.addr4(off)
	}
	return e.addr6(off)
}

func (e ext) addr4(off int) netip.Addr {
	return netip.AddrFrom4([4]byte(e.data[off : off+4]))
}

func (e ext) addr6(off int) netip.Addr {
	return netip.AddrFrom16([16]byte(e.data[off : off+16]))
}
