// SPDX-License-Identifier: Apache-2.0

package watch

// This file tells which changes may have to do with the flow that is traced: a
// node changes for many pods.

import (
	"net/netip"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// flow is what is known of the flow: its ends, and where its packets were seen.
type flow struct {
	w      *Watcher
	places map[uint32]bool // namespaces
	links  map[linkAt]bool
	nets   []netip.Prefix      // of the ends
	addrs  map[netip.Addr]bool // of packets, before and after translation, and of tunnels
}

// maxAddresses bounds the addresses of packets that are kept.
const maxAddresses = 1024

// newFlow takes nil where nothing is watched: then there is nothing to tell.
func newFlow(w *Watcher) flow {
	if w == nil {
		w = &Watcher{}
	}
	return flow{w: w, places: map[uint32]bool{w.self: true}, links: make(map[linkAt]bool), addrs: make(map[netip.Addr]bool)}
}

// ends takes what was asked for.
func (f *flow) ends(s *model.Start) {
	f.end(&s.Src)
	f.end(&s.Dst)
}

func (f *flow) end(e *model.End) {
	f.nets = append(f.nets, e.Addresses...)
	if e.Netns != 0 {
		f.places[e.Netns] = true
	}
	if e.IfIndex != 0 {
		f.links[linkAt{f.w.self, e.IfIndex}] = true
	}
}

// learn takes where a packet was.
func (f *flow) learn(p *model.Packet) {
	f.address(p.Src)
	f.address(p.Dst)
	for i := range p.Hops {
		h := &p.Hops[i]
		if h.Netns != 0 {
			f.places[h.Netns] = true
			f.links[linkAt{h.Netns, h.IfIndex}] = true
		}
		if h.After != nil {
			f.address(h.After.Src)
			f.address(h.After.Dst)
		}
		if h.Tunnel != nil {
			f.address(h.Tunnel.Dst)
		}
	}
}

func (f *flow) address(a netip.Addr) {
	if a.IsValid() && len(f.addrs) < maxAddresses {
		f.addrs[a] = true
	}
}

// concerns tells whether a change may matter to the flow.
func (f *flow) concerns(e *model.NodeEvent) bool {
	switch e.What {
	case model.ProcessExit, model.ProcessSignal, model.EndpointGone:
		return true
	case model.EndpointChanged: // it is the flow's end from now on
		if e.End != nil {
			f.end(e.End)
		}
		return true
	}
	if !f.places[e.Netns] {
		return false
	}
	switch e.What {
	case model.LinkDown, model.LinkUp, model.LinkAdded, model.LinkDeleted, model.LinkMTU, model.AddressAdded, model.AddressDeleted:
		return f.link(e.Netns, e.IfIndex)
	case model.RouteAdded, model.RouteDeleted, model.RouteReplaced:
		return f.route(e.Prefix)
	case model.SysctlChanged:
		return f.sysctl(e)
	}
	return true
}

// link leaves out those that lead to other pods.
func (f *flow) link(netns, index uint32) bool {
	if f.links[linkAt{netns, index}] {
		return true
	}
	pod := f.w.podOf(netns, index)
	return pod == 0 || f.places[pod]
}

// route asks whether some address of the flow may be routed by it.
func (f *flow) route(p netip.Prefix) bool {
	for _, n := range f.nets {
		if p.Overlaps(n) {
			return true
		}
	}
	for a := range f.addrs {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// sysctl leaves out those of other pods' interfaces.
func (f *flow) sysctl(e *model.NodeEvent) bool {
	for _, group := range []string{".conf.", ".neigh."} {
		_, rest, found := strings.Cut(e.Object, group)
		if !found {
			continue
		}
		name, _, _ := strings.Cut(rest, ".")
		if name == "all" || name == "default" {
			return true
		}
		index := f.w.linkNamed(e.Netns, strings.ReplaceAll(name, "/", "."))
		return index == 0 || f.link(e.Netns, index)
	}
	return true
}
