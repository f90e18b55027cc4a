// SPDX-License-Identifier: Apache-2.0

package cause

// This file says what it means for a finding that a pod hangs on the node by a macvlan
// or an ipvlan, or that something else carries packets past what is watched.

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// parted: who asks and who should answer are a macvlan and the interface below it. The
// kernel hands neither the other's packets: what the interface sends goes out by it, and
// what a macvlan sends goes to other macvlans or out (macvlan_queue_xmit,
// drivers/net/macvlan.c; ipvlan_xmit_mode_l2, drivers/net/ipvlan/ipvlan_core.c; 6.18).
func (q *inquiry) parted(c *claim, at *model.Hop, owner uint32, addr netip.Addr) {
	asks, has := q.link(at.Netns, int(at.IfIndex)), q.holderOf(owner, addr)
	if asks == nil || has == nil {
		return
	}
	upper, below, whose := has, asks, owner
	switch {
	case standsOn(has, at.Netns, asks):
	case standsOn(asks, owner, has):
		upper, below, whose = asks, has, at.Netns
	default:
		return
	}
	kind, article := "a macvlan", "a "
	if strings.HasPrefix(upper.Kind, "ipv") {
		kind, article = "an ipvlan", "an "
	}
	c.summary += fmt.Sprintf(": %s is %s on %s, its parent, and the kernel hands packets neither from a parent's own addresses to %s on it nor back", q.stationWords(station{netns: whose, link: upper}), kind, below.Name, kind)
	c.evidence = append(c.evidence, fmt.Sprintf("ip -d link: %s is %s on %s", upper.Name, article+upper.Kind, below.Name))
	make := fmt.Sprintf("ip link add shim link %s type %s", below.Name, strings.Replace(upper.Kind, "tap", "lan", 1))
	if upper.Mode != "" {
		make += " mode " + upper.Mode
	}
	far := addr
	if upper == asks {
		far = endsAt(q.p).Src
	}
	c.fix = append(c.fix, "use another interface of the pod for this, if it has one (its primary network)",
		fmt.Sprintf("or give this node one beside it: %s; ip link set shim up; ip route add %s dev shim; and see to it that it lasts", make, netip.PrefixFrom(far, far.BitLen())))
}

// standsOn tells whether a device is a macvlan or ipvlan on another one.
func standsOn(l *node.Link, netns uint32, below *node.Link) bool {
	return node.Stacked(l.Kind) && l.Kind != "vlan" && l.PeerNetns == netns && l.PeerIndex == below.Index
}

// unwatched says of what carries the source's packets past what is watched that nothing
// is known of it.
func unwatched(s *model.Start) (missing []string) {
	for _, p := range s.Planes {
		if len(p.Ends) == 0 || slices.Contains(p.Ends, "src") {
			missing = append(missing, fmt.Sprintf("what passes there unseen: %s: %s", p.Evidence[0], strings.Join(p.Says, "; ")))
		}
	}
	return missing
}
