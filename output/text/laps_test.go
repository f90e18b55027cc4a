// SPDX-License-Identifier: Apache-2.0

package text

import (
	"strings"
	"testing"
)

// A round that comes three times or more in a row is told once, with how often it
// came again; nothing else is left out or put together.
func TestLaps(t *testing.T) {
	for _, tc := range []struct{ goes, told string }{
		{"", ""},
		{"a b c", "a b c"},
		{"a a", "a a"},
		{"a b a b", "a b a b"},
		{"a a a", "a 1x2"},
		{"s a b a b a b e", "s a b 2x2 e"},
		{"a b c a b c a b c a b", "a b c 3x2 a b"},
		{"a a b a a b a a b", "a a b 3x2"},
		{"a a a a b b b b", "a 1x3 b 1x3"},
		{strings.Repeat("l o n g ", 30), "l o n g 4x29"},
	} {
		var story []*step
		for _, word := range strings.Fields(tc.goes) {
			story = append(story, &step{place: "node", device: "eth0", phrases: []phrase{{text: word}}})
		}
		var told []string
		for _, s := range laps(story) {
			words := s.words()
			if s.level == odd {
				f := strings.Fields(words) // the last 4 steps again, 29 times
				words = f[2] + "x" + f[5]
			}
			told = append(told, words)
		}
		if got := strings.Join(told, " "); got != tc.told {
			t.Errorf("%q is told as %q, want %q", tc.goes, got, tc.told)
		}
	}
	two := []*step{{place: "a", phrases: []phrase{{text: "x"}}}, {place: "b", phrases: []phrase{{text: "x"}}}, {place: "a", phrases: []phrase{{text: "x"}}}}
	if got := laps(two); len(got) != 3 {
		t.Errorf("%d steps, want the 3 of different places", len(got))
	}
}
