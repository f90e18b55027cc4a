// SPDX-License-Identifier: Apache-2.0

package cause

// This file asks the running node who listens, and whose a socket is.

import (
	"fmt"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/program"
)

// socketState is what a diagnosis may ask about those who wait for packets, and about
// those who hang nowhere.
type socketState interface {
	// Others are the namespaces that are known and are no part of the node: other nodes
	// of the same kernel, and what hangs on no interface of this one.
	Others() []uint32
	// Listeners lists the sockets of tcp or udp that take what comes from anybody.
	Listeners(netns uint32, proto string) ([]node.Listener, error)
	// SocketOwner is the process that has a socket, by the socket's inode; ok is false
	// where none was found. It takes a look at the open files of all processes.
	SocketOwner(inode uint64) (owner program.Holder, ok bool)
}

// Others implements State.
func (l *Live) Others() []uint32 {
	return slices.DeleteFunc(l.ns.All(), l.ns.Belongs)
}

// Listeners implements State.
func (l *Live) Listeners(netns uint32, proto string) ([]node.Listener, error) {
	return ask(l, "listeners of "+proto, netns, func() ([]node.Listener, error) { return l.ns.Listeners(netns, proto) })
}

// SocketOwner implements State.
func (l *Live) SocketOwner(inode uint64) (program.Holder, bool) {
	if inode == 0 {
		return program.Holder{}, false
	}
	owner, _ := ask(l, fmt.Sprint("owner of socket ", inode), 0, func() (program.Holder, error) {
		owner, _ := program.NewHost(l.ns.Proc()).SocketOwner(inode)
		return owner, nil
	})
	return owner, owner.PID != 0
}
