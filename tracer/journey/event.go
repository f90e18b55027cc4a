// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"unsafe"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// Record is one event of the kernel half with the part that its kind appends.
type Record struct {
	bpf.Event
	Table  *bpf.EventTable
	route  *bpf.EventRoute
	neigh  *bpf.EventNeigh
	ct     *bpf.EventCt
	drop   *bpf.EventDrop
	module *bpf.EventModule
	bytes  *model.Frame // where they were asked for; may be filled in later (frames.go)
}

// Decode reads a ring buffer sample. The sample is copied: the reader may
// reuse its buffer.
func Decode(raw []byte) (Record, error) {
	var r Record
	e, err := as[bpf.Event](raw)
	if err != nil {
		return r, err
	}
	r.Event = *e
	switch e.Kind {
	case bpf.KindTable:
		r.Table, err = tableOf(raw)
	case bpf.KindRoute, bpf.KindFib:
		r.route, err = as[bpf.EventRoute](raw)
	case bpf.KindNeigh:
		r.neigh, err = as[bpf.EventNeigh](raw)
	case bpf.KindConntrack:
		r.ct, err = as[bpf.EventCt](raw)
	case bpf.KindDrop:
		r.drop, err = as[bpf.EventDrop](raw)
	case bpf.KindModule:
		r.module, err = as[bpf.EventModule](raw)
	}
	return r, err
}

// tableOf reads a table's event: only the matches there are were sent.
func tableOf(raw []byte) (*bpf.EventTable, error) {
	t := new(bpf.EventTable)
	head := int(unsafe.Offsetof(t.M))
	if len(raw) < head {
		return nil, fmt.Errorf("event of %d bytes: %T needs %d", len(raw), *t, head)
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(t)), unsafe.Sizeof(*t)), raw)
	sent := (len(raw) - head) / int(unsafe.Sizeof(t.M[0]))
	if n := int(t.Matches); n > sent && n <= len(t.M) {
		return nil, fmt.Errorf("event of %d bytes: holds %d of %d matches", len(raw), sent, n)
	}
	return t, nil
}

// as copies a sample into the type that bpf2go generated for it: same layout
// by construction, which is why this is a plain copy of bytes.
func as[T any](raw []byte) (*T, error) {
	t := new(T)
	size := int(unsafe.Sizeof(*t))
	if len(raw) < size {
		return nil, fmt.Errorf("event of %d bytes: %T needs %d", len(raw), *t, size)
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(t)), size), raw)
	return t, nil
}

// addrOf reads an address of the kernel half: network order in words.
func addrOf(words [4]uint32, family uint8) netip.Addr {
	var raw [16]byte
	for i, w := range words {
		binary.LittleEndian.PutUint32(raw[4*i:], w)
	}
	switch family {
	case 4:
		return netip.AddrFrom4([4]byte(raw[:4]))
	case 6:
		return netip.AddrFrom16(raw)
	}
	return netip.Addr{}
}

// CString reads a NUL-terminated name of the kernel half.
func CString(b []int8) string {
	var s strings.Builder
	for _, c := range b {
		if c == 0 {
			break
		}
		s.WriteByte(byte(c))
	}
	return s.String()
}
