// SPDX-License-Identifier: Apache-2.0

package cause

// This file says what a diagnosis may ask about the node. Package tracer asks
// the running node (live.go); tests answer from what was recorded.

import (
	"iter"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// State answers how the node stands now. Nothing may change by asking. A
// namespace that is gone, or what cannot be read, is an error: the diagnosis is
// then made without, and says so.
type State interface {
	// Node is the inode of the node's own network namespace.
	Node() uint32
	// Changed tells it what has changed on the node, before it is asked about that.
	Changed(e *model.NodeEvent)
	// Members are the inodes of its pods' namespaces.
	Members() []uint32
	Links(netns uint32) ([]node.Link, error)
	Routes(netns uint32) ([]node.Route, error)
	// RouteRules lists the rules of policy routing, of both families, in the order in
	// which the kernel asks them.
	RouteRules(netns uint32) ([]node.PolicyRule, error)
	// Neighbors lists neighbour entries and the forwarding entries of bridges
	// and tunnels.
	Neighbors(netns uint32) ([]node.Neighbor, error)
	// BridgePorts lists the ports of bridges, with what they may do.
	BridgePorts(netns uint32) ([]node.BridgePort, error)
	// Sockets lists TCP sockets.
	Sockets(netns uint32) ([]node.Socket, error)
	// PacketQueues lists the netfilter queues that programs listen on.
	PacketQueues(netns uint32) ([]node.PacketQueue, error)
	// Qdiscs lists queueing disciplines.
	Qdiscs(netns uint32) ([]node.Qdisc, error)
	// IPsec lists policies and states of IPsec.
	IPsec(netns uint32) (node.IPsec, error)
	// WireGuard lists WireGuard devices and their peers.
	WireGuard(netns uint32) ([]node.WireGuard, error)
	// Sysctl reads a file below /proc/sys/net as the namespace sees it, such as
	// ipv4/ip_forward. One that this kernel does not have is fs.ErrNotExist.
	Sysctl(netns uint32, name string) (string, error)
	// Connection gives conntrack's entry of a packet with these addresses, in either
	// direction; ok is false where there is none.
	Connection(netns uint32, f node.Flow) (c node.Connection, ok bool, err error)
	// ConntrackStats are conntrack's counters; fs.ErrNotExist where there are none.
	ConntrackStats(netns uint32) (node.ConntrackStats, error)
	// Rules lists all rules of both iptables backends and of nft, by backend, as they
	// stand now.
	Rules(netns uint32) (RuleSets, error)
	programState
	ipvsState
	setState
	hopState
	udpState
	zoneState
	socketState
}

// RuleSets are the rules of a namespace as the two backends of iptables hold
// them; native nft tables count among NFT's. nft's base chains are among them by
// their policy: without a number, with the text ":FORWARD DROP" or "policy drop".
// Of legacy tables the policies are not.
type RuleSets struct {
	Legacy, NFT Rules
}

// All goes through the rules of both.
func (s RuleSets) All() iter.Seq[meaning.Rule] {
	return func(yield func(meaning.Rule) bool) {
		for _, rules := range []Rules{s.Legacy, s.NFT} {
			for r := range rules.All() {
				if !yield(r) {
					return
				}
			}
		}
	}
}

// of are the rules of a backend, as packets name it.
func (s RuleSets) of(backend string) Rules {
	if backend == "legacy" {
		return s.Legacy
	}
	return s.NFT
}

// Rules are put into words one after the other, each time they are gone through:
// those of a big node would take hundreds of megabytes together. Nil: none.
type Rules iter.Seq[meaning.Rule]

// All goes through the rules.
func (r Rules) All() iter.Seq[meaning.Rule] {
	if r == nil {
		return func(func(meaning.Rule) bool) {}
	}
	return iter.Seq[meaning.Rule](r)
}

// without leaves out rules.
func (r Rules) without(out func(meaning.Rule) bool) Rules {
	return func(yield func(meaning.Rule) bool) {
		for rule := range r.All() {
			if !out(rule) && !yield(rule) {
				return
			}
		}
	}
}

// none tells that there is no rule.
func (r Rules) none() bool {
	for range r.All() {
		return false
	}
	return true
}
