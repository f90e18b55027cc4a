// SPDX-License-Identifier: Apache-2.0

// Faults of links and neighbours: down, too narrow, unanswered.

package fault

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/netns"
)

func linkFaults() []Fault {
	return []Fault{
		{Name: "interface-down", Code: "interface-down", Kinds: anyKind,
			Doc: "the destination pod's interface on the node is set down", Apply: interfaceDown},
		{Name: "interface-down-source", Code: "interface-down", Kinds: anyKind,
			Doc: "the source pod's interface on the node is set down", Apply: sourceInterfaceDown},
		{Name: "uplink-down", Code: "interface-down", Kinds: anyKind, Nodes: 2,
			Doc: "the node's uplink is set down", Apply: uplinkDown},
		{Name: "mtu", Code: "mtu", Kinds: anyKind,
			Doc: "the destination pod's interface on the node has an MTU of 1300", Apply: narrowInterface},
		{Name: "mtu-tunnel", Code: "mtu", Kinds: anyKind, Nodes: 2,
			Doc: "the source pod's veth has MTU 1500 over a narrower tunnel", Apply: widePod},
		{Name: "neighbor-failed", Code: "neighbor-failed", Kinds: anyKind,
			Doc: "the destination pod does not answer ARP and nobody knows its MAC address any more", Apply: silentPod},
		{Name: "proxy-arp-off", Code: "neighbor-failed", Kinds: onlyCalico,
			Doc: "proxy_arp is off on the source pod's interface, so its gateway 169.254.1.1 does not answer", Apply: proxyARPOff},
	}
}

// down sets a link down, and up again with what went along.
func down(ns *netns.Namespace, name string, restore func() error) func(*Applied) error {
	return func(a *Applied) error {
		link, err := ns.Link().LinkByName(name)
		if err != nil {
			return fmt.Errorf("find %s in %s: %w", name, ns.Name, err)
		}
		return a.then(func() error { return ns.Link().LinkSetDown(link) }, func() error {
			if err := ns.SetUp(name); err != nil {
				return err
			}
			if err := ns.WaitUp(name); err != nil {
				return err
			}
			return restore()
		})
	}
}

// restoreEndpoint waits for the pod's end of its veth and puts back what the
// kernel removed with the node's end. On a bridge nothing is.
func restoreEndpoint(e *cluster.Env, pod *cluster.Pod) func() error {
	return func() error {
		if err := pod.Netns.WaitUp("eth0"); err != nil {
			return err
		}
		return e.RestoreEndpoint(pod)
	}
}

func interfaceDown(_ context.Context, e *cluster.Env, f flow) (*Applied, error) {
	pod, err := localEnd(f.dst, "destination")
	if err != nil {
		return nil, err
	}
	return apply(pod.Node.Name, down(pod.Node.Netns, pod.HostInterface, restoreEndpoint(e, pod)))
}

func sourceInterfaceDown(_ context.Context, e *cluster.Env, f flow) (*Applied, error) {
	pod, err := localEnd(f.src, "source")
	if err != nil {
		return nil, err
	}
	return apply(pod.Node.Name, down(pod.Node.Netns, pod.HostInterface, restoreEndpoint(e, pod)))
}

func uplinkDown(_ context.Context, e *cluster.Env, _ flow) (*Applied, error) {
	node := e.Node(1)
	return apply(node.Name, down(node.Netns, node.Uplink, func() error {
		if err := e.Underlay.WaitUp(node.Name); err != nil {
			return err
		}
		return node.Netns.AddRoute(defaultRoute(node))
	}))
}

// setMTU changes a link's MTU and puts the old one back.
func setMTU(ns *netns.Namespace, name string, mtu int) func(*Applied) error {
	return func(a *Applied) error {
		link, err := ns.Link().LinkByName(name)
		if err != nil {
			return fmt.Errorf("find %s in %s: %w", name, ns.Name, err)
		}
		old := link.Attrs().MTU
		return a.then(func() error { return ns.Link().LinkSetMTU(link, mtu) }, func() error { return ns.Link().LinkSetMTU(link, old) })
	}
}

// narrowMTU and wideMTU are the wrong sizes of the MTU faults.
const (
	narrowMTU = 1300
	wideMTU   = 1500
)

func narrowInterface(_ context.Context, e *cluster.Env, f flow) (*Applied, error) {
	pod, err := localEnd(f.dst, "destination")
	if err != nil {
		return nil, err
	}
	return apply(pod.Node.Name, append(keepBridgeMTU(e, e.Dataplane.MTU()), setMTU(pod.Node.Netns, pod.HostInterface, narrowMTU))...)
}

// keepBridgeMTU fixes cni0's MTU, which else follows its narrowest port.
func keepBridgeMTU(e *cluster.Env, mtu int) []func(*Applied) error {
	if e.Dataplane.Kind() != cluster.Flannel {
		return nil
	}
	return []func(*Applied) error{setMTU(e.Node(1).Netns, "cni0", mtu)}
}

func widePod(_ context.Context, e *cluster.Env, f flow) (*Applied, error) {
	pod, err := localEnd(f.src, "source")
	if err != nil {
		return nil, err
	}
	steps := []func(*Applied) error{
		setMTU(pod.Node.Netns, pod.HostInterface, wideMTU), setMTU(pod.Netns, "eth0", wideMTU),
	}
	return apply(pod.Node.Name, append(steps, keepBridgeMTU(e, wideMTU)...)...)
}

// arpIgnoreAll is the value of arp_ignore that answers nothing
// (Documentation/networking/ip-sysctl.rst).
const arpIgnoreAll = "8"

// silentPod makes the destination deaf to ARP and has everybody forget its MAC
// address: the node, and on a bridge the source pod too. It must not ask for
// others' either, as that would tell them its own.
func silentPod(_ context.Context, e *cluster.Env, f flow) (*Applied, error) {
	pod, err := localEnd(f.dst, "destination")
	if err != nil {
		return nil, err
	}
	steps := []func(*Applied) error{
		func(*Applied) error { return pod.Netns.ConfirmNeighbors() },
		sysctl(pod.Netns, netns.Setting{Path: "ipv4/conf/eth0/arp_ignore", Value: arpIgnoreAll}),
		forget(pod.Node.Netns, pod.IPv4, restoreEndpoint(e, pod)),
	}
	if f.src != nil {
		steps = append(steps, forget(f.src.Netns, pod.IPv4, func() error { return nil }))
	}
	return apply(pod.Node.Name, steps...)
}

// forget deletes all neighbour entries of an address, now and, as what was
// learnt under the fault is wrong, at the end.
func forget(ns *netns.Namespace, addr netip.Addr, restore func() error) func(*Applied) error {
	return func(a *Applied) error {
		remove := func() error { return ns.ForgetNeighbor(addr) }
		return a.then(remove, func() error {
			if err := remove(); err != nil {
				return err
			}
			return restore()
		})
	}
}

func proxyARPOff(_ context.Context, _ *cluster.Env, f flow) (*Applied, error) {
	pod, err := localEnd(f.src, "source")
	if err != nil {
		return nil, err
	}
	return apply(pod.Node.Name,
		sysctl(pod.Node.Netns, netns.Setting{Path: "ipv4/conf/" + pod.HostInterface + "/proxy_arp", Value: "0"}),
		forget(pod.Netns, cluster.CalicoGateway, func() error { return nil }))
}
