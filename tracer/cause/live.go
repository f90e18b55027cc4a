// SPDX-License-Identifier: Apache-2.0

package cause

// This file asks the running node. What was read is kept for a moment: a flood
// of packets that die of many things must not become a flood of questions.

import (
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/recall"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

const (
	// freshFor is how long an answer is good for.
	freshFor = 200 * time.Millisecond
	// costShare times what an answer took it is good for at least, so that asking
	// takes no more than a part of our time; but never for longer than staleAfter.
	costShare  = 5
	staleAfter = time.Second
	// forgetEvery is how often changes of the node have answers forgotten at most.
	forgetEvery = freshFor
	// keptAnswers bounds what is remembered; past it all is forgotten.
	keptAnswers = 1024
)

// RuleBook knows the rules of a namespace as they stand: those of legacy tables, and
// nft's; nil for none.
type RuleBook interface {
	All(netns uint32) (legacy, nft iter.Seq[meaning.Rule], err error)
}

// Live is the State of the running node. Its methods are not to be called
// concurrently.
type Live struct {
	ns   *node.Namespaces
	book RuleBook
	kept *recall.Memory[question]
	// forgot is when a change had answers forgotten last.
	forgot time.Time
}

type question struct {
	what  string // links, routes, ... or the name of a sysctl
	netns uint32
}

// NewLive gives the state of a node.
func NewLive(ns *node.Namespaces, book RuleBook) *Live {
	return &Live{ns: ns, book: book, kept: recall.New[question](recall.Config{Most: keptAnswers, Until: goodUntil})}
}

func goodUntil(asked, given time.Time) time.Time {
	return given.Add(min(staleAfter, recall.Pause(freshFor, costShare, given.Sub(asked))))
}

// ask gives what is still fresh, or reads it.
func ask[T any](l *Live, what string, netns uint32, read func() (T, error)) (T, error) {
	return recall.Ask(l.kept, question{what, netns}, read)
}

// Changed implements State. It forgets of links and routes what a change has made untrue: the next packet may
// go another way for it. On a node that changes all the time it does so now and then, as
// answers would else never be kept.
func (l *Live) Changed(e *model.NodeEvent) {
	switch e.What {
	case model.LinkDown, model.LinkUp, model.LinkDeleted, model.RouteAdded, model.RouteDeleted:
	default:
		return
	}
	if now := time.Now(); now.Sub(l.forgot) >= forgetEvery {
		l.forgot = now
		l.kept.Forget(question{"links", e.Netns})
		l.kept.Forget(question{"routes", e.Netns})
	}
}

// Node implements State.
func (l *Live) Node() uint32 { return l.ns.Node().Inode }

// Members implements State.
func (l *Live) Members() []uint32 { return l.ns.Members() }

// Links implements State.
func (l *Live) Links(netns uint32) ([]node.Link, error) {
	return ask(l, "links", netns, func() ([]node.Link, error) { return l.ns.Links(netns) })
}

// Routes implements State.
func (l *Live) Routes(netns uint32) ([]node.Route, error) {
	return ask(l, "routes", netns, func() ([]node.Route, error) { return l.ns.Routes(netns) })
}

// RouteRules implements State.
func (l *Live) RouteRules(netns uint32) ([]node.PolicyRule, error) {
	return ask(l, "route rules", netns, func() ([]node.PolicyRule, error) { return l.ns.PolicyRules(netns) })
}

// Neighbors implements State.
func (l *Live) Neighbors(netns uint32) ([]node.Neighbor, error) {
	return ask(l, "neighbours", netns, func() ([]node.Neighbor, error) { return l.ns.Neighbors(netns) })
}

// BridgePorts implements State.
func (l *Live) BridgePorts(netns uint32) ([]node.BridgePort, error) {
	return ask(l, "bridge ports", netns, func() ([]node.BridgePort, error) { return l.ns.BridgePorts(netns) })
}

// Sockets implements State.
func (l *Live) Sockets(netns uint32) ([]node.Socket, error) {
	return ask(l, "sockets", netns, func() ([]node.Socket, error) { return l.ns.Sockets(netns) })
}

// PacketQueues implements State.
func (l *Live) PacketQueues(netns uint32) ([]node.PacketQueue, error) {
	return ask(l, "queues", netns, func() ([]node.PacketQueue, error) { return l.ns.PacketQueues(netns) })
}

// Qdiscs implements State.
func (l *Live) Qdiscs(netns uint32) ([]node.Qdisc, error) {
	return ask(l, "qdiscs", netns, func() ([]node.Qdisc, error) { return l.ns.Qdiscs(netns) })
}

// IPsec implements State.
func (l *Live) IPsec(netns uint32) (node.IPsec, error) {
	return ask(l, "IPsec", netns, func() (node.IPsec, error) { return l.ns.IPsec(netns) })
}

// WireGuard implements State.
func (l *Live) WireGuard(netns uint32) ([]node.WireGuard, error) {
	return ask(l, "WireGuard", netns, func() ([]node.WireGuard, error) { return l.ns.WireGuard(netns) })
}

// Sysctl implements State. /proc/sys/net shows the namespace of the thread that
// looks (proc_sys_lookup, fs/proc/proc_sysctl.c; net_ctl_header_lookup,
// net/sysctl_net.c, 6.12).
func (l *Live) Sysctl(netns uint32, name string) (string, error) {
	return ask(l, name, netns, func() (value string, err error) {
		err = l.ns.Do(netns, func() error {
			raw, err := os.ReadFile(filepath.Join("/proc/sys/net", name))
			value = strings.TrimSpace(string(raw))
			return err
		})
		if err != nil {
			return "", fmt.Errorf("%s: sysctl net/%s: %w", l.ns.Place(netns), name, err)
		}
		return value, nil
	})
}

// entry is conntrack's answer about a connection.
type entry struct {
	node.Connection
	ok bool
}

// Connection implements State.
func (l *Live) Connection(netns uint32, f node.Flow) (node.Connection, bool, error) {
	e, err := ask(l, fmt.Sprint("connection ", f), netns, func() (e entry, err error) {
		e.Connection, e.ok, err = l.ns.Connection(netns, f)
		return e, err
	})
	return e.Connection, e.ok, err
}

// ConntrackStats implements State. They are compared with what they were a moment
// ago, and so not remembered.
func (l *Live) ConntrackStats(netns uint32) (node.ConntrackStats, error) {
	return l.ns.ConntrackStats(netns)
}

// Rules implements State. The rule book looks whether they changed, each time.
func (l *Live) Rules(netns uint32) (RuleSets, error) {
	legacy, nft, err := l.book.All(netns)
	return RuleSets{Rules(legacy), Rules(nft)}, err
}
