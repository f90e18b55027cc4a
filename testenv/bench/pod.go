// SPDX-License-Identifier: Apache-2.0

// Pods beside the recorded ones: each a network namespace of its own on a veth
// pair, plugged in as the Calico CNI plugin and Felix do it, with IPv4 only.

package bench

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/netns"
)

// podMTU and calicoMAC are those of the recorded pods.
const (
	podMTU    = 1450
	calicoMAC = "ee:ee:ee:ee:ee:ee"
)

var (
	// firstPodAddr begins the addresses of the pods made here: inside the
	// recorded IP pool, outside the recorded nodes' blocks.
	firstPodAddr  = netip.MustParseAddr("192.168.200.1")
	calicoGateway = netip.MustParseAddr("169.254.1.1")
)

// Pod is a pod made here.
type Pod struct {
	Name          string
	Addr          netip.Addr
	HostInterface string

	mac   net.HardwareAddr
	path  string
	netns *os.File
}

// hostInterface names a pod's interface as Calico does: cali and the beginning
// of a SHA-1 (libcalico-go/lib/backend/k8s/conversion: VethNameForWorkload).
func hostInterface(pod string) string {
	sum := sha1.Sum([]byte("bench." + pod))
	return "cali" + hex.EncodeToString(sum[:])[:11]
}

// newPod makes pod number i (from 1) with an empty namespace. The name of the
// namespace begins like those of env, so that owner.CleanStale removes it
// should this process be killed.
func newPod(env *cluster.Env, i int) (*Pod, error) {
	name := fmt.Sprintf("bench%d", i)
	a := firstPodAddr.As4()
	n := int(a[2])<<8 + int(a[3]) + i - 1
	pod := &Pod{
		Name: name, HostInterface: hostInterface(name),
		Addr: netip.AddrFrom4([4]byte{a[0], a[1], byte(n >> 8), byte(n)}),
		mac:  net.HardwareAddr{0x02, 0xbe, 0, 0, byte(i >> 8), byte(i)},
		path: filepath.Join(filepath.Dir(env.Underlay.Path), strings.TrimSuffix(env.Underlay.Name, "underlay")+name),
	}
	if err := pod.makeNetns(); err != nil {
		return nil, errors.Join(fmt.Errorf("make network namespace %s: %w", pod.path, err), pod.remove())
	}
	return pod, nil
}

func (p *Pod) makeNetns() error {
	file, err := os.OpenFile(p.path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	err = onThread(place{cpu: anyCPU}, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		// no IPv6: with hundreds of pods its router solicitations are traffic
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0o644); err != nil {
			return err
		}
		return unix.Mount("/proc/thread-self/ns/net", p.path, "", unix.MS_BIND, "")
	})
	if err != nil {
		return err
	}
	p.netns, err = os.Open(p.path)
	return err
}

// remove takes the namespace away; its veth goes with it. Removing what was
// never made is no error.
func (p *Pod) remove() error {
	if p.netns != nil {
		p.netns.Close()
		p.netns = nil
	}
	if err := unix.Unmount(p.path, unix.MNT_DETACH); err != nil && err != unix.EINVAL && err != unix.ENOENT { // EINVAL: nothing is mounted there
		return fmt.Errorf("unmount %s: %w", p.path, err)
	}
	if err := os.Remove(p.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// plug makes the pod's veth pair and everything on both of its ends. link is
// rtnetlink inside the node's namespace.
func (p *Pod) plug(node *cluster.Node, link *netlink.Handle) error {
	hostMAC, err := net.ParseMAC(calicoMAC)
	if err != nil {
		return err
	}
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: p.HostInterface, HardwareAddr: hostMAC, MTU: podMTU},
		PeerName:  "eth0", PeerHardwareAddr: p.mac, PeerMTU: podMTU, PeerNamespace: netlink.NsFd(int(p.netns.Fd())),
	}
	if err := link.LinkAdd(veth); err != nil {
		return fmt.Errorf("add %s: %w", p.HostInterface, err)
	}
	err = node.Netns.Sysctl(
		netns.Setting{Path: "ipv6/conf/" + p.HostInterface + "/disable_ipv6", Value: "1"},
		netns.Setting{Path: "ipv4/conf/" + p.HostInterface + "/proxy_arp", Value: "1"},
		netns.Setting{Path: "ipv4/neigh/" + p.HostInterface + "/proxy_delay", Value: "0"}, // as Felix, which answers at once
	)
	if err != nil {
		return err
	}
	host, err := link.LinkByName(p.HostInterface)
	if err == nil {
		err = link.LinkSetUp(host)
	}
	if err != nil {
		return fmt.Errorf("set %s up: %w", p.HostInterface, err)
	}
	if err := onThread(place{p.netns, anyCPU}, p.setUp); err != nil {
		return err
	}
	return p.reach(link, host.Attrs().Index)
}

// setUp does the pod's side, in its namespace.
func (p *Pod) setUp() error {
	link, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	defer link.Close()
	for _, name := range []string{"lo", "eth0"} {
		l, err := link.LinkByName(name)
		if err == nil {
			err = link.LinkSetUp(l)
		}
		if err != nil {
			return fmt.Errorf("set %s up: %w", name, err)
		}
	}
	eth0, err := link.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("find eth0: %w", err)
	}
	if err := link.AddrAdd(eth0, &netlink.Addr{IPNet: hostNet(p.Addr)}); err != nil {
		return fmt.Errorf("add address %s: %w", p.Addr, err)
	}
	index := eth0.Attrs().Index
	for _, r := range []netlink.Route{
		{LinkIndex: index, Dst: hostNet(calicoGateway), Scope: unix.RT_SCOPE_LINK},
		{LinkIndex: index, Gw: calicoGateway.AsSlice()},
	} {
		if err := link.RouteAdd(&r); err != nil {
			return fmt.Errorf("add route %v: %w", r, err)
		}
	}
	mac, err := net.ParseMAC(calicoMAC)
	if err != nil {
		return err
	}
	return setNeighbor(link, index, calicoGateway, mac)
}

// reach does on the node what Felix keeps in place: route and neighbour.
func (p *Pod) reach(link *netlink.Handle, index int) error {
	if err := setNeighbor(link, index, p.Addr, p.mac); err != nil {
		return err
	}
	if err := link.RouteReplace(&netlink.Route{LinkIndex: index, Dst: hostNet(p.Addr), Scope: unix.RT_SCOPE_LINK}); err != nil {
		return fmt.Errorf("route to %s: %w", p.Addr, err)
	}
	return nil
}

// setNeighbor makes an address known for good, so that no run is disturbed by
// its being asked for.
func setNeighbor(link *netlink.Handle, index int, addr netip.Addr, mac net.HardwareAddr) error {
	n := &netlink.Neigh{LinkIndex: index, State: unix.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: mac}
	if err := link.NeighSet(n); err != nil {
		return fmt.Errorf("neighbour %s: %w", addr, err)
	}
	return nil
}

func hostNet(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}
