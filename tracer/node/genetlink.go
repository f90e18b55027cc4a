// SPDX-License-Identifier: Apache-2.0

package node

import "github.com/vishvananda/netlink"

// genlHeader is struct genlmsghdr (linux/genetlink.h). The library's own is two bytes
// short and sends what lies behind it in memory as the reserved ones, for which families
// that check it refuse the question (genl_header_check, net/netlink/genetlink.c, since
// 6.1): seen of WireGuard's in 7.3.
type genlHeader struct{ command, version uint8 }

// Len implements nl.NetlinkRequestData.
func (genlHeader) Len() int { return 4 }

// Serialize implements nl.NetlinkRequestData.
func (h genlHeader) Serialize() []byte { return []byte{h.command, h.version, 0, 0} }

// familyID is the number of a generic netlink family; 0: the kernel has none of that
// name now. The families that there are get listed: a question for one by its name would
// load its module (ctrl_getfamily, net/netlink/genetlink.c, 5.17 to 7.3).
func familyID(name string) (uint16, error) {
	families, err := dump(netlink.GenlFamilyList)
	if err != nil {
		return 0, err
	}
	for _, f := range families {
		if f.Name == name {
			return f.ID, nil
		}
	}
	return 0, nil
}
