// SPDX-License-Identifier: Apache-2.0

package cause

// The cause interface-down: an interface that the packet needed is switched off.

import (
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// interfaceDown: an interface that the packet needed is switched off. Its routes
// went with it, so the packet may die far from it, and by another reason.
func interfaceDown(q *inquiry) *claim {
	if q.d.Hook != "" || q.p.Outcome == model.Delivered {
		return nil // a packet filter killed it, whatever the links; or it came by them
	}
	netns, l, role := q.downOnTheWay()
	if l == nil {
		return nil
	}
	where := "this node"
	if netns != q.state.Node() {
		where = q.d.Place
	}
	c := &claim{subject: l.Name, summary: fmt.Sprintf("interface %s of %s is set down: %s", l.Name, where, role), evidence: []string{"ip link: " + linkWords(l)}}
	c.evidence = append(c.evidence, q.died())
	errno := q.result(model.StageQdisc) == "ENETDOWN"
	c.certain = errno
	if !errno {
		c.missing = append(c.missing, "that it was down already when the packet died: its state was read right after")
	}
	c.missing = append(c.missing, "who set it down")
	c.fix = []string{"ip link set " + l.Name + " up", "see who sets it down, or it will happen again: ip monitor link"}
	if strings.HasPrefix(l.Name, "cali") {
		c.fix = append(c.fix, "its route went with it: Felix puts it back, or delete the calico-node pod of this node")
	}
	return c
}

// downOnTheWay looks for an interface that is down among those the packet came
// by or was to leave by.
func (q *inquiry) downOnTheWay() (netns uint32, l *node.Link, role string) {
	self := q.state.Node()
	if pod, ok := q.podOf(endsAt(q.p).Dst); ok && pod != q.d.Netns {
		if l := q.hostLink(pod); l != nil && !l.Up {
			return self, l, fmt.Sprintf("it leads to the pod that has %s", endsAt(q.p).Dst)
		}
	}
	last := q.lastSpot()
	if last == nil {
		return 0, nil, ""
	}
	if l := q.link(last.Netns, int(last.IfIndex)); l != nil {
		if !l.Up {
			return last.Netns, l, "the packet died on it"
		}
		if peer := q.hostLink(last.Netns); last.Netns != self && !l.Carrier && peer != nil && !peer.Up {
			return self, peer, fmt.Sprintf("it is the other end of %s of %s", l.Name, last.Place)
		}
		if under := q.link(last.Netns, l.VXLANDevice); l.VXLANDevice != 0 && under != nil && !under.Up {
			return last.Netns, under, fmt.Sprintf("the tunnel %s runs over it", l.Name)
		}
	}
	if r := q.route(); r.IfIndex != 0 {
		if l := q.link(q.d.Netns, int(r.IfIndex)); l != nil && !l.Up {
			return q.d.Netns, l, "the packet was to leave by it"
		}
	}
	return q.uplinkDown()
}

// uplinkDown: there is no way to the destination, and a link that may have held
// one is down.
func (q *inquiry) uplinkDown() (netns uint32, l *node.Link, role string) {
	self := q.state.Node()
	if q.d.Netns != self || q.d.Stage != model.StageRoute && q.d.Stage != model.StageEncapsulate {
		return 0, nil, ""
	}
	if _, ok := q.routeTo(self, endsAt(q.p).Dst); ok && q.d.Stage == model.StageRoute {
		return 0, nil, ""
	}
	l = q.findLink(self, func(l *node.Link) bool {
		return !l.Up && !l.Loopback && l.Master == 0 && (l.Kind == "" || l.Kind == "veth" && len(l.Addrs) > 0 && !strings.HasPrefix(l.Name, "cali") || l.Kind == "bond")
	})
	if l == nil {
		return 0, nil, ""
	}
	return self, l, fmt.Sprintf("no route to %s is left", endsAt(q.p).Dst)
}

// lastSpot is the last hop with an interface.
func (q *inquiry) lastSpot() *model.Hop {
	if q.d.IfIndex != 0 {
		return &model.Hop{Netns: q.d.Netns, Place: q.d.Place, Interface: q.d.Interface, IfIndex: q.d.IfIndex}
	}
	return lastHop(q.p, func(h *model.Hop) bool { return h.IfIndex != 0 && h.Netns != 0 })
}

// linkWords is a link as `ip link` prints it, as far as it matters.
func linkWords(l *node.Link) string {
	flags := "DOWN"
	switch {
	case l.Up && l.Carrier:
		flags = "UP,LOWER_UP"
	case l.Up:
		flags = "NO-CARRIER,UP"
	}
	return fmt.Sprintf("%s <%s> mtu %d", l.Name, flags, l.MTU)
}
