// SPDX-License-Identifier: Apache-2.0

// The way between the nodes, as the node's agent makes it. A way has a device, except
// for the bare one, and routes to the other node's pods:
//
//	vxlan      vxlan.calico, flannel.1          VXLAN below
//	ipip       tunl0, flannel.ipip              ipip.go
//	wireguard  wireguard.cali, flannel-wg       wireguard.go
//	bare       -                                a route by the uplink
//
// VXLAN is made as Felix and flanneld both do: a device without learning, and for each
// other node a route, a neighbour and a forwarding entry, all permanent.

package cluster

import (
	"context"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/netns"
)

// buildTunnel makes the device and the way to the other node.
func (e *Env) buildTunnel(ctx context.Context, node *Node) error {
	make := map[Way]func(context.Context, *Node) error{
		WayVXLAN: e.makeVXLAN, WayIPIP: e.makeIPIP, WayWireGuard: e.makeWireGuard,
	}[e.Dataplane.Way()]
	if make != nil {
		if err := make(ctx, node); err != nil {
			return err
		}
		index, err := node.Netns.LinkIndex(node.Tunnel)
		if err != nil {
			return err
		}
		if err := node.Netns.AddAddr(index, netns.HostPrefix(node.TunnelAddr)); err != nil {
			return err
		}
		if err := node.Netns.SetUp(node.Tunnel); err != nil {
			return err
		}
	}
	return e.AddTunnelPeer(node)
}

// AddTunnelPeer adds what leads to the other node's pods, and goes when the tunnel's
// device is set down.
func (e *Env) AddTunnelPeer(node *Node) error {
	peer := e.facts(3 - node.Number)
	switch e.Dataplane.Way() {
	case WayVXLAN:
		return e.addVXLANPeer(node, peer)
	case WayIPIP:
		return addIPIPRoute(e.Dataplane.Kind(), node, peer)
	case WayWireGuard:
		return e.addWireGuardRoutes(node, peer)
	}
	return addBareRoute(e.Dataplane.Kind(), node, peer)
}

// makeVXLAN makes the device.
func (e *Env) makeVXLAN(_ context.Context, node *Node) error {
	ns, own := node.Netns, e.facts(node.Number)
	under, err := ns.LinkIndex(node.Uplink)
	if err != nil {
		return err
	}
	mac, err := net.ParseMAC(own.tunnelMAC)
	if err != nil {
		return err
	}
	err = ns.Link().LinkAdd(&netlink.Vxlan{
		LinkAttrs: netlink.LinkAttrs{Name: own.tunnel, HardwareAddr: mac, MTU: e.Dataplane.MTU()},
		VxlanId:   own.vni, Port: own.port, VtepDevIndex: under, SrcAddr: own.addr.AsSlice(),
		Learning: false, UDPCSum: true,
	})
	if err != nil {
		return fmt.Errorf("add %s: %w", own.tunnel, err)
	}
	return nil
}

// addVXLANPeer adds route, neighbour and forwarding entry to the other node.
func (e *Env) addVXLANPeer(node *Node, peer facts) error {
	ns := node.Netns
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
		Flags: int(netlink.FLAG_ONLINK), MTU: e.calicoRouteMTU(),
	})
}

// calicoRouteMTU: Felix writes the MTU into the tunnel route, flanneld does not.
func (e *Env) calicoRouteMTU() int {
	if e.Dataplane.Kind() == Calico {
		return e.Dataplane.MTU()
	}
	return 0
}

// addBareRoute leads to the other node's pods by the nodes' own network: BIRD's route
// without encapsulation, flanneld's host-gw (pkg/backend/hostgw).
func addBareRoute(kind Kind, node *Node, peer facts) error {
	index, err := node.Netns.LinkIndex(node.Uplink)
	if err != nil {
		return err
	}
	r := netlink.Route{LinkIndex: index, Dst: netns.IPNet(peer.podNet), Gw: peer.addr.AsSlice()}
	if kind == Calico {
		r.Protocol = unix.RTPROT_BIRD
	}
	return node.Netns.AddRoute(r)
}
