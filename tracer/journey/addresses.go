// SPDX-License-Identifier: Apache-2.0

package journey

// This file names the addresses of a packet that is about to be told: pods,
// services, nodes. What is not known for certain has no name.

import "github.com/pathtrace/pathtrace/tracer/model"

// nameAddresses fills in the names of a packet's addresses, those that NAT gave
// it and those of tunnels included, that which it died in as well.
func nameAddresses(w Places, p *model.Packet) {
	p.SrcName, p.DstName = w.Owner(p.Src), w.Owner(p.Dst)
	for i := range p.Hops {
		h := &p.Hops[i]
		for _, e := range []*model.Endpoints{h.Before, h.After} {
			if e != nil {
				e.SrcName, e.DstName = w.Owner(e.Src), w.Owner(e.Dst)
			}
		}
		nameTunnel(w, h.Tunnel)
	}
	if p.Drop != nil {
		nameTunnel(w, p.Drop.Tunnel)
	}
}

func nameTunnel(w Places, t *model.Tunnel) {
	if t != nil {
		t.SrcName, t.DstName = w.Owner(t.Src), w.Owner(t.Dst)
	}
}
