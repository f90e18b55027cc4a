// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/node"
)

// TestBalances: whether IPVS has a service is asked once in a while, of each namespace, and
// again at once where it could not be asked.
func TestBalances(t *testing.T) {
	asked, warned := 0, 0
	var services []node.VirtualService
	var failed error
	p := newBalanceBook(func(uint32) ([]node.VirtualService, error) {
		asked++
		return services, failed
	}, nil, func(string) { warned++ })
	want := func(what string, is bool, netns uint32, times, warnings int) {
		t.Helper()
		if got := p.Balances(netns); got != is || asked != times || warned != warnings {
			t.Errorf("%s: %v, asked %d times, warned %d times; want %v, %d, %d", what, got, asked, warned, is, times, warnings)
		}
	}
	failed = errors.New("no answer")
	want("not to be asked", false, 1, 1, 1)
	want("nor the next time", false, 1, 2, 1)
	failed, services = nil, []node.VirtualService{{Proto: "tcp"}}
	want("right after an error", true, 1, 3, 1)
	services = nil
	want("still fresh", true, 1, 3, 1)
	want("another namespace", false, 2, 4, 1)
	p.balances[1] = balanced{true, time.Now().Add(-balancesFor)}
	want("stale", false, 1, 5, 1)
}

// TestBalancedTo: IPVS's own entry says where it sends a connection; what cannot be read
// is not taken to be so, and reading takes its share of the time only.
func TestBalancedTo(t *testing.T) {
	at := netip.MustParseAddrPort
	client, virtual, real, other := at("10.96.0.20:40000"), at("10.96.0.20:80"), at("10.244.1.3:8080"), at("10.244.1.4:8080")
	for name, tc := range map[string]struct {
		proto  uint8
		entry  node.BalancedConnection
		ok     bool
		failed error
		want   bool
		asked  int
		warned int
	}{
		"it leads there":     {unix.IPPROTO_TCP, node.BalancedConnection{Real: real}, true, nil, true, 2, 0},
		"it leads elsewhere": {unix.IPPROTO_TCP, node.BalancedConnection{Real: other}, true, nil, false, 2, 0},
		"there is none":      {unix.IPPROTO_UDP, node.BalancedConnection{}, false, nil, false, 2, 0},
		"too many":           {unix.IPPROTO_TCP, node.BalancedConnection{}, false, errors.New("too many"), false, 2, 1},
		"never balanced":     {unix.IPPROTO_ICMP, node.BalancedConnection{Real: real}, true, nil, false, 0, 0},
	} {
		asked, warned := 0, 0
		b := newBalanceBook(nil, func(netns uint32, proto string, c, v netip.AddrPort) (node.BalancedConnection, bool, error) {
			if asked++; netns != 1 || proto != node.IPVSProtocol(tc.proto) || c != client || v != virtual {
				t.Errorf("%s: asked for %d %s %s %s", name, netns, proto, c, v)
			}
			return tc.entry, tc.ok, tc.failed
		}, func(string) { warned++ })
		for range 2 {
			if got := b.BalancedTo(1, tc.proto, client, virtual, real); got != tc.want {
				t.Errorf("%s: %v, want %v", name, got, tc.want)
			}
		}
		if asked != tc.asked || warned != tc.warned {
			t.Errorf("%s: asked %d times, warned %d times; want %d, %d", name, asked, warned, tc.asked, tc.warned)
		}
		b.next = time.Now().Add(time.Minute) // the share is spent
		if asked = 0; b.BalancedTo(1, tc.proto, client, virtual, real) || asked != 0 {
			t.Errorf("%s: asked though the share of time is spent", name)
		}
	}
}
