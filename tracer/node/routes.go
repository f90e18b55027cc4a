// SPDX-License-Identifier: Apache-2.0

package node

// This file lists the routes and the neighbour entries of a namespace.

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Route is an entry of a routing table, with what a look-up asks.
type Route struct {
	Dst       netip.Prefix // 0.0.0.0/0 or ::/0 for a default route
	LinkIndex int          // 0 for routes without a single device
	Gateway   netip.Addr   // invalid: directly connected
	Table     int
	Type      int // RTN_UNICAST, RTN_LOCAL, RTN_BLACKHOLE, ... (linux/rtnetlink.h)
	Protocol  int // who installed it: 12 is BIRD, 80 is felix (Calico)

	Metric   int          // of several to one prefix the lowest counts
	TOS      int          // IPv4: for packets of that type of service only; 0: all
	Scope    int          // RT_SCOPE_* (linux/rtnetlink.h)
	From     netip.Prefix // IPv6: for packets from there only; not valid: all
	Source   netip.Addr   // the source that the node takes for its own packets; invalid: not set
	Flags    int          // RTNH_F_*
	Pref     int          // IPv6: ICMPV6_ROUTER_PREF_*: 0 medium, 1 high, 3 low
	NextHops []NextHop    // of a route with several; else none
	NHID     uint32       // the next hop object that it uses, as `ip nexthop` numbers it; 0: none
}

// NextHop is one of several ways of a route.
type NextHop struct {
	LinkIndex int
	Gateway   netip.Addr // invalid: directly connected
	Flags     int        // RTNH_F_DEAD, RTNH_F_LINKDOWN, ... (linux/rtnetlink.h)
	Weight    int        // its share among the route's others; 0: not told, which counts as 1
}

// Hops are the ways of a route, one or several.
func (r Route) Hops() []NextHop {
	if len(r.NextHops) > 0 {
		return r.NextHops
	}
	return []NextHop{{LinkIndex: r.LinkIndex, Gateway: r.Gateway, Flags: r.Flags}}
}

// Routes lists the routes of a namespace, all tables, both families, in the order
// in which the kernel keeps those to one prefix.
func (n *Namespaces) Routes(inode uint32) (routes []Route, err error) {
	err = n.Do(inode, func() error {
		msgs, err := dumpOf(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, unix.AF_UNSPEC)
		if err != nil {
			return fmt.Errorf("list routes: %w", err)
		}
		for _, m := range msgs {
			r, ok, err := parseRoute(m)
			if err != nil {
				return fmt.Errorf("route: %w", err)
			}
			if ok {
				routes = append(routes, r)
			}
		}
		return fillNextHops(routes)
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Place(inode), err)
	}
	return routes, nil
}

// parseRoute reads struct rtmsg and its attributes (linux/rtnetlink.h); ok is
// false for what is no entry of an IP routing table.
func parseRoute(msg []byte) (r Route, ok bool, err error) {
	if len(msg) < unix.SizeofRtMsg {
		return r, false, errShort
	}
	family, flags := msg[0], binary.NativeEndian.Uint32(msg[8:])
	switch {
	case family != unix.AF_INET && family != unix.AF_INET6, flags&unix.RTM_F_CLONED != 0:
		return r, false, nil
	}
	r = Route{Dst: netip.PrefixFrom(netip.IPv4Unspecified(), int(msg[1])), TOS: int(msg[3]), Table: int(msg[4]), Protocol: int(msg[5]), Scope: int(msg[6]), Type: int(msg[7]), Flags: int(flags)}
	if family == unix.AF_INET6 {
		r.Dst = netip.PrefixFrom(netip.IPv6Unspecified(), int(msg[1]))
	}
	attrs, err := nl.ParseRouteAttr(msg[unix.SizeofRtMsg:])
	if err != nil {
		return r, false, err
	}
	for _, a := range attrs {
		if err := r.take(a.Attr.Type&^unix.NLA_F_NESTED, a.Value, msg[1], msg[2]); err != nil {
			return r, false, err
		}
	}
	return r, true, nil
}

// take reads one attribute; those that are of no matter are left out.
func (r *Route) take(kind uint16, value []byte, dstBits, srcBits uint8) (err error) {
	ok := true
	var n uint32
	switch kind {
	case unix.RTA_DST:
		r.Dst, ok = prefixOf(value, dstBits)
	case unix.RTA_SRC:
		r.From, ok = prefixOf(value, srcBits)
	case unix.RTA_OIF:
		ok = number32(value, &n)
		r.LinkIndex = int(n)
	case unix.RTA_TABLE:
		ok = number32(value, &n)
		r.Table = int(n)
	case unix.RTA_PRIORITY:
		ok = number32(value, &n)
		r.Metric = int(n)
	case unix.RTA_PREF:
		if ok = len(value) > 0; ok {
			r.Pref = int(value[0])
		}
	case unix.RTA_GATEWAY:
		r.Gateway, ok = netip.AddrFromSlice(value)
	case unix.RTA_VIA:
		r.Gateway, ok = via(value)
	case unix.RTA_PREFSRC:
		r.Source, ok = netip.AddrFromSlice(value)
	case unix.RTA_MULTIPATH:
		r.NextHops, err = nextHops(value)
	case rtaNHID:
		ok = number32(value, &r.NHID)
	}
	if err == nil && !ok {
		err = fmt.Errorf("attribute %d: %w", kind, errShort)
	}
	return err
}

// via reads struct rtvia: the family, and a gateway of another one than the route's.
func via(value []byte) (netip.Addr, bool) {
	if len(value) < 2 {
		return netip.Addr{}, false
	}
	return netip.AddrFromSlice(value[2:])
}

// nextHops reads struct rtnexthop, as often as it is there: length (u16), flags,
// weight, index (i32), attributes.
func nextHops(b []byte) (hops []NextHop, err error) {
	for len(b) > 0 {
		if len(b) < unix.SizeofRtNexthop {
			return nil, errShort
		}
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtNexthop || size > len(b) {
			return nil, errShort
		}
		hop := NextHop{Flags: int(b[2]), Weight: int(b[3]) + 1, LinkIndex: int(binary.NativeEndian.Uint32(b[4:]))}
		attrs, err := nl.ParseRouteAttr(b[unix.SizeofRtNexthop:size])
		if err != nil {
			return nil, err
		}
		for _, a := range attrs {
			switch a.Attr.Type {
			case unix.RTA_GATEWAY:
				hop.Gateway, _ = netip.AddrFromSlice(a.Value)
			case unix.RTA_VIA:
				hop.Gateway, _ = via(a.Value)
			}
		}
		hops = append(hops, hop)
		aligned := (size + unix.RTA_ALIGNTO - 1) &^ (unix.RTA_ALIGNTO - 1)
		b = b[min(aligned, len(b)):]
	}
	return hops, nil
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
