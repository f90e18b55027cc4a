// SPDX-License-Identifier: Apache-2.0

// Single packets, each told from the others by its port (ICMP: by its id).

package rulecases

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// way is where a case's packet runs, as seen from the node with the rules.
type way string

// Ways.
const (
	fwd     way = "fwd"     // client to server, routed
	ret     way = "ret"     // the server's reply
	in      way = "in"      // client to the node itself
	out     way = "out"     // the node itself to the client
	bridged way = "bridged" // client to server over the bridge
)

// packet is what a case sends.
type packet struct {
	way   way
	proto string // udp, tcp (a SYN), icmp (an echo request), icmp-reply (nobody asked for); "": udp
	v6    bool
}

// Ports of cases begin at casePort; what NAT makes of a case's port lies
// natShift higher. Both keep clear of the ports that clients are given.
const (
	casePort = 10000
	natShift = 5000
)

// direction in which pathtrace sees it: the client is --src.
func (p packet) direction() model.Direction {
	if p.way == ret || p.way == out {
		return model.Return
	}
	return model.Forward
}

// is tells whether a packet that was told is the one with that port.
func (p packet) is(told *model.Packet, port uint16) bool {
	if told.Direction != p.direction() || told.Src.Is6() != p.v6 {
		return false
	}
	switch p.proto {
	case "icmp", "icmp-reply":
		return told.ICMPID == port && (told.ICMP == "echo-request") == (p.proto == "icmp")
	case "tcp":
		return told.Proto == "tcp" && (told.SrcPort == port || told.DstPort == port)
	}
	return told.Proto == "udp" && (told.SrcPort == port || told.DstPort == port)
}

// send sends it. Rules on the way out may refuse it (EPERM), which is no error.
func (s *stand) send(p packet, port uint16) error {
	from, to, local := s.client.Netns, netip.AddrPortFrom(s.server.IPv4, port), netip.AddrPort{}
	if p.v6 {
		to = netip.AddrPortFrom(s.server.IPv6, port)
	}
	switch p.way {
	case in:
		to = netip.AddrPortFrom(s.gateway4, port)
		if p.v6 {
			to = netip.AddrPortFrom(gateway6, port)
		}
	case out:
		from, to = s.node, netip.AddrPortFrom(s.client.IPv4, port)
		if p.v6 {
			to = netip.AddrPortFrom(s.client.IPv6, port)
		}
	case ret:
		to = netip.AddrPortFrom(to.Addr(), cluster.DefaultPort)
		local = netip.AddrPortFrom(unspecified(p.v6), port)
	case bridged:
		to = netip.AddrPortFrom(bridgeDst, port)
	}
	send := map[string]func(netip.AddrPort, netip.AddrPort, uint16) error{
		"": sendUDP, "udp": sendUDP, "tcp": sendSYN, "icmp": sendEcho, "icmp-reply": sendReply,
	}[p.proto]
	if send == nil {
		return fmt.Errorf("protocol %q", p.proto)
	}
	return from.Do(func() error {
		err := send(local, to, port)
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EACCES) {
			return nil // a rule's answer
		}
		return err
	})
}

func unspecified(v6 bool) netip.Addr {
	if v6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

// open makes a socket of dst's family, bound to local if that is given.
func open(kind, proto int, local, dst netip.AddrPort) (int, error) {
	family := unix.AF_INET
	if dst.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return 0, fmt.Errorf("open socket: %w", err)
	}
	if local.IsValid() {
		if err := unix.Bind(fd, sockaddr(local)); err != nil {
			return 0, errors.Join(fmt.Errorf("bind to %s: %w", local, err), unix.Close(fd))
		}
	}
	return fd, nil
}

func sendUDP(local, to netip.AddrPort, _ uint16) error {
	fd, err := open(unix.SOCK_DGRAM, 0, local, to)
	if err != nil {
		return err
	}
	return errors.Join(unix.Sendto(fd, []byte("rule case"), 0, sockaddr(to)), unix.Close(fd))
}

// sendSYN begins a connection and gives it up at once, so that nothing is sent
// again.
func sendSYN(local, to netip.AddrPort, _ uint16) error {
	fd, err := open(unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0, local, to)
	if err != nil {
		return err
	}
	if err = unix.Connect(fd, sockaddr(to)); errors.Is(err, unix.EINPROGRESS) {
		err = nil
	}
	return errors.Join(err, unix.Close(fd))
}

// ICMP types, RFC 792 and RFC 4443.
const (
	icmpEchoReply, icmpEcho   = 0, 8
	icmp6Echo, icmp6EchoReply = 128, 129
)

func sendEcho(local, to netip.AddrPort, id uint16) error {
	if to.Addr().Is6() {
		return sendICMP(to.Addr(), icmp6Echo, id)
	}
	return sendICMP(to.Addr(), icmpEcho, id)
}

func sendReply(local, to netip.AddrPort, id uint16) error {
	if to.Addr().Is6() {
		return sendICMP(to.Addr(), icmp6EchoReply, id)
	}
	return sendICMP(to.Addr(), icmpEchoReply, id)
}

// icmpPayload makes an ICMP packet's length say which case it is of: rules
// cannot match the id without modules of their own.
func icmpPayload(id uint16) int { return int(id) - casePort }

func sendICMP(to netip.Addr, kind byte, id uint16) error {
	proto := unix.IPPROTO_ICMP
	if to.Is6() {
		proto = unix.IPPROTO_ICMPV6
	}
	fd, err := open(unix.SOCK_RAW, proto, netip.AddrPort{}, netip.AddrPortFrom(to, 0))
	if err != nil {
		return err
	}
	b := make([]byte, 8+icmpPayload(id))
	b[0] = kind
	binary.BigEndian.PutUint16(b[4:], id)
	if to.Is4() { // the kernel sums ICMPv6 itself
		binary.BigEndian.PutUint16(b[2:], checksum(b))
	}
	return errors.Join(unix.Sendto(fd, b, 0, sockaddr(netip.AddrPortFrom(to, 0))), unix.Close(fd))
}

// checksum is the Internet checksum, RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
