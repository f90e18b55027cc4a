// SPDX-License-Identifier: Apache-2.0

package endpoint

// This file turns things seen on the way of a packet into what people call
// them: a namespace's inode number into default/client, an interface of the
// node into the pod behind it, an address into the pod, service or node that
// has it. A name is given only when it is certain: of two pods with one
// address neither is named.

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/recall"
)

// refreshEvery bounds how often names are looked for again because something
// without a name turned up.
const refreshEvery = 2 * time.Second

// namelessFor is how long a namespace that had no name in a look is not asked
// for again: most have none, and a look goes through all processes.
const namelessFor = 10 * time.Second

// A look takes the longer the more pods there are. It may take no more than one
// part in so many of the time: because of namespaces that turn up, and because of
// one that stays without a name.
const (
	lookShare     = 10
	namelessShare = 100
)

// Names is a directory of names. It is safe for concurrent use.
type Names struct {
	resolver *Resolver

	mu        sync.RWMutex
	local     directory             // of the last Refresh
	ends      map[string]endNames   // by the title of the end that told
	learned   map[netip.Addr]string // by the API
	refreshed time.Time
	took      time.Duration        // the last look
	nameless  map[uint32]time.Time // namespaces without a name, since when
}

// endNames is what resolving an end told.
type endNames struct {
	addrs map[netip.Addr]string
	netns uint32 // of a pod of this node; 0: not known
	iface string // its interface on the node; "": not known
}

// directory holds the names of one look at the node.
type directory struct {
	places     map[uint32]string
	interfaces map[string]string
	addrs      map[netip.Addr]string // "" for one with several owners
}

// Names gathers the names of this node's pods, from the CNI cache, or when
// that tells none from the container runtime. The API is not asked, see
// LearnCluster.
func (r *Resolver) Names(ctx context.Context) (*Names, error) {
	n := &Names{resolver: r, ends: map[string]endNames{}, learned: map[netip.Addr]string{}}
	return n, n.Refresh(ctx)
}

// Place is what people call a network namespace: "node", a pod's
// namespace/name, else what node.Namespaces calls it. An unknown namespace
// makes it look again, now and then. Inode numbers are given out again: after a
// pod was restarted (Resolver.Again tells) call Refresh, and Learn or Forget.
func (n *Names) Place(inode uint32) string {
	ns := n.resolver.ns
	if inode == ns.Node().Inode {
		return ns.Place(inode)
	}
	if name, ok := n.place(inode); ok {
		return name
	}
	if n.stale(inode) {
		if err := n.refresh(context.Background()); err != nil {
			n.resolver.opt.Warn("names of new pods: " + err.Error())
		}
		if name, ok := n.place(inode); ok {
			return name
		}
		n.mu.Lock()
		n.nameless[inode] = n.refreshed
		n.mu.Unlock()
	}
	return ns.Place(inode)
}

func (n *Names) place(inode uint32) (string, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if name, ok := n.local.places[inode]; ok {
		return name, true
	}
	for title, e := range n.ends {
		if e.netns == inode {
			return title, true
		}
	}
	return "", false
}

// stale tells that it is time to look again for a namespace, and counts as
// having looked.
func (n *Names) stale(inode uint32) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Since(n.refreshed) < recall.Pause(refreshEvery, lookShare, n.took) ||
		time.Since(n.nameless[inode]) < recall.Pause(namelessFor, namelessShare, n.took) {
		return false
	}
	n.refreshed = time.Now()
	return true
}

// Interface is the pod behind an interface of the node, as namespace/name.
func (n *Names) Interface(name string) (pod string, ok bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if pod, ok = n.local.interfaces[name]; ok {
		return pod, true
	}
	for title, e := range n.ends {
		if e.iface == name && name != "" {
			return title, true
		}
	}
	return "", false
}

// Address is who has an address: a pod as namespace/name, a service as
// namespace/svc/name, "node" for this node, "node NAME" for another one.
func (n *Names) Address(a netip.Addr) (name string, ok bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if name, ok = n.local.addrs[a.Unmap()]; ok {
		return name, name != ""
	}
	for _, e := range n.ends {
		if name, ok = e.addrs[a.Unmap()]; ok {
			return name, true
		}
	}
	name, ok = n.learned[a.Unmap()]
	return name, ok
}

// Addresses are those of this node and its pods.
func (n *Names) Addresses() []netip.Addr {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return slices.SortedFunc(maps.Keys(n.local.addrs), netip.Addr.Compare)
}

// Refresh looks at this node again: new pods appear, gone ones vanish.
func (n *Names) Refresh(ctx context.Context) error {
	n.mu.Lock()
	n.nameless = map[uint32]time.Time{}
	n.mu.Unlock()
	return n.refresh(ctx)
}

func (n *Names) refresh(ctx context.Context) error {
	r := n.resolver
	r.mu.Lock()
	defer r.mu.Unlock()
	began := time.Now()
	v, err := r.look(ctx)
	if err != nil {
		return err
	}
	pods, err := r.localPods(ctx, v)
	if err != nil {
		return err
	}
	local := v.directoryOf(pods)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.local, n.refreshed = local, time.Now()
	n.took = n.refreshed.Sub(began)
	return nil
}

// localPods lists this node's pods by the first source that knows any.
func (r *Resolver) localPods(ctx context.Context, v *view) ([]sandbox, error) {
	for _, s := range r.sources() {
		pods, err := s.list(ctx, v)
		var absent errAbsent
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil && !errors.As(err, &absent):
			r.warn(fmt.Sprintf("names of pods: the %s cannot be asked: %s", s.title(), flat(err)))
		case len(pods) > 0:
			return pods, nil
		}
	}
	return nil, nil
}

// directoryOf names what belongs to the pods. Of several sandboxes of one pod
// each has its namespace, the newest its addresses.
func (v *view) directoryOf(pods []sandbox) directory {
	d := directory{places: map[uint32]string{}, interfaces: map[string]string{}, addrs: map[netip.Addr]string{}}
	for _, l := range v.links {
		for _, p := range l.GlobalAddrs() {
			if l.Name != serviceParking {
				d.addrs[p.Addr()] = "node"
			}
		}
	}
	byName := map[podName][]sandbox{}
	for _, p := range pods {
		if p.hostNetwork || p.node != "" {
			continue
		}
		byName[p.podName] = append(byName[p.podName], p)
		if p.netns != 0 {
			d.places[p.netns] = p.String()
		}
	}
	for name, boxes := range byName {
		for _, box := range boxes {
			for _, l := range v.linksTo(box) {
				d.interfaces[l.Name] = name.String()
				if box.netns == 0 && l.PeerNetns != 0 {
					d.places[l.PeerNetns] = name.String()
				}
			}
		}
		newest := v.newest(boxes)
		for _, a := range append(slices.Clone(newest.addrs), v.routedTo(newest)...) {
			d.own(a, name.String())
		}
	}
	return d
}

// own notes who has an address; of several owners none has a name.
func (d *directory) own(a netip.Addr, name string) {
	if old, ok := d.addrs[a]; ok && old != name {
		name = ""
	}
	d.addrs[a] = name
}

// linksTo are the node's links that lead to a sandbox.
func (v *view) linksTo(p sandbox) []node.Link {
	return slices.DeleteFunc(slices.Clone(v.links), func(l node.Link) bool {
		if p.netns != 0 {
			return l.PeerNetns != p.netns
		}
		return !slices.Contains(p.hostInterfaces, l.Name) || !v.leadsToPod(l)
	})
}

// routedTo are the addresses with a host route to a sandbox.
func (v *view) routedTo(p sandbox) []netip.Addr {
	var all []netip.Addr
	for _, l := range v.linksTo(p) {
		var e Endpoint
		v.hostRoutes(&e, l)
		for _, prefix := range e.Prefixes {
			all = append(all, prefix.Addr())
		}
	}
	return all
}

// Learn takes the names that resolving an end brought along: a pod's addresses
// and place, a service's addresses and those of its backends. What the end told
// before is forgotten: it has these addresses no more.
func (n *Names) Learn(e Endpoint) {
	names := map[netip.Addr]string{}
	told := endNames{addrs: names}
	switch e.Kind {
	case KindPod:
		for _, p := range e.Prefixes {
			if p.IsSingleIP() {
				names[p.Addr()] = e.Title()
			}
		}
		if e.HostIfIndex != 0 {
			told.netns, told.iface = e.Netns, e.Interface
		}
	case KindService:
		for _, b := range e.Service.Backends {
			if b.Pod != "" {
				names[b.Addr] = b.Pod
			}
		}
		for _, a := range e.Service.Fronts {
			names[a] = e.Title()
		}
	default:
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ends[e.Title()] = told
}

// Forget drops what an end told: it is gone.
func (n *Names) Forget(e Endpoint) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.ends, e.Title())
}

func serviceTitle(namespace, name string) string { return namespace + "/svc/" + name }

// LearnCluster asks the API for the addresses of all services and nodes, which
// takes a moment in a large cluster. Without a kubeconfig it does nothing; what
// the credentials do not allow, or fails otherwise, is an error, after what
// could be had was taken.
func (n *Names) LearnCluster(ctx context.Context) error {
	r := n.resolver
	r.mu.Lock()
	client, err := r.cluster.connect(ctx)
	r.mu.Unlock()
	var absent errAbsent
	if errors.As(err, &absent) {
		return nil
	}
	if err != nil {
		return err
	}
	found := map[netip.Addr]string{}
	services, serviceErr := client.Services(ctx)
	for _, s := range services {
		for _, a := range newService(s, nil).Fronts {
			found[a] = serviceTitle(s.Metadata.Namespace, s.Metadata.Name)
		}
	}
	nodes, nodeErr := client.Nodes(ctx)
	for _, node := range nodes {
		for _, at := range node.Status.Addresses {
			for _, a := range parseAddrs([]string{at.Address}) {
				found[a] = "node " + node.Metadata.Name
			}
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	maps.Copy(n.learned, found)
	return errors.Join(serviceErr, nodeErr)
}
