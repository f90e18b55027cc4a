// SPDX-License-Identifier: Apache-2.0

package spelling

import "testing"

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		x, y string
		want int
	}{{"", "abc", 3}, {"abc", "abc", 0}, {"cali1", "cali2", 1}, {"cali12", "cali2", 1}, {"kitten", "sitting", 3}} {
		if got := Distance(c.x, c.y); got != c.want || Distance(c.y, c.x) != c.want {
			t.Errorf("%s to %s: %d, want %d", c.x, c.y, got, c.want)
		}
	}
}
