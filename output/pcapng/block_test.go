// SPDX-License-Identifier: Apache-2.0

package pcapng

import (
	"encoding/binary"
	"strings"
	"testing"
	"unicode/utf8"
)

// options takes a list of options apart.
func options(t *testing.T, data []byte) (codes []uint16, values []string) {
	t.Helper()
	for len(data) > 0 {
		code, n := binary.LittleEndian.Uint16(data), int(binary.LittleEndian.Uint16(data[2:]))
		codes, values = append(codes, code), append(values, string(data[4:4+n]))
		data = data[4+n+pad(n):]
	}
	return codes, values
}

// Whatever the comment, it fits the room that was left, to the byte.
func TestFill(t *testing.T) {
	for _, room := range []int{8, 12, findingRoom} {
		for n := range room + 9 {
			text := strings.Repeat("ä", n/2) + strings.Repeat("x", n%2)
			got := fill([]byte(text), room)
			if len(got) != 4+room {
				t.Fatalf("%d bytes in room for %d: %d bytes written", n, room, len(got))
			}
			codes, values := options(t, got)
			switch {
			case codes[0] != optComment || len(codes) > 2 || len(codes) == 2 && codes[1] != optRoom:
				t.Fatalf("%d bytes in room for %d: options %v", n, room, codes)
			case n <= room && values[0] != text:
				t.Fatalf("%d bytes in room for %d: %q", n, room, values[0])
			case n > room && (!strings.HasSuffix(values[0], "...") || !utf8.ValidString(values[0])):
				t.Fatalf("%d bytes in room for %d: %q", n, room, values[0])
			}
		}
	}
}

func TestCommentsAreDividedBetweenLines(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []int // lengths
	}{
		"just fits":            {strings.Repeat("x", maxOption), []int{maxOption}},
		"one more":             {strings.Repeat("x", maxOption+1), []int{maxOption, 1}},
		"a line ends early":    {"x\n" + strings.Repeat("x", maxOption), []int{maxOption, 2}},
		"a line ends late":     {strings.Repeat("x", 60000) + "\n" + strings.Repeat("y", 60000), []int{60001, 60000}},
		"not within character": {strings.Repeat("ä", maxOption), []int{maxOption - 1, maxOption - 1, 2}},
		"nothing":              {"", nil},
	} {
		var b builder
		b.comment([]byte(c.text))
		codes, values := options(t, b.buf)
		var got []int
		for i, v := range values {
			if codes[i] != optComment || !utf8.ValidString(v) {
				t.Errorf("%s: option %d", name, codes[i])
			}
			got = append(got, len(v))
		}
		if len(got) != len(c.want) || strings.Join(values, "") != c.text {
			t.Errorf("%s: lengths %v, want %v", name, got, c.want)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s: lengths %v, want %v", name, got, c.want)
			}
		}
	}
}
