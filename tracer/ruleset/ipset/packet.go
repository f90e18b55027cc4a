// SPDX-License-Identifier: Apache-2.0

package ipset

// This file asks whether a packet is in a set, the way the set match of
// iptables does: ip_set_test and the kadt function of each type (net/netfilter/
// ipset/). One table row tells how a dimension is taken from a packet.

import (
	"errors"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// maxDepth bounds lists within lists; the kernel forbids them today.
const maxDepth = 4

// Test tells whether a packet is in a set now. dirs are the match's flags from
// the first dimension on, true for the packet's source. It is Unknown where the
// set asks for what was not seen (a MAC address). It fails with ErrNoSet.
func (s *Sets) Test(name string, dirs []bool, p *packet.Packet) (packet.Answer, error) {
	return s.test(name, dirs, p, 0)
}

func (s *Sets) test(name string, dirs []bool, p *packet.Packet, depth int) (packet.Answer, error) {
	set, err := s.Set(name)
	if err != nil {
		return packet.Unknown, err
	}
	if set.Type == "list:set" {
		return s.testList(name, dirs, p, depth)
	}
	family := map[string]uint8{"ip": unix.AF_INET, "ip6": unix.AF_INET6}[p.Family]
	dims := set.Dimensions()
	switch {
	case family == 0:
		return packet.Unknown, nil // a bridge hook: which header the kernel reads is not known
	case len(dirs) < len(dims), set.Family != unix.AF_UNSPEC && set.Family != family:
		return packet.No, nil // net/netfilter/ipset/ip_set_core.c, ip_set_test
	}
	e, answer := elementOf(set, dirs, p)
	if answer != packet.Yes {
		return answer, nil
	}
	in, err := s.contains(name, e)
	if err != nil {
		return packet.Unknown, err
	}
	return packet.Of(in), nil
}

// testList asks a list's sets one after the other (ip_set_list_set.c,
// list_set_ktest). A member that is gone by now is left out.
func (s *Sets) testList(name string, dirs []bool, p *packet.Packet, depth int) (packet.Answer, error) {
	if depth >= maxDepth || len(dirs) == 0 {
		return packet.Unknown, nil
	}
	members, err := s.members(name)
	if err != nil {
		return packet.Unknown, err
	}
	result := packet.No
	for _, member := range members {
		answer, err := s.test(member, dirs, p, depth+1)
		switch {
		case errors.Is(err, ErrNoSet):
			continue
		case err != nil:
			return packet.Unknown, err
		case answer == packet.Yes:
			return packet.Yes, nil
		case answer == packet.Unknown:
			result = packet.Unknown
		}
	}
	return result, nil
}

// dimension adds one part of an element to e. It answers Yes if that was
// possible, No if the kernel finds that the packet has no such part, and
// Unknown if it was not seen.
type dimension func(set Set, e element, second, src bool, p *packet.Packet) packet.Answer

// dimensions tells how each part of an element is taken from a packet. A type
// with a part that is not listed (mac) is Unknown.
func dimensions(name string) dimension {
	return map[string]dimension{
		"ip":    addAddress,
		"net":   addAddress,
		"port":  addPort,
		"iface": addInterface,
		"mark":  addMark,
	}[name]
}

// elementOf makes the element that a packet is looked up by.
func elementOf(set Set, dirs []bool, p *packet.Packet) (element, packet.Answer) {
	e := newElement()
	answer := packet.Yes
	second := false
	for n, name := range set.Dimensions() {
		add := dimensions(name)
		if add == nil {
			return e, packet.Unknown
		}
		answer = answer.And(add(set, e, second, dirs[n], p))
		second = second || name == "ip" || name == "net"
	}
	return e, answer
}

func addAddress(_ Set, e element, second, src bool, p *packet.Packet) packet.Answer {
	addr, attr := p.Dst, nl.IPSET_ATTR_IP
	if src {
		addr = p.Src
	}
	if second {
		attr = nl.IPSET_ATTR_IP2
	}
	if !addr.IsValid() {
		return packet.Unknown
	}
	if p.Family == "ip" {
		addr = addr.Unmap()
	}
	e.address(attr, addr)
	return packet.Yes
}

// addPort adds protocol and port; ICMP's type and code stand for a port
// (ip_set_getport.c, get_port). A fragment behind the first has no ports.
func addPort(set Set, e element, _, src bool, p *packet.Packet) packet.Answer {
	switch port, answer := portOf(p, src); {
	case answer != packet.Yes:
		return answer
	case set.Type == "bitmap:port": // has no protocol, and takes TCP and UDP only
		e.port(port)
		return packet.Of(p.Proto == unix.IPPROTO_TCP || p.Proto == unix.IPPROTO_UDP)
	default:
		e.port(port)
		e.proto(p.Proto)
		return packet.Of(p.Proto != 0)
	}
}

// portOf is what sets take for the port of a packet.
func portOf(p *packet.Packet, src bool) (uint16, packet.Answer) {
	var port packet.Fact[uint16]
	switch p.Proto {
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_UDPLITE, unix.IPPROTO_SCTP:
		if port = p.DstPort; src {
			port = p.SrcPort
		}
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		if (p.Proto == unix.IPPROTO_ICMP) != (p.Family == "ip") {
			return 0, packet.Yes // the other family's: no protocol with ports
		}
		if p.ICMPType.Known && p.ICMPCode.Known {
			port = packet.Known(uint16(p.ICMPType.Value)<<8 | uint16(p.ICMPCode.Value))
		}
	default:
		return 0, packet.Yes // has no ports: looked up with 0
	}
	switch {
	case p.Fragment.Known && p.Fragment.Value:
		return 0, packet.No
	case !port.Known:
		return 0, packet.Unknown
	}
	return port.Value, packet.Yes
}

func addInterface(_ Set, e element, _, src bool, p *packet.Packet) packet.Answer {
	name := p.Out
	if src {
		name = p.In
	}
	if !name.Known {
		return packet.Unknown
	}
	e.iface(name.Value)
	return packet.Of(name.Value != "")
}

func addMark(_ Set, e element, _, _ bool, p *packet.Packet) packet.Answer {
	if !p.Mark.Known {
		return packet.Unknown
	}
	e.mark(p.Mark.Value)
	return packet.Yes
}
