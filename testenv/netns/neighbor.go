// SPDX-License-Identifier: Apache-2.0

// What a namespace knows of its neighbours' MAC addresses, read and changed.

package netns

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ForgetNeighbor deletes the IPv4 entries of an address. None is no error.
func (n *Namespace) ForgetNeighbor(addr netip.Addr) error {
	return n.EachNeighbor(unix.AF_INET, func(entry *netlink.Neigh, of netip.Addr) error {
		if of != addr {
			return nil
		}
		return n.link.NeighDel(entry)
	})
}

// answered are the states of an entry that somebody answered for
// (include/uapi/linux/neighbour.h).
const answered = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE

// ConfirmNeighbors takes all that a namespace knows of its IPv4 neighbours for
// just confirmed, so that it asks none of them for as long as it keeps them. An
// entry learnt from another's question is stale from the beginning, and is asked
// for 5 s after its first use.
func (n *Namespace) ConfirmNeighbors() error {
	return n.EachNeighbor(unix.AF_INET, func(entry *netlink.Neigh, _ netip.Addr) error {
		if entry.State&answered == 0 {
			return nil
		}
		entry.State = netlink.NUD_REACHABLE
		return n.link.NeighSet(entry)
	})
}

// EachNeighbor does something to every neighbour entry of a namespace. One that
// has gone in the meantime is no error.
func (n *Namespace) EachNeighbor(family int, do func(entry *netlink.Neigh, of netip.Addr) error) error {
	list, err := n.link.NeighList(0, family)
	if err != nil {
		return fmt.Errorf("list neighbours in %s: %w", n.Name, err)
	}
	for _, e := range list {
		of, ok := netip.AddrFromSlice(e.IP)
		if !ok {
			continue
		}
		// only what names and describes the entry: the kernel refuses to be
		// told the rest of what it told
		entry := &netlink.Neigh{LinkIndex: e.LinkIndex, Family: e.Family, IP: e.IP, HardwareAddr: e.HardwareAddr, State: e.State}
		if err := do(entry, of.Unmap()); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("neighbour %s in %s: %w", of.Unmap(), n.Name, err)
		}
	}
	return nil
}
