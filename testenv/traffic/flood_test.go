// SPDX-License-Identifier: Apache-2.0

// What arrives is counted right.

package traffic

import "testing"

func TestFloodCount(t *testing.T) {
	f := &flood{spec: FloodSpec{Packets: 10}, seen: make([]uint64, 1)}
	highest := -1
	for _, number := range []int{0, 1, 3, 2, 2, 9, 10} { // 10 is beyond the last
		highest = f.count(number, highest)
	}
	want := FloodResult{Received: 5, Duplicates: 1, Reordered: 1}
	if f.received != want || highest != 9 {
		t.Errorf("counted %+v, highest %d; want %+v, 9", f.received, highest, want)
	}
}
