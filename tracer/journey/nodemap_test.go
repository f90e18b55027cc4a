// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"fmt"
	"net/netip"
)

// nodeMap is the node of the picture in story_test.go.
type nodeMap struct {
	// noIPVS: no namespace has a service of IPVS. asked, where there is one, counts how
	// often that was asked.
	noIPVS bool
	asked  *int
	// entries are IPVS's: the client, the virtual address and the real server of each.
	entries map[[3]netip.AddrPort]bool
}

func (nodeMap) Belongs(inode uint32) bool { return inode >= 1 && inode <= 3 }
func (nodeMap) Node() uint32              { return 1 }
func (nodeMap) Uplink(netns, ifindex uint32) bool {
	return netns == uplink.netns && ifindex == uplink.ifindex
}
func (nodeMap) Decrypts(netns, ifindex uint32, name string) bool {
	return wire{netns, ifindex, name} == wg0
}
func (n nodeMap) Balances(uint32) bool {
	if n.asked != nil {
		*n.asked++
	}
	return !n.noIPVS
}
func (n nodeMap) BalancedTo(_ uint32, _ uint8, client, virtual, real netip.AddrPort) bool {
	if n.asked != nil {
		*n.asked++
	}
	return n.entries[[3]netip.AddrPort{client, virtual, real}]
}
func (nodeMap) Owner(a netip.Addr) string {
	return map[netip.Addr]string{netip.MustParseAddr("10.244.1.5"): "default/client", netip.MustParseAddr("10.96.0.10"): "default/svc/web"}[a]
}
func (nodeMap) Place(inode uint32) string {
	switch inode {
	case 0:
		return ""
	case 1:
		return "node"
	case 2:
		return "client"
	case 3:
		return "server"
	}
	return fmt.Sprintf("netns %d", inode)
}
