// SPDX-License-Identifier: Apache-2.0

package cause

// This file asks the running node what IPVS balances.

import (
	"fmt"
	"net/netip"

	"github.com/pathtrace/pathtrace/tracer/node"
)

// ipvsState is what a diagnosis may ask about IPVS. Asking loads nothing: where the
// kernel has no IPVS, there is no service and no connection.
type ipvsState interface {
	VirtualServices(netns uint32) ([]node.VirtualService, error)
	RealServers(netns uint32, s node.VirtualService) ([]node.RealServer, error)
	// BalancedConnection gives IPVS's entry of what a client sends to a virtual
	// address; ok is false where there is none.
	BalancedConnection(netns uint32, proto string, client, virtual netip.AddrPort) (c node.BalancedConnection, ok bool, err error)
}

// VirtualServices implements State.
func (l *Live) VirtualServices(netns uint32) ([]node.VirtualService, error) {
	return ask(l, "virtual services", netns, func() ([]node.VirtualService, error) { return l.ns.VirtualServices(netns) })
}

// RealServers implements State.
func (l *Live) RealServers(netns uint32, s node.VirtualService) ([]node.RealServer, error) {
	return ask(l, fmt.Sprint("real servers ", s), netns, func() ([]node.RealServer, error) { return l.ns.RealServers(netns, s) })
}

// BalancedConnection implements State.
func (l *Live) BalancedConnection(netns uint32, proto string, client, virtual netip.AddrPort) (node.BalancedConnection, bool, error) {
	type answer struct {
		node.BalancedConnection
		ok bool
	}
	e, err := ask(l, fmt.Sprint("balanced ", proto, client, virtual), netns, func() (e answer, err error) {
		e.BalancedConnection, e.ok, err = l.ns.BalancedConnection(netns, proto, client, virtual)
		return e, err
	})
	return e.BalancedConnection, e.ok, err
}
