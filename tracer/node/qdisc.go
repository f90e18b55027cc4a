// SPDX-License-Identifier: Apache-2.0

package node

// This file lists the queueing disciplines of a namespace's interfaces.

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// Qdisc is a queueing discipline that an interface sends by.
type Qdisc struct {
	LinkIndex int
	Kind      string // tbf, htb, fq_codel, ...
	Root      bool   // the interface's own; others hang on another one's classes
	// Rate is what a tbf lets through, bits per second; 0: another kind.
	Rate uint64
}

// Qdiscs lists those that are not built in (noqueue is not listed by the kernel).
func (n *Namespaces) Qdiscs(inode uint32) (all []Qdisc, err error) {
	err = n.withHandle(inode, func(h *netlink.Handle) error {
		found, err := dump(func() ([]netlink.Qdisc, error) { return h.QdiscList(nil) })
		if err != nil {
			return err
		}
		for _, q := range found {
			a := q.Attrs()
			if a.Parent == netlink.HANDLE_INGRESS || a.Parent == netlink.HANDLE_CLSACT {
				continue // nothing waits there
			}
			out := Qdisc{LinkIndex: a.LinkIndex, Kind: q.Type(), Root: a.Parent == netlink.HANDLE_ROOT}
			if tbf, ok := q.(*netlink.Tbf); ok {
				out.Rate = tbf.Rate * 8
			}
			all = append(all, out)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: queueing disciplines: %w", n.Place(inode), err)
	}
	return all, nil
}
