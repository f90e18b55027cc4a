// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
)

// A rule is asked about the packet as it came to the table. What tells of its
// death there (a legacy table at the same priority) shows the marks that the
// table's own rules have set: taken for those it came with, they name a rule that
// it never met.
func TestPassageIsOfThePacketBeforeTheTable(t *testing.T) {
	const forward = 2 + 1
	c := copyState{bracket: bpf.Event{Id: 7, Hook: forward, Netns: 1, Mark: 0x80000}, last: bpf.Event{Id: 7, Hook: forward, Netns: 1, Mark: 0x40000, Kind: bpf.KindTable}}
	e := &record{Event: bpf.Event{Id: 7, Hook: forward, Netns: 1, Pf: unix.NFPROTO_IPV4}}
	if mark := c.passage(e, hookEntry{}).packet().Mark; !mark.Known || mark.Value != 0x80000 {
		t.Errorf("evaluated with mark %#x (known %v), it came with 0x80000", mark.Value, mark.Known)
	}
	e.Hook++ // another hook: that link says nothing of it
	if mark := c.passage(e, hookEntry{}).packet().Mark; mark.Value != 0x40000 {
		t.Errorf("evaluated with mark %#x, it was last seen with 0x40000", mark.Value)
	}
}

// The rules of OUTPUT and INPUT see a tunnel's packet, not the one inside.
func TestPassageOfATunnelIsTheOuterPacket(t *testing.T) {
	e := bpf.Event{Id: 1, Hook: localOut + 1, Flags: bpf.FlagEncap, T: bpf.Tuple{Proto: unix.IPPROTO_TCP, Family: 4, Sport: 1, Dport: 80}}
	e.Tun = bpf.Tunnel{Family: 4, Sport: 40000, Dport: 8472}
	e.Tun.Daddr[0] = 0x02001eac // 172.30.0.2, network order
	p := passage{at: e, pf: unix.NFPROTO_IPV4, hook: localOut + 1}.packet()
	if p.Proto != unix.IPPROTO_UDP || p.Dst != netip.MustParseAddr("172.30.0.2") || p.DstPort.Value != 8472 || p.TCPFlags.Known {
		t.Errorf("evaluated as %+v", p)
	}
}
