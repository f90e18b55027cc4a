// SPDX-License-Identifier: Apache-2.0

// What nodes and pods know of their neighbours' MAC addresses. It decides what a
// test sees just as a route does, but it changes by itself with time: here that
// is brought under control.

package cluster

import (
	"errors"
	"io/fs"

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
