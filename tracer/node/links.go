// SPDX-License-Identifier: Apache-2.0

package node

// This file lists the links of a namespace with what matters to a packet:
// where they lead and which addresses they hold.

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/nfnetlink"
)

// Link is a network interface.
type Link struct {
	Index     int
	Name      string
	Kind      string // as `ip -d link` names it: veth, bridge, vxlan, ...; "" for a physical device and for loopback
	Loopback  bool
	Up        bool   // administratively: IFF_UP
	Carrier   bool   // IFF_LOWER_UP: the other end is up too
	MAC       string // "" where the device has none
	NoARP     bool   // IFF_NOARP: nobody asks, and nobody answers
	Master    int    // index of the bridge or bond it is a port of; 0: none
	PeerIndex int    // veth: the other end's index in its namespace; else the device below; 0: none
	PeerNetns uint32 // inode of the namespace PeerIndex is in; 0: not known or no peer
	Addrs     []netip.Prefix
	MTU       int
	Group     int    // `ip link set group`; 0: the default one
	VRFTable  uint32 // of a VRF: the table of what comes in by its interfaces
	// VLANFiltering, of a bridge: frames pass between ports of one VLAN only.
	VLANFiltering bool
	// Tentative are IPv6 addresses that are not used (yet): the kernel still asks
	// whether another has them, or, of those in Duplicate too, one had (dadfailed).
	Tentative, Duplicate []netip.Addr

	// VXLAN only.
	VXLANPort     uint16 // UDP port of the outer header
	VNI           uint32
	VXLANLocal    netip.Addr // outer source address; invalid: not set
	VXLANDevice   int        // index of the device below; 0: none
	VXLANLearning bool

	Tunnel Tunnel // of the other kinds that put packets into others
	// Mode of a macvlan (private, vepa, bridge, passthru, source), an ipvlan (l2, l3, l3s)
	// or a netkit (l2, l3); "" of others.
	Mode string

	peerID int            // id of the peer's namespace as this one counts; -1: the same namespace
	global []netip.Prefix // those of Addrs with global scope
}

// Links lists the links of a namespace by index. It fails with ErrGone.
func (n *Namespaces) Links(inode uint32) (links []Link, err error) {
	err = n.withHandle(inode, func(h *netlink.Handle) error {
		if links, err = n.rawLinks(h); err != nil {
			return err
		}
		return n.resolvePeers(h, inode, links)
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Place(inode), err)
	}
	return links, nil
}

// rawLinks lists links and addresses; peers are known by namespace id only.
func (n *Namespaces) rawLinks(h *netlink.Handle) ([]Link, error) {
	found, err := dump(h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	addrs, err := dump(func() ([]netlink.Addr, error) { return h.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	links := make([]Link, 0, len(found))
	at := make(map[int]int, len(found))
	for _, l := range found {
		at[l.Attrs().Index] = len(links)
		links = append(links, newLink(l))
	}
	for _, a := range addrs {
		i, ok := at[a.LinkIndex]
		prefix, valid := toPrefix(a.IPNet)
		if !ok || !valid {
			continue // an address of a link that came after the links were listed
		}
		links[i].Addrs = append(links[i].Addrs, prefix)
		if a.Flags&unix.IFA_F_TENTATIVE != 0 {
			links[i].Tentative = append(links[i].Tentative, prefix.Addr())
		}
		if a.Flags&unix.IFA_F_DADFAILED != 0 {
			links[i].Duplicate = append(links[i].Duplicate, prefix.Addr())
		}
		if a.Scope == unix.RT_SCOPE_UNIVERSE {
			links[i].global = append(links[i].global, prefix)
		}
	}
	slices.SortFunc(links, func(x, y Link) int { return x.Index - y.Index })
	return links, nil
}

// dump repeats a netlink dump that a change interrupted.
func dump[T any](list func() ([]T, error)) ([]T, error) {
	const tries = 5
	for try := 1; ; try++ {
		found, err := list()
		interrupted := errors.Is(err, netlink.ErrDumpInterrupted) || errors.Is(err, nfnetlink.ErrInterrupted)
		if !interrupted || try == tries {
			return found, err
		}
	}
}

func newLink(l netlink.Link) Link {
	a := l.Attrs()
	link := Link{
		Index:     a.Index,
		Name:      a.Name,
		Kind:      linkKind(l),
		Loopback:  a.Flags&net.FlagLoopback != 0,
		Up:        a.RawFlags&unix.IFF_UP != 0,
		Carrier:   a.RawFlags&unix.IFF_LOWER_UP != 0,
		MAC:       a.HardwareAddr.String(),
		NoARP:     a.RawFlags&unix.IFF_NOARP != 0,
		Master:    a.MasterIndex,
		PeerIndex: a.ParentIndex,
		MTU:       a.MTU,
		Group:     int(a.Group),
		peerID:    a.NetNsID,

		VLANFiltering: vlanFiltering(l),
		Tunnel:        tunnelOf(l),
		Mode:          modeOf(l),
	}
	if v, ok := l.(*netlink.Vrf); ok {
		link.VRFTable = v.Table
	}
	if v, ok := l.(*netlink.Vxlan); ok {
		link.VXLANPort = uint16(v.Port)
		link.VNI = uint32(v.VxlanId)
		link.VXLANLocal, _ = netip.AddrFromSlice(v.SrcAddr)
		link.VXLANLocal = link.VXLANLocal.Unmap()
		link.VXLANDevice = v.VtepDevIndex
		link.VXLANLearning = v.Learning
	}
	return link
}

// linkKind is the kind as the kernel names it; the library has words of its
// own for two of them.
func linkKind(l netlink.Link) string {
	switch kind := l.Type(); kind {
	case "device":
		return ""
	case "tuntap":
		return "tun"
	default:
		return kind
	}
}

func toPrefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	ones, bits := n.Mask.Size()
	if bits == 0 {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(addr.Unmap(), ones), true
}

// resolvePeers finds out which namespace each link's other end is in.
func (n *Namespaces) resolvePeers(h *netlink.Handle, inode uint32, links []Link) error {
	wanted := map[int]bool{}
	for i, l := range links {
		switch {
		case l.PeerIndex == 0:
		case l.peerID < 0:
			links[i].PeerNetns = inode
		default:
			wanted[l.peerID] = true
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	ids, err := n.namespaceIDs(h, wanted)
	if err != nil {
		return err
	}
	for i, l := range links {
		if l.PeerIndex != 0 && l.peerID >= 0 {
			links[i].PeerNetns = ids[l.peerID]
		}
	}
	return nil
}

// hasSubnet tells whether the link holds an address of global scope with a
// subnet around it (shorter than /32 or /128), as opposed to the bare host
// addresses that pod-side interfaces and tunnels may have.
func (l Link) hasSubnet() bool {
	return slices.ContainsFunc(l.global, func(p netip.Prefix) bool { return p.Bits() < p.Addr().BitLen() })
}

// GlobalAddrs lists the addresses of global scope.
func (l Link) GlobalAddrs() []netip.Prefix { return slices.Clone(l.global) }

// Carrier is a UDP port inside whose packets other packets go between nodes.
type Carrier struct {
	Port uint16
	Kind string // as `ip -d link` names the devices: vxlan, geneve; wireguard, whose packets show nothing
}

// Carriers lists the UDP ports of the node's VXLAN and Geneve links, and always those
// that have them by convention: 4789 (IANA; Calico) and 8472 (Linux's default;
// Flannel) for VXLAN, 6081 (IANA) for Geneve. A port is listed once, VXLAN first.
func (n *Namespaces) Carriers() ([]Carrier, error) {
	links, err := n.rawLinks(n.nodeLink)
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	vxlan, geneve := []uint16{4789, 8472}, []uint16{6081}
	for _, l := range links {
		switch {
		case l.VXLANPort != 0:
			vxlan = append(vxlan, l.VXLANPort)
		case l.Kind == "geneve" && l.Tunnel.Port != 0:
			geneve = append(geneve, l.Tunnel.Port)
		}
	}
	var all []Carrier
	seen := map[uint16]bool{}
	for _, of := range []struct {
		kind  string
		ports []uint16
	}{{"vxlan", vxlan}, {"geneve", geneve}} {
		slices.Sort(of.ports)
		for _, port := range of.ports {
			if !seen[port] {
				seen[port] = true
				all = append(all, Carrier{Port: port, Kind: of.kind})
			}
		}
	}
	return all, nil
}
