// SPDX-License-Identifier: Apache-2.0

package journey

// The packets' bytes: makes frames of what the kernel half sends (bpf/frame.h),
// and puts them to the events they belong to.

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// An event and its bytes are sent within one program run: what has not
// found its other half after so many frames will not do so any more.
const frameMemory = 4096

// frames puts bytes and events together, whichever of the two comes first.
type frames struct {
	snap  int
	halfs map[uint32]*model.Frame // by number; until both are here
	lost  uint64                  // whose bytes never came, of hops that were told
	cut   uint64                  // that end where a fragment could not be read, of hops that were told
}

func newFrames(snap int) *frames {
	return &frames{snap: snap, halfs: make(map[uint32]*model.Frame)}
}

// isFrame tells a frame from an event, which begins with a time.
func isFrame(raw []byte) bool {
	return len(raw) >= 8 && binary.LittleEndian.Uint64(raw) == 0
}

// of gives the frame that an event bears the number of. Its bytes may be still
// to come: LinkType is 0 until then.
func (f *frames) of(number uint32) *model.Frame {
	if number == 0 {
		return nil
	}
	return f.half(number)
}

// half gives the frame of that number: the first time a new one, the second
// time the same.
func (f *frames) half(number uint32) *model.Frame {
	if known, ok := f.halfs[number]; ok {
		delete(f.halfs, number)
		return known
	}
	if len(f.halfs) >= frameMemory {
		for n := range f.halfs {
			if number-n > frameMemory/2 {
				delete(f.halfs, n) // its event was lost, which is counted as such
			}
		}
	}
	fresh := &model.Frame{}
	f.halfs[number] = fresh
	return fresh
}

// add takes a frame off the ring buffer.
func (f *frames) add(raw []byte) error {
	head, err := as[bpf.Frame](raw)
	if err != nil {
		return err
	}
	*f.half(head.Number) = frameOf(head, raw[unsafe.Sizeof(*head):], f.snap)
	return nil
}

const (
	linkTypeEthernet = 1 // LINKTYPE_ETHERNET
	ethernetHeader   = 14
	vlanTag          = 4
)

// frameOf makes an Ethernet frame: one link type serves all hops on an
// interface, so what has no such header here gets one without addresses. A tag
// that the kernel keeps beside the bytes is put back, as capture libraries do.
func frameOf(head *bpf.Frame, data []byte, snap int) model.Frame {
	f := model.Frame{LinkType: linkTypeEthernet, Length: head.Length}
	link := int(head.Link)
	f.Bytes = make([]byte, 0, min(len(data)+ethernetHeader+vlanTag, snap))
	var addresses [12]byte
	if isEthernet(data, link) {
		copy(addresses[:], data)
		data = data[min(len(data), len(addresses)):]
	} else {
		f.Synthetic = true
		data = data[min(link, len(data)):]
		f.Length += ethernetHeader - head.Link
		var etherType [2]byte
		binary.BigEndian.PutUint16(etherType[:], unix.ETH_P_IP)
		if len(data) > 0 && data[0]>>4 == 6 {
			binary.BigEndian.PutUint16(etherType[:], unix.ETH_P_IPV6)
		}
		data = append(etherType[:], data...)
	}
	f.Bytes = append(f.Bytes, addresses[:]...)
	if head.VlanProto != 0 {
		f.Length += vlanTag
		f.Bytes = binary.LittleEndian.AppendUint16(f.Bytes, head.VlanProto) // as it stands in memory
		f.Bytes = binary.BigEndian.AppendUint16(f.Bytes, head.VlanTci)
	}
	f.Bytes = append(f.Bytes, data...)
	f.Bytes = f.Bytes[:min(len(f.Bytes), snap)]
	return f
}

// isEthernet tells whether the link bytes before the IP header are an Ethernet
// header: devices have others, and old headers may have been written over.
func isEthernet(data []byte, link int) bool {
	if link < ethernetHeader || len(data) < link {
		// what is cut inside its header cannot be looked at
		return link >= ethernetHeader
	}
	for at := 12; at+2 <= link; at += vlanTag {
		switch binary.BigEndian.Uint16(data[at:]) {
		case unix.ETH_P_8021Q, unix.ETH_P_8021AD:
			continue
		case unix.ETH_P_IP, unix.ETH_P_IPV6:
			return at+2 == link
		}
		return false
	}
	return false
}

// settle looks at the hops of a packet that is about to be told: frames whose
// bytes never came are taken off, and what is missing is counted.
func (f *frames) settle(hops []model.Hop) {
	var last *model.Frame // a rewrite and the sighting that showed it share theirs
	for i := range hops {
		frame := hops[i].Frame
		if frame == nil {
			continue
		}
		if frame.LinkType == 0 {
			hops[i].Frame = nil
		}
		switch {
		case frame == last:
		case frame.LinkType == 0:
			f.lost++
		case len(frame.Bytes) < min(int(frame.Length), f.snap):
			f.cut++
		}
		last = frame
	}
}
