// SPDX-License-Identifier: Apache-2.0

// Faults of conntrack: a way that it sees one direction of only, a table without
// room.

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

func conntrackFaults() []Fault {
	return []Fault{
		{Name: "conntrack-invalid", Code: "conntrack-invalid", Kinds: anyKind, Nodes: 2,
			Doc: "the source pod sends by a second interface, past the node: conntrack calls the reply invalid, and a rule drops it", Apply: asymmetric},
		{Name: "conntrack-full", Code: "conntrack-full", Kinds: anyKind,
			Doc: "conntrack's table of the node is filled with lasting connections", Apply: fullTable},
	}
}

// secondInterface is what a pod's further interface is called (Multus: net1).
const secondInterface = "net1"

// secondAddr is the pod's address on the underlay.
var secondAddr = netip.MustParseAddr("172.30.0.101")

// asymmetric gives the source pod an interface of its own on the network between
// the nodes, by which its requests go to node2. The replies come by the tunnel.
//
//	source pod net1 172.30.0.101 ---- underlay ---- node2 -- destination pod
//	source pod eth0 -- node1, tunnel == underlay == node2, tunnel
//	                   ^ sees the reply only
func asymmetric(ctx context.Context, e *cluster.Env, f flow) (*Applied, error) {
	pod, err := localEnd(f.src, "source")
	if err != nil {
		return nil, err
	}
	if f.dst == nil || f.dst.Node.Number != 2 {
		return nil, errors.New("the traffic's destination must be a pod on node2")
	}
	steps := []func(*Applied) error{
		func(a *Applied) error {
			return a.then(func() error { return addSecondInterface(e, pod) }, func() error {
				return pod.Netns.Link().LinkDel(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: secondInterface}})
			})
		},
		func(*Applied) error { return routeBy(pod, f.dst) },
	}
	if e.Dataplane.Kind() == cluster.Flannel { // Calico has such a rule for every pod
		steps = append(steps, dropInvalid(ctx, e))
	}
	return apply(pod.FullName(), steps...)
}

func addSecondInterface(e *cluster.Env, pod *cluster.Pod) error {
	port := "port-" + pod.Name
	err := pod.Netns.Link().LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: secondInterface}, PeerName: port, PeerNamespace: netlink.NsFd(e.Underlay.FD())})
	if err != nil {
		return fmt.Errorf("add %s to %s: %w", secondInterface, pod.FullName(), err)
	}
	if err := e.PlugIn(port); err != nil {
		return err
	}
	if err := pod.Netns.SetUp(secondInterface); err != nil {
		return err
	}
	return errors.Join(pod.Netns.WaitUp(secondInterface), e.Underlay.WaitUp(port))
}

// routeBy sends what is for a pod of node2 by the second interface, from the
// pod's own address. The way is known, so that nobody needs to ask for it.
func routeBy(pod, dst *cluster.Pod) error {
	index, err := pod.Netns.LinkIndex(secondInterface)
	if err != nil {
		return err
	}
	if err := pod.Netns.AddAddr(index, netip.PrefixFrom(secondAddr, cluster.UnderlayGateway.Bits())); err != nil {
		return err
	}
	uplink, err := dst.Node.Netns.Link().LinkByName(dst.Node.Uplink)
	if err != nil {
		return fmt.Errorf("find %s of %s: %w", dst.Node.Uplink, dst.Node.Name, err)
	}
	if err := pod.Netns.SetNeighbor(index, dst.Node.Addr, uplink.Attrs().HardwareAddr); err != nil {
		return err
	}
	return pod.Netns.AddRoute(netlink.Route{LinkIndex: index, Dst: netns.IPNet(netns.HostPrefix(dst.IPv4)), Gw: dst.Node.Addr.AsSlice(), Src: pod.IPv4.AsSlice()})
}

// dropInvalid writes the rule that kube-proxy has in KUBE-FORWARD.
func dropInvalid(ctx context.Context, e *cluster.Env) func(*Applied) error {
	ns := e.Node(1).Netns
	if e.Dataplane.Form() == cluster.FormNFTables {
		in := "table ip site-invalid {\n\tchain forward {\n\t\ttype filter hook forward priority filter - 5; policy accept;\n\t\tct state invalid drop\n\t}\n}\n"
		return runTool(ctx, e, ns, command{in, []string{"nft", "-f", "-"}}, cmd("nft", "delete", "table", "ip", "site-invalid"))
	}
	tool, rule := "iptables-"+string(e.Dataplane.Form()), []string{"FORWARD", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP"}
	return runTool(ctx, e, ns, cmd(append([]string{tool, "-w", "-I"}, rule...)...), cmd(append([]string{tool, "-w", "-D"}, rule...)...))
}

// fullTable fills the node's table. Its limit is the machine's and counts in each
// namespace by itself: it can be reached from inside, but not changed there.
func fullTable(_ context.Context, e *cluster.Env, _ flow) (*Applied, error) {
	ns := e.Node(1).Netns
	return apply("node1", func(a *Applied) error {
		return a.then(func() error { return fillConntrack(ns) }, func() error { return flushConntrack(ns) })
	})
}

// mostEntries bounds what a table is filled with: 300 bytes each.
const mostEntries = 1 << 20

func fillConntrack(ns *netns.Namespace) error {
	limit, err := readNumber(ns, "netfilter/nf_conntrack_max")
	if err != nil {
		return err
	}
	if limit > mostEntries {
		return fmt.Errorf("conntrack's table holds %d connections: too many to fill it (%d)", limit, mostEntries)
	}
	if err := ns.Do(func() error { return sendEntries(limit) }); err != nil {
		return errors.Join(fmt.Errorf("fill conntrack's table in %s: %w", ns.Name, err), flushConntrack(ns))
	}
	if used, err := readNumber(ns, "netfilter/nf_conntrack_count"); err != nil || used < limit {
		return errors.Join(fmt.Errorf("conntrack's table in %s holds %d of %d connections after it was filled", ns.Name, used, limit), err, flushConntrack(ns))
	}
	return nil
}

func readNumber(ns *netns.Namespace, path string) (value int, err error) {
	text, err := ns.ReadSysctl(path)
	if err == nil {
		_, err = fmt.Sscan(text, &value)
	}
	if err != nil {
		return 0, fmt.Errorf("sysctl net/%s in %s: %w", path, ns.Name, err)
	}
	return value, nil
}

// flushConntrack empties the namespace's table.
func flushConntrack(ns *netns.Namespace) error {
	err := ns.Do(func() error {
		s, err := openConntrack()
		if err != nil {
			return err
		}
		defer unix.Close(s.fd)
		return s.flush()
	})
	if err != nil {
		return fmt.Errorf("empty conntrack's table in %s: %w", ns.Name, err)
	}
	return nil
}
