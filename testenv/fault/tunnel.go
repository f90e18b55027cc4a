// SPDX-License-Identifier: Apache-2.0

// Faults of the tunnel between nodes: blocked, or half configured.

package fault

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/cluster"
)

func tunnelFaults() []Fault {
	return []Fault{
		{Name: "vxlan-blocked", Code: "vxlan-blocked", Kinds: anyKind, Nodes: 2,
			Doc: "a rule at the node's OUTPUT drops VXLAN to the other node", Apply: blockVXLANOut},
		{Name: "vxlan-blocked-return", Code: "vxlan-blocked", Kinds: anyKind, Nodes: 2,
			Doc: "a rule at the node's INPUT drops VXLAN from the other node", Apply: blockVXLANIn},
		{Name: "vxlan-fdb", Code: "vxlan-broken", Kinds: anyKind, Nodes: 2,
			Doc: "the tunnel's forwarding entry for the other node is missing", Apply: removeFDB},
		{Name: "tunnel-down", Code: "vxlan-broken", Kinds: anyKind, Nodes: 2,
			Doc: "the tunnel interface is set down, and its routes went with it", Apply: tunnelDown},
	}
}

func blockVXLANOut(ctx context.Context, e *cluster.Env, _ flow) (*Applied, error) {
	return apply("node1", write(ctx, e, e.Node(1).Netns, e.Dataplane.Form(), ruleSpec{
		name: "no-tunnels", hook: "OUTPUT", dst: e.Node(2).Addr, proto: "udp", verdict: "DROP",
		dport: e.Node(1).TunnelPort,
	}))
}

func blockVXLANIn(ctx context.Context, e *cluster.Env, _ flow) (*Applied, error) {
	return apply("node1", write(ctx, e, e.Node(1).Netns, e.Dataplane.Form(), ruleSpec{
		name: "no-tunnels", hook: "INPUT", src: e.Node(2).Addr, proto: "udp", verdict: "DROP",
		dport: e.Node(1).TunnelPort,
	}))
}

func removeFDB(_ context.Context, e *cluster.Env, _ flow) (*Applied, error) {
	node := e.Node(1)
	index, err := node.Netns.LinkIndex(node.Tunnel)
	if err != nil {
		return nil, err
	}
	entries, err := node.Netns.Link().NeighList(index, unix.AF_BRIDGE)
	if err != nil {
		return nil, fmt.Errorf("list forwarding entries: %w", err)
	}
	var steps []func(*Applied) error
	for _, entry := range entries {
		// With the VTEP's own flags: netlink would look for a bridge's entry.
		entry.Flags = netlink.NTF_SELF
		steps = append(steps, func(a *Applied) error {
			return a.then(func() error { return node.Netns.Link().NeighDel(&entry) },
				func() error { return node.Netns.Link().NeighSet(&entry) })
		})
	}
	if len(steps) == 0 {
		return nil, fmt.Errorf("%s has no forwarding entry", node.Tunnel)
	}
	return apply(node.Name, steps...)
}

func tunnelDown(_ context.Context, e *cluster.Env, _ flow) (*Applied, error) {
	node := e.Node(1)
	return apply(node.Name, down(node.Netns, node.Tunnel, func() error { return e.AddTunnelPeer(node) }))
}
