// SPDX-License-Identifier: Apache-2.0

package meaning

import "testing"

func TestQueues(t *testing.T) {
	for text, want := range map[string][2]int{
		"-A FORWARD -p udp -j NFQUEUE --queue-num 7":                            {7, 7},
		"-A FORWARD -j NFQUEUE --queue-balance 1:3 --queue-bypass":              {1, 3},
		`-A FORWARD -m comment --comment "queue to 5" -j NFQUEUE --queue-num 0`: {0, 0},
		"udp dport 53 counter queue to 7":                                       {7, 7},
		"queue flags bypass,fanout to 1-3":                                      {1, 3},
		"queue num 9":                                                           {9, 9},
		"udp dport 53 queue to numgen inc mod 2 map { 0 : 3, 1 : 4 }":           {-1, -1},
		"udp dport 53 accept":                                                   {-1, -1},
		"-A FORWARD -m comment --comment \"--queue-num 5\" -j ACCEPT":           {-1, -1},
		"-A FORWARD -j NFQUEUE --queue-balance 3:1":                             {-1, -1},
		"queue to 70000":                                                        {-1, -1},
		"queue":                                                                 {-1, -1},
		"":                                                                      {-1, -1},
	} {
		first, last, ok := Queues(text)
		got := [2]int{int(first), int(last)}
		if !ok {
			got = [2]int{-1, -1}
		}
		if got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
