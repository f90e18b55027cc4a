// SPDX-License-Identifier: Apache-2.0

package node

// This file reads next hop objects (`ip nexthop`), which routes may use instead of
// next hops of their own. The kernel tells such a route's next hops with the route, too,
// unless net.ipv4.nexthop_compat_mode is 0 (fib_dump_info, net/ipv4/fib_semantics.c;
// rt6_fill_node, net/ipv6/route.c; 5.3 to 6.18).

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// rtaNHID is RTA_NH_ID (linux/rtnetlink.h), which x/sys lacks.
const rtaNHID = 30

// nextHopObject is one next hop, or a group of them.
type nextHopObject struct {
	id  uint32
	hop NextHop
	of  []groupMember
}

type groupMember struct {
	id     uint32
	weight int
}

// sizeofNHMsg is the length of struct nhmsg (linux/nexthop.h).
const sizeofNHMsg = 8

// fillNextHops gives the routes that tell an object alone its next hops.
func fillNextHops(routes []Route) error {
	lacks := func(r Route) bool {
		return r.NHID != 0 && r.LinkIndex == 0 && !r.Gateway.IsValid() && len(r.NextHops) == 0
	}
	if !slices.ContainsFunc(routes, lacks) {
		return nil
	}
	msgs, err := dump(func() ([][]byte, error) {
		req := nl.NewNetlinkRequest(unix.RTM_GETNEXTHOP, unix.NLM_F_DUMP)
		req.AddData(nhMsg{})
		return req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEXTHOP)
	})
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list next hop objects: %w", err)
	}
	objects := make(map[uint32]nextHopObject)
	for _, m := range msgs {
		o, err := parseNextHopObject(m)
		if err != nil {
			return fmt.Errorf("next hop object: %w", err)
		}
		objects[o.id] = o
	}
	for i := range routes {
		if lacks(routes[i]) {
			routes[i].use(objects)
		}
	}
	return nil
}

// use sets a route's next hops to those of its object.
func (r *Route) use(objects map[uint32]nextHopObject) {
	o := objects[r.NHID]
	for _, m := range o.of {
		hop := objects[m.id].hop
		hop.Weight = m.weight
		r.NextHops = append(r.NextHops, hop)
	}
	if len(o.of) == 0 {
		r.LinkIndex, r.Gateway = o.hop.LinkIndex, o.hop.Gateway
	}
}

// nhMsg is struct nhmsg, all zero: a request for all objects.
type nhMsg struct{}

func (nhMsg) Len() int          { return sizeofNHMsg }
func (nhMsg) Serialize() []byte { return make([]byte, sizeofNHMsg) }

// parseNextHopObject reads struct nhmsg and its attributes (nh_fill_node,
// net/ipv4/nexthop.c).
func parseNextHopObject(msg []byte) (o nextHopObject, err error) {
	if len(msg) < sizeofNHMsg {
		return o, errShort
	}
	o.hop.Flags = int(binary.NativeEndian.Uint32(msg[4:]))
	attrs, err := nl.ParseRouteAttr(msg[sizeofNHMsg:])
	if err != nil {
		return o, err
	}
	for _, a := range attrs {
		ok, n := true, uint32(0)
		switch a.Attr.Type &^ unix.NLA_F_NESTED {
		case unix.NHA_ID:
			ok = number32(a.Value, &o.id)
		case unix.NHA_OIF:
			ok = number32(a.Value, &n)
			o.hop.LinkIndex = int(n)
		case unix.NHA_GATEWAY:
			o.hop.Gateway, ok = netip.AddrFromSlice(a.Value)
		case unix.NHA_GROUP: // struct nexthop_grp: the id, the weight less one
			for b := a.Value; len(b) >= 8; b = b[8:] {
				o.of = append(o.of, groupMember{binary.NativeEndian.Uint32(b), int(b[4]) + 1})
			}
		}
		if !ok {
			return o, fmt.Errorf("attribute %d: %w", a.Attr.Type, errShort)
		}
	}
	return o, nil
}
