// SPDX-License-Identifier: Apache-2.0

// Faults of BGP between nodes.

package fault

import (
	"context"
	"errors"

	"github.com/pathtrace/pathtrace/testenv/cluster"
)

func bgpFaults() []Fault {
	return []Fault{
		{Name: "bgp-blocked", Code: "bgp-blocked", Kinds: onlyCalico, Nodes: 2,
			Doc: "a rule at the node's OUTPUT drops TCP port 179 to the other node: the BGP session ends, and the route that it brought goes", Apply: blockBGP},
	}
}

// blockBGP has the route to node2's pods come by BGP, and then cuts the session.
func blockBGP(ctx context.Context, e *cluster.Env, f flow) (*Applied, error) {
	if f.dst == nil || f.dst.Node.Number != 2 {
		return nil, errors.New("the traffic's destination must be a pod on node2")
	}
	node := e.Node(1)
	var b *bird
	return apply(node.Name, removeRoute(node.Netns, f.dst.Node.PodNet), func(a *Applied) (err error) {
		b, err = startBird(node, f.dst.Node)
		if b != nil {
			a.undo = append(a.undo, b.end)
		}
		return err
	}, write(ctx, e, node.Netns, e.Dataplane.Form(), ruleSpec{
		name: "no-bgp", hook: "OUTPUT", dst: e.Node(2).Addr, proto: "tcp", dport: bgpPort, verdict: "DROP",
	}), func(*Applied) error { return b.await(false) })
}
