// SPDX-License-Identifier: Apache-2.0

package xt

// What no kernel has to be asked for: what is not understood, sizes, comments.

import (
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

func TestOpaque(t *testing.T) {
	four := Context{Family: FamilyIPv4}
	for _, c := range []struct{ got, want string }{
		{DecodeMatch(four, "geoip", 1, make([]byte, 40)).Text(), "-m geoip <40 bytes>"},
		{DecodeMatch(four, "tcp", 9, make([]byte, 12)).Text(), "-m tcp <12 bytes>"},
		{DecodeMatch(four, "tcp", 0, make([]byte, 17)).Text(), "-m tcp <17 bytes>"},
		{DecodeMatch(four, "tcp", 0, nil).Text(), "-m tcp <0 bytes>"},
		{DecodeMatch(Context{Family: FamilyIPv6}, "ttl", 0, make([]byte, 8)).Text(), "-m ttl <8 bytes>"},
		{DecodeMatch(Context{Family: FamilyInet}, "iprange", 1, make([]byte, 72)).Text(), "-m iprange <72 bytes>"},
		{DecodeTarget(four, "TARPIT", 0, make([]byte, 8)).Text(), "-j TARPIT <8 bytes>"},
		{DecodeTarget(Context{Family: FamilyBridge}, "REJECT", 0, make([]byte, 8)).Text(), "-j REJECT <8 bytes>"},
	} {
		if c.got != c.want {
			t.Errorf("prints %q, want %q", c.got, c.want)
		}
	}
	p := tcp()
	target := DecodeTarget(four, "TARPIT", 0, nil)
	if target.Apply(&p); target.Kind != Undecided || p.Mark.Known || p.CT.Mark.Known {
		t.Errorf("opaque target: %v, packet's mark %v: it may have done anything", target.Kind, p.Mark)
	}
	if a := DecodeMatch(four, "geoip", 1, nil).Eval(&p); a != packet.Unknown {
		t.Errorf("opaque match answers %v", a)
	}
}

// TestSizes takes blobs as legacy rules have them, aligned, and bare.
func TestSizes(t *testing.T) {
	for _, size := range []int{12, 13, 16} { // struct xt_mark_mtinfo1 is 12 bytes with its padding
		if m := DecodeMatch(Context{}, "mark", 1, make([]byte, size)); m.Opaque {
			t.Errorf("mark of %d bytes is opaque", size)
		}
	}
}

// TestRowsDoNotOverlap finds two rows that would read the same blob: the second
// could never be reached.
func TestRowsDoNotOverlap(t *testing.T) {
	check := func(kind string, a, b func(family, name string, rev uint8, size int) bool, name string, rev uint8, size int) {
		for _, family := range []string{FamilyIPv4, FamilyIPv6, FamilyInet} {
			if a(family, name, rev, size) && b(family, name, rev, size) {
				t.Errorf("%s %s revision %d of %d bytes: two rows for family %s", kind, name, rev, size, family)
			}
		}
	}
	for i := range matches {
		for j := range matches[:i] {
			check("match", matches[i].covers, matches[j].covers, matches[i].name, matches[i].first, matches[i].size)
		}
	}
	for i := range targets {
		for j := range targets[:i] {
			check("target", targets[i].covers, targets[j].covers, targets[i].name, targets[i].first, targets[i].size)
		}
	}
}

func TestComment(t *testing.T) {
	blob := make([]byte, 256)
	copy(blob, "cali:a b")
	m := DecodeMatch(Context{}, "comment", 0, blob)
	if m.Comment() != "cali:a b" || m.Text() != `-m comment --comment "cali:a b"` {
		t.Errorf("comment %q, text %s", m.Comment(), m.Text())
	}
	copy(blob, strings.Repeat("x", 256)) // no NUL at the end: the last byte is taken for one
	if got := DecodeMatch(Context{}, "comment", 0, blob).Comment(); len(got) != 255 {
		t.Errorf("comment without an end has %d bytes", len(got))
	}
}

// TestUnnamedSet shows the index of a set that nobody names, and does not guess.
func TestUnnamedSet(t *testing.T) {
	blob := []byte{3, 0, 1, 2, 0, 0, 0, 0} // index 3, one dimension, of the source
	if hostIsBigEndian() {
		blob[0], blob[1] = 0, 3
	}
	m, p := DecodeMatch(Context{Family: FamilyIPv4}, "set", 1, blob), tcp()
	if m.Text() != "-m set --match-set <set 3> src" || m.Eval(&p) != packet.Unknown {
		t.Errorf("%s answers %v", m.Text(), m.Eval(&p))
	}
}

func hostIsBigEndian() bool { return ext{data: []byte{0, 1}}.u16(0) == 1 }

func TestDecodeEntryRefuses(t *testing.T) {
	for _, c := range []struct {
		family string
		size   int
		want   string
	}{
		{FamilyIPv4, 83, "rule header of family ip: 83 bytes, want 84"},
		{FamilyIPv6, 84, "rule header of family ip6: 84 bytes, want 136"},
		{FamilyBridge, 500, `rule header: family "bridge" has none`},
	} {
		if _, err := DecodeEntry(c.family, make([]byte, c.size)); err == nil || err.Error() != c.want {
			t.Errorf("%s, %d bytes: %v, want %s", c.family, c.size, err, c.want)
		}
	}
}
