// SPDX-License-Identifier: Apache-2.0

// names.go collects which address is whose and writes it as blocks of names,
// before the packets that need them.

package pcapng

import (
	"net/netip"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// names are addresses with the names of their owners. The zero value is ready.
type names struct {
	known map[netip.Addr]string
	fresh []netip.Addr // not written yet, in the order in which they became known
}

// maxNames bounds what is kept: a trace of any end may meet any number.
const maxNames = 1 << 12

func (n *names) add(addr netip.Addr, name string) {
	addr = addr.Unmap()
	name = strings.ReplaceAll(strings.ToValidUTF8(name, "\ufffd"), "\x00", "") // which ends a name
	if !addr.IsValid() || name == "" || len(n.known) >= maxNames || n.known[addr] != "" {
		return
	}
	if n.known == nil {
		n.known = map[netip.Addr]string{}
	}
	n.known[addr] = name
	n.fresh = append(n.fresh, addr)
}

// start takes the names of the two ends.
func (n *names) start(s *model.Start) {
	for _, e := range []*model.End{&s.Src, &s.Dst} {
		for _, prefix := range e.Addresses {
			if prefix.IsSingleIP() {
				n.add(prefix.Addr(), endName(e))
			}
		}
	}
}

// endName is what people call an end, "" where it has no name of its own.
func endName(e *model.End) string {
	switch {
	case e.Name != "" && e.Namespace != "":
		return e.Namespace + "/" + e.Name
	case e.Name == "" && e.Kind == "node":
		return "node"
	}
	return e.Name
}

// learn takes the names of places where a packet began or arrived: only then is
// its address the place's own.
func (n *names) learn(p *model.Packet) {
	src, dst := p.Src, p.Dst
	for i := range p.Hops {
		h := &p.Hops[i]
		if i == 0 && h.Hook == "OUTPUT" {
			n.add(src, h.Place)
		}
		if h.After != nil && h.After.Dst.IsValid() {
			dst = h.After.Dst
		}
		if h.Stage == model.StageDeliver && h.Tunnel == nil {
			n.add(dst, h.Place)
		}
	}
}

// flush appends a block of the names that have come since the last one.
func (n *names) flush(b *builder) {
	if len(n.fresh) == 0 {
		return
	}
	b.open(blockNames)
	for _, addr := range n.fresh {
		kind := uint16(nameIPv6)
		if addr.Is4() {
			kind = nameIPv4
		}
		raw, name := addr.AsSlice(), cutText([]byte(n.known[addr]), maxOption/2)
		length := len(raw) + len(name) + 1
		b.u16(kind)
		b.u16(uint16(length))
		b.buf = append(append(b.buf, raw...), name...)
		b.buf = append(b.buf, 0)
		b.align(length)
	}
	b.u32(nameEnd)
	b.close()
	n.fresh = n.fresh[:0]
}
