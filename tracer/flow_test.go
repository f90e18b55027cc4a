// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"net/netip"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/endpoint"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// TestBehind: only a peer that may send from an address of an end is one that packets of
// the flow may come from.
func TestBehind(t *testing.T) {
	peer := &node.WireGuardPeer{AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.244.2.0/24"), netip.MustParsePrefix("fd00:2::/64")}}
	for given, want := range map[string]bool{
		"10.244.2.3/32": true, "10.244.1.3/32": false, "10.244.0.0/16": true, "fd00:2::7/128": true, "fd00:1::7/128": false,
	} {
		e := endpoint.Endpoint{Prefixes: []netip.Prefix{netip.MustParsePrefix(given)}}
		if got := behind(peer, e); got != want {
			t.Errorf("%s is behind it: %v, want %v", given, got, want)
		}
	}
	if behind(peer, endpoint.Endpoint{}) {
		t.Error("an end without addresses is behind it")
	}
	if !behind(peer, endpoint.Endpoint{Any: true}) {
		t.Error("any may be behind it")
	}
}
