// SPDX-License-Identifier: Apache-2.0

// The network between the nodes: a bridge in a namespace of its own, which also
// plays the default gateway and the world behind it.

package testenv

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// underlayBridge is the bridge's name in the underlay's namespace.
const underlayBridge = "br0"

func (e *Env) buildUnderlay() error {
	ns, err := newNetns(e.name + "-underlay")
	if err != nil {
		return err
	}
	e.Underlay = ns
	if err := ns.Sysctl(append(noDAD, Setting{"ipv4/ip_forward", "1"})...); err != nil {
		return err
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: underlayBridge}}
	if err := ns.link.LinkAdd(bridge); err != nil {
		return fmt.Errorf("add bridge: %w", err)
	}
	index, err := ns.linkIndex(underlayBridge)
	if err != nil {
		return err
	}
	outside := []netip.Prefix{
		underlayGateway, netip.PrefixFrom(ExternalAddr, 24),
		hostPrefix(BadNetAddr), hostPrefix(netip.MustParseAddr("198.51.99.1")),
	}
	for _, prefix := range outside {
		if err := ns.addAddr(index, prefix); err != nil {
			return err
		}
	}
	return ns.setUp(underlayBridge)
}

// joinUnderlay gives a node its uplink, address and default route.
func (e *Env) joinUnderlay(node *Node) error {
	if err := node.Netns.Sysctl(nodeSysctls...); err != nil {
		return err
	}
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: uplink},
		PeerName:      node.Name,
		PeerNamespace: netlink.NsFd(int(e.Underlay.file.Fd())),
	}
	if err := node.Netns.link.LinkAdd(veth); err != nil {
		return fmt.Errorf("add uplink: %w", err)
	}
	if err := e.plugIn(node.Name); err != nil {
		return err
	}
	index, err := node.Netns.linkIndex(uplink)
	if err != nil {
		return err
	}
	if err := node.Netns.addAddr(index, netip.PrefixFrom(node.Addr, underlayGateway.Bits())); err != nil {
		return err
	}
	if err := node.Netns.setUp(uplink); err != nil {
		return err
	}
	return node.Netns.addRoute(netlink.Route{
		LinkIndex: index, Dst: ipNet(netip.MustParsePrefix("0.0.0.0/0")), Gw: underlayGateway.Addr().AsSlice(),
	})
}

// plugIn puts one end of an uplink on the underlay's bridge. Nodes are built
// side by side, the underlay's handle is one: a lock keeps them apart.
func (e *Env) plugIn(name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	port, err := e.Underlay.link.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find uplink's other end: %w", err)
	}
	bridge, err := e.Underlay.link.LinkByName(underlayBridge)
	if err != nil {
		return fmt.Errorf("find underlay bridge: %w", err)
	}
	if err := e.Underlay.link.LinkSetMaster(port, bridge); err != nil {
		return fmt.Errorf("put %s on the underlay bridge: %w", name, err)
	}
	return e.Underlay.link.LinkSetUp(port)
}

// nodeSysctls come first on every node, before links inherit the defaults.
var nodeSysctls = append([]Setting{
	{"ipv4/ip_forward", "1"},
	{"ipv6/conf/all/forwarding", "1"},
	{"ipv4/conf/all/rp_filter", "0"},
	{"ipv4/conf/default/rp_filter", "0"},
}, noDAD...)

// addRoute adds a route; the error names it.
func (n *Netns) addRoute(r netlink.Route) error {
	if err := n.link.RouteAdd(&r); err != nil {
		return fmt.Errorf("add route %s in %s: %w", r.Dst, n.Name, err)
	}
	return nil
}
