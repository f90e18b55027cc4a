// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/pathtrace/pathtrace/tracer/endpoint"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// placeBook answers where things are; namespaces that turn up during the
// trace are looked for once in a while.
type placeBook struct {
	ns        *node.Namespaces
	names     *endpoint.Names
	uplinks   map[uint32]string
	refreshed time.Time
	asked     map[uint32]time.Time
	decrypts  map[device]bool
	leaves    map[device]bool
	warn      func(string)
	*balanceBook
}

func newPlaceBook(ns *node.Namespaces, names *endpoint.Names, uplinks map[uint32]string, warn func(string)) *placeBook {
	return &placeBook{ns: ns, names: names, uplinks: uplinks, asked: make(map[uint32]time.Time), decrypts: make(map[device]bool), leaves: make(map[device]bool),
		warn: warn, balanceBook: newBalanceBook(ns.VirtualServices, ns.BalancedConnection, warn)}
}

// Belongs implements places. A namespace that is not this node's may become it:
// a container runtime makes a pod's namespace before CNI gives it a veth.
func (p *placeBook) Belongs(inode uint32) bool {
	if p.ns.Belongs(inode) {
		return true
	}
	_, seen := p.ns.Lookup(inode)
	now := time.Now()
	if now.Sub(p.asked[inode]) < refreshEvery || seen && now.Sub(p.refreshed) < refreshEvery {
		return false
	}
	p.asked[inode], p.refreshed = now, now
	if err := p.ns.Refresh(); err != nil {
		p.warn(fmt.Sprintf("look for new network namespaces: %v", err))
	}
	return p.ns.Belongs(inode)
}

// refreshEvery bounds how often all of /proc is searched for namespaces.
const refreshEvery = 2 * time.Second

// Place implements places. What has no namespace has no name.
func (p *placeBook) Place(inode uint32) string {
	if inode == 0 {
		return ""
	}
	return p.names.Place(inode)
}

// Uplink implements places.
func (p *placeBook) Uplink(netns, ifindex uint32) bool {
	if netns == p.ns.Node().Inode {
		_, ok := p.uplinks[ifindex]
		return ok
	}
	return p.lent(netns, ifindex)
}

// lent tells whether a device of a pod is one of the machine's own (SR-IOV,
// host-device): what it sends leaves the node.
func (p *placeBook) lent(netns, ifindex uint32) bool {
	at := device{netns: netns, ifindex: ifindex}
	is, known := p.leaves[at]
	if known {
		return is
	}
	links, err := p.ns.Links(netns)
	if errors.Is(err, node.ErrGone) {
		return false
	}
	if err != nil {
		p.warn(fmt.Sprintf("what kind of device %d is: %v", ifindex, err))
		return false
	}
	for _, l := range links {
		if uint32(l.Index) == ifindex {
			p.leaves[at] = l.Physical()
			return l.Physical()
		}
	}
	return false // it came since, or is gone
}

// device is a link as events name it.
type device struct {
	netns, ifindex uint32
	name           string
}

// Decrypts implements places.
func (p *placeBook) Decrypts(netns, ifindex uint32, name string) bool {
	at := device{netns, ifindex, name}
	is, known := p.decrypts[at]
	if known {
		return is
	}
	links, err := p.ns.Links(netns)
	if err != nil {
		p.warn(fmt.Sprintf("what kind of device %s is: %v", name, err))
		return false
	}
	for _, l := range links {
		is = is || uint32(l.Index) == ifindex && l.Kind == "wireguard"
	}
	p.decrypts[at] = is
	return is
}

// Owner implements places.
func (p *placeBook) Owner(a netip.Addr) string {
	name, _ := p.names.Address(a)
	return name
}

// Node implements places.
func (p *placeBook) Node() uint32 { return p.ns.Node().Inode }
