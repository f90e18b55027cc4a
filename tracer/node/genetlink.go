// SPDX-License-Identifier: Apache-2.0

package node

import "github.com/vishvananda/netlink"

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
