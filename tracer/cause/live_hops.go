// SPDX-License-Identifier: Apache-2.0

package cause

// This file asks the running node which way it takes for a packet.

import (
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/node"
)

// hopState is what a diagnosis may ask about the way that the kernel takes.
type hopState interface {
	// UsedRoute is the way that the kernel would send a packet now, with what it has
	// learned beside its tables; ok is false where it would not send it.
	UsedRoute(netns uint32, q node.RouteQuestion) (used node.UsedRoute, ok bool, err error)
}

// UsedRoute implements State.
func (l *Live) UsedRoute(netns uint32, q node.RouteQuestion) (node.UsedRoute, bool, error) {
	type answer struct {
		node.UsedRoute
		ok bool
	}
	a, err := ask(l, fmt.Sprint("used route ", q), netns, func() (a answer, err error) {
		a.UsedRoute, a.ok, err = l.ns.UsedRoute(netns, q)
		return a, err
	})
	return a.UsedRoute, a.ok, err
}
