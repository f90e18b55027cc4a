// SPDX-License-Identifier: Apache-2.0

// The links of a namespace, with their addresses, routes and permanent
// neighbours.

package netns

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// SetUp sets the named link up in the namespace.
func (n *Namespace) SetUp(name string) error {
	link, err := n.link.LinkByName(name)
	if err == nil {
		err = n.link.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("set %s up in %s: %w", name, n.Name, err)
	}
	return nil
}

// LinkIndex looks a link's index up.
func (n *Namespace) LinkIndex(name string) (int, error) {
	link, err := n.link.LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("find %s in %s: %w", name, n.Name, err)
	}
	return link.Attrs().Index, nil
}

// AddAddr gives a link an address; IPv6 ones without duplicate detection.
func (n *Namespace) AddAddr(index int, prefix netip.Prefix) error {
	addr := &netlink.Addr{IPNet: IPNet(prefix)}
	link := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: index}}
	if prefix.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := n.link.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("add address %s in %s: %w", prefix, n.Name, err)
	}
	return nil
}

// linkUpLimit bounds the wait for a link; the kernel's link watch looks once a
// second (net/core/link_watch.c).
const linkUpLimit = 5 * time.Second

// WaitUp waits until a link that was set up is usable: the kernel notices a
// carrier, and lets a bridge port forward, only some time after.
func (n *Namespace) WaitUp(name string) error {
	for deadline := time.Now().Add(linkUpLimit); ; time.Sleep(10 * time.Millisecond) {
		link, err := n.link.LinkByName(name)
		if err != nil {
			return fmt.Errorf("find %s in %s: %w", name, n.Name, err)
		}
		state := link.Attrs().OperState
		if state == netlink.OperUp || state == netlink.OperUnknown { // unknown: a tunnel has no carrier
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s in %s is still %v after %v", name, n.Name, state, linkUpLimit)
		}
	}
}

// AddRoute adds a route; the error names it.
func (n *Namespace) AddRoute(r netlink.Route) error {
	if err := n.link.RouteAdd(&r); err != nil {
		return fmt.Errorf("add route %s in %s: %w", r.Dst, n.Name, err)
	}
	return nil
}

// SetNeighbor makes a permanent neighbour entry.
func (n *Namespace) SetNeighbor(index int, addr netip.Addr, mac net.HardwareAddr) error {
	err := n.link.NeighSet(&netlink.Neigh{
		LinkIndex: index, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: mac,
	})
	if err != nil {
		return fmt.Errorf("set neighbour %s in %s: %w", addr, n.Name, err)
	}
	return nil
}

// IPNet turns a prefix into the form netlink wants; the host part is kept.
func IPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// HostPrefix is the full-length prefix of one address.
func HostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
