// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"net/netip"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// Kind says what a Deed is.
type Kind uint8

// Kinds of deeds.
const (
	LinkFlags     Kind = iota + 1 // an interface is being set up or down
	RouteChanged                  // a route was added, or is being deleted
	TableReplaced                 // a legacy table has new contents
	SysctlWritten
	SignalSent // to an agent
	AgentEnded
)

// Deed is something that a process did to the node, as the kernel half saw it.
type Deed struct {
	Time   time.Time
	Kind   Kind
	Netns  uint32 // inode number
	Set    bool   // the interface goes up; the route is added; the kernel itself sent the signal
	Index  uint32 // of the interface; of the routing table
	Name   string // of the interface or table; path of the sysctl below /proc/sys
	Family string // of a legacy table: ip, ip6, arp
	Prefix netip.Prefix
	Before int // entries of the legacy table
	After  int
	Value  uint32        // signal; wait status
	Victim Process       // of a signal
	Age    time.Duration // of the agent that ended
	By     model.By
}

// Process is a process by its pid and name.
type Process struct {
	PID  uint32
	Comm string
}

// Agents are the programs that keep a node's network, by the names of their
// processes. Felix runs as calico-node or, in older releases, calico-felix.
func Agents() []string {
	return []string{"calico-node", "calico-felix", "felix", "bird", "bird6", "flanneld", "kube-proxy"}
}
