// SPDX-License-Identifier: Apache-2.0

// The VXLAN tunnel between nodes, as Felix and flanneld both make it: a device
// without learning, and for each other node a route, a neighbour and a
// forwarding entry, all permanent.

package cluster

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/netns"
)

// buildTunnel makes the device and the way to the other node.
func (e *Env) buildTunnel(node *Node) error {
	ns, own := node.Netns, netFacts(e.Dataplane.Kind(), node.Number)
	under, err := ns.LinkIndex(node.Uplink)
	if err != nil {
		return err
	}
	mac, err := net.ParseMAC(own.tunnelMAC)
	if err != nil {
		return err
	}
	err = ns.Link().LinkAdd(&netlink.Vxlan{
		LinkAttrs: netlink.LinkAttrs{Name: own.tunnel, HardwareAddr: mac, MTU: TunnelMTU},
		VxlanId:   own.vni, Port: own.port, VtepDevIndex: under, SrcAddr: own.addr.AsSlice(),
		Learning: false, UDPCSum: true,
	})
	if err != nil {
		return fmt.Errorf("add %s: %w", own.tunnel, err)
	}
	index, err := ns.LinkIndex(own.tunnel)
	if err != nil {
		return err
	}
	if err := ns.AddAddr(index, netns.HostPrefix(own.tunnelIP)); err != nil {
		return err
	}
	if err := ns.SetUp(own.tunnel); err != nil {
		return err
	}
	return e.AddTunnelPeer(node)
}

// AddTunnelPeer adds route, neighbour and forwarding entry to the other node.
func (e *Env) AddTunnelPeer(node *Node) error {
	ns, peer := node.Netns, netFacts(e.Dataplane.Kind(), 3-node.Number)
	index, err := ns.LinkIndex(node.Tunnel)
	if err != nil {
		return err
	}
	mac, err := net.ParseMAC(peer.tunnelMAC)
	if err != nil {
		return err
	}
	fdb := &netlink.Neigh{
		LinkIndex: index, Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT, Flags: netlink.NTF_SELF,
		IP: peer.addr.AsSlice(), HardwareAddr: mac,
	}
	if err := ns.Link().NeighSet(fdb); err != nil {
		return fmt.Errorf("add forwarding entry for %s: %w", mac, err)
	}
	if err := ns.SetNeighbor(index, peer.tunnelIP, mac); err != nil {
		return err
	}
	return ns.AddRoute(netlink.Route{
		LinkIndex: index, Dst: netns.IPNet(peer.podNet), Gw: peer.tunnelIP.AsSlice(),
		Flags: int(netlink.FLAG_ONLINK), MTU: calicoRouteMTU(e.Dataplane.Kind()),
	})
}

// calicoRouteMTU: Felix writes the MTU into the tunnel route, flanneld does not.
func calicoRouteMTU(kind Kind) int {
	if kind == Calico {
		return TunnelMTU
	}
	return 0
}
