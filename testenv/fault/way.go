// SPDX-License-Identifier: Apache-2.0

// Faults of the ways between nodes other than VXLAN: IPIP, WireGuard, and the bare one
// by routes alone.

package fault

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/netns"
)

func wayFaults() []Fault {
	return []Fault{
		{Name: "tunnel-blocked", Code: "tunnel-blocked", Kinds: anyKind, Nodes: 2,
			Doc: "a rule at the node's OUTPUT drops the tunnel's packets to the other node", Apply: blockTunnel("OUTPUT")},
		{Name: "tunnel-blocked-return", Code: "tunnel-blocked", Kinds: anyKind, Nodes: 2,
			Doc: "a rule at the node's INPUT drops the tunnel's packets from the other node", Apply: blockTunnel("INPUT")},
		{Name: "tunnel-device-down", Code: "tunnel-broken", Kinds: anyKind, Nodes: 2,
			Doc: "the tunnel's interface is set down, and its routes went with it", Apply: tunnelDown},
		{Name: "tunnel-no-node", Code: "tunnel-broken", Kinds: anyKind, Nodes: 2,
			Doc: "the route into the tunnel names no node", Apply: routeWithoutNode},
		{Name: "tunnel-wrong-node", Code: "tunnel-broken", Kinds: anyKind, Nodes: 2,
			Doc: "the route into the tunnel leads to an address that the other node had once", Apply: routeToNobody(tunnelOf)},
		{Name: "next-hop-gone", Code: "neighbor-failed", Kinds: anyKind, Nodes: 2,
			Doc: "the route to the other node's pods leads to an address that the node had once", Apply: routeToNobody(uplinkOf)},
		{Name: "wireguard-no-peer", Code: "wireguard", Kinds: anyKind, Nodes: 2,
			Doc: "the other node's peer lacks the network of its pods among its allowed IPs", Apply: narrowPeer},
		{Name: "wireguard-wrong-key", Code: "wireguard", Kinds: anyKind, Nodes: 2,
			Doc: "the other node's peer has been set up with a key that is not the other node's", Apply: foreignPeer},
	}
}

// blockTunnel drops what the node sends to the other in the tunnel, or what comes.
func blockTunnel(hook string) func(context.Context, *cluster.Env, flow) (*Applied, error) {
	return func(ctx context.Context, e *cluster.Env, _ flow) (*Applied, error) {
		node := e.Node(1)
		s := ruleSpec{name: "known-protocols-only", hook: hook, proto: "udp", dport: node.TunnelPort, verdict: "DROP"}
		switch hook {
		case "OUTPUT":
			s.dst = e.Node(2).Addr
		default:
			s.src = e.Node(2).Addr
		}
		if e.Dataplane.Way() == cluster.WayIPIP {
			s.proto, s.dport = "4", 0
		}
		return apply(node.Name, write(ctx, e, node.Netns, e.Dataplane.Form(), s))
	}
}

// tunnelOf and uplinkOf are the interfaces that a node's route to the other leads by.
func tunnelOf(n *cluster.Node) string { return n.Tunnel }
func uplinkOf(n *cluster.Node) string { return n.Uplink }

// replaceRoute puts a route in the place of the one to node2's pods.
func replaceRoute(e *cluster.Env, by func(*cluster.Node) string, gateway netip.Addr, flags netlink.NextHopFlag) (*Applied, error) {
	node := e.Node(1)
	index, err := node.Netns.LinkIndex(by(node))
	if err != nil {
		return nil, err
	}
	r := netlink.Route{LinkIndex: index, Dst: netns.IPNet(e.Node(2).PodNet), Flags: int(flags), Protocol: unix.RTPROT_BIRD}
	if gateway.IsValid() {
		r.Gw = gateway.AsSlice()
	} else {
		r.Scope = unix.RT_SCOPE_LINK
	}
	return apply(node.Name, removeRoute(node.Netns, e.Node(2).PodNet), addRoute(node.Netns, r))
}

func routeWithoutNode(_ context.Context, e *cluster.Env, _ flow) (*Applied, error) {
	return replaceRoute(e, tunnelOf, netip.Addr{}, 0)
}

// formerNode is an address on the underlay that nobody has.
var formerNode = netip.MustParseAddr("172.30.0.77")

func routeToNobody(by func(*cluster.Node) string) func(context.Context, *cluster.Env, flow) (*Applied, error) {
	return func(_ context.Context, e *cluster.Env, _ flow) (*Applied, error) {
		a, err := replaceRoute(e, by, formerNode, netlink.FLAG_ONLINK)
		if err != nil {
			return nil, err
		}
		a.undo = append(a.undo, func() error { return e.Node(1).Netns.ForgetNeighbor(formerNode) })
		return a, nil
	}
}

// errNoWireGuard is given where the nodes are joined otherwise.
var errNoWireGuard = errors.New("the nodes are not joined by WireGuard")

// narrowPeer leaves the peer no more than an address that no pod has.
func narrowPeer(ctx context.Context, e *cluster.Env, _ flow) (*Applied, error) {
	if e.Dataplane.Way() != cluster.WayWireGuard {
		return nil, errNoWireGuard
	}
	node := e.Node(1)
	return apply(node.Name, func(a *Applied) error {
		return a.then(func() error { return e.SetWireGuardPeer(ctx, node, netns.HostPrefix(e.Node(2).TunnelAddr)) },
			func() error { return e.SetWireGuardPeer(context.WithoutCancel(ctx), node, e.WireGuardAllowed(node)...) })
	})
}

// foreignKey is a public key of nobody's: what wg pubkey gives for a private key of 31
// zeros and a one.
const foreignKey = "/TOE4TKtAqVsePRVR+5AA43HkAK5DSntkOCO7nYq5xU="

// foreignPeer puts a peer with that key in the other node's place.
func foreignPeer(ctx context.Context, e *cluster.Env, _ flow) (*Applied, error) {
	if e.Dataplane.Way() != cluster.WayWireGuard {
		return nil, errNoWireGuard
	}
	node := e.Node(1)
	remove := func(ctx context.Context, key string) error {
		_, err := e.RunTool(ctx, node.Netns, "", "wg", "set", node.Tunnel, "peer", key, "remove")
		return err
	}
	put := []string{"wg", "set", node.Tunnel, "peer", foreignKey, "allowed-ips", e.Node(2).PodNet.String(),
		"endpoint", fmt.Sprintf("%s:%d", e.Node(2).Addr, e.Node(2).TunnelPort)}
	after := context.WithoutCancel(ctx)
	return apply(node.Name, func(a *Applied) error {
		return a.then(func() error { return remove(ctx, e.PublicKey(2)) },
			func() error { return e.SetWireGuardPeer(after, node, e.WireGuardAllowed(node)...) })
	}, func(a *Applied) error {
		return a.then(func() error {
			_, err := e.RunTool(ctx, node.Netns, "", put...)
			return err
		}, func() error { return remove(after, foreignKey) })
	})
}
