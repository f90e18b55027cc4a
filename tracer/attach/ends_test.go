// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"net/netip"
	"testing"

	"github.com/pathtrace/pathtrace/bpf"
)

// The kernel half finds the longest prefix only: it tells the ends of those that
// hold it too.
func TestEndKeys(t *testing.T) {
	var src, dst []netip.Prefix
	for _, p := range []string{"10.0.0.0/8", "fd00::1/128"} {
		src = append(src, netip.MustParsePrefix(p))
	}
	for _, p := range []string{"10.1.0.5/32", "10.2.0.0/16", "fd00::/64"} {
		dst = append(dst, netip.MustParsePrefix(p))
	}
	keys := endKeys(src, dst)
	for p, want := range map[string]uint32{
		"10.0.0.0/8": bpf.EndSrc, "10.1.0.5/32": bpf.EndSrc | bpf.EndDst, "10.2.0.0/16": bpf.EndSrc | bpf.EndDst,
		"fd00::1/128": bpf.EndSrc | bpf.EndDst, "fd00::/64": bpf.EndDst,
	} {
		if got := keys[endKey(netip.MustParsePrefix(p))]; got != want {
			t.Errorf("%s: %d, want %d", p, got, want)
		}
	}
	if len(keys) != 5 {
		t.Errorf("%d keys: %v", len(keys), keys)
	}
	if k := endKey(netip.MustParsePrefix("10.2.0.0/16")); k.Prefixlen != 48 || k.Family != 4 || k.Addr != [4]uint32{0x0000020a} {
		t.Errorf("key %+v", k)
	}
}
