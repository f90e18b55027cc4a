// SPDX-License-Identifier: Apache-2.0

package node

// This file reads the sockets of a namespace that wait for anybody, with what keeps
// them from taking all that is for their port. It asks sock_diag where that is there,
// and reads proc where asking would load a module: proc knows less.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// TCPClose is the state of a socket that is not connected: of UDP it is the one that
// waits for anybody (include/net/tcp_states.h).
const TCPClose = 7

// Listener is a TCP socket that listens, or a UDP socket that is not connected.
type Listener struct {
	Local netip.AddrPort // unspecified address: all of the family
	Inode uint64         // what names it among a process' open files; 0: no process has it
	// Device is the index of the interface or VRF that it is bound to (SO_BINDTODEVICE);
	// 0: none, or not known.
	Device int
	// V6Only: it is one of IPv6 and takes no IPv4 (IPV6_V6ONLY).
	V6Only bool
	// Whole: Device and V6Only were read. Proc does not have them.
	Whole bool
}

// The parts of the kernel that answer for sockets. Each needs inet_diag, which is there
// where it is (net/ipv4/tcp_diag.c, udp_diag.c).
var (
	tcpDiagSubsystem = subsystem{module: "tcp_diag", symbol: "tcp_diag_dump"}
	udpDiagSubsystem = subsystem{module: "udp_diag", symbol: "udp_diag_dump"}
)

// Listeners lists the sockets of tcp or udp that wait for anybody.
func (n *Namespaces) Listeners(inode uint32, proto string) (all []Listener, err error) {
	subsystem := tcpDiagSubsystem
	switch proto {
	case "tcp":
	case "udp":
		subsystem = udpDiagSubsystem
	default:
		return nil, fmt.Errorf("%s: listening sockets of %s: %w", n.Place(inode), proto, errors.ErrUnsupported)
	}
	here, err := n.has(subsystem)
	if err != nil {
		return nil, fmt.Errorf("%s: listening sockets of %s: %w", n.Place(inode), proto, err)
	}
	if !here {
		return n.listenersOfProc(inode, proto)
	}
	err = n.Do(inode, func() error {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			found, err := dump(func() ([]Listener, error) { return dumpListeners(family, proto) })
			if err != nil {
				return err
			}
			all = append(all, found...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: listening sockets of %s: %w", n.Place(inode), proto, err)
	}
	return all, nil
}

// listenersOfProc is the same as proc tells it.
func (n *Namespaces) listenersOfProc(inode uint32, proto string) (all []Listener, err error) {
	sockets, err := n.SocketsOf(inode, proto)
	for _, s := range sockets {
		if s.State == waiting(proto) && s.Remote.Port() == 0 {
			all = append(all, Listener{Local: s.Local, Inode: s.Inode})
		}
	}
	return all, err
}

// waiting is the state of sockets that wait for anybody.
func waiting(proto string) int {
	if proto == "udp" {
		return TCPClose
	}
	return TCPListen
}

// Of sock_diag (linux/sock_diag.h, inet_diag.h).
const (
	sockDiagByFamily = 20
	diagRequestSize  = 56 // struct inet_diag_req_v2
	diagMessageSize  = 72 // struct inet_diag_msg
	diagV6Only       = 11 // INET_DIAG_SKV6ONLY, since 4.4
)

// diagRequest is struct inet_diag_req_v2, which asks for the sockets of a family,
// protocol and state: no extension, which might bring keys along.
type diagRequest struct {
	family, proto uint8
	states        uint32
}

// Len implements nl.NetlinkRequestData.
func (diagRequest) Len() int { return diagRequestSize }

// Serialize implements nl.NetlinkRequestData.
func (r diagRequest) Serialize() []byte {
	b := make([]byte, diagRequestSize)
	b[0], b[1] = r.family, r.proto
	binary.NativeEndian.PutUint32(b[4:], r.states)
	return b
}

// dumpListeners asks within the namespace of the calling thread.
func dumpListeners(family uint8, proto string) (all []Listener, err error) {
	number := uint8(unix.IPPROTO_TCP)
	if proto == "udp" {
		number = unix.IPPROTO_UDP
	}
	req := nl.NewNetlinkRequest(sockDiagByFamily, unix.NLM_F_DUMP)
	req.AddData(diagRequest{family, number, 1 << waiting(proto)})
	answers, asked := req.Execute(unix.NETLINK_SOCK_DIAG, sockDiagByFamily)
	if asked != nil && len(answers) == 0 {
		return nil, asked
	}
	for _, raw := range answers {
		l, err := parseListener(raw)
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, asked
}

// parseListener reads struct inet_diag_msg: family, state, two counters; ports, two
// addresses of 16 bytes, interface, cookie; four counters, inode; attributes.
func parseListener(raw []byte) (l Listener, err error) {
	if len(raw) < diagMessageSize {
		return l, errShort
	}
	size := 4
	if raw[0] == unix.AF_INET6 {
		size = 16
	}
	addr, _ := netip.AddrFromSlice(raw[8 : 8+size]) // of a length that there is
	l.Local = netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(raw[4:]))
	l.Device = int(binary.NativeEndian.Uint32(raw[40:]))
	l.Inode, l.Whole = uint64(binary.NativeEndian.Uint32(raw[68:])), true
	attrs, err := nl.ParseRouteAttr(raw[diagMessageSize:])
	if err != nil {
		return l, err
	}
	for _, a := range attrs {
		if a.Attr.Type == diagV6Only && len(a.Value) > 0 {
			l.V6Only = a.Value[0] != 0
		}
	}
	return l, nil
}

// String is the address as ss prints it: * for an IPv6 socket that takes IPv4 too.
func (l Listener) String() string {
	if l.Whole && !l.V6Only && l.Local.Addr() == netip.IPv6Unspecified() {
		return strings.Replace(l.Local.String(), "[::]", "*", 1)
	}
	return l.Local.String()
}
