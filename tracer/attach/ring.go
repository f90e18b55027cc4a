// SPDX-License-Identifier: Apache-2.0

package attach

// Reads the events that the kernel half sends.

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

const (
	burst = 20 * time.Millisecond
	// To be woken is most of what a slow flow's trace takes: once for its first
	// event, once to take them all, once to tell the packet.
	gather = 10 * time.Millisecond
	// gatherBytes is how much of the ring buffer's 8 MiB may gather meanwhile.
	gatherBytes = 256 << 10
)

// Ring is the ring buffer of events.
type Ring struct {
	reader *ringbuf.Reader
	wait   *ringWait
}

func openRing(events *ebpf.Map) (*Ring, error) {
	reader, err := ringbuf.NewReader(events)
	if err != nil {
		return nil, fmt.Errorf("ring buffer: %w", err)
	}
	wait, err := newRingWait(events)
	if err != nil {
		return nil, errors.Join(err, reader.Close())
	}
	return &Ring{reader, wait}, nil
}

// Wake ends a Read, or the next one if there is none now; never none, so at times
// both.
func (r *Ring) Wake() { r.wait.wake() }

// Filled is how many bytes of events wait in the ring buffer, and its size.
func (r *Ring) Filled() (filled, size int) { return r.reader.AvailableBytes(), r.reader.BufferSize() }

// Close ends reading.
func (r *Ring) Close() error { return errors.Join(r.wait.Close(), r.reader.Close()) }

// Read waits for events, and hands over those that come within a burst until none does.
// It lets them gather between two looks: a packet makes some twenty within
// microseconds, and the kernel wakes a reader for each that finds it waiting.
func (r *Ring) Read(wait time.Duration, record func(raw []byte) error) (int, error) {
	if err := r.wait.wait(func() bool { return r.reader.AvailableBytes() > 0 }, wait); err != nil {
		return 0, err
	}
	n := 0
	enough := func() bool { return r.reader.AvailableBytes() >= gatherBytes }
	for end := time.Now().Add(burst); r.reader.AvailableBytes() > 0 && time.Now().Before(end); {
		if !enough() {
			if err := r.wait.wait(enough, gather); err != nil {
				return n, err
			}
		}
		more, err := r.take(end, record)
		if n += more; err != nil {
			return n, err
		}
	}
	return n, nil
}

// take takes the events that are there, no longer than until an end.
func (r *Ring) take(end time.Time, record func(raw []byte) error) (int, error) {
	r.reader.SetDeadline(time.Now())
	var rec ringbuf.Record
	for n := 0; ; n++ {
		// while there are events the reader does not look at its deadline
		if n%64 == 63 && time.Now().After(end) {
			return n, nil
		}
		err := r.reader.ReadInto(&rec)
		if errors.Is(err, unix.ETIMEDOUT) || isTimeout(err) {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("ring buffer: %w", err)
		}
		if err := record(rec.RawSample); err != nil {
			return n, fmt.Errorf("ring buffer: %w", err)
		}
	}
}

func isTimeout(err error) bool {
	var to interface{ Timeout() bool }
	return errors.As(err, &to) && to.Timeout()
}
