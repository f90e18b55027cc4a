// SPDX-License-Identifier: Apache-2.0

package node

// This file lists the routes and the neighbour entries of a namespace.

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Route is a route of a namespace, as far as finding pods needs it.
type Route struct {
	Dst       netip.Prefix // 0.0.0.0/0 or ::/0 for a default route
	LinkIndex int          // 0 for routes without a single device
	Gateway   netip.Addr   // invalid: directly connected
	Table     int
	Type      int // RTN_UNICAST, RTN_LOCAL, RTN_BLACKHOLE, ... (linux/rtnetlink.h)
	Protocol  int // who installed it: 12 is BIRD, 80 is felix (Calico)
}

// Routes lists the routes of a namespace, all tables, both families.
func (n *Namespaces) Routes(inode uint32) (routes []Route, err error) {
	err = n.withHandle(inode, func(h *netlink.Handle) error {
		found, err := routesOf(h)
		if err != nil {
			return err
		}
		for _, r := range found {
			routes = append(routes, newRoute(r))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Place(inode), err)
	}
	return routes, nil
}

func newRoute(r netlink.Route) Route {
	out := Route{LinkIndex: r.LinkIndex, Table: r.Table, Type: r.Type, Protocol: int(r.Protocol)}
	if gw, ok := netip.AddrFromSlice(r.Gw); ok {
		out.Gateway = gw.Unmap()
	}
	if p, ok := toPrefix(r.Dst); ok {
		out.Dst = p
		return out
	}
	out.Dst = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if r.Family == netlink.FAMILY_V6 {
		out.Dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return out
}

// Neighbor is an entry of a neighbour table or, with Bridge set, of a bridge's
// forwarding table.
type Neighbor struct {
	LinkIndex int        // the interface; of a bridge entry the port
	Addr      netip.Addr // invalid in bridge entries
	MAC       string
	State     int // NUD_* (linux/neighbour.h)
	Bridge    bool
}

// Neighbors lists the neighbour entries (ARP and ND) and the bridge
// forwarding entries of a namespace.
func (n *Namespaces) Neighbors(inode uint32) (all []Neighbor, err error) {
	err = n.withHandle(inode, func(h *netlink.Handle) error {
		for _, family := range []int{unix.AF_INET, unix.AF_INET6, unix.AF_BRIDGE} {
			found, err := dump(func() ([]netlink.Neigh, error) { return h.NeighList(0, family) })
			if err != nil {
				return fmt.Errorf("list neighbours of address family %d: %w", family, err)
			}
			for _, e := range found {
				addr, _ := netip.AddrFromSlice(e.IP)
				all = append(all, Neighbor{
					LinkIndex: e.LinkIndex,
					Addr:      addr.Unmap(),
					MAC:       e.HardwareAddr.String(),
					State:     e.State,
					Bridge:    family == unix.AF_BRIDGE,
				})
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Place(inode), err)
	}
	return all, nil
}

// routesOf lists the routes of all tables and both families.
func routesOf(h *netlink.Handle) ([]netlink.Route, error) {
	routes, err := dump(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return routes, nil
}
