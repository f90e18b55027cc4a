// SPDX-License-Identifier: Apache-2.0

package infer

// This file asks the kernel where a packet would go (RTM_GETROUTE). It is about
// the calling thread's network namespace and only looks up: nothing is sent, and
// no neighbour is asked for.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Flags of a route question (include/uapi/linux/rtnetlink.h): the table it was
// found in is told, and the entry of the routing table is, not the route that
// is made of it.
const (
	lookupTable = 0x1000 // RTM_F_LOOKUP_TABLE
	fibMatch    = 0x2000 // RTM_F_FIB_MATCH
)

// question is a route look-up.
type question struct {
	dst netip.Addr
	// src is the source; IPv4 takes none but its own addresses. Invalid: none.
	src netip.Addr
	// oif is an interface index; 0: any. IPv6 prefers a route that leads there,
	// and without a source takes no other.
	oif  int
	mark uint32
	tos  uint8
}

// route is the entry of a routing table that a look-up finds.
type route struct {
	kind    uint8 // RTN_*
	table   uint32
	origin  uint8 // RTPROT_*: who made it
	bits    int   // of its prefix
	gateway bool
	devs    []int      // indices of the interfaces it leads to
	refusal unix.Errno // no route, or one that refuses: the errno; else 0
}

// lookup finds a route. A destination that cannot be reached is an answer, not
// an error.
func lookup(q question) (route, error) {
	family := unix.AF_INET
	if q.dst.Is6() {
		family = unix.AF_INET6
	}
	req := nl.NewNetlinkRequest(unix.RTM_GETROUTE, 0)
	head := &nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family), Dst_len: uint8(q.dst.BitLen()), Tos: q.tos, Flags: lookupTable | fibMatch}}
	if q.src.IsValid() {
		head.Src_len = uint8(q.src.BitLen())
	}
	req.AddData(head)
	req.AddData(nl.NewRtAttr(unix.RTA_DST, q.dst.AsSlice()))
	if q.src.IsValid() {
		req.AddData(nl.NewRtAttr(unix.RTA_SRC, q.src.AsSlice()))
	}
	if q.mark != 0 {
		req.AddData(nl.NewRtAttr(unix.RTA_MARK, nl.Uint32Attr(q.mark)))
	}
	if q.oif != 0 {
		req.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(q.oif))))
	}
	msgs, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE)
	if refused := refusal(err); refused != 0 {
		return route{refusal: refused}, nil
	}
	if err != nil {
		return route{}, fmt.Errorf("look up route to %s: %w", q.dst, err)
	}
	if len(msgs) != 1 {
		return route{}, fmt.Errorf("look up route to %s: %d answers, want 1", q.dst, len(msgs))
	}
	r, err := parseRoute(msgs[0])
	if err != nil {
		return route{}, fmt.Errorf("route to %s: %w", q.dst, err)
	}
	return r, nil
}

// refusal tells an error that is the outcome of the look-up (fib_props[],
// net/ipv4/fib_semantics.c; ip6_rt_type_to_error(), net/ipv6/route.c).
func refusal(err error) unix.Errno {
	for _, e := range []unix.Errno{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EINVAL, unix.EAGAIN} {
		if errors.Is(err, e) {
			return e
		}
	}
	return 0
}

// errShort: the kernel's answer is cut off.
var errShort = errors.New("the kernel's answer is too short")

// parseRoute reads struct rtmsg and its attributes.
func parseRoute(msg []byte) (route, error) {
	if len(msg) < unix.SizeofRtMsg {
		return route{}, errShort
	}
	r := route{bits: int(msg[1]), table: uint32(msg[4]), origin: msg[5], kind: msg[7]}
	attrs, err := nl.ParseRouteAttr(msg[unix.SizeofRtMsg:])
	if err != nil {
		return route{}, err
	}
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.RTA_TABLE:
			if len(a.Value) >= 4 {
				r.table = binary.NativeEndian.Uint32(a.Value)
			}
		case unix.RTA_OIF:
			if len(a.Value) >= 4 {
				r.devs = append(r.devs, int(binary.NativeEndian.Uint32(a.Value)))
			}
		case unix.RTA_GATEWAY, unix.RTA_VIA:
			r.gateway = true
		case unix.RTA_MULTIPATH:
			devs, err := hops(a.Value)
			if err != nil {
				return route{}, err
			}
			r.devs = append(r.devs, devs...)
		}
	}
	return r, nil
}

// hops reads the interfaces of struct rtnexthop: length (u16), flags, hops, index
// (i32), attributes.
func hops(b []byte) ([]int, error) {
	var devs []int
	for len(b) > 0 {
		if len(b) < unix.SizeofRtNexthop {
			return nil, errShort
		}
		devs = append(devs, int(binary.NativeEndian.Uint32(b[4:])))
		size := (int(binary.NativeEndian.Uint16(b)) + unix.RTA_ALIGNTO - 1) &^ (unix.RTA_ALIGNTO - 1)
		if size < unix.SizeofRtNexthop {
			return nil, errShort
		}
		b = b[min(size, len(b)):]
	}
	return devs, nil
}

// leads tells whether the route leads to an interface, only whether to that alone.
func (r route) leads(dev int) bool { return slices.Contains(r.devs, dev) }

func (r route) only(dev int) bool {
	return r.leads(dev) && !slices.ContainsFunc(r.devs, func(d int) bool { return d != dev })
}
