// SPDX-License-Identifier: Apache-2.0

package node

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestFamilyID: the controller, which every kernel has, has a fixed number (GENL_ID_CTRL).
func TestFamilyID(t *testing.T) {
	for name, want := range map[string]uint16{"nlctrl": unix.GENL_ID_CTRL, "no-such-family": 0} {
		if id, err := familyID(name); id != want || err != nil {
			t.Errorf("%s: %d, %v; want %d", name, id, err, want)
		}
	}
}

// TestGenlHeader: the reserved bytes are zero.
func TestGenlHeader(t *testing.T) {
	h := genlHeader{3, 1}
	if got := h.Serialize(); len(got) != h.Len() || got[0] != 3 || got[1] != 1 || got[2] != 0 || got[3] != 0 {
		t.Errorf("% x", got)
	}
}
