// SPDX-License-Identifier: Apache-2.0

package cause

// This file is the table of the kinds of tunnels, and tells which one a packet was in.

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// tunnelKind is what the causes know of a kind of tunnel.
type tunnelKind struct {
	kind string // as a hop's tunnel bears it
	name string // as people call it
	// links are the kinds of its devices, as `ip -d link` names them.
	links []string
	// carrier is what lets its packets through a firewall.
	carrier string
	// own are the bytes that it takes beside the outer IP header: 20 of IPv4, 40 of
	// IPv6. With frames inside these count their header.
	own int
}

// tunnelKinds lists them. The bytes: VXLAN and Geneve have 8 of UDP, 8 of their own
// and a frame's 14; GRE has 4, and 4 more for each of key, checksum and sequence number
// that it is made with (RFC 2890), which do not count here; WireGuard has 8 of UDP, 16 of
// header and 16 of its check sum (MESSAGE_MINIMUM_LENGTH, drivers/net/wireguard/
// messages.h); what goes in IPv6 has 8 of an option against tunnels in tunnels
// (encaplimit, ip6_tnl_dev_init_gen, net/ipv6/ip6_tunnel.c).
func tunnelKinds() []tunnelKind {
	return []tunnelKind{
		{"vxlan", "VXLAN", []string{"vxlan"}, "UDP port 4789 (Calico) or 8472 (Flannel)", 30},
		{"geneve", "Geneve", []string{"geneve"}, "UDP port 6081", 30},
		{"ipip", "IPIP", []string{"ipip"}, "IP protocol 4", 0},
		{"sit", "SIT", []string{"sit"}, "IP protocol 41", 0},
		{"gre", "GRE", []string{"gre"}, "IP protocol 47", 4},
		{"gre", "GRE", []string{"gretap", "erspan"}, "IP protocol 47", 18},
		{"gre", "GRE", []string{"ip6gre"}, "IP protocol 47", 12},
		{"gre", "GRE", []string{"ip6gretap", "ip6erspan"}, "IP protocol 47", 26},
		{"ip6tnl", "ip6tnl", []string{"ip6tnl"}, "IP protocols 4 and 41", 8},
		{"wireguard", "WireGuard", []string{"wireguard"}, "UDP port 51820 (of Calico and Flannel over IPv6 51821)", 40},
	}
}

// isVXLAN and notVXLAN pick kinds of tunnels: findings about VXLAN have codes of their
// own. A kind that is not known is nil.
func isVXLAN(k *tunnelKind) bool  { return k != nil && k.kind == "vxlan" }
func notVXLAN(k *tunnelKind) bool { return !isVXLAN(k) }

func tunnelKindBy(fits func(k *tunnelKind) bool) *tunnelKind {
	for _, k := range tunnelKinds() {
		if fits(&k) {
			return &k
		}
	}
	return nil
}

// tunnelKindOf is the kind of a link's packets; nil: it is no tunnel.
func tunnelKindOf(l *node.Link) *tunnelKind {
	if l == nil {
		return nil
	}
	return tunnelKindBy(func(k *tunnelKind) bool { return slices.Contains(k.links, l.Kind) })
}

// outerKind is the kind of an outer header.
func outerKind(outer *model.Tunnel) *tunnelKind {
	if outer == nil {
		return nil
	}
	return tunnelKindBy(func(k *tunnelKind) bool { return k.kind == outer.Kind })
}

// bytes is what the kind takes of the way's MTU, with an outer header of the family of
// far; where that is not known, of the one that it mostly has.
func (k *tunnelKind) bytes(far netip.Addr) int {
	if far.Is6() || !far.IsValid() && strings.HasPrefix(k.links[0], "ip6") {
		return k.own + 40
	}
	return k.own + 20
}

// bytesWords are the bytes as people are told them: a device of GRE may be made with
// options that take more.
func (k *tunnelKind) bytesWords(far netip.Addr) string {
	says := fmt.Sprintf("%d bytes", k.bytes(far))
	if k.kind == "gre" {
		return "at least " + says + ", and 4 more for each of key, checksum and sequence number"
	}
	return says
}

// carrierOf is what lets packets with this outer header through a firewall.
func (k *tunnelKind) carrierOf(outer *model.Tunnel) string {
	if outer != nil && outer.DstPort != 0 {
		return fmt.Sprintf("UDP port %d", outer.DstPort)
	}
	return k.carrier
}

// outerWords tell the outer header: "ipip, from 172.30.0.1 to 172.30.0.2".
func outerWords(outer *model.Tunnel) string {
	says := fmt.Sprintf("%s, from %s to %s", outer.Kind, outer.Src, outer.Dst)
	if outer.DstPort != 0 {
		says += fmt.Sprintf(" port %d", outer.DstPort)
	}
	return says
}

// tunnels are the node's tunnel devices of some kinds.
func (q *inquiry) tunnels(of func(*tunnelKind) bool) (all []*node.Link) {
	links, err := q.state.Links(q.state.Node())
	q.gap(err)
	for i := range links {
		if k := tunnelKindOf(&links[i]); k != nil && of(k) {
			all = append(all, &links[i])
		}
	}
	return all
}

// insideOf is the kind of tunnel that the packet was in when it died, and the outer
// header, as far as they are known. Only what was seen of it counts: that it was for
// somebody else and died as the node's own shows no tunnel, TPROXY and local routes
// (AnyIP, a service's address) do so too.
func (q *inquiry) insideOf() (in bool, kind *tunnelKind, outer *model.Tunnel) {
	if in, outer = q.inside(); !in {
		return false, nil, nil
	}
	if kind = outerKind(outer); kind == nil {
		if h := lastHop(q.p, func(h *model.Hop) bool { return h.Stage == model.StageEncapsulate }); h != nil {
			kind = tunnelKindOf(q.link(h.Netns, int(h.IfIndex)))
		}
	}
	return true, kind, outer
}

// toTunnel tells a datagram to a port that tunnels have: VXLAN's (IANA, Linux's own),
// Geneve's, WireGuard's as Calico and Flannel have them.
func toTunnel(p *model.Packet) bool {
	return p.Proto == "udp" && slices.Contains([]uint16{4789, 8472, 6081, 51820, 51821}, p.DstPort)
}
