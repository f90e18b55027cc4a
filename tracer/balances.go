// SPDX-License-Identifier: Apache-2.0

package tracer

// This file answers what IPVS does, for the journeys of packets: what was said is
// remembered, since packets come faster than services and entries.

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/recall"
)

// balanced is what IPVS said of a namespace.
type balanced struct {
	is   bool
	when time.Time
}

// balancesFor is how long that is good for: packets come faster than services.
const balancesFor = 3 * time.Second

// balanceBook knows what IPVS does in namespaces.
type balanceBook struct {
	balances map[uint32]balanced
	services func(netns uint32) ([]node.VirtualService, error)
	entry    func(netns uint32, proto string, client, virtual netip.AddrPort) (node.BalancedConnection, bool, error)
	// Looking for an entry takes up to 200 ms: no more than a share of the time is spent
	// on it, until next none is looked for.
	allowance recall.Allowance
	next      time.Time
	warned    time.Time // that IPVS could not be asked
	warnIPVS  func(string)
}

// entryShare: looking for entries takes no more than one part in so many of the time.
const entryShare = 20

func newBalanceBook(services func(uint32) ([]node.VirtualService, error),
	entry func(uint32, string, netip.AddrPort, netip.AddrPort) (node.BalancedConnection, bool, error), warn func(string)) *balanceBook {
	return &balanceBook{balances: make(map[uint32]balanced), services: services, entry: entry, warnIPVS: warn,
		allowance: recall.Allowance{Share: entryShare, Saved: 500 * time.Millisecond, Longest: 5 * time.Second}}
}

// Balances implements journey.Places. Where it cannot be asked, it is asked again next time.
func (b *balanceBook) Balances(netns uint32) bool {
	now := time.Now()
	if known, ok := b.balances[netns]; ok && now.Sub(known.when) < balancesFor {
		return known.is
	}
	services, err := b.services(netns)
	if err != nil {
		b.unasked(err)
		return false
	}
	b.balances[netns] = balanced{len(services) > 0, now}
	return len(services) > 0
}

// BalancedTo implements journey.Places. What cannot be asked was not seen to be so.
func (b *balanceBook) BalancedTo(netns uint32, proto uint8, client, virtual, real netip.AddrPort) bool {
	name, now := node.IPVSProtocol(proto), time.Now()
	if name == "" || now.Before(b.next) {
		return false
	}
	c, ok, err := b.entry(netns, name, client, virtual)
	done := time.Now()
	b.next = done.Add(b.allowance.Spend(done, done.Sub(now)))
	if err != nil {
		b.unasked(err)
		return false
	}
	return ok && c.Real == real
}

// unasked says that IPVS could not be asked, once in a while.
func (b *balanceBook) unasked(err error) {
	if now := time.Now(); now.Sub(b.warned) >= warnEvery {
		b.warned = now
		b.warnIPVS(fmt.Sprintf("whether IPVS balances: %v", err))
	}
}
