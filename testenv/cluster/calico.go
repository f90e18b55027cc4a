// SPDX-License-Identifier: Apache-2.0

// The Calico node: what the Calico CNI plugin does for a pod and Felix for a
// node, read off the recorded nodes. Every packet is routed, between pods of one
// node too:
//
//	 pod eth0 192.168.166.129/32          pod eth0 192.168.166.130/32
//	  | default via 169.254.1.1            |
//	 calia7a3e029a7b, proxy ARP           cali7715d358f22
//	  |                                    |
//	--+------ routes to each pod's /32 ----+-- blackhole 192.168.166.128/26
//	                    |
//	     192.168.104.0/26 dev vxlan.calico over eth0 of the node

package cluster

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/netns"
)

const (
	calicoMAC      = "ee:ee:ee:ee:ee:ee"
	calicoProtocol = 80   // the routing protocol number Felix writes on its routes
	calicoMetric   = 1024 // of the routes to the pods
)

var (
	// CalicoGateway is every pod's next hop; no one has it, the node answers
	// for it by proxy ARP.
	CalicoGateway = netip.MustParseAddr("169.254.1.1")
	// calicoGateway6 is the link-local address that calicoMAC gives.
	calicoGateway6 = netip.MustParseAddr("fe80::ecee:eeff:feee:eeee")
)

func (e *Env) buildCalico(ctx context.Context, node *Node, pods []*Pod) error {
	if err := e.buildTunnel(ctx, node); err != nil {
		return fmt.Errorf("tunnel: %w", err)
	}
	for _, pod := range pods {
		if err := plugCalicoPod(node, pod, e.Dataplane.MTU()); err != nil {
			return fmt.Errorf("pod %s: %w", pod.FullName(), err)
		}
	}
	err := node.Netns.AddRoute(netlink.Route{
		Dst: netns.IPNet(node.PodNet), Type: unix.RTN_BLACKHOLE, Protocol: calicoProtocol,
	})
	if err != nil {
		return err
	}
	if err := e.applySysctls(node); err != nil {
		return err
	}
	if err := e.writeCalicoCache(node, pods); err != nil {
		return fmt.Errorf("CNI cache: %w", err)
	}
	return e.restoreRules(ctx, node)
}

// plugCalicoPod makes a pod's veth pair and everything on both of its ends.
func plugCalicoPod(node *Node, pod *Pod, mtu int) error {
	hostMAC, err := net.ParseMAC(calicoMAC)
	if err != nil {
		return err
	}
	podMAC, err := net.ParseMAC(pod.MAC)
	if err != nil {
		return err
	}
	err = node.Netns.Link().LinkAdd(&netlink.Veth{
		LinkAttrs:        netlink.LinkAttrs{Name: pod.HostInterface, HardwareAddr: hostMAC, MTU: mtu},
		PeerName:         "eth0",
		PeerHardwareAddr: podMAC,
		PeerMTU:          uint32(mtu),
		PeerNamespace:    netlink.NsFd(pod.Netns.FD()),
	})
	if err != nil {
		return fmt.Errorf("add %s: %w", pod.HostInterface, err)
	}
	err = node.Netns.Sysctl(
		netns.Setting{Path: "ipv4/conf/" + pod.HostInterface + "/proxy_arp", Value: "1"},
		netns.Setting{Path: "ipv4/conf/" + pod.HostInterface + "/route_localnet", Value: "1"},
		netns.Setting{Path: "ipv4/neigh/" + pod.HostInterface + "/proxy_delay", Value: "0"}, // Felix, too, answers at once
		netns.Setting{Path: "ipv6/conf/" + pod.HostInterface + "/proxy_ndp", Value: "1"},
	)
	if err != nil {
		return err
	}
	if err := node.Netns.SetUp(pod.HostInterface); err != nil {
		return err
	}
	if err := setUpCalicoPod(pod); err != nil {
		return err
	}
	return restoreCalicoEndpoint(pod)
}

// setUpCalicoPod does the pod's side: addresses and the way out.
func setUpCalicoPod(pod *Pod) error {
	ns := pod.Netns
	index, err := ns.LinkIndex("eth0")
	if err != nil {
		return err
	}
	if err := ns.SetUp("eth0"); err != nil {
		return err
	}
	if err := ns.AddAddr(index, netns.HostPrefix(pod.IPv4)); err != nil {
		return err
	}
	if err := ns.AddAddr(index, netns.HostPrefix(pod.IPv6)); err != nil {
		return err
	}
	routes := []netlink.Route{
		{LinkIndex: index, Dst: netns.IPNet(netns.HostPrefix(CalicoGateway)), Scope: unix.RT_SCOPE_LINK},
		{LinkIndex: index, Dst: netns.IPNet(netip.MustParsePrefix("0.0.0.0/0")), Gw: CalicoGateway.AsSlice()},
		{LinkIndex: index, Dst: netns.IPNet(netip.MustParsePrefix("::/0")), Gw: calicoGateway6.AsSlice()},
	}
	for _, r := range routes {
		if err := ns.AddRoute(r); err != nil {
			return err
		}
	}
	return nil
}

// RestoreEndpoint puts back what the kernel took from the node when a pod's
// interface went down. On a bridge nothing is.
func (e *Env) RestoreEndpoint(pod *Pod) error {
	if e.Dataplane.Kind() != Calico {
		return nil
	}
	return restoreCalicoEndpoint(pod)
}

// restoreCalicoEndpoint does the node's side that Felix keeps in place: routes
// to the pod and permanent neighbours. The kernel takes both away when the
// interface goes down.
func restoreCalicoEndpoint(pod *Pod) error {
	ns := pod.Node.Netns
	index, err := ns.LinkIndex(pod.HostInterface)
	if err != nil {
		return err
	}
	mac, err := net.ParseMAC(pod.MAC)
	if err != nil {
		return err
	}
	for _, addr := range []netip.Addr{pod.IPv4, pod.IPv6} {
		if err := ns.SetNeighbor(index, addr, mac); err != nil {
			return err
		}
		r := calicoPodRoute(index, addr)
		if err := ns.Link().RouteReplace(&r); err != nil {
			return fmt.Errorf("route to %s: %w", addr, err)
		}
	}
	return nil
}

// calicoPodRoute is the node's route to one of its pods.
func calicoPodRoute(index int, addr netip.Addr) netlink.Route {
	r := netlink.Route{LinkIndex: index, Dst: netns.IPNet(netns.HostPrefix(addr)), Priority: calicoMetric}
	if addr.Is4() {
		r.Scope = unix.RT_SCOPE_LINK
	}
	return r
}

// MarkFelixRoute marks a pod's route as Felix does.
func MarkFelixRoute(pod *Pod) error {
	index, err := pod.Node.Netns.LinkIndex(pod.HostInterface)
	if err != nil {
		return err
	}
	r := calicoPodRoute(index, pod.IPv4)
	r.Protocol = calicoProtocol
	if err := pod.Node.Netns.Link().RouteReplace(&r); err != nil {
		return fmt.Errorf("route to %s: %w", pod.IPv4, err)
	}
	return nil
}

// writeCalicoCache writes the recorded CNI cache with this environment's
// namespaces in it.
func (e *Env) writeCalicoCache(node *Node, pods []*Pod) error {
	files, err := fs.Glob(testdata, path.Join(e.Dataplane.recording(), node.Name, "cni-results", "*"))
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := testdata.ReadFile(file)
		if err != nil {
			return err
		}
		out := string(text)
		for _, pod := range pods {
			out = strings.ReplaceAll(out, `"/run/netns/rc-`+pod.Name+`"`, `"`+pod.Netns.Path+`"`)
		}
		if err := os.WriteFile(filepath.Join(node.CNICache, "results", path.Base(file)), []byte(out), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// PolicySet is a set of sources that a recorded policy lets in.
type PolicySet struct {
	Dst   string // to whom
	Proto string // by which protocol; empty: by all
	Set   string // its name; natively with - in place of :
}

// CalicoPolicySets lists those that follow a pod.
func CalicoPolicySets() []PolicySet {
	return []PolicySet{
		{"default/server", "tcp", "cali40s:RzigBJT0WNHedldxhvdtE3t"},
		{"default/server", "icmp", "cali40s:nzSmsJwJYA58y5TsSTCcRcP"},
		{"prod/db", "", "cali40s:1wQ4fOWU6iKiDMhG8qNrTWv"},
	}
}
