// SPDX-License-Identifier: Apache-2.0

package node

// This file decides which interfaces lead off the node. A packet handed to one
// of them has left; a veth behind one of them is not a pod.

import (
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Uplinks lists the interfaces of the node that lead off it: index to name.
// These are physical devices and what is stacked on them (bond, vlan, macvlan,
// ...); a veth that is no pod's, told by its address with a subnet around it
// or by the default route (nodes that are containers); and any other device of
// a default route. Loopback, tunnels, pod-side veths and bridges with pods on
// them are not.
func (n *Namespaces) Uplinks() (map[uint32]string, error) {
	links, err := n.rawLinks(n.nodeLink)
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	return n.uplinksOf(links)
}

func (n *Namespaces) uplinksOf(links []Link) (map[uint32]string, error) {
	defaults, err := defaultDevices(n.nodeLink)
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	return classify(links, defaults), nil
}

// defaultDevices are the indexes of the devices that default routes of any
// table lead to.
func defaultDevices(h *netlink.Handle) (map[int]bool, error) {
	routes, err := routesOf(h)
	if err != nil {
		return nil, err
	}
	devices := map[int]bool{}
	for _, r := range routes {
		if r.Type != unix.RTN_UNICAST || !isDefault(r) {
			continue
		}
		if r.LinkIndex > 0 {
			devices[r.LinkIndex] = true
		}
		for _, hop := range r.MultiPath {
			devices[hop.LinkIndex] = true
		}
	}
	return devices, nil
}

func isDefault(r netlink.Route) bool {
	if r.Dst == nil {
		return true
	}
	p, ok := toPrefix(r.Dst)
	return ok && p.Bits() == 0 && p.Addr() == p.Masked().Addr()
}

// role is how a kind of link counts.
type role int

const (
	roleOther    role = iota // only with a default route: dummy, tun, unknown kinds
	rolePhysical             // always
	roleTunnel               // never: the packet goes on, wrapped, through another link
	rolePair                 // veth: pod, or uplink of a containerised node
	roleBridge               // see classify
)

// roleOf is the table of link kinds (IFLA_INFO_KIND).
func roleOf(l Link) role {
	switch l.Kind {
	case "":
		if l.Loopback {
			return roleOther
		}
		return rolePhysical
	case "bond", "team", "vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec", "ipoib", "hsr", "rmnet", "wwan":
		return rolePhysical
	case "vxlan", "geneve", "ipip", "sit", "gre", "gretap", "erspan", "ip6tnl", "ip6gre", "ip6gretap", "ip6erspan",
		"wireguard", "vti", "vti6", "xfrm", "gtp", "bareudp", "amt", "ovpn":
		return roleTunnel
	case "veth", "netkit":
		return rolePair
	case "bridge":
		return roleBridge
	}
	return roleOther
}

// classify picks the uplinks. Bridges come last because it depends on their
// ports: with an uplink among the ports that port is the way off the node and
// the bridge is on the way to it; with pods among them it leads to pods.
func classify(links []Link, defaults map[int]bool) map[uint32]string {
	up := map[uint32]string{}
	crowded := map[int]bool{} // bridges with an uplink or a pod on them
	for _, l := range links {
		if leadsOff(l, defaults[l.Index]) {
			up[uint32(l.Index)] = l.Name
			crowded[l.Master] = true
		}
		if l.Master != 0 && (roleOf(l) == rolePair || l.Kind == "tun") {
			crowded[l.Master] = true
		}
	}
	for _, l := range links {
		if roleOf(l) == roleBridge && defaults[l.Index] && !crowded[l.Index] {
			up[uint32(l.Index)] = l.Name
		}
	}
	return up
}

// leadsOff judges a single link other than a bridge.
func leadsOff(l Link, hasDefault bool) bool {
	switch roleOf(l) {
	case rolePhysical:
		return true
	case rolePair:
		podSide := l.Master != 0 || strings.HasPrefix(l.Name, "cali")
		return !podSide && (hasDefault || l.hasSubnet())
	case roleOther:
		return hasDefault && !l.Loopback && l.Master == 0
	}
	return false
}
