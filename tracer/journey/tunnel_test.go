// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// carried is a packet in a tunnel whose outer header has these "address port" ends.
func carried(kind uint8, src, dst string) with {
	return func(s *story, x *sample) {
		t := tupleOf(s.t, unix.IPPROTO_UDP, src, dst)
		x.Flags |= bpf.FlagEncap
		x.Tun = bpf.Tunnel{Saddr: t.Saddr, Daddr: t.Daddr, Sport: t.Sport, Dport: t.Dport, Family: t.Family, Kind: kind}
	}
}

func TestTunnels(t *testing.T) {
	ipip := carried(bpf.TunnelIPv4, "192.168.0.1", "192.168.0.2")
	sealed := carried(bpf.TunnelWireGuard, "192.168.0.1 51820", "192.168.0.2 51820")
	for name, c := range map[string]struct {
		see  func(*packet)
		want []string
	}{
		"ipip out": {func(p *packet) {
			p.fromClient().xmit(tunl0).see(bpf.KindEncap, bpf.FentryFnFN_ipTunnelXmit, tunl0).become(ipip).xmit(uplink)
		}, []string{"transmit eth0@client", "receive calicl@node", "transmit tunl0@node",
			"encapsulate tunl0@node ipip 0 192.168.0.1:0 > 192.168.0.2:0", "transmit eth0@node"}},
		"ipip in, seen by the header": {func(p *packet) {
			p.become(ipip).recv(uplink).become(flags(0)).recv(tunl0).toServer(bpf.FentryFnFN_tcpV4Rcv)
		}, []string{"receive eth0@node", "decapsulate tunl0@node ipip 0 192.168.0.1:0 > 192.168.0.2:0",
			"receive tunl0@node", "transmit calisv@node", "receive eth0@server", "deliver eth0@server"}},
		"wireguard out": {func(p *packet) {
			p.fromClient().xmit(wg0).see(bpf.KindEncap, bpf.FentryFnFN_wgXmit, wg0).become(sealed).xmit(uplink)
		}, []string{"transmit eth0@client", "receive calicl@node", "transmit wireguard.cali@node",
			"encapsulate wireguard.cali@node wireguard 0 192.168.0.1:51820 > 192.168.0.2:51820", "transmit eth0@node"}},
		"wireguard in": {func(p *packet) {
			p.recv(wg0).toServer(bpf.FentryFnFN_tcpV4Rcv)
		}, []string{"decapsulate wireguard.cali@node wireguard 0 invalid IP:0 > invalid IP:0",
			"receive wireguard.cali@node", "transmit calisv@node", "receive eth0@server", "deliver eth0@server"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory(t)
			c.see(syn(s))
			wantHops(t, s.one(), c.want...)
		})
	}
}

// TestDeathInTunnel: a death tells the outer header that the kernel half saw then, with
// names, and none where it saw none.
func TestDeathInTunnel(t *testing.T) {
	ipip := carried(bpf.TunnelIPv4, "10.244.1.5", "10.96.0.10")
	for name, c := range map[string]struct {
		see  func(*packet)
		want *model.Tunnel
	}{
		"in its tunnel": {func(p *packet) {
			p.become(ipip).recv(uplink).kfree("NETFILTER_DROP", "nf_hook_slow+0x1", uplink, in(unix.NFPROTO_IPV4, input))
		}, &model.Tunnel{Kind: "ipip", Src: netip.MustParseAddr("10.244.1.5"), SrcName: "default/client", Dst: netip.MustParseAddr("10.96.0.10"), DstName: "default/svc/web"}},
		"out of it": {func(p *packet) {
			p.become(ipip).recv(uplink).become(flags(0)).recv(tunl0).kfree("NETFILTER_DROP", "nf_hook_slow+0x1", tunl0, in(unix.NFPROTO_IPV4, input))
		}, nil},
		"never in one": {func(p *packet) {
			p.recv(uplink).kfree("NETFILTER_DROP", "nf_hook_slow+0x1", uplink, in(unix.NFPROTO_IPV4, input))
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory(t)
			c.see(syn(s))
			p := s.one()
			if p.Drop == nil {
				t.Fatalf("outcome %s, no drop", p.Outcome)
			}
			nameAddresses(nodeMap{}, p)
			if got := p.Drop.Tunnel; (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
				t.Errorf("it died in %+v, want %+v", got, c.want)
			}
		})
	}
}

// intoWireGuard are the hops of a packet that goes into WireGuard, up to there.
var intoWireGuard = []string{"transmit eth0@client", "receive calicl@node", "transmit wireguard.cali@node"}

// TestWireGuardCuts: of a large packet the first segment is followed, and tells what
// became of all; where none was seen it ended in good order, as far as it is known.
func TestWireGuardCuts(t *testing.T) {
	sealed := carried(bpf.TunnelWireGuard, "192.168.0.1 51820", "192.168.0.2 51820")
	cut := func(s *story) *packet {
		p := syn(s).become(size(5000)).fromClient().xmit(wg0).see(bpf.KindEncap, bpf.FentryFnFN_wgXmit, wg0, result(1360))
		part := p.clone().become(sealed)
		p.end(wg0)
		return part
	}
	s := newStory(t)
	cut(s).xmit(uplink)
	p := s.one()
	wantOutcome(t, p, model.LeftNode)
	wantHops(t, p, append(slices.Clone(intoWireGuard), "encapsulate wireguard.cali@node wireguard 0 192.168.0.1:51820 > 192.168.0.2:51820 cut into segments of 1360 bytes, each encrypted by itself: the first is followed",
		"transmit eth0@node copy 1")...)

	s = newStory(t)
	cut(s).kfree("NETFILTER_DROP", "nf_hook_slow+0x1", uplink, in(unix.NFPROTO_IPV4, output))
	p = s.one()
	wantOutcome(t, p, model.Dropped)
	if p.Drop.Tunnel == nil || p.Drop.Tunnel.Kind != "wireguard" {
		t.Errorf("died in %+v, want WireGuard", p.Drop.Tunnel)
	}

	s = newStory(t)
	cut(s)
	s.now = s.now.Add(time.Second)
	if early := s.asm.Due(s.now, false); len(early) != 0 {
		t.Errorf("told before its segment had time to come: %v", lines(early))
	}
	p = s.one()
	wantOutcome(t, p, model.Consumed)
	wantHops(t, p, append(slices.Clone(intoWireGuard), "encapsulate wireguard.cali@node cut into segments of 1360 bytes, each encrypted by itself")...)
}

// TestWireGuardByDevice: without WireGuard's function its device tells what goes into it.
func TestWireGuardByDevice(t *testing.T) {
	sealed := carried(bpf.TunnelWireGuard, "192.168.0.1 51820", "192.168.0.2 51820")
	s := newStory(t)
	syn(s).fromClient().xmit(wg0).become(sealed).xmit(uplink)
	p := s.one()
	wantOutcome(t, p, model.LeftNode)
	wantHops(t, p, append(slices.Clone(intoWireGuard), "encapsulate wireguard.cali@node wireguard 0 192.168.0.1:51820 > 192.168.0.2:51820", "transmit eth0@node")...)

	for size, want := range map[int32]struct {
		outcome model.Outcome
		says    string
	}{
		1360: {model.Consumed, "cut into segments of 1360 bytes, each encrypted by itself"},
		0:    {model.Unknown, "WireGuard let go of it: one too many to wait for a key"},
	} {
		s := newStory(t)
		syn(s).fromClient().xmit(wg0, result(size)).end(wg0)
		p := s.one()
		wantOutcome(t, p, want.outcome)
		wantHops(t, p, append(slices.Clone(intoWireGuard), "encapsulate wireguard.cali@node wireguard 0 invalid IP:0 > invalid IP:0 "+want.says)...)
	}
}

// sealedIn is what comes in encrypted from the other node, as the kernel half tells it.
func (s *story) sealedIn() *packet {
	p := s.send(unix.IPPROTO_UDP, "192.168.0.2 51820", "192.168.0.1 51820", carried(bpf.TunnelWireGuard, "192.168.0.2 51820", "192.168.0.1 51820"), flag(bpf.FlagTentative))
	return p.become(func(_ *story, x *sample) { x.Sealed = x.Id })
}

// opens is a packet that comes out of what was encrypted, in the same skb.
func (p *packet) opens(sealed *packet) *packet {
	return p.become(func(_ *story, x *sample) { x.Skb, x.Sealed = sealed.e.Skb, sealed.e.Id })
}

// TestSealedIsFollowed: the way of an encrypted packet goes before that of what came out
// of it, once; it is no packet of the trace by itself.
func TestSealedIsFollowed(t *testing.T) {
	s := newStory(t)
	other, outer := s.sealedIn(), s.sealedIn()
	other.recv(uplink).deliver(bpf.FentryFnFN_udpQueueRcvSkb, uplink)
	outer.recv(uplink).see(bpf.KindTable, bpf.FentryFnFN_iptDoTable, uplink, table("filter", "", 0, 1), in(unix.NFPROTO_IPV4, input)).deliver(bpf.FentryFnFN_udpQueueRcvSkb, uplink)
	syn(s).opens(outer).recv(wg0).toServer(bpf.FentryFnFN_tcpV4Rcv)
	syn(s).opens(outer).recv(wg0).toServer(bpf.FentryFnFN_tcpV4Rcv) // GRO's: the same again
	ps := s.told()
	if len(ps) != 2 || s.asm.Seen() != 2 || len(s.asm.Unopened()) != 0 {
		t.Fatalf("told %v, %d seen", lines(ps), s.asm.Seen())
	}
	rest := []string{"receive wireguard.cali@node", "transmit calisv@node", "receive eth0@server", "deliver eth0@server"}
	wantHops(t, ps[0], append([]string{"receive eth0@node", "netfilter eth0@node INPUT legacy ip filter INPUT accept",
		"decapsulate wireguard.cali@node wireguard 0 192.168.0.2:51820 > 192.168.0.1:51820"}, rest...)...)
	wantHops(t, ps[1], append([]string{"decapsulate wireguard.cali@node wireguard 0 invalid IP:0 > invalid IP:0"}, rest...)...)
	if p := ps[0]; p.Src.String() != clientIP || p.Proto != "tcp" || p.Length != 84 || p.Hops[0].AtNS != 0 || p.Hops[3].AtNS <= p.Hops[1].AtNS {
		t.Errorf("told as %+v", p)
	}
	if len(s.others) != 0 {
		t.Errorf("%v are called another flow's", s.others)
	}
}

// TestSealedDies: of an encrypted packet that dies no more is known than its header: it is
// told to who asks, and is none of the trace's.
func TestSealedDies(t *testing.T) {
	s := newStory(t)
	s.sealedIn().recv(uplink).kfree("NETFILTER_DROP", "nf_hook_slow+0x1", uplink, in(unix.NFPROTO_IPV4, input))
	if ps := s.told(); len(ps) != 0 || s.asm.Seen() != 0 {
		t.Fatalf("told %v, %d seen", lines(ps), s.asm.Seen())
	}
	died := s.asm.Unopened()
	if len(died) != 1 || died[0].Drop == nil || died[0].Drop.Hook != "INPUT" || died[0].Drop.Tunnel == nil || died[0].Drop.Tunnel.SrcPort != 51820 || died[0].Outcome != model.Dropped {
		t.Fatalf("died: %v", lines(died))
	}
	if again := s.asm.Unopened(); len(again) != 0 {
		t.Errorf("told again: %v", lines(again))
	}
}

// TestWireGuardLetsGo: what it had taken in and freed whole has not arrived for all that
// is known.
func TestWireGuardLetsGo(t *testing.T) {
	s := newStory(t)
	syn(s).fromClient().xmit(wg0).see(bpf.KindEncap, bpf.FentryFnFN_wgXmit, wg0).end(wg0)
	p := s.one()
	if last := p.Hops[len(p.Hops)-1]; p.Outcome != model.Unknown || p.Drop != nil || last.Stage != model.StageEncapsulate || !strings.HasPrefix(last.Result, "WireGuard let go of it") {
		t.Errorf("outcome %s, drop %+v, last hop %+v", p.Outcome, p.Drop, last)
	}
}

// TestOuterPacket: where a tunnel's own packet is traced, it arrives at the tunnel.
func TestOuterPacket(t *testing.T) {
	s := newStory(t)
	s.send(unix.IPPROTO_IPIP, "192.168.0.2", "192.168.0.1").recv(uplink).see(bpf.KindDecap, bpf.FentryFnFN_ipTunnelRcv, uplink)
	if p := s.one(); p.Outcome != model.Delivered {
		t.Errorf("outcome %s, want delivered", p.Outcome)
	}
}

// TestTunnelKinds: a tunnel is told by what carries and what is carried.
func TestTunnelKinds(t *testing.T) {
	for _, c := range []struct {
		kind, family uint8
		want         string
	}{
		{bpf.TunnelVXLAN, 4, "vxlan"}, {bpf.TunnelVXLAN, 6, "vxlan"}, {bpf.TunnelGeneve, 4, "geneve"}, {bpf.TunnelGRE, 6, "gre"},
		{bpf.TunnelIPv4, 4, "ipip"}, {bpf.TunnelIPv6, 4, "sit"}, {bpf.TunnelIPv4, 6, "ip6tnl"}, {bpf.TunnelIPv6, 6, "ip6tnl"},
		{bpf.TunnelWireGuard, 4, "wireguard"},
	} {
		if got := TunnelOf(&bpf.Tunnel{Kind: c.kind, Family: c.family}).Kind; got != c.want {
			t.Errorf("kind %d in IPv%d is told as %q, want %q", c.kind, c.family, got, c.want)
		}
	}
}

// TestWireGuardRefuses: what WireGuard lets go of after it asked whose the source is was
// refused, although it is freed as if in good order.
func TestWireGuardRefuses(t *testing.T) {
	for peer, says := range map[int32]string{
		0: "no peer has its source among its allowed IPs",
		1: "another peer than the one that sent it has its source among its allowed IPs",
	} {
		s := newStory(t)
		syn(s).see(bpf.KindDecap, bpf.FentryFnFN_wgAllowedipsLookupSrc, wg0, result(peer)).end(wg0)
		p := s.one()
		if p.Outcome != model.Dropped || p.Drop == nil || p.Drop.Stage != model.StageDecapsulate || p.Drop.Interface != wg0.name ||
			p.Drop.Function != "wg_packet_consume_data_done" || p.Drop.Reason != "NOT_SPECIFIED" {
			t.Fatalf("outcome %s, drop %+v", p.Outcome, p.Drop)
		}
		if h := p.Hops[0]; h.Stage != model.StageDecapsulate || h.Result != says {
			t.Errorf("first hop %+v, want result %q", h, says)
		}
	}
}
