// SPDX-License-Identifier: Apache-2.0

package node

// This file reads where the links lead that put packets into others: all kinds but
// VXLAN, which is in links.go, and WireGuard, whose far ends are its peers
// (wireguard.go).

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Tunnel is what `ip -d link` shows of a link of kind ipip, sit, gre, gretap, ip6gre,
// ip6gretap, ip6tnl or geneve.
type Tunnel struct {
	// Local and Remote are the outer addresses; invalid where they are not set: then
	// the route of the inner packet says where it goes (its gateway), and the route
	// there from where.
	Local, Remote netip.Addr
	Device        int    // index of the link that the outer packets have to leave by; 0: any
	TTL           int    // of the outer packet; 0: that of the inner one
	VNI           uint32 // Geneve
	// Port is the UDP port that outer packets go to: Geneve's, or that of FOU or GUE,
	// which the kinds on IPv4 and ip6tnl may be wrapped in; 0: they are not UDP.
	Port     uint16
	External bool // each packet brings its own outer addresses (`external`)
}

func tunnelOf(l netlink.Link) (t Tunnel) {
	switch v := l.(type) {
	case *netlink.Iptun:
		t = Tunnel{Device: int(v.Link), TTL: int(v.Ttl), External: v.FlowBased}
		t.between(v.Local, v.Remote, v.EncapType, v.EncapDport)
	case *netlink.Sittun:
		t = Tunnel{Device: int(v.Link), TTL: int(v.Ttl)}
		t.between(v.Local, v.Remote, v.EncapType, v.EncapDport)
	case *netlink.Gretun:
		t = Tunnel{Device: int(v.Link), TTL: int(v.Ttl), External: v.FlowBased}
		t.between(v.Local, v.Remote, v.EncapType, v.EncapDport)
	case *netlink.Gretap:
		t = Tunnel{Device: int(v.Link), TTL: int(v.Ttl), External: v.FlowBased}
		t.between(v.Local, v.Remote, v.EncapType, v.EncapDport)
	case *netlink.Ip6tnl:
		t = Tunnel{Device: int(v.Link), TTL: int(v.Ttl), External: v.FlowBased}
		t.between(v.Local, v.Remote, v.EncapType, v.EncapDport)
	case *netlink.Geneve:
		t = Tunnel{TTL: int(v.Ttl), VNI: v.ID, Port: v.Dport, External: v.FlowBased}
		t.Remote = setAddr(v.Remote)
	}
	return t
}

// between sets both ends, and the port if UDP is put between (0 is
// TUNNEL_ENCAP_NONE, linux/if_tunnel.h).
func (t *Tunnel) between(local, remote net.IP, encap, port uint16) {
	t.Local, t.Remote = setAddr(local), setAddr(remote)
	if encap != 0 {
		t.Port = port
	}
}

// setAddr is an address of a tunnel; the unspecified one says that none is set.
func setAddr(ip net.IP) netip.Addr {
	addr, ok := netip.AddrFromSlice(ip)
	if !ok || addr.Unmap().IsUnspecified() {
		return netip.Addr{}
	}
	return addr.Unmap()
}
