// SPDX-License-Identifier: Apache-2.0

// kube-proxy's IPVS mode on a test node, as pkg/proxy/ipvs of Kubernetes 1.33 sets it
// up: service addresses on kube-ipvs0, a virtual server for each port, the sets that its
// rules match, and the rules themselves: who is masqueraded, and that an address of
// kube-ipvs0 gives no way to the node's own sockets.

package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/pathtrace/pathtrace/testenv/netns"
)

// IPVSDevice is the interface that has the services' addresses.
const IPVSDevice = "kube-ipvs0"

// ipvsServices are those of demo and kube-system that tests use, with, for the ways to
// and from the other node, some of their own.
func (e *Env) ipvsServices(node *Node) []Service {
	to := e.serviceAddrs(node)
	at := func(recorded string, port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr(to[recorded]), port)
	}
	client, web2 := "10.244.1.11", "10.244.2.10"
	return append(servicesOf(to),
		Service{"demo", "one-udp", netip.MustParseAddr("10.96.10.31"), "udp", 80, []netip.AddrPort{at(client, DefaultPort)}},
		Service{"demo", "far", netip.MustParseAddr("10.96.10.32"), "tcp", 80, []netip.AddrPort{at(web2, DefaultPort)}},
		Service{"demo", "far-udp", netip.MustParseAddr("10.96.10.33"), "udp", 80, []netip.AddrPort{at(web2, DefaultPort)}},
	)
}

// makeIPVS sets all of it up on a node.
func (e *Env) makeIPVS(ctx context.Context, node *Node) error {
	services := e.ipvsServices(node)
	if err := node.Netns.Sysctl(
		netns.Setting{Path: "ipv4/vs/conntrack", Value: "1"},
		netns.Setting{Path: "ipv4/vs/expire_nodest_conn", Value: "1"},
		netns.Setting{Path: "ipv4/vs/expire_quiescent_template", Value: "1"},
	); err != nil {
		return err
	}
	// it stays down, as on a real node: the kernel takes its addresses for its own all the same
	if err := node.Netns.Link().LinkAdd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: IPVSDevice}}); err != nil {
		return fmt.Errorf("add %s: %w", IPVSDevice, err)
	}
	for _, addr := range addressesOf(services) {
		if err := BindService(node, addr); err != nil {
			return err
		}
	}
	for _, step := range []struct {
		stdin string
		cmd   []string
	}{
		{virtualServers(services), []string{"ipvsadm", "-R"}},
		{ipvsSets(services, node), []string{"ipset", "restore"}},
		{placeJumps(ipvsRules(e.serviceAddrs(node)["10.244.0.0"]+"/16"), 1), []string{"iptables-" + string(e.Dataplane.Form()) + "-restore", "-w", "--noflush"}},
	} {
		if _, err := e.RunTool(ctx, node.Netns, step.stdin, step.cmd...); err != nil {
			return err
		}
	}
	if node.Number == 1 {
		e.Services = services
	}
	return nil
}

// BindService gives kube-ipvs0 of a node a service's address.
func BindService(node *Node, addr netip.Addr) error {
	index, err := node.Netns.LinkIndex(IPVSDevice)
	if err != nil {
		return err
	}
	return node.Netns.AddAddr(index, netns.HostPrefix(addr))
}

func addressesOf(services []Service) (all []netip.Addr) {
	for _, s := range services {
		if !slices.Contains(all, s.ClusterIP) {
			all = append(all, s.ClusterIP)
		}
	}
	return all
}

// virtualServers are what ipvsadm -R reads: each service's, and its real servers, by
// masquerading, as IPVS calls the translation of addresses.
func virtualServers(services []Service) string {
	var out strings.Builder
	for _, s := range services {
		fmt.Fprintf(&out, "-A %s -s rr\n", s.VirtualServer())
		for _, to := range s.Endpoints {
			fmt.Fprintf(&out, "-a %s -r %s -m -w 1\n", s.VirtualServer(), to)
		}
	}
	return out.String()
}

// VirtualServer is the service as ipvsadm's options name it.
func (s Service) VirtualServer() string {
	return map[string]string{"tcp": "-t ", "udp": "-u "}[s.Proto] + netip.AddrPortFrom(s.ClusterIP, s.Port).String()
}

// ipvsSets are what ipset restore reads: kube-proxy makes every set, with members or not.
func ipvsSets(services []Service, node *Node) string {
	var out strings.Builder
	for _, set := range []struct{ name, kind string }{
		{"KUBE-LOOP-BACK", "hash:ip,port,ip"}, {"KUBE-CLUSTER-IP", "hash:ip,port"},
		{"KUBE-EXTERNAL-IP", "hash:ip,port"}, {"KUBE-EXTERNAL-IP-LOCAL", "hash:ip,port"},
		{"KUBE-LOAD-BALANCER", "hash:ip,port"}, {"KUBE-LOAD-BALANCER-LOCAL", "hash:ip,port"}, {"KUBE-LOAD-BALANCER-FW", "hash:ip,port"},
		{"KUBE-LOAD-BALANCER-SOURCE-IP", "hash:ip,port,ip"}, {"KUBE-LOAD-BALANCER-SOURCE-CIDR", "hash:ip,port,net"},
		{"KUBE-NODE-PORT-TCP", "bitmap:port"}, {"KUBE-NODE-PORT-UDP", "bitmap:port"},
		{"KUBE-HEALTH-CHECK-NODE-PORT", "bitmap:port"}, {"KUBE-IPVS-IPS", "hash:ip"},
	} {
		options := " family inet"
		if set.kind == "bitmap:port" {
			options = " range 0-65535"
		}
		fmt.Fprintf(&out, "create %s %s%s\n", set.name, set.kind, options)
	}
	loop := map[string]bool{} // an endpoint may serve two services
	for _, s := range services {
		fmt.Fprintf(&out, "add KUBE-CLUSTER-IP %s,%s:%d\n", s.ClusterIP, s.Proto, s.Port)
		for _, to := range s.Endpoints {
			entry := fmt.Sprintf("add KUBE-LOOP-BACK %s,%s:%d,%s\n", to.Addr(), s.Proto, to.Port(), to.Addr())
			if node.PodNet.Contains(to.Addr()) && !loop[entry] {
				loop[entry] = true
				out.WriteString(entry)
			}
		}
	}
	for _, addr := range addressesOf(services) {
		fmt.Fprintf(&out, "add KUBE-IPVS-IPS %s\n", addr)
	}
	return out.String()
}

// ipvsRules are kube-proxy's, for pods of one network and services with no more than a
// cluster address: rules for sets without members it does not write.
func ipvsRules(pods string) string {
	return `*nat
:KUBE-LOAD-BALANCER - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SERVICES - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m comment --comment "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose" -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-SERVICES -s 127.0.0.0/8 -j RETURN
-A KUBE-SERVICES ! -s ` + pods + ` -m comment --comment "Kubernetes service cluster ip + port for masquerade purpose" -m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT
COMMIT
*filter
:KUBE-FORWARD - [0:0]
:KUBE-IPVS-FILTER - [0:0]
:KUBE-IPVS-OUT-FILTER - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SOURCE-RANGES-FIREWALL - [0:0]
-A INPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-FILTER
-A INPUT -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment "kubernetes health check rules" -j KUBE-NODE-PORT
-A FORWARD -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A OUTPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-OUT-FILTER
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-IPVS-FILTER -m set --match-set KUBE-LOAD-BALANCER dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-CLUSTER-IP dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-EXTERNAL-IP dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-EXTERNAL-IP-LOCAL dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-HEALTH-CHECK-NODE-PORT dst -j RETURN
-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j REJECT --reject-with icmp-port-unreachable
-A KUBE-NODE-PORT -m comment --comment "Kubernetes health check node port" -m set --match-set KUBE-HEALTH-CHECK-NODE-PORT dst -j ACCEPT
-A KUBE-SOURCE-RANGES-FIREWALL -j DROP
COMMIT
`
}
