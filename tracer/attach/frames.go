// SPDX-License-Identifier: Apache-2.0

package attach

// Has the kernel half send the packets' bytes (bpf/frame.h), and lets it find out
// where it can read those that are in page fragments.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// MaxSnapLen is the largest Config.SnapLen: SNAP_MAX of bpf/frame.h.
const MaxSnapLen = 65535

const (
	frameBuffers = 3        // of each CPU: FRAME_BUFFERS of bpf/frame.h
	plainRing    = 8 << 20  // the ring buffer without packet bytes: max_entries of bpf/state.h
	largestRing  = 64 << 20 // bytes

	searchGiB     = 64       // a run of find_memory: SEARCH_GIB of bpf/frame.h
	largestMemory = 16 << 10 // GiB that are searched
)

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
func (a *Attachment) findMemory() error {
	pfn, err := consumerPage(a.coll.Maps["events"])
	if err != nil {
		return err
	}
	for gib := uint64(0); gib < largestMemory; gib += searchGiB {
		args := struct{ A [2]uint64 }{[2]uint64{pfn, gib}}
		if _, err := a.coll.Programs["find_memory"].Run(&ebpf.RunOptions{Context: args}); err != nil {
			return fmt.Errorf("find the kernel's mapping of memory: %w", err)
		}
		var page uint64
		if err := a.coll.Variables["known_page"].Get(&page); err != nil {
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
