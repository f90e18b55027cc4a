// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// Namer says what people call a network namespace.
type Namer interface{ Place(netns uint32) string }

// Config says what a Watcher may count on.
type Config struct {
	Names Namer
	// Proc is where processes are looked up; "" is /proc.
	Proc string
	// Deeds lists the kinds of deeds that the backend in use sees: who did
	// something of another kind is not to be known.
	Deeds []Kind
	// Verbose takes what is worth a word with -v.
	Verbose func(line string)
}

// Watcher tells the changes of one node. It is not safe for concurrent use.
type Watcher struct {
	ns      *node.Namespaces
	self    uint32
	namer   Namer
	proc    procDir
	sees    map[Kind]bool
	verbose func(string)

	ears
	numbers
	unmatched

	links   map[linkAt]link
	routes  routeBook
	commits map[uint32]*commit
	allSet  map[each]time.Time   // when a sysctl was set for all interfaces
	turned  map[linkAt]time.Time // when a link was set up or down last
}

// ears are what the kernel's announcements are heard by.
type ears struct {
	route    *listener
	rules    *listener // nil until nf_tables is there: listening would load it
	nftAsked time.Time
	missed   uint64
	complain bool
}

// numbers are those that the node's namespace has for others.
type numbers struct {
	ids      map[int]uint32
	idsAsked time.Time
}

// unmatched are changes and deeds that wait for each other.
type unmatched struct {
	waiting []*change       // for their doer
	deeds   []Deed          // whose change was not told yet
	agents  map[uint32]bool // processes of agents that were there at the start
	signals []Deed          // whose effect was not seen yet
}

// Groups of rtnetlink that are listened to.
var routeGroups = []int{
	unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
	unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE, unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF,
}

// New begins to watch: nothing is missed once it has returned.
func New(ns *node.Namespaces, cfg Config) (*Watcher, error) {
	w := &Watcher{ns: ns, self: ns.Node().Inode, namer: cfg.Names, proc: procDir(cmp.Or(cfg.Proc, "/proc")), verbose: cfg.Verbose,
		sees: make(map[Kind]bool), links: make(map[linkAt]link), commits: make(map[uint32]*commit), allSet: make(map[each]time.Time), turned: make(map[linkAt]time.Time)}
	for _, k := range cfg.Deeds {
		w.sees[k] = true
	}
	err := ns.Do(w.self, func() (err error) {
		w.route, err = listen(unix.NETLINK_ROUTE, routeGroups...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("watch the node: %w", err)
	}
	if err := w.look(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	w.agents = w.proc.running(Agents())
	return w, nil
}

// look reads how the node stands: after the socket listens, so that nothing falls
// in between.
func (w *Watcher) look() error {
	if err := w.readIDs(time.Now()); err != nil {
		return err
	}
	links, err := w.ns.Links(w.self)
	if err != nil {
		return fmt.Errorf("watch the node: %w", err)
	}
	for _, l := range links {
		w.remember(linkAt{w.self, uint32(l.Index)}, link{name: l.Name, kind: l.Kind, mtu: uint32(l.MTU), up: l.Up, peer: peerOf(l, w.self)})
	}
	if err := w.readRoutes(); err != nil {
		return err
	}
	return w.listenRules(time.Now())
}

// peerOf is the other namespace that a link leads to.
func peerOf(l node.Link, self uint32) uint32 {
	if l.PeerNetns == self {
		return 0
	}
	return l.PeerNetns
}

func (w *Watcher) readRoutes() error {
	routes, err := w.ns.Routes(w.self)
	if err != nil {
		return fmt.Errorf("watch the node: %w", err)
	}
	w.routes.fill(w.self, routes)
	return nil
}

func (w *Watcher) readIDs(now time.Time) (err error) {
	w.idsAsked = now
	if w.ids, err = w.ns.IDs(); err != nil {
		return fmt.Errorf("watch the node: ids of namespaces: %w", err)
	}
	return nil
}

// askAgain is how soon what is not there is looked for again.
const askAgain = time.Second

// listenRules begins to hear of nft's rules, as soon as there is nf_tables.
func (w *Watcher) listenRules(now time.Time) error {
	if w.rules != nil || now.Sub(w.nftAsked) < askAgain {
		return nil
	}
	w.nftAsked = now
	has, err := w.ns.HasNFT()
	if err != nil || !has {
		return err
	}
	err = w.ns.Do(w.self, func() (err error) {
		w.rules, err = listen(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
		return err
	})
	if err != nil {
		return fmt.Errorf("watch nft rules: %w", err)
	}
	return nil
}

// namespaceOf is the namespace with an id, if it belongs to the node.
func (w *Watcher) namespaceOf(nsid int) (uint32, bool) {
	if nsid == ownNamespace {
		return w.self, true
	}
	inode, ok := w.ids[nsid]
	if now := time.Now(); !ok && now.Sub(w.idsAsked) >= askAgain {
		if err := w.readIDs(now); err != nil {
			w.verbose(err.Error())
		}
		inode, ok = w.ids[nsid]
	}
	return inode, ok && w.ns.Belongs(inode)
}

// Poll gives the events that are known by now, in order. deeds are those seen
// since the last time.
func (w *Watcher) Poll(now time.Time, deeds []Deed) []model.NodeEvent {
	if err := w.listenRules(now); err != nil {
		w.nftAsked = now.Add(time.Hour) // once is enough to say so
		w.verbose(err.Error())
	}
	for _, m := range w.heard() {
		if c := w.read(m); c != nil {
			w.waiting = append(w.waiting, c)
		}
	}
	return w.join(now, deeds)
}

// heard takes the messages of both sockets in the order of their times.
func (w *Watcher) heard() []message {
	all, missed, err := w.route.take()
	if w.rules != nil {
		more, lost, failed := w.rules.take()
		all, missed, err = append(all, more...), missed+lost, errors.Join(err, failed)
	}
	if err != nil && !w.complain {
		w.complain = true
		w.verbose("changes of the node are not told any more: " + err.Error())
	}
	if missed > w.missed {
		w.missed = missed
		if err := w.readRoutes(); err != nil {
			w.verbose(err.Error())
		}
	}
	slices.SortStableFunc(all, func(a, b message) int { return a.at.Compare(b.at) })
	return all
}

// Missed counts how often changes were not told, since they came too fast.
func (w *Watcher) Missed() uint64 { return w.missed }

// read understands one message.
func (w *Watcher) read(m message) *change {
	netns, ok := w.namespaceOf(m.nsid)
	if !ok {
		return nil
	}
	switch m.kind {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return w.linkMessage(m, netns)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return w.addressMessage(m, netns)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return w.routeMessage(m, netns)
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		return w.policyMessage(m, netns)
	case unix.RTM_NEWNETCONF:
		if w.sees[SysctlWritten] {
			return nil // told better by who writes
		}
		return w.sysctlMessage(m, netns)
	}
	return w.nftMessage(m, netns)
}

// podOf is the pod's namespace that a link of the node leads to; 0 if it leads to
// none.
func (w *Watcher) podOf(netns, index uint32) uint32 {
	peer := w.links[linkAt{netns, index}].peer
	if netns != w.self || peer == 0 || !w.ns.Belongs(peer) {
		return 0
	}
	return peer
}

// linkNamed finds a link by name; 0 if there is none.
func (w *Watcher) linkNamed(netns uint32, name string) uint32 {
	for at, l := range w.links {
		if at.netns == netns && l.name == name {
			return at.index
		}
	}
	return 0
}

// Close stops listening.
func (w *Watcher) Close() error {
	var errs []error
	for _, l := range []*listener{w.route, w.rules} {
		if l != nil {
			errs = append(errs, l.close())
		}
	}
	return errors.Join(errs...)
}
