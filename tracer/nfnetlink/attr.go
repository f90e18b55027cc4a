// SPDX-License-Identifier: Apache-2.0

package nfnetlink

// This file takes netlink attributes apart (struct nlattr, linux/netlink.h).
// Numbers of netfilter's attributes are in network order.

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// HeaderSize is the length of struct nfgenmsg, which stands before the
// attributes of every nfnetlink message (linux/netfilter/nfnetlink.h).
const HeaderSize = 4

// typeMask cuts the flags off an attribute's type (NLA_TYPE_MASK).
const typeMask = 0x3fff

// Attr is one attribute. Its value shares the message's memory.
type Attr struct {
	Type  uint16
	Value []byte
}

// Attrs are the attributes of one level, in the order sent.
type Attrs []Attr

// Message gives the attributes behind the header of an nfnetlink message.
func Message(msg []byte) (Attrs, error) {
	if len(msg) < HeaderSize {
		return nil, fmt.Errorf("message of %d bytes is shorter than its header", len(msg))
	}
	return Parse(msg[HeaderSize:])
}

// Parse gives the attributes in b. The padding behind the last one may be
// missing.
func Parse(b []byte) (Attrs, error) {
	var all Attrs
	for len(b) >= unix.SizeofNlAttr {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofNlAttr || length > len(b) {
			return nil, fmt.Errorf("attribute of %d bytes where %d are left", length, len(b))
		}
		all = append(all, Attr{
			Type:  binary.NativeEndian.Uint16(b[2:]) & typeMask,
			Value: b[unix.SizeofNlAttr:length:length],
		})
		b = b[min(Align(length), len(b)):]
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("%d bytes behind the last attribute", len(b))
	}
	return all, nil
}

// Align rounds a length up to the next attribute (NLA_ALIGN).
func Align(n int) int { return (n + unix.NLA_ALIGNTO - 1) &^ (unix.NLA_ALIGNTO - 1) }

// Get gives the value of an attribute; of several of one type, the last.
func (a Attrs) Get(typ uint16) ([]byte, bool) {
	for i := len(a) - 1; i >= 0; i-- {
		if a[i].Type == typ {
			return a[i].Value, true
		}
	}
	return nil, false
}

// Has tells whether an attribute is there.
func (a Attrs) Has(typ uint16) bool {
	_, ok := a.Get(typ)
	return ok
}

// Nest gives the attributes nested in one; none when it is not there.
func (a Attrs) Nest(typ uint16) (Attrs, error) {
	v, ok := a.Get(typ)
	if !ok {
		return nil, nil
	}
	return Parse(v)
}

// Number is a number of 1, 2, 4 or 8 bytes in network order.
func (a Attrs) Number(typ uint16) (uint64, bool) {
	v, ok := a.Get(typ)
	if !ok {
		return 0, false
	}
	switch len(v) {
	case 1:
		return uint64(v[0]), true
	case 2:
		return uint64(binary.BigEndian.Uint16(v)), true
	case 4:
		return uint64(binary.BigEndian.Uint32(v)), true
	case 8:
		return binary.BigEndian.Uint64(v), true
	}
	return 0, false
}

// Uint32 is a number of four bytes in network order.
func (a Attrs) Uint32(typ uint16) (uint32, bool) {
	v, ok := a.Get(typ)
	if !ok || len(v) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(v), true
}

// Text is a string, with or without a NUL behind it; "" when it is not there.
func (a Attrs) Text(typ uint16) string {
	v, _ := a.Get(typ)
	return unix.ByteSliceToString(v)
}

// PutUint32 appends an attribute with a number in network order.
func PutUint32(b []byte, typ uint16, value uint32) []byte {
	return Put(b, typ, binary.BigEndian.AppendUint32(nil, value))
}

// PutUint64 appends an attribute with a number in network order.
func PutUint64(b []byte, typ uint16, value uint64) []byte {
	return Put(b, typ, binary.BigEndian.AppendUint64(nil, value))
}

// PutText appends an attribute with a string and its NUL.
func PutText(b []byte, typ uint16, value string) []byte {
	return Put(b, typ, append([]byte(value), 0))
}

// Put appends an attribute and its padding.
func Put(b []byte, typ uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofNlAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, value...)
	return append(b, make([]byte, Align(len(value))-len(value))...)
}

// Header is struct nfgenmsg: family, version, and a resource id that questions
// have no use for.
func Header(family uint8) []byte { return []byte{family, unix.NFNETLINK_V0, 0, 0} }
