// SPDX-License-Identifier: Apache-2.0

package ipset

// This file says which element a set looks a packet up by: the kadt function of
// each type (net/netfilter/ipset/). One table row tells how a dimension is taken
// from a packet.

import (
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// Element is what sets of a type look a packet up by: those parts that the type
// has. Packets that differ in nothing else have the same one.
type Element struct {
	Type   string // of the sets
	IP     netip.Addr
	Second netip.Addr // of types with two addresses
	Port   uint16
	Proto  uint8
	Iface  string
	Mark   uint32
}

// Element is what a set looks a packet up by. dirs are the match's flags from the
// first dimension on, true for the packet's source. The answer is Yes for one that
// the set has to be asked about, No if the packet is in no set of this type, and
// Unknown if a part of the packet was not seen, or the set is a list, whose
// elements are sets.
func (s Set) Element(dirs []bool, p *packet.Packet) (Element, packet.Answer) {
	family := map[string]uint8{"ip": unix.AF_INET, "ip6": unix.AF_INET6}[p.Family]
	dims := s.Dimensions()
	switch {
	case len(dims) == 0:
		return Element{}, packet.Unknown
	case family == 0:
		return Element{}, packet.Unknown // a bridge hook: which header the kernel reads is not known
	case len(dirs) < len(dims), s.Family != unix.AF_UNSPEC && s.Family != family:
		return Element{}, packet.No // net/netfilter/ipset/ip_set_core.c, ip_set_test
	}
	e := Element{Type: s.Type}
	answer := packet.Yes
	for n, name := range dims {
		take := dimensions(name)
		if take == nil {
			return Element{}, packet.Unknown
		}
		answer = answer.And(take(&e, dirs[n], p))
	}
	if answer != packet.Yes {
		return Element{}, answer
	}
	return e, packet.Yes
}

// dimension takes one part of an element from a packet. It answers Yes if that was
// possible, No if the kernel finds that the packet has no such part, and Unknown if
// it was not seen.
type dimension func(e *Element, src bool, p *packet.Packet) packet.Answer

// dimensions tells how each part of an element is taken from a packet. A type
// with a part that is not listed (mac) is Unknown.
func dimensions(name string) dimension {
	return map[string]dimension{
		"ip":    takeAddress,
		"net":   takeAddress,
		"port":  takePort,
		"iface": takeInterface,
		"mark":  takeMark,
	}[name]
}

func takeAddress(e *Element, src bool, p *packet.Packet) packet.Answer {
	addr := p.Dst
	if src {
		addr = p.Src
	}
	if !addr.IsValid() {
		return packet.Unknown
	}
	if p.Family == "ip" {
		addr = addr.Unmap()
	}
	if e.IP.IsValid() {
		e.Second = addr
	} else {
		e.IP = addr
	}
	return packet.Yes
}

// takePort takes protocol and port; ICMP's type and code stand for a port
// (ip_set_getport.c, get_port). A fragment behind the first has no ports.
func takePort(e *Element, src bool, p *packet.Packet) packet.Answer {
	port, answer := portOf(p, src)
	if answer != packet.Yes {
		return answer
	}
	e.Port = port
	if e.Type == "bitmap:port" { // has no protocol, and takes TCP and UDP only
		return packet.Of(p.Proto == unix.IPPROTO_TCP || p.Proto == unix.IPPROTO_UDP)
	}
	e.Proto = p.Proto
	return packet.Of(p.Proto != 0)
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

func takeInterface(e *Element, src bool, p *packet.Packet) packet.Answer {
	name := p.Out
	if src {
		name = p.In
	}
	if !name.Known {
		return packet.Unknown
	}
	e.Iface = name.Value
	return packet.Of(name.Value != "")
}

func takeMark(e *Element, _ bool, p *packet.Packet) packet.Answer {
	if !p.Mark.Known {
		return packet.Unknown
	}
	e.Mark = p.Mark.Value
	return packet.Yes
}

// attribute is the element as netlink has it: the parts that its type has.
func (e Element) attribute() *nl.RtAttr {
	d := data{nl.NewRtAttr(nl.IPSET_ATTR_DATA|int(nl.NLA_F_NESTED), nil)}
	attr, addr := nl.IPSET_ATTR_IP, e.IP
	for _, name := range (Set{Type: e.Type}).Dimensions() {
		switch name {
		case "ip", "net":
			d.address(attr, addr)
			attr, addr = nl.IPSET_ATTR_IP2, e.Second
		case "port":
			d.port(e.Port)
			if e.Type != "bitmap:port" {
				d.proto(e.Proto)
			}
		case "iface":
			d.iface(e.Iface)
		case "mark":
			d.mark(e.Mark)
		}
	}
	return d.RtAttr
}
