// SPDX-License-Identifier: Apache-2.0

package legacy_test

// Real packets for the tests of walks: each is built byte by byte, sent once
// through a router in network namespaces, and told to Walk as the router's hooks
// see it.
//
//	a 10.1.0.2 ---- 10.1.0.1 ra [r] rb 10.2.0.1 ---- 10.2.0.2 b (drops all)

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
	"github.com/pathtrace/pathtrace/tracer/ruleset/ipset"
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
	"golang.org/x/sys/unix"
)

// router makes the three namespaces and gives r, and a for sending.
func router(t *testing.T) (r, a *place) {
	t.Helper()
	c := nodetest.New(t)
	c.Add("a", "r", "b")
	c.In("r",
		"sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0",
		"ip link add ra type veth peer name eth0 netns @a", "ip addr add 10.1.0.1/24 dev ra", "ip link set ra up",
		"ip link add rb type veth peer name eth0 netns @b", "ip addr add 10.2.0.1/24 dev rb", "ip link set rb up")
	c.In("a", "ip addr add 10.1.0.2/24 dev eth0", "ip link set eth0 up", "ip route add default via 10.1.0.1")
	c.In("b", "iptables-legacy -A INPUT -j DROP", "ip addr add 10.2.0.2/24 dev eth0", "ip link set eth0 up", "ip route add default via 10.2.0.1")
	c.In("a", "ping -q -c 1 -W 5 10.1.0.1")
	return placeIn(t, c, "r"), placeIn(t, c, "a")
}

// probe is a packet to send. Its fields' zeros stand for what most have.
type probe struct {
	about    string
	src, dst string // 10.1.0.2, 10.2.0.2
	proto    uint8
	a, b     uint16 // ports, or ICMP type and code
	flags    uint8  // TCP; 0: SYN
	ttl      uint8  // 64
	tos      uint8
	size     int    // of the payload
	state    string // as connection tracking sees it; new
}

func (p probe) filled() probe {
	if p.src == "" {
		p.src = "10.1.0.2"
	}
	if p.dst == "" {
		p.dst = "10.2.0.2"
	}
	if p.flags == 0 {
		p.flags = 0x02
	}
	if p.ttl == 0 {
		p.ttl = 64
	}
	if p.state == "" {
		p.state = packet.StateNew
	}
	return p
}

// bytes is the whole IPv4 packet.
func (p probe) bytes() []byte {
	src, dst := netip.MustParseAddr(p.src).As4(), netip.MustParseAddr(p.dst).As4()
	body := p.transport()
	if at := map[uint8]int{unix.IPPROTO_TCP: 16, unix.IPPROTO_UDP: 6, unix.IPPROTO_ICMP: 2}[p.proto]; at > 0 {
		var pseudo []byte
		if p.proto != unix.IPPROTO_ICMP {
			pseudo = append(append(append(pseudo, src[:]...), dst[:]...), 0, p.proto, 0, byte(len(body)))
			pseudo[10], pseudo[11] = byte(len(body)>>8), byte(len(body))
		}
		binary.BigEndian.PutUint16(body[at:], checksum(append(pseudo, body...)))
	}
	head := []byte{0x45, p.tos, 0, 0, 0, 1, 0x40, 0, p.ttl, p.proto, 0, 0}
	head = append(append(head, src[:]...), dst[:]...)
	binary.BigEndian.PutUint16(head[2:], uint16(len(head)+len(body)))
	return append(head, body...)
}

// transport is header and payload behind the IP header, without checksum.
func (p probe) transport() []byte {
	payload := make([]byte, p.size)
	switch p.proto {
	case unix.IPPROTO_TCP:
		b := binary.BigEndian.AppendUint16(nil, p.a)
		b = binary.BigEndian.AppendUint16(b, p.b)
		b = append(b, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, p.flags, 0x20, 0, 0, 0, 0, 0)
		return append(b, payload...)
	case unix.IPPROTO_UDP:
		b := binary.BigEndian.AppendUint16(nil, p.a)
		b = binary.BigEndian.AppendUint16(b, p.b)
		b = binary.BigEndian.AppendUint16(b, uint16(8+p.size))
		return append(append(b, 0, 0), payload...)
	case unix.IPPROTO_ICMP:
		return append([]byte{byte(p.a), byte(p.b), 0, 0, 0, 1, 0, 1}, payload...)
	}
	return append(make([]byte, 8), payload...)
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		word := uint32(b[i]) << 8
		if i+1 < len(b) {
			word |= uint32(b[i+1])
		}
		sum += word
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// send sends a packet once, or the first so many bytes of it.
func send(t *testing.T, from *place, p probe, cut ...int) {
	t.Helper()
	raw := p.bytes()
	for _, n := range cut {
		raw = raw[:n]
	}
	from.do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, raw, 0, &unix.SockaddrInet4{Addr: netip.MustParseAddr(p.dst).As4()})
	})
}

// seen is the packet as the router's first hook sees it.
func (p probe) seen(world packet.World) *packet.Packet {
	q := &packet.Packet{
		Family: "ip", Hook: "PREROUTING", Proto: p.proto,
		Src: netip.MustParseAddr(p.src), Dst: netip.MustParseAddr(p.dst),
		Length: packet.Known(uint32(len(p.bytes()))), TTL: packet.Known(p.ttl), TOS: packet.Known(p.tos),
		Fragment: packet.Known(false), Mark: packet.Known[uint32](0),
		In: packet.Known("ra"), Out: packet.Known(""), PhysIn: packet.Known(""), PhysOut: packet.Known(""),
		CT:    packet.Conntrack{State: packet.Known(p.state), Mark: packet.Known[uint32](0)},
		World: world,
	}
	switch p.proto {
	case unix.IPPROTO_TCP:
		q.TCPFlags = packet.Known(p.flags)
		fallthrough
	case unix.IPPROTO_UDP:
		q.SrcPort, q.DstPort = packet.Known(p.a), packet.Known(p.b)
	case unix.IPPROTO_ICMP:
		q.ICMPType, q.ICMPCode = packet.Known(uint8(p.a)), packet.Known(uint8(p.b))
	}
	return q
}

// world is the router's: its addresses and its ipsets.
type world struct {
	t    *testing.T
	sets *ipset.Sets
}

func (w world) AddrType(addr netip.Addr, kind, _ string) packet.Answer {
	if kind != "local" {
		return packet.Unknown
	}
	return packet.Of(addr == netip.MustParseAddr("10.1.0.1") || addr == netip.MustParseAddr("10.2.0.1"))
}

func (w world) IPSet(name string, dirs []bool, p *packet.Packet) packet.Answer {
	answer, err := w.sets.Test(name, dirs, p)
	if err != nil {
		w.t.Errorf("ipset %s: %v", name, err)
	}
	return answer
}

func (world) ReversePath(*packet.Packet, bool, bool) packet.Answer { return packet.Unknown }
