// SPDX-License-Identifier: Apache-2.0

package journey

// Words of the kernel half: addresses and names.

import (
	"net/netip"
	"testing"
)

func TestAddrOf(t *testing.T) {
	for _, in := range []string{"10.1.2.3", "fd00::1:2"} {
		words := tupleOf(t, 0, in, in)
		if got := addrOf(words.Saddr, words.Family); got != netip.MustParseAddr(in) {
			t.Errorf("%s came back as %s", in, got)
		}
	}
	if addrOf([4]uint32{1}, 0).IsValid() {
		t.Error("an address of no family is valid")
	}
}

func TestCString(t *testing.T) {
	for in, want := range map[string]string{"": "", "eth0": "eth0", "eth0\x00old": "eth0", "0123456789abcdef": "0123456789abcdef", "caf\xc3\xa9": "café"} {
		raw := make([]int8, 16)
		setName(raw, in)
		if got := CString(raw); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}
