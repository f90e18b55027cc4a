// SPDX-License-Identifier: Apache-2.0

package cause

// This file asks the node's state what several causes ask. What cannot be read
// becomes a gap of the inquiry.

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// link finds an interface of a namespace by index; nil if there is none.
func (q *inquiry) link(netns uint32, index int) *node.Link {
	return q.findLink(netns, func(l *node.Link) bool { return l.Index == index })
}

// linkNamed finds an interface of a namespace by name.
func (q *inquiry) linkNamed(netns uint32, name string) *node.Link {
	return q.findLink(netns, func(l *node.Link) bool { return l.Name == name })
}

func (q *inquiry) findLink(netns uint32, fits func(*node.Link) bool) *node.Link {
	if netns == 0 {
		return nil
	}
	links, err := q.state.Links(netns)
	q.gap(err)
	for i := range links {
		if fits(&links[i]) {
			return &links[i]
		}
	}
	return nil
}

// hostLink finds the node's end of the veth that leads to a pod's namespace.
func (q *inquiry) hostLink(pod uint32) *node.Link {
	return q.findLink(q.state.Node(), func(l *node.Link) bool { return l.PeerNetns == pod && l.Kind == "veth" })
}

// podOf finds the pod's namespace that holds an address: that of one of the
// trace's ends, or any pod of the node.
func (q *inquiry) podOf(addr netip.Addr) (netns uint32, ok bool) {
	for _, end := range []*model.End{&q.start.Src, &q.start.Dst} {
		if end.Netns == 0 || end.Netns == q.state.Node() {
			continue
		}
		for _, p := range end.Addresses {
			if p.IsSingleIP() && p.Addr() == addr {
				return end.Netns, true
			}
		}
	}
	netns, ok = q.mem.pods(q)[addr]
	return netns, ok
}

// holds tells whether an address is one of a namespace's own.
func (q *inquiry) holds(netns uint32, addr netip.Addr) bool {
	return q.holderOf(netns, addr) != nil
}

// routeWords is a route as `ip route` prints it, as far as it is known.
func (q *inquiry) routeWords(netns uint32, r node.Route) string {
	says := r.Dst.String()
	if r.Dst.Bits() == 0 {
		says = "default"
	}
	if kind := routeKinds[r.Type]; kind != "" {
		says = kind + " " + says
	}
	if r.NHID != 0 {
		says += fmt.Sprintf(" nhid %d", r.NHID)
	}
	if r.Gateway.IsValid() {
		says += " via " + r.Gateway.String()
	}
	if l := q.link(netns, r.LinkIndex); r.LinkIndex != 0 && l != nil {
		says += " dev " + l.Name
	}
	return says
}

// routeKinds are the kinds of route that `ip route` names (linux/rtnetlink.h).
var routeKinds = map[int]string{
	unix.RTN_LOCAL: "local", unix.RTN_BLACKHOLE: "blackhole", unix.RTN_UNREACHABLE: "unreachable", unix.RTN_PROHIBIT: "prohibit",
	unix.RTN_THROW: "throw", unix.RTN_BROADCAST: "broadcast", unix.RTN_ANYCAST: "anycast", unix.RTN_MULTICAST: "multicast",
}

// neighbor finds the entry of an address on an interface; 0 means any.
func (q *inquiry) neighbor(netns uint32, index int, addr netip.Addr) (node.Neighbor, bool) {
	all, err := q.state.Neighbors(netns)
	q.gap(err)
	for _, n := range all {
		if !n.Bridge && n.Addr == addr && (index == 0 || n.LinkIndex == index) {
			return n, true
		}
	}
	return node.Neighbor{}, false
}

// neighborStates are the names of the NUD_ states (linux/neighbour.h) as `ip
// neigh` prints them.
var neighborStates = []struct {
	bit  int
	name string
}{
	{0x01, "INCOMPLETE"}, {0x02, "REACHABLE"}, {0x04, "STALE"}, {0x08, "DELAY"}, {0x10, "PROBE"},
	{0x20, "FAILED"}, {0x40, "NOARP"}, {0x80, "PERMANENT"},
}

const unanswered = 0x01 | 0x20 // NUD_INCOMPLETE, NUD_FAILED

func stateWords(state int) string {
	for _, s := range neighborStates {
		if state&s.bit != 0 {
			return s.name
		}
	}
	return "NONE"
}

// sysctl reads a number below net/; ok is false where there is none such.
func (q *inquiry) sysctl(netns uint32, name string) (value int, ok bool) {
	says, err := q.state.Sysctl(netns, name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false
	}
	if err == nil {
		value, err = strconv.Atoi(says)
	}
	q.gap(err)
	return value, err == nil
}
