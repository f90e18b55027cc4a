// SPDX-License-Identifier: Apache-2.0

// What somebody asked for in vain under a fault is forgotten when it is mended.

package fault

import (
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/netns"
)

// unanswered are the states of an entry that nobody answered for
// (include/uapi/linux/neighbour.h).
const unanswered = netlink.NUD_INCOMPLETE | netlink.NUD_FAILED

// forgetUnanswered has everybody in a flow's way forget the neighbours that were
// asked for in vain. Where a fault kept them from answering, somebody may be
// asking still when it is mended (a retransmission of an older connection, say):
// what is sent then waits with that packet until it is asked again, or dies with
// it if that was the last time.
func forgetUnanswered(e *cluster.Env, f flow) error {
	spaces := map[*netns.Namespace]bool{}
	for _, node := range e.Nodes {
		spaces[node.Netns] = true
	}
	for _, pod := range []*cluster.Pod{f.src, f.dst} {
		if pod != nil {
			spaces[pod.Netns] = true
		}
	}
	for ns := range spaces {
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			err := ns.EachNeighbor(family, func(entry *netlink.Neigh, _ netip.Addr) error {
				if entry.State&unanswered == 0 {
					return nil
				}
				return ns.Link().NeighDel(entry)
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
