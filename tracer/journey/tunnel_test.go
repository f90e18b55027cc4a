// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"net/netip"
	"strings"
	"testing"

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

// TestWireGuardLetsGo: what it cuts into segments has not arrived for all that is known.
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
