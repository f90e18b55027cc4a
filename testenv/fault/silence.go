// SPDX-License-Identifier: Apache-2.0

// Faults that keep the sender from sending: no packet of the flow ever appears.

package fault

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/netns"
)

func silenceFaults() []Fault {
	return []Fault{
		{Name: "pod-interface-down", Code: "not-sent", Kinds: anyKind,
			Doc: "eth0 is set down in the source pod", Apply: podInterfaceDown},
		{Name: "pod-no-route", Code: "not-sent", Kinds: anyKind, Nodes: 2,
			Doc: "the source pod has lost its default route", Apply: podNoRoute},
	}
}

// podInterfaceDown sets the pod's end down. The kernel removes the pod's routes
// and IPv6 addresses with it: they are put back.
func podInterfaceDown(_ context.Context, e *cluster.Env, f flow) (*Applied, error) {
	pod, err := localEnd(f.src, "source")
	if err != nil {
		return nil, err
	}
	restore, err := keep(pod.Netns, "eth0")
	if err != nil {
		return nil, err
	}
	return apply(pod.FullName(), down(pod.Netns, "eth0", func() error {
		if err := restore(); err != nil {
			return err
		}
		if err := pod.Node.Netns.WaitUp(pod.HostInterface); err != nil {
			return err
		}
		return e.RestoreEndpoint(pod)
	}))
}

// keep notes a link's addresses and routes, and gives what puts those back that
// are gone.
func keep(ns *netns.Namespace, name string) (func() error, error) {
	link, err := ns.Link().LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find %s in %s: %w", name, ns.Name, err)
	}
	addrs, err := ns.Link().AddrList(link, unix.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("list addresses in %s: %w", ns.Name, err)
	}
	var routes []netlink.Route
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		list, err := ns.Link().RouteList(link, family)
		if err != nil {
			return nil, fmt.Errorf("list routes in %s: %w", ns.Name, err)
		}
		routes = append(routes, list...)
	}
	return func() error {
		for _, a := range addrs {
			if a.IP.IsLinkLocalUnicast() {
				continue // the kernel's own
			}
			if err := ns.Link().AddrReplace(link, &netlink.Addr{IPNet: a.IPNet, Flags: a.Flags | unix.IFA_F_NODAD}); err != nil {
				return fmt.Errorf("add address %s in %s: %w", a.IPNet, ns.Name, err)
			}
		}
		return putBack(ns, routes)
	}, nil
}

// putBack adds routes, those without a gateway first: the others' gateways are
// reached by them.
func putBack(ns *netns.Namespace, routes []netlink.Route) error {
	for _, gateways := range []bool{false, true} {
		for _, r := range routes {
			if (r.Gw != nil) != gateways || r.Protocol == unix.RTPROT_KERNEL {
				continue
			}
			if err := ns.Link().RouteReplace(&r); err != nil {
				return fmt.Errorf("add route %s in %s: %w", r.Dst, ns.Name, err)
			}
		}
	}
	return nil
}

// podNoRoute takes all routes away that lead out of the pod's own network.
func podNoRoute(_ context.Context, e *cluster.Env, f flow) (*Applied, error) {
	pod, err := localEnd(f.src, "source")
	if err != nil {
		return nil, err
	}
	gone := []netip.Prefix{defaultPrefix}
	if e.Dataplane.Kind() == cluster.Flannel {
		gone = append(gone, netip.MustParsePrefix(cluster.FlannelNet))
	}
	var steps []func(*Applied) error
	for _, prefix := range gone {
		steps = append(steps, removeRoute(pod.Netns, prefix))
	}
	return apply(pod.FullName(), steps...)
}
