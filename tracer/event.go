// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"fmt"
	"unsafe"

	"github.com/pathtrace/pathtrace/bpf"
)

// record is one event of the kernel half with the part that its kind appends.
type record struct {
	bpf.Event
	table  *bpf.EventTable
	route  *bpf.EventRoute
	neigh  *bpf.EventNeigh
	ct     *bpf.EventCt
	drop   *bpf.EventDrop
	module *bpf.EventModule
}

// decode reads a ring buffer sample. The sample is copied: the reader may
// reuse its buffer.
func decode(raw []byte) (record, error) {
	var r record
	e, err := as[bpf.Event](raw)
	if err != nil {
		return r, err
	}
	r.Event = *e
	switch e.Kind {
	case bpf.KindTable:
		r.table, err = as[bpf.EventTable](raw)
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
