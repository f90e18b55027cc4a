// SPDX-License-Identifier: Apache-2.0

// The IPIP tunnel between nodes. Calico has the kernel's own tunl0, with routes that
// BIRD writes; flannel makes one beside it whose local end is the node's address
// (pkg/backend/ipip). Either learns the other node from the route's gateway.

package cluster

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/netns"
)

// calicoIPIP is the device that every namespace has once the module is loaded.
const calicoIPIP = "tunl0"

// makeIPIP makes the device, or takes the one that is there.
func (e *Env) makeIPIP(_ context.Context, node *Node) error {
	ns := node.Netns
	device := &netlink.Iptun{LinkAttrs: netlink.LinkAttrs{Name: node.Tunnel}}
	if node.Tunnel != calicoIPIP {
		device.Local = node.Addr.AsSlice()
	}
	if _, err := ns.Link().LinkByName(node.Tunnel); err != nil {
		if err := ns.Link().LinkAdd(device); err != nil {
			return fmt.Errorf("add %s: %w", node.Tunnel, err)
		}
	}
	link, err := ns.Link().LinkByName(node.Tunnel)
	if err != nil {
		return fmt.Errorf("find %s: %w", node.Tunnel, err)
	}
	if err := ns.Link().LinkSetMTU(link, e.Dataplane.MTU()); err != nil {
		return fmt.Errorf("set MTU of %s: %w", node.Tunnel, err)
	}
	// a namespace's tunl0 has the settings that its first namespace had
	return ns.Sysctl(netns.Setting{Path: "ipv4/conf/" + node.Tunnel + "/rp_filter", Value: "0"})
}

// addIPIPRoute leads to the other node's pods; the gateway is the outer destination.
func addIPIPRoute(kind Kind, node *Node, peer facts) error {
	index, err := node.Netns.LinkIndex(node.Tunnel)
	if err != nil {
		return err
	}
	r := netlink.Route{LinkIndex: index, Dst: netns.IPNet(peer.podNet), Gw: peer.addr.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
	if kind == Calico {
		r.Protocol = unix.RTPROT_BIRD
	}
	return node.Netns.AddRoute(r)
}
