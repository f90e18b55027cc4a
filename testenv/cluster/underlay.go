// SPDX-License-Identifier: Apache-2.0

// The network between the nodes: a bridge in a namespace of its own, which also
// plays the default gateway and the world behind it.

package cluster

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/pathtrace/pathtrace/testenv/netns"
)

// underlayBridge is the bridge's name in the underlay's namespace.
const underlayBridge = "br0"

func (e *Env) buildUnderlay() error {
	ns, err := netns.New(e.name + "-underlay")
	if err != nil {
		return err
	}
	e.Underlay = ns
	if err := ns.Sysctl(append(noDAD, netns.Setting{Path: "ipv4/ip_forward", Value: "1"})...); err != nil {
		return err
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: underlayBridge}}
	if err := ns.Link().LinkAdd(bridge); err != nil {
		return fmt.Errorf("add bridge: %w", err)
	}
	index, err := ns.LinkIndex(underlayBridge)
	if err != nil {
		return err
	}
	outside := []netip.Prefix{
		UnderlayGateway, netip.PrefixFrom(ExternalAddr, 24),
		netns.HostPrefix(BadNetAddr), netns.HostPrefix(netip.MustParseAddr("198.51.99.1")),
	}
	for _, prefix := range outside {
		if err := ns.AddAddr(index, prefix); err != nil {
			return err
		}
	}
	return ns.SetUp(underlayBridge)
}

// joinUnderlay gives a node its uplink, address and default route.
func (e *Env) joinUnderlay(node *Node) error {
	if err := node.Netns.Sysctl(nodeSysctls...); err != nil {
		return err
	}
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: uplink},
		PeerName:      node.Name,
		PeerNamespace: netlink.NsFd(e.Underlay.FD()),
	}
	if err := node.Netns.Link().LinkAdd(veth); err != nil {
		return fmt.Errorf("add uplink: %w", err)
	}
	if err := e.PlugIn(node.Name); err != nil {
		return err
	}
	index, err := node.Netns.LinkIndex(uplink)
	if err != nil {
		return err
	}
	if err := node.Netns.AddAddr(index, netip.PrefixFrom(node.Addr, UnderlayGateway.Bits())); err != nil {
		return err
	}
	if err := node.Netns.SetUp(uplink); err != nil {
		return err
	}
	return node.Netns.AddRoute(netlink.Route{
		LinkIndex: index, Dst: netns.IPNet(netip.MustParsePrefix("0.0.0.0/0")), Gw: UnderlayGateway.Addr().AsSlice(),
	})
}

// PlugIn puts one end of an uplink on the underlay's bridge. Nodes are built
// side by side, the underlay's handle is one: a lock keeps them apart.
func (e *Env) PlugIn(name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	port, err := e.Underlay.Link().LinkByName(name)
	if err != nil {
		return fmt.Errorf("find uplink's other end: %w", err)
	}
	bridge, err := e.Underlay.Link().LinkByName(underlayBridge)
	if err != nil {
		return fmt.Errorf("find underlay bridge: %w", err)
	}
	if err := e.Underlay.Link().LinkSetMaster(port, bridge); err != nil {
		return fmt.Errorf("put %s on the underlay bridge: %w", name, err)
	}
	return e.Underlay.Link().LinkSetUp(port)
}

// nodeSysctls come first on every node, before links inherit the defaults.
var nodeSysctls = append([]netns.Setting{
	{Path: "ipv4/ip_forward", Value: "1"},
	{Path: "ipv6/conf/all/forwarding", Value: "1"},
	{Path: "ipv4/conf/all/rp_filter", Value: "0"},
	{Path: "ipv4/conf/default/rp_filter", Value: "0"},
}, noDAD...)
