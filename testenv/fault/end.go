// SPDX-License-Identifier: Apache-2.0

// Faults at the receiving end, and of the way a reply takes.

package fault

import (
	"context"
	"errors"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/netns"
)

func endFaults() []Fault {
	return []Fault{
		{Name: "no-listener", Code: "no-listener", Kinds: anyKind,
			Doc: "the server in the destination pod is stopped", Apply: stopServer},
		{Name: "bridge-nf-off", Code: "reply-not-translated", Kinds: onlyFlannel, KubeProxy: true,
			Doc: "bridge-nf-call-iptables is 0: the reply of a service crosses the bridge without its address being put back", Apply: bridgeNFOff},
	}
}

func stopServer(_ context.Context, e *cluster.Env, f flow) (*Applied, error) {
	if f.dst == nil || f.Proto == "icmp" {
		return nil, errors.New("the traffic must be TCP or UDP to a pod")
	}
	return apply(f.dst.FullName(), func(a *Applied) error {
		return a.then(func() error { return e.StopServing(f.dst.Netns, f.Proto, f.Port) },
			func() error { return e.Serve(f.dst.Netns, f.Proto, f.Port) })
	})
}

func bridgeNFOff(_ context.Context, e *cluster.Env, _ flow) (*Applied, error) {
	node := e.Node(1)
	return apply(node.Name, sysctl(node.Netns, netns.Setting{Path: "bridge/bridge-nf-call-iptables", Value: "0"}))
}
