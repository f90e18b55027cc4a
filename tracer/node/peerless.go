// SPDX-License-Identifier: Apache-2.0

package node

// This file finds the pods that no pair of devices leads to: those that have a device
// which stands on one of the node's (macvlan, ipvlan, a VLAN), or a device of the
// machine itself (SR-IOV, host-device).

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Stacked tells kinds of devices that stand on another one, which may be in another
// namespace: IFLA_LINK is that of the device below, IFLA_LINK_NETNSID its namespace.
func Stacked(kind string) bool {
	switch kind {
	case "macvlan", "macvtap", "ipvlan", "ipvtap", "vlan":
		return true
	}
	return false
}

// Paired tells a link whose PeerIndex is the other end of a pair, not a device below.
func (l Link) Paired() bool { return pairKinds(l.Kind) }

// Physical tells a device that nothing in software made: rtnetlink gives it no kind.
func (l Link) Physical() bool { return l.Kind == "" && !l.Loopback }

// addPeerless adds the namespaces that are pods' by such a device. The node does not
// list them, so that each namespace has to be asked that is no pod's otherwise.
func (n *Namespaces) addPeerless(members map[uint32]bool) error {
	machine := n.isMachine()
	for _, inode := range n.All() {
		if inode == n.node.Inode || members[inode] {
			continue
		}
		is, err := n.peerless(inode, machine)
		if errors.Is(err, ErrGone) || errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EPERM) || errors.Is(err, netlink.ErrDumpInterrupted) {
			continue // it went away meanwhile, is not ours to enter, or does not stand still
		}
		if err != nil {
			return err
		}
		if is {
			members[inode] = true
		}
	}
	return nil
}

// isMachine tells whether the node's namespace is that of the host's first process: all
// devices of the machine begin there, and go back there when a namespace ends
// (default_device_exit_net, net/core/dev.c).
func (n *Namespaces) isMachine() bool {
	target, err := os.Readlink(filepath.Join(n.places.proc, "1/ns/net"))
	if err != nil {
		return false
	}
	inode, ok := parseNetLink(target)
	return ok && inode == n.node.Inode
}

// peerless tells whether a namespace has a device that stands on one of the node's, or,
// where the node is the machine, one of the machine's own.
func (n *Namespaces) peerless(inode uint32, machine bool) (is bool, err error) {
	err = n.withHandle(inode, func(h *netlink.Handle) error {
		found, err := dump(h.LinkList)
		if err != nil {
			return err
		}
		wanted := map[int]bool{}
		for _, l := range found {
			link := newLink(l)
			if machine && link.Physical() {
				is = true
				return nil
			}
			if Stacked(link.Kind) && link.peerID >= 0 {
				wanted[link.peerID] = true
			}
		}
		if len(wanted) == 0 {
			return nil
		}
		file, err := n.open(n.node.Inode)
		if err != nil {
			return err
		}
		id, err := h.GetNetNsIdByFd(int(file.Fd()))
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
		is = id >= 0 && wanted[id]
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("netns %d: look for devices that stand on the node's: %w", inode, err)
	}
	return is, nil
}

// modeOf is the mode of kinds that have one, as ip prints it.
func modeOf(l netlink.Link) string {
	switch l := l.(type) {
	case *netlink.Macvlan:
		return macvlanMode(l.Mode)
	case *netlink.Macvtap:
		return macvlanMode(l.Mode)
	case *netlink.IPVlan:
		return ipvlanMode(l.Mode)
	case *netlink.IPVtap:
		return ipvlanMode(l.Mode)
	case *netlink.Netkit:
		if l.Mode == netlink.NETKIT_MODE_L3 {
			return "l3"
		}
		return "l2"
	}
	return ""
}

func macvlanMode(m netlink.MacvlanMode) string {
	switch m {
	case netlink.MACVLAN_MODE_PRIVATE:
		return "private"
	case netlink.MACVLAN_MODE_VEPA:
		return "vepa"
	case netlink.MACVLAN_MODE_BRIDGE:
		return "bridge"
	case netlink.MACVLAN_MODE_PASSTHRU:
		return "passthru"
	case netlink.MACVLAN_MODE_SOURCE:
		return "source"
	}
	return ""
}

func ipvlanMode(m netlink.IPVlanMode) string {
	switch m {
	case netlink.IPVLAN_MODE_L2:
		return "l2"
	case netlink.IPVLAN_MODE_L3:
		return "l3"
	case netlink.IPVLAN_MODE_L3S:
		return "l3s"
	}
	return ""
}
