// SPDX-License-Identifier: Apache-2.0

package journey

// This file names the addresses of a packet that is about to be told: pods,
// services, nodes. What is not known for certain has no name.

import "github.com/pathtrace/pathtrace/tracer/model"

// nameAddresses fills in the names of a packet's addresses, those that NAT gave
// it and those of tunnels included.
func nameAddresses(w Places, p *model.Packet) {
	p.SrcName, p.DstName = w.Owner(p.Src), w.Owner(p.Dst)
	for i := range p.Hops {
		h := &p.Hops[i]
		for _, e := range []*model.Endpoints{h.Before, h.After} {
			if e != nil {
				e.SrcName, e.DstName = w.Owner(e.Src), w.Owner(e.Dst)
			}
		}
		if h.Tunnel != nil {
			h.Tunnel.SrcName, h.Tunnel.DstName = w.Owner(h.Tunnel.Src), w.Owner(h.Tunnel.Dst)
		}
	}
}
