// SPDX-License-Identifier: Apache-2.0

package nfnetlink

import "testing"

func TestHook(t *testing.T) {
	for _, c := range []struct {
		family string
		num    int
		want   string
	}{
		{"ip", PreRouting, "PREROUTING"}, {"ip6", LocalIn, "INPUT"}, {"inet", Forward, "FORWARD"}, {"ip", LocalOut, "OUTPUT"},
		{"ip", PostRouting, "POSTROUTING"}, {"inet", 5, "INGRESS"}, {"bridge", 5, "BROUTING"}, {"arp", 1, "OUTPUT"},
		{"netdev", 0, "INGRESS"}, {"netdev", 1, "EGRESS"}, {"netdev", 2, "hook 2"}, {"ip", 6, "hook 6"}, {"ip", -1, "hook -1"},
	} {
		if got := Hook(c.family, c.num); got != c.want {
			t.Errorf("%s %d: %q, want %q", c.family, c.num, got, c.want)
		}
	}
}
