// SPDX-License-Identifier: Apache-2.0

package cause

// This file asks the running node for connections in other zones of conntrack than the
// default one.

import (
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/node"
)

// zoneState is what a diagnosis may ask about conntrack's zones.
type zoneState interface {
	// ConnectionInZone is Connection in another zone than the default one (0).
	ConnectionInZone(netns uint32, f node.Flow, zone uint16) (c node.Connection, ok bool, err error)
}

// ConnectionInZone implements State.
func (l *Live) ConnectionInZone(netns uint32, f node.Flow, zone uint16) (node.Connection, bool, error) {
	e, err := ask(l, fmt.Sprint("connection ", f, " in zone ", zone), netns, func() (e entry, err error) {
		e.Connection, e.ok, err = l.ns.ConnectionInZone(netns, f, zone)
		return e, err
	})
	return e.Connection, e.ok, err
}
