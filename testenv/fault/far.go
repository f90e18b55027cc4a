// SPDX-License-Identifier: Apache-2.0

// Faults whose packets leave node1 in good order and die on the other node,
// where the trace does not see them.

package fault

import (
	"context"
	"errors"
	"fmt"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/netns"
)

func farFaults() []Fault {
	return []Fault{
		{Name: "far-policy", Code: "left-node", Kinds: anyKind, Nodes: 2,
			Doc: "a rule at the head of the other node's FORWARD drops the request", Apply: farPolicy},
		{Name: "masquerade", Code: "masquerade", Kinds: anyKind, Nodes: 2,
			Doc: "an unwanted MASQUERADE gives the request the tunnel's address as its source, which the other node does not let in", Apply: masquerade},
	}
}

// writeFar writes a rule on node2. It is not the rule that the trace is to name.
func writeFar(ctx context.Context, e *cluster.Env, s ruleSpec) func(*Applied) error {
	return func(a *Applied) error {
		_, undo, err := insertRule(ctx, e, e.Node(2).Netns, e.Dataplane.Form(), s)
		if err != nil {
			return err
		}
		a.undo = append(a.undo, undo)
		return nil
	}
}

func farPolicy(ctx context.Context, e *cluster.Env, f flow) (*Applied, error) {
	s, err := requestRule(e, f, "far-policy", "FORWARD", "DROP")
	if err != nil {
		return nil, err
	}
	return apply("node2", writeFar(ctx, e, s))
}

// masquerade does what kube-proxy's --masquerade-all does, or a cluster CIDR
// that does not hold the whole pod network.
func masquerade(ctx context.Context, e *cluster.Env, f flow) (*Applied, error) {
	if f.src == nil || f.dst == nil || f.src.Node.Number != 1 || f.dst.Node.Number != 2 {
		return nil, errors.New("the traffic must go from a pod on node1 to one on node2")
	}
	far := ruleSpec{name: "pods-only", hook: "FORWARD", src: e.Node(1).TunnelAddr, dst: f.dst.IPv4, proto: f.Proto, verdict: "DROP"}
	return apply("node1", writeFar(ctx, e, far), masqueradeAll(ctx, e, f))
}

// masqueradeAll writes the rule, in the form of the node's own.
func masqueradeAll(ctx context.Context, e *cluster.Env, f flow) func(*Applied) error {
	ns := e.Node(1).Netns
	if e.Dataplane.Form() == cluster.FormNFTables {
		in := fmt.Sprintf("table ip site-masquerade {\n\tchain postrouting {\n\t\ttype nat hook postrouting priority srcnat - 5; policy accept;\n"+
			"\t\tip saddr %s ip daddr %s masquerade comment \"masquerade-all\"\n\t}\n}\n", f.src.IPv4, f.dst.IPv4)
		return runTool(ctx, e, ns, command{in, []string{"nft", "-f", "-"}}, cmd("nft", "delete", "table", "ip", "site-masquerade"))
	}
	tool := "iptables-" + string(e.Dataplane.Form())
	rule := []string{"-s", netns.HostPrefix(f.src.IPv4).String(), "-d", netns.HostPrefix(f.dst.IPv4).String(), "-m", "comment", "--comment", "masquerade-all", "-j", "MASQUERADE"}
	return runTool(ctx, e, ns, cmd(append([]string{tool, "-w", "-t", "nat", "-I", "POSTROUTING", "1"}, rule...)...),
		cmd(append([]string{tool, "-w", "-t", "nat", "-D", "POSTROUTING"}, rule...)...))
}
