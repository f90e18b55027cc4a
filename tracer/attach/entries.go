// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"fmt"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/endpoint"
)

// Where both ends are pods of this node, their packets can only begin at these
// pods' links. The kernel half then leaves all other pods' traffic alone after
// one look at its link (bpf/state.h, entry_links), as long as nothing of the flow
// is on its way.

// entryBits is a set of links by hash: ENTRY_BITS of bpf/state.h.
type entryBits [4096 / 32]uint32

func (b *entryBits) add(netns, ifindex uint32) {
	h := (ifindex*61 + netns) & (uint32(len(b))*32 - 1)
	b[h/32] |= 1 << (h & 31)
}

func everyLink() (b entryBits) {
	for i := range b {
		b[i] = ^uint32(0)
	}
	return b
}

// entries gives the links by which the flow may enter, all of them when that is
// not known for sure.
func (a *Attachment) entries(src, dst endpoint.Endpoint) entryBits {
	self := a.cfg.Namespaces.Node().Inode
	var bits entryBits
	for _, e := range []endpoint.Endpoint{src, dst} {
		if len(e.NetnsInodes) == 0 || e.HostIfIndex == 0 || slices.Contains(e.NetnsInodes, self) {
			return everyLink()
		}
		for _, in := range e.NetnsInodes {
			links, err := a.cfg.Namespaces.Links(in)
			if err != nil {
				a.cfg.Verbose(fmt.Sprintf("links of %s: %v", a.cfg.Namespaces.Place(in), err))
				return everyLink()
			}
			for _, l := range links {
				bits.add(in, uint32(l.Index))
				if l.PeerNetns != 0 {
					bits.add(l.PeerNetns, uint32(l.PeerIndex))
				}
			}
		}
		bits.add(self, e.HostIfIndex)
	}
	return bits
}

// LimitEntries tells the kernel half by which links the flow may enter.
func (a *Attachment) LimitEntries(src, dst endpoint.Endpoint) error {
	if err := a.coll.Variables["entry_links"].Set(a.entries(src, dst)); err != nil {
		return fmt.Errorf("set entry_links: %w", err)
	}
	return nil
}
