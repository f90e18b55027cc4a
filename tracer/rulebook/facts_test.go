// SPDX-License-Identifier: Apache-2.0

package rulebook

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/journey"
)

// TestOuterProtocol: rules of a tunnel's hooks see the protocol of the outer header, and
// ports only where that is UDP.
func TestOuterProtocol(t *testing.T) {
	for kind, proto := range map[uint8]uint8{
		bpf.TunnelVXLAN: unix.IPPROTO_UDP, bpf.TunnelGeneve: unix.IPPROTO_UDP, bpf.TunnelWireGuard: unix.IPPROTO_UDP,
		bpf.TunnelGRE: unix.IPPROTO_GRE, bpf.TunnelIPv4: unix.IPPROTO_IPIP, bpf.TunnelIPv6: unix.IPPROTO_IPV6,
	} {
		e := bpf.Event{Flags: bpf.FlagEncap, T: bpf.Tuple{Proto: unix.IPPROTO_TCP, Family: 4, Dport: 80}, Tun: bpf.Tunnel{Kind: kind, Family: 4, Dport: 4789}}
		q := factsOf(journey.Passage{At: e, PF: unix.NFPROTO_IPV4, Hook: 2})
		if q.Proto != proto || q.DstPort.Known != (proto == unix.IPPROTO_UDP) {
			t.Errorf("kind %d: protocol %d, port known %v; want protocol %d", kind, q.Proto, q.DstPort.Known, proto)
		}
	}
}
