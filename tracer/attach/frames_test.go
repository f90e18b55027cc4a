// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"testing"

	"github.com/pathtrace/pathtrace/bpf"
)

func TestSizeFrames(t *testing.T) {
	for _, c := range []struct {
		snap int
		ring uint32
	}{{0, 8 << 20}, {64, 16 << 20}, {256, 16 << 20}, {1500, 64 << 20}, {MaxSnapLen, 64 << 20}} {
		spec, err := bpf.LoadTracepoint()
		if err != nil {
			t.Fatal(err)
		}
		if err := sizeFrames(spec, 3, c.snap); err != nil {
			t.Fatal(err)
		}
		var snap uint32
		if err := spec.Variables["snaplen"].Get(&snap); err != nil {
			t.Fatal(err)
		}
		buffers := uint32(1)
		if c.snap > 0 {
			buffers = 9
		}
		if snap != uint32(c.snap) || spec.Maps["events"].MaxEntries != c.ring || spec.Maps["frame_buffers"].MaxEntries != buffers {
			t.Errorf("snap length %d: %d in the kernel half, ring of %d bytes, %d buffers", c.snap, snap,
				spec.Maps["events"].MaxEntries, spec.Maps["frame_buffers"].MaxEntries)
		}
	}
}
