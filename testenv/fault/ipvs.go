// SPDX-License-Identifier: Apache-2.0

// Faults of services that IPVS balances.

package fault

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/netns"
)

func ipvsFaults() []Fault {
	return []Fault{
		{Name: "ipvs-no-server", Code: "service-no-backend", Kinds: onlyCalico, KubeProxy: true,
			Doc: "the service's virtual server in IPVS has no real server", Apply: ipvsEdit("-d", "-a")},
		{Name: "ipvs-weight-zero", Code: "service-no-backend", Kinds: onlyCalico, KubeProxy: true,
			Doc: "the service's only real server in IPVS has weight 0", Apply: ipvsWeight},
		{Name: "ipvs-stale-server", Code: "blackhole-route", Kinds: onlyCalico, KubeProxy: true,
			Doc: "the service's only real server in IPVS is a pod of the node that is gone", Apply: ipvsStale},
		{Name: "ipvs-address-lost", Code: "service-untranslated", Kinds: onlyCalico, KubeProxy: true,
			Doc: "kube-ipvs0 has lost the service's address", Apply: ipvsAddressLost},
		{Name: "ipvs-input-drop", Code: "rule-drop", Kinds: onlyCalico, KubeProxy: true,
			Doc: "a rule at the head of the node's INPUT, by which IPVS gets it, drops the request", Apply: ipvsInput},
		{Name: "ipvs-reply-drop", Code: "rule-drop", Kinds: onlyCalico, KubeProxy: true,
			Doc: "a rule at the head of the node's FORWARD drops the endpoint's reply", Apply: ipvsReply},
	}
}

// served gives the service that the traffic is for, and the one endpoint it has.
func served(e *cluster.Env, f flow) (cluster.Service, netip.AddrPort, error) {
	s, ok := e.Service(strings.TrimPrefix(f.Dst, "svc:"))
	if !ok || len(s.Endpoints) != 1 || !e.Dataplane.IPVS() {
		return s, netip.AddrPort{}, fmt.Errorf("the traffic's destination must be a service that IPVS serves with one endpoint, not %s", f.Dst)
	}
	return s, s.Endpoints[0], nil
}

// ipvsadm edits a real server of a service.
func ipvsadm(s cluster.Service, verb, server string, more ...string) command {
	args := append([]string{"ipvsadm", verb}, strings.Fields(s.VirtualServer())...)
	return cmd(append(append(args, "-r", server), more...)...)
}

// masquerading is how kube-proxy adds a real server.
var masquerading = []string{"-m", "-w", "1"}

func ipvsEdit(do, undo string) func(context.Context, *cluster.Env, flow) (*Applied, error) {
	return func(ctx context.Context, e *cluster.Env, f flow) (*Applied, error) {
		s, to, err := served(e, f)
		if err != nil {
			return nil, err
		}
		return apply("node1", runTool(ctx, e, e.Node(1).Netns, ipvsadm(s, do, to.String()), ipvsadm(s, undo, to.String(), masquerading...)))
	}
}

func ipvsWeight(ctx context.Context, e *cluster.Env, f flow) (*Applied, error) {
	s, to, err := served(e, f)
	if err != nil {
		return nil, err
	}
	return apply("node1", runTool(ctx, e, e.Node(1).Netns, ipvsadm(s, "-e", to.String(), "-m", "-w", "0"), ipvsadm(s, "-e", to.String(), masquerading...)))
}

// formerPod is an address of node1's block that no pod has.
var formerPod = netip.MustParseAddr("192.168.166.190")

func ipvsStale(ctx context.Context, e *cluster.Env, f flow) (*Applied, error) {
	s, to, err := served(e, f)
	if err != nil {
		return nil, err
	}
	gone, ns := netip.AddrPortFrom(formerPod, to.Port()).String(), e.Node(1).Netns
	return apply("node1", runTool(ctx, e, ns, ipvsadm(s, "-d", to.String()), ipvsadm(s, "-a", to.String(), masquerading...)),
		runTool(ctx, e, ns, ipvsadm(s, "-a", gone, masquerading...), ipvsadm(s, "-d", gone)))
}

func ipvsAddressLost(_ context.Context, e *cluster.Env, f flow) (*Applied, error) {
	s, _, err := served(e, f)
	if err != nil {
		return nil, err
	}
	node := e.Node(1)
	link, err := node.Netns.Link().LinkByName(cluster.IPVSDevice)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", cluster.IPVSDevice, err)
	}
	addr := &netlink.Addr{IPNet: netns.IPNet(netns.HostPrefix(s.ClusterIP))}
	return apply(node.Name, func(a *Applied) error {
		return a.then(func() error { return node.Netns.Link().AddrDel(link, addr) }, func() error { return cluster.BindService(node, s.ClusterIP) })
	})
}

func ipvsInput(ctx context.Context, e *cluster.Env, f flow) (*Applied, error) {
	s, _, err := served(e, f)
	if err != nil {
		return nil, err
	}
	return apply("node1", write(ctx, e, e.Node(1).Netns, e.Dataplane.Form(), ruleSpec{
		name: "no-web-on-nodes", hook: "INPUT", src: f.src.IPv4, dst: s.ClusterIP, proto: f.Proto, dport: int(s.Port), verdict: "DROP",
	}))
}

func ipvsReply(ctx context.Context, e *cluster.Env, f flow) (*Applied, error) {
	_, to, err := served(e, f)
	if err != nil {
		return nil, err
	}
	return apply("node1", write(ctx, e, e.Node(1).Netns, e.Dataplane.Form(), ruleSpec{
		name: "egress-lockdown", hook: "FORWARD", src: to.Addr(), proto: f.Proto, sport: int(to.Port()), verdict: "DROP",
	}))
}
