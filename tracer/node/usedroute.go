// SPDX-License-Identifier: Apache-2.0

package node

// This file asks the kernel which way it takes for a packet. The tables alone do not
// say: beside them it keeps exceptions for single destinations, learned from ICMP
// redirects and "fragmentation needed" (struct fib_nh_exception, net/ipv4/route.c;
// rt6_exception, net/ipv6/route.c).

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// RouteQuestion is a packet whose way is asked for.
type RouteQuestion struct {
	Dst, Src         netip.Addr
	IIF              int // index of the interface it comes in by; 0: the namespace's own
	Mark             uint32
	Proto            uint8 // 0: not told, and then no ports either
	SrcPort, DstPort uint16
}

// UsedRoute is the way that the kernel takes for a packet.
type UsedRoute struct {
	LinkIndex int
	Gateway   netip.Addr // invalid: directly connected
	// Learned: it is an exception for this destination alone, beside the table's route.
	Learned    bool
	Redirected bool          // by an ICMP redirect
	MTU        int           // that the destination's way was said to have, bytes; 0: none
	Expires    time.Duration // until the exception is forgotten; 0: it is none, or is kept
}

// rtcfRedirected is RTCF_REDIRECTED of a route's flags (linux/in_route.h): its gateway
// is one that a redirect named (rt_bind_exception, net/ipv4/route.c).
const rtcfRedirected = 0x00040000

// userHZ is the unit of what netlink tells as clock ticks (USER_HZ, on all our
// machines).
const userHZ = 100

// UsedRoute asks the kernel for the way of a packet; ok is false where it would refuse
// the packet. Of several next hops it picks one by a hash: of the addresses, or of the
// ports as well. A packet that bears its sender's own hash (that of a pod's TCP socket,
// skb->l4_hash) may take another one (fib_multipath_hash, net/ipv4/route.c, 5.x to 6.18).
func (n *Namespaces) UsedRoute(inode uint32, q RouteQuestion) (used UsedRoute, ok bool, err error) {
	err = n.Do(inode, func() error {
		msgs, err := q.request().Execute(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE)
		var refused syscall.Errno
		if errors.As(err, &refused) {
			return nil // no route, a source that is not taken: nothing is sent
		}
		if err != nil || len(msgs) == 0 {
			return err
		}
		used, err = parseUsedRoute(msgs[0])
		ok = err == nil
		return err
	})
	if err != nil {
		return used, false, fmt.Errorf("%s: the route to %s: %w", n.Place(inode), q.Dst, err)
	}
	return used, ok, nil
}

func (q RouteQuestion) request() *nl.NetlinkRequest {
	msg := &nl.RtMsg{RtMsg: unix.RtMsg{Family: unix.AF_INET, Dst_len: uint8(q.Dst.BitLen())}}
	if q.Dst.Is6() {
		msg.Family = unix.AF_INET6
	}
	req := nl.NewNetlinkRequest(unix.RTM_GETROUTE, 0)
	attrs := []*nl.RtAttr{nl.NewRtAttr(unix.RTA_DST, q.Dst.AsSlice())}
	if q.Src.IsValid() && q.Src.BitLen() == q.Dst.BitLen() {
		msg.Src_len = uint8(q.Src.BitLen())
		attrs = append(attrs, nl.NewRtAttr(unix.RTA_SRC, q.Src.AsSlice()))
	}
	if q.IIF != 0 {
		attrs = append(attrs, nl.NewRtAttr(unix.RTA_IIF, nl.Uint32Attr(uint32(q.IIF))))
	}
	if q.Mark != 0 {
		attrs = append(attrs, nl.NewRtAttr(unix.RTA_MARK, nl.Uint32Attr(q.Mark)))
	}
	// the kernel takes ICMP without ports, and of the rest TCP and UDP alone
	// (rtm_getroute_parse_ip_proto, net/ipv4/fib_frontend.c)
	if q.Proto == unix.IPPROTO_TCP || q.Proto == unix.IPPROTO_UDP {
		attrs = append(attrs, nl.NewRtAttr(unix.RTA_IP_PROTO, []byte{q.Proto}),
			nl.NewRtAttr(unix.RTA_SPORT, binary.BigEndian.AppendUint16(nil, q.SrcPort)), nl.NewRtAttr(unix.RTA_DPORT, binary.BigEndian.AppendUint16(nil, q.DstPort)))
	}
	req.AddData(msg)
	for _, a := range attrs {
		req.AddData(a)
	}
	return req
}

// parseUsedRoute reads an answer: of IPv4 it is always marked as a copy (rt_fill_info,
// net/ipv4/route.c), of IPv6 where it is an exception (rt6_fill_node, net/ipv6/route.c).
func parseUsedRoute(msg []byte) (used UsedRoute, err error) {
	if len(msg) < unix.SizeofRtMsg {
		return used, errShort
	}
	family, flags := msg[0], binary.NativeEndian.Uint32(msg[8:])
	attrs, err := nl.ParseRouteAttr(msg[unix.SizeofRtMsg:])
	if err != nil {
		return used, err
	}
	for _, a := range attrs {
		ok, n := true, uint32(0)
		switch a.Attr.Type &^ unix.NLA_F_NESTED {
		case unix.RTA_OIF:
			ok = number32(a.Value, &n)
			used.LinkIndex = int(n)
		case unix.RTA_GATEWAY:
			used.Gateway, ok = netip.AddrFromSlice(a.Value)
		case unix.RTA_VIA:
			used.Gateway, ok = via(a.Value)
		case unix.RTA_METRICS:
			used.MTU, err = mtuOf(a.Value)
		case unix.RTA_CACHEINFO: // struct rta_cacheinfo: the third number
			if ok = len(a.Value) >= 12; ok {
				used.Expires = time.Duration(max(0, int32(binary.NativeEndian.Uint32(a.Value[8:])))) * time.Second / userHZ
			}
		}
		if err != nil {
			return used, err
		}
		if !ok {
			return used, fmt.Errorf("attribute %d: %w", a.Attr.Type, errShort)
		}
	}
	used.Redirected = family == unix.AF_INET && flags&rtcfRedirected != 0
	used.Learned = used.Redirected || used.Expires > 0 || family == unix.AF_INET6 && flags&unix.RTM_F_CLONED != 0
	return used, nil
}

// mtuOf reads the MTU among a route's metrics (RTAX_MTU); 0: there is none.
func mtuOf(metrics []byte) (int, error) {
	attrs, err := nl.ParseRouteAttr(metrics)
	if err != nil {
		return 0, err
	}
	for _, a := range attrs {
		var n uint32
		if a.Attr.Type == unix.RTAX_MTU && number32(a.Value, &n) {
			return int(n), nil
		}
	}
	return 0, nil
}
