// SPDX-License-Identifier: Apache-2.0

package cause

// This file asks the running node about UDP.

import "github.com/pathtrace/pathtrace/tracer/node"

// udpState is what a diagnosis may ask about UDP.
type udpState interface {
	// UDPSockets lists UDP sockets.
	UDPSockets(netns uint32) ([]node.Socket, error)
	// Datagrams are UDP's counters; fs.ErrNotExist where there are none.
	Datagrams(netns uint32, v6 bool) (node.DatagramStats, error)
}

// UDPSockets implements State.
func (l *Live) UDPSockets(netns uint32) ([]node.Socket, error) {
	return ask(l, "UDP sockets", netns, func() ([]node.Socket, error) { return l.ns.SocketsOf(netns, "udp") })
}

// Datagrams implements State. They are compared with what they were a moment ago, and so
// not remembered.
func (l *Live) Datagrams(netns uint32, v6 bool) (node.DatagramStats, error) {
	return l.ns.Datagrams(netns, v6)
}
