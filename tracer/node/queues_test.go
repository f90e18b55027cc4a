// SPDX-License-Identifier: Apache-2.0

package node

import (
	"slices"
	"strings"
	"testing"
)

func TestReadPacketQueues(t *testing.T) {
	// as Linux 6.18 printed it
	text := "    7   4711     3 2 65531     5     6       23  1\n  300      0     0 0     0     0     0        0  1\n"
	got, err := readPacketQueues(strings.NewReader(text))
	want := []PacketQueue{{Number: 7, Port: 4711, Waiting: 3, Dropped: 5, Lost: 6}, {Number: 300}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"7 1 2\n", "x 1 2 3 4 5 6 7 8\n"} {
		if _, err := readPacketQueues(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
