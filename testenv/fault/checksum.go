// SPDX-License-Identifier: Apache-2.0

// Faults of checksums: what an offload that does not do what it says does to a
// packet. A sum is only looked at if a kernel has filled it in, so the offload of
// the link that it is sent by is switched off.

package fault

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/netns"
)

func checksumFaults() []Fault {
	return []Fault{
		{Name: "checksum", Code: "checksum", Kinds: anyKind,
			Doc: "the request leaves the node for the destination pod with a wrong checksum", Apply: badChecksum},
		{Name: "checksum-tunnel", Code: "checksum", Kinds: anyKind, Nodes: 2,
			Doc: "the other node's tunnel packets come with a wrong outer UDP checksum", Apply: badTunnelChecksum},
	}
}

// wrongSum is written over a checksum. That it is right by chance would need a
// chosen payload.
const wrongSum = "0xdead"

// sumFields are nft's names of the checksums.
var sumFields = map[string]string{"icmp": "icmp checksum", "tcp": "tcp checksum", "udp": "udp checksum"}

func badChecksum(ctx context.Context, e *cluster.Env, f flow) (*Applied, error) {
	src, err := localEnd(f.src, "source")
	if err != nil {
		return nil, err
	}
	dst, err := localEnd(f.dst, "destination")
	if err != nil {
		return nil, err
	}
	match := fmt.Sprintf("ip saddr %s ip daddr %s %s set %s", src.IPv4, dst.IPv4, sumFields[f.Proto], wrongSum)
	return apply("node1", sumInSoftware(src.Netns, "eth0"), mangle(ctx, e, e.Node(1).Netns, match))
}

func badTunnelChecksum(ctx context.Context, e *cluster.Env, f flow) (*Applied, error) {
	if f.src == nil || f.src.Node.Number != 2 {
		return nil, errors.New("the traffic's source must be a pod on node2")
	}
	match := fmt.Sprintf("ip daddr %s udp dport %d udp checksum set %s", e.Node(1).Addr, e.Node(2).TunnelPort, wrongSum)
	return apply("node2", sumInSoftware(e.Node(2).Netns, e.Node(2).Uplink), mangle(ctx, e, e.Node(2).Netns, match))
}

// mangle writes an nft rule at the very end of a node's way out, whatever form
// the node's own rules have.
func mangle(ctx context.Context, e *cluster.Env, ns *netns.Namespace, rule string) func(*Applied) error {
	in := fmt.Sprintf("table ip site-offload {\n\tchain postrouting {\n\t\ttype filter hook postrouting priority 300; policy accept;\n\t\t%s\n\t}\n}\n", rule)
	return runTool(ctx, e, ns, command{in, []string{"nft", "-f", "-"}}, cmd("nft", "delete", "table", "ip", "site-offload"))
}

// sumInSoftware has the kernel fill in the checksums of what a link sends
// (ethtool -K eth0 tx off).
func sumInSoftware(ns *netns.Namespace, link string) func(*Applied) error {
	return func(a *Applied) error {
		return a.then(func() error { return offloadSums(ns, link, false) }, func() error { return offloadSums(ns, link, true) })
	}
}

// ethtoolSetTxCsum is ETHTOOL_STXCSUM (include/uapi/linux/ethtool.h).
const ethtoolSetTxCsum = 0x17

// offloadSums switches transmit checksum offload of a link.
func offloadSums(ns *netns.Namespace, name string, on bool) error {
	value := struct{ cmd, data uint32 }{cmd: ethtoolSetTxCsum}
	if on {
		value.data = 1
	}
	// struct ifreq (include/uapi/linux/if.h): a name, and a union of 24 bytes
	// whose first member here is a pointer.
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	err := ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
			return errno
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("switch checksum offload of %s in %s: %w", name, ns.Name, err)
	}
	return nil
}
