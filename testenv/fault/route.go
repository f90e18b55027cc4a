// SPDX-License-Identifier: Apache-2.0

// Faults of routing: forwarding off, reverse path filter, routes that are gone
// or lead in a circle.

package fault

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/netns"
)

func routeFaults() []Fault {
	return []Fault{
		{Name: "ip-forward-off", Code: "ip-forward-off", Kinds: anyKind,
			Doc: "net.ipv4.ip_forward is 0", Apply: forwardOff},
		{Name: "rp-filter", Code: "rp-filter", Kinds: anyKind, Nodes: 2,
			Doc: "strict rp_filter on the tunnel interface, and the route back to the source pod leads through the uplink", Apply: rpFilter},
		{Name: "calico-rpf", Code: "calico-rpf", Kinds: onlyCalico,
			Doc: "the source pod has a second address, which has no route back, and sends from it", Apply: secondAddress},
		{Name: "no-route", Code: "no-route", Kinds: anyKind,
			Doc: "the routes to the destination pod are gone: its own, its network's and the default", Apply: noRoute},
		{Name: "no-route-return", Code: "no-route", Kinds: anyKind, Nodes: 2,
			Doc: "the routes back to the source pod are gone: its network's and the default", Apply: noRouteBack},
		{Name: "blackhole-route", Code: "blackhole-route", Kinds: onlyCalico,
			Doc: "the destination pod's /32 is missing, so that Calico's blackhole for its block eats the packet", Apply: blackhole},
		{Name: "ttl-loop", Code: "loop", Kinds: anyKind, Nodes: 2,
			Doc: "node2 routes the destination pod back to node1: the packet circles until its TTL is used up", Apply: loop},
	}
}

func forwardOff(_ context.Context, e *cluster.Env, f flow) (*Applied, error) {
	node, path := e.Node(1), "ipv4/ip_forward"
	if f.IPv6 {
		path = "ipv6/conf/all/forwarding"
	}
	return apply(node.Name, sysctl(node.Netns, netns.Setting{Path: path, Value: "0"}))
}

func rpFilter(_ context.Context, e *cluster.Env, f flow) (*Applied, error) {
	if f.src == nil || f.src.Node.Number == 1 {
		return nil, errors.New("the traffic's source must be a pod on node2")
	}
	node := e.Node(1)
	index, err := node.Netns.LinkIndex(node.Uplink)
	if err != nil {
		return nil, err
	}
	detour := netlink.Route{LinkIndex: index, Dst: netns.IPNet(netns.HostPrefix(f.src.IPv4)), Gw: cluster.UnderlayGateway.Addr().AsSlice()}
	return apply(node.Name, addRoute(node.Netns, detour),
		sysctl(node.Netns, netns.Setting{Path: "ipv4/conf/" + node.Tunnel + "/rp_filter", Value: "1"}))
}

// SecondAddr is the address that the calico-rpf fault gives the source pod.
var SecondAddr = netip.MustParseAddr("10.99.99.1")

func secondAddress(_ context.Context, _ *cluster.Env, f flow) (*Applied, error) {
	pod, err := localEnd(f.src, "source")
	if err != nil {
		return nil, err
	}
	link, err := pod.Netns.Link().LinkByName("eth0")
	if err != nil {
		return nil, fmt.Errorf("find eth0 of %s: %w", pod.FullName(), err)
	}
	addr := &netlink.Addr{IPNet: netns.IPNet(netns.HostPrefix(SecondAddr))}
	return apply(pod.FullName(), func(a *Applied) error {
		return a.then(func() error { return pod.Netns.Link().AddrAdd(link, addr) },
			func() error { return pod.Netns.Link().AddrDel(link, addr) })
	})
}

func defaultRoute(node *cluster.Node) netlink.Route {
	return netlink.Route{Dst: netns.IPNet(netip.MustParsePrefix("0.0.0.0/0")), Gw: cluster.UnderlayGateway.Addr().AsSlice()}
}

// addRoute adds a route and deletes it again.
func addRoute(ns *netns.Namespace, r netlink.Route) func(*Applied) error {
	return func(a *Applied) error {
		return a.then(func() error { return ns.AddRoute(r) }, func() error { return ns.Link().RouteDel(&r) })
	}
}

// removeRoute deletes the IPv4 main-table routes to exactly dst, and adds them
// again.
func removeRoute(ns *netns.Namespace, dst netip.Prefix) func(*Applied) error {
	return func(a *Applied) error {
		list, err := ns.Link().RouteListFiltered(unix.AF_INET, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return fmt.Errorf("list routes in %s: %w", ns.Name, err)
		}
		found := false
		for _, r := range list {
			if r.Dst == nil || r.Dst.String() != dst.Masked().String() {
				continue
			}
			found = true
			err := a.then(func() error { return ns.Link().RouteDel(&r) }, func() error { return ns.AddRoute(r) })
			if err != nil {
				return fmt.Errorf("delete route %s in %s: %w", dst, ns.Name, err)
			}
		}
		if !found {
			return fmt.Errorf("there is no route %s in %s", dst, ns.Name)
		}
		return nil
	}
}

var defaultPrefix = netip.MustParsePrefix("0.0.0.0/0")

// noRoute removes every route that the destination matches on node1.
func noRoute(_ context.Context, e *cluster.Env, f flow) (*Applied, error) {
	if f.dst == nil {
		return nil, errors.New("the traffic's destination must be a pod")
	}
	node := e.Node(1)
	steps := []func(*Applied) error{
		removeRoute(node.Netns, defaultPrefix), removeRoute(node.Netns, f.dst.Node.PodNet),
	}
	if f.dst.Node == node && e.Dataplane.Kind() == cluster.Calico {
		steps = append(steps, removeRoute(node.Netns, netns.HostPrefix(f.dst.IPv4)))
	}
	return apply(node.Name, steps...)
}

func noRouteBack(_ context.Context, e *cluster.Env, f flow) (*Applied, error) {
	if f.src == nil || f.src.Node.Number == 1 {
		return nil, errors.New("the traffic's source must be a pod on node2")
	}
	node := e.Node(1)
	return apply(node.Name, removeRoute(node.Netns, defaultPrefix), removeRoute(node.Netns, f.src.Node.PodNet))
}

func blackhole(_ context.Context, e *cluster.Env, f flow) (*Applied, error) {
	pod, err := localEnd(f.dst, "destination")
	if err != nil {
		return nil, err
	}
	return apply(pod.Node.Name, removeRoute(pod.Node.Netns, netns.HostPrefix(pod.IPv4)))
}

func loop(_ context.Context, e *cluster.Env, f flow) (*Applied, error) {
	if f.dst == nil || f.dst.Node.Number != 2 {
		return nil, errors.New("the traffic's destination must be a pod on node2")
	}
	node := e.Node(2)
	index, err := node.Netns.LinkIndex(node.Tunnel)
	if err != nil {
		return nil, err
	}
	return apply(node.Name, addRoute(node.Netns, netlink.Route{
		LinkIndex: index, Dst: netns.IPNet(netns.HostPrefix(f.dst.IPv4)), Flags: int(netlink.FLAG_ONLINK),
		Gw: e.Node(1).TunnelAddr.AsSlice(),
	}))
}
