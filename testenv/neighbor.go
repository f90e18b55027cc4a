// SPDX-License-Identifier: Apache-2.0

// What nodes and pods know of their neighbours' MAC addresses. It decides what a
// test sees just as a route does, but it changes by itself with time: here that
// is brought under control.

package testenv

import (
	"errors"
	"io/fs"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/netns"
)

// Neighbour settings, milliseconds (Documentation/networking/ip-sysctl.rst).
const (
	// keepMS lets resolved neighbours stay reachable for an hour. Otherwise
	// what a test sees would depend on how long ago an address was resolved:
	// with a route gone, proxy ARP answers no longer, and a pod's packets die
	// of that.
	keepMS = "3600000"
	// askMS is the time between two of the three tries to resolve an address,
	// of the kernel's 1000: packets wait for the last.
	askMS = "500"
)

// tuneNeighbors writes the settings above. Nodes with legacy rules, one of each
// kind, keep the kernel's patience: 3 s is what the tracer meets in the field.
func (e *Env) tuneNeighbors(node *Node, pods []*Pod) error {
	settings := map[string]string{"base_reachable_time_ms": keepMS}
	if e.Dataplane.Form() != FormLegacy {
		settings["retrans_time_ms"] = askMS
	}
	links := map[*netns.Namespace][]string{node.Netns: {uplink, "cni0"}}
	for _, pod := range pods {
		links[pod.Netns] = []string{uplink}
		links[node.Netns] = append(links[node.Netns], pod.HostInterface)
	}
	for ns, names := range links {
		for _, name := range names {
			if err := tuneNeighborsOf(ns, name, settings); err != nil {
				return err
			}
		}
	}
	return nil
}

// tuneNeighborsOf writes neighbour settings of one link. One that is not there
// is no error: not every node has a bridge.
func tuneNeighborsOf(ns *netns.Namespace, name string, settings map[string]string) error {
	for _, family := range []string{"ipv4", "ipv6"} {
		for key, value := range settings {
			path := family + "/neigh/" + name + "/" + key
			if _, err := ns.ReadSysctl(path); errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err := ns.Sysctl(netns.Setting{Path: path, Value: value}); err != nil {
				return err
			}
		}
	}
	return nil
}

// unanswered are the states of an entry that nobody answered for
// (include/uapi/linux/neighbour.h).
const unanswered = netlink.NUD_INCOMPLETE | netlink.NUD_FAILED

// forgetUnanswered has everybody in a flow's way forget the neighbours that were
// asked for in vain. Where a fault kept them from answering, somebody may be
// asking still when it is mended (a retransmission of an older connection, say):
// what is sent then waits with that packet until it is asked again, or dies with
// it if that was the last time.
func forgetUnanswered(e *Env, f flow) error {
	spaces := map[*netns.Namespace]bool{}
	for _, node := range e.Nodes {
		spaces[node.Netns] = true
	}
	for _, pod := range []*Pod{f.src, f.dst} {
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
