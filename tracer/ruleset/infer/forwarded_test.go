// SPDX-License-Identifier: Apache-2.0

package infer_test

import (
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// forwarded is a packet from a to b as FORWARD sees it.
func forwarded(r *router, src, dst string) *packet.Packet {
	l := datagram(addr(src), addr(dst))
	return &packet.Packet{
		Family: "ip", Hook: "FORWARD", Src: addr(src), Dst: addr(dst), Proto: 17,
		SrcPort: packet.Known[uint16](0x1234), DstPort: packet.Known[uint16](7), Length: packet.Known(uint32(len(l) - 2)),
		TTL: packet.Known[uint8](63), TOS: packet.Known[uint8](0), Fragment: packet.Known(false),
		In: packet.Known("ra"), Out: packet.Known("rb"), Mark: packet.Known[uint32](0),
		CT: packet.Conntrack{State: packet.Known(packet.StateNew)},
	}
}
