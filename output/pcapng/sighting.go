// SPDX-License-Identifier: Apache-2.0

// sighting.go turns a hop, or a death, into a packet block.

package pcapng

import (
	"slices"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// sighting is what a packet block tells: a packet at one place.
type sighting struct {
	netns  uint32
	place  string
	name   string // of the interface
	index  uint32
	at     string // place and interface in words
	atNS   int64
	frame  *model.Frame // nil: no bytes
	length uint32       // where there are no bytes
	copied int
	way    uint32 // epb_flags: 0 is not known
	room   bool   // a finding may be told of it later
}

// hopSighting is a packet at one hop.
func hopSighting(p *model.Packet, h *model.Hop) sighting {
	length := h.Length
	if length == 0 {
		length = p.Length
	}
	return sighting{
		netns: h.Netns, place: h.Place, name: h.Interface, index: h.IfIndex,
		atNS: h.AtNS, frame: h.Frame, length: length, copied: h.Copy, way: way(h.Hook, h.Stage),
	}
}

// dropSighting is a packet where it died: at the hop that says so, else where
// it was seen last.
func dropSighting(p *model.Packet) sighting {
	s := sighting{length: p.Length}
	if i := dropHop(p); i >= 0 {
		s = hopSighting(p, &p.Hops[i])
	} else if n := len(p.Hops); n > 0 {
		s = hopSighting(p, &p.Hops[n-1])
		s.frame = nil // what it was like there is not what died
	}
	if d := p.Drop; d != nil {
		if d.Netns != 0 {
			s.netns, s.place, s.name, s.index = d.Netns, d.Place, d.Interface, d.IfIndex
		}
		s.way = way(d.Hook, d.Stage)
	}
	s.room = true
	return s
}

// dropHop is the hop that tells a packet's death, -1 if there is none.
func dropHop(p *model.Packet) int {
	for i, h := range slices.Backward(p.Hops) {
		if h.Stage == model.StageDrop {
			return i
		}
	}
	return -1
}

// way says which way a packet went through its interface: as long as it was not
// handed on for sending, the interface is the one that it came in by.
func way(hook string, stage model.Stage) uint32 {
	switch hook {
	case "PREROUTING", "INPUT", "FORWARD", "INGRESS":
		return flagInbound
	case "OUTPUT", "POSTROUTING", "EGRESS":
		return flagOutbound
	}
	switch stage {
	case model.StageReceive, model.StageDeliver, model.StageDecapsulate:
		return flagInbound
	case model.StageTransmit, model.StageQdisc, model.StageNeighbor, model.StageEncapsulate:
		return flagOutbound
	}
	return 0
}

// sighting appends a packet block.
func (w *Writer) sighting(p *model.Packet, s *sighting, on *described, comment []byte) {
	w.names.flush(&w.b)
	at := p.Time.UnixNano() + s.atNS
	on.count(at)
	data, length := s.bytes(w.opt.SnapLen)

	b := &w.b
	b.open(blockPacket)
	b.u32(on.id)
	b.time(at)
	b.u32(uint32(len(data)))
	b.u32(length)
	b.buf = append(b.buf, data...)
	b.align(len(data))
	b.comment(comment)
	if s.room && w.opt.Late != nil {
		w.late.drop(p.ID, w.size+int64(len(b.buf)))
		b.room(findingRoom)
	}
	if s.way != 0 {
		b.number32(optPacketFlags, s.way)
	}
	if lost := w.losses(); lost > 0 {
		b.number64(optPacketDropCount, lost)
	}
	b.number64(optPacketID, p.ID)
	if s.room {
		verdict(b, p.Drop)
	}
	b.close()
}

// bytes gives the bytes to be written and the length of the whole.
func (s *sighting) bytes(most int) (data []byte, length uint32) {
	if s.frame == nil {
		return nil, s.length
	}
	data = s.frame.Bytes
	length = max(s.frame.Length, uint32(len(data)))
	if most > 0 && len(data) > most {
		data = data[:most]
	}
	return data, length
}

// losses counts what was lost since it was asked last.
func (w *Writer) losses() uint64 {
	if w.opt.Lost == nil {
		return 0
	}
	now := w.opt.Lost()
	lost := now - w.lost
	w.lost = now
	return lost
}

// verdict appends the verdict of a death that the format knows a kind of verdict
// for: tc's (net/core/dev.c, 6.12: sch_handle_ingress and sch_handle_egress give
// these reasons on TC_ACT_SHOT alone). It has none for netfilter's.
func verdict(b *builder, d *model.Drop) {
	if d == nil || d.Reason != "TC_INGRESS" && d.Reason != "TC_EGRESS" {
		return
	}
	b.head(optPacketVerdict, 9)
	b.buf = append(b.buf, verdictTC)
	b.u64(tcActShot)
	b.align(9)
}
