// SPDX-License-Identifier: Apache-2.0

package rulebook

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/journey"
)

// The rules of OUTPUT and INPUT see a tunnel's packet, not the one inside.
func TestPassageOfATunnelIsTheOuterPacket(t *testing.T) {
	e := bpf.Event{Id: 1, Hook: journey.LocalOut + 1, Flags: bpf.FlagEncap, T: bpf.Tuple{Proto: unix.IPPROTO_TCP, Family: 4, Sport: 1, Dport: 80}}
	e.Tun = bpf.Tunnel{Family: 4, Sport: 40000, Dport: 8472}
	e.Tun.Daddr[0] = 0x02001eac // 172.30.0.2, network order
	p := packetOf(journey.Passage{At: e, PF: unix.NFPROTO_IPV4, Hook: journey.LocalOut + 1})
	if p.Proto != unix.IPPROTO_UDP || p.Dst != netip.MustParseAddr("172.30.0.2") || p.DstPort.Value != 8472 || p.TCPFlags.Known {
		t.Errorf("evaluated as %+v", p)
	}
}
