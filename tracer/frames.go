// SPDX-License-Identifier: Apache-2.0

package tracer

// The packets' bytes: asks the kernel half for them (bpf/frame.h), makes frames
// of what it sends, and puts them to the events they belong to.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// MaxSnapLen is the largest Config.SnapLen: SNAP_MAX of bpf/frame.h.
const MaxSnapLen = 65535

const (
	frameBuffers = 3        // of each CPU: FRAME_BUFFERS of bpf/frame.h
	plainRing    = 8 << 20  // the ring buffer without packet bytes: max_entries of bpf/state.h
	largestRing  = 64 << 20 // bytes
	// An event and its bytes are sent within one program run: what has not
	// found its other half after so many frames will not do so any more.
	frameMemory = 4096

	searchGiB     = 64       // a run of find_memory: SEARCH_GIB of bpf/frame.h
	largestMemory = 16 << 10 // GiB that are searched
)

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

// sizeFrames makes room for the packets' bytes, where they are wanted.
func sizeFrames(spec *ebpf.CollectionSpec, cpus, snap int) error {
	if snap == 0 {
		return nil
	}
	if err := spec.Variables["snaplen"].Set(uint32(snap)); err != nil {
		return fmt.Errorf("set snaplen: %w", err)
	}
	spec.Maps["frame_buffers"].MaxEntries = uint32(cpus * frameBuffers)
	// an event with its record's head is some 256 bytes
	ring := plainRing
	for ring < largestRing && ring < plainRing/256*(256+snap) {
		ring *= 2
	}
	spec.Maps["events"].MaxEntries = uint32(ring)
	return nil
}

// findMemory lets the kernel half find out where it can read page fragments.
// Without it frames end with the linear part of packets.
func (t *Tracer) findMemory() error {
	pfn, err := consumerPage(t.att.coll.Maps["events"])
	if err != nil {
		return err
	}
	for gib := uint64(0); gib < largestMemory; gib += searchGiB {
		args := struct{ A [2]uint64 }{[2]uint64{pfn, gib}}
		if _, err := t.att.coll.Programs["find_memory"].Run(&ebpf.RunOptions{Context: args}); err != nil {
			return fmt.Errorf("find the kernel's mapping of memory: %w", err)
		}
		var page uint64
		if err := t.att.coll.Variables["known_page"].Get(&page); err != nil {
			return fmt.Errorf("read known_page: %w", err)
		}
		if page != 0 {
			return nil
		}
	}
	return errors.New("find the kernel's mapping of memory: not where it is looked for")
}

// consumerPage gives the number of the page in memory that holds the ring
// buffer's consumer position (Documentation/admin-guide/mm/pagemap.rst).
func consumerPage(events *ebpf.Map) (uint64, error) {
	size := os.Getpagesize()
	page, err := unix.Mmap(events.FD(), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return 0, fmt.Errorf("map the ring buffer: %w", err)
	}
	defer unix.Munmap(page)
	file, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return 0, err
	}
	defer file.Close()
	var entry [8]byte
	at := int64(uintptr(unsafe.Pointer(&page[0]))) / int64(size) * int64(len(entry))
	if _, err := file.ReadAt(entry[:], at); err != nil {
		return 0, fmt.Errorf("read /proc/self/pagemap: %w", err)
	}
	const present, number = 1 << 63, 1<<55 - 1
	v := binary.LittleEndian.Uint64(entry[:])
	if v&present == 0 || v&number == 0 {
		return 0, errors.New("/proc/self/pagemap: does not tell where the ring buffer is (CAP_SYS_ADMIN is needed)")
	}
	return v & number, nil
}
