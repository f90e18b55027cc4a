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
	// asks are the protocols and ports that rules about its packets name.
	asks []string
	// own are the bytes that it takes beside the outer IP header: 20 of IPv4, 40 of
	// IPv6. With frames inside these count their header.
	own int
}

// tunnelKinds lists them. The bytes: VXLAN and Geneve have 8 of UDP, 8 of their own
// and a frame's 14; GRE has 4; WireGuard has 8 of UDP, 16 of header and 16 of its check
// sum (MESSAGE_MINIMUM_LENGTH, drivers/net/wireguard/messages.h); what goes in IPv6 has
// 8 of an option against tunnels in tunnels (encaplimit, ip6_tnl_dev_init_gen,
// net/ipv6/ip6_tunnel.c).
func tunnelKinds() []tunnelKind {
	return []tunnelKind{
		{"vxlan", "VXLAN", []string{"vxlan"}, "UDP port 4789 (Calico) or 8472 (Flannel)", []string{"udp 4789", "udp 8472"}, 30},
		{"geneve", "Geneve", []string{"geneve"}, "UDP port 6081", []string{"udp 6081"}, 30},
		{"ipip", "IPIP", []string{"ipip"}, "IP protocol 4", []string{"4", "ipip", "ipencap", "ipv4"}, 0},
		{"sit", "SIT", []string{"sit"}, "IP protocol 41", []string{"41", "ipv6"}, 0},
		{"gre", "GRE", []string{"gre"}, "IP protocol 47", []string{"47", "gre"}, 4},
		{"gre", "GRE", []string{"gretap", "erspan"}, "IP protocol 47", nil, 18},
		{"gre", "GRE", []string{"ip6gre"}, "IP protocol 47", nil, 12},
		{"gre", "GRE", []string{"ip6gretap", "ip6erspan"}, "IP protocol 47", nil, 26},
		{"ip6tnl", "ip6tnl", []string{"ip6tnl"}, "IP protocols 4 and 41", nil, 8},
		{"wireguard", "WireGuard", []string{"wireguard"}, "UDP port 51820 (of Calico and Flannel over IPv6 51821)", []string{"udp 51820", "udp 51821"}, 40},
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

// insideOf is the kind of tunnel that the packet was in when it died in a packet
// filter, and the outer header, as far as they are known. On its way in it shows by its
// addresses: at INPUT of the node although for a pod. Then the rule tells the kind, if
// it asks for it, or the node has tunnels of one kind only.
func (q *inquiry) insideOf() (in bool, kind *tunnelKind, outer *model.Tunnel) {
	if in, outer = q.encapsulated(); in {
		if kind = outerKind(outer); kind == nil {
			h := lastHop(q.p, func(h *model.Hop) bool { return h.Stage == model.StageEncapsulate })
			kind = tunnelKindOf(q.link(h.Netns, int(h.IfIndex)))
		}
		return true, kind, outer
	}
	if q.d.Hook != "INPUT" || q.holds(q.d.Netns, endsAt(q.p).Dst) || multicastOrBroadcast(q) {
		return false, nil, nil
	}
	if q.d.Rule != nil {
		if kind = askedKind(q.d.Rule.Text); kind != nil {
			return true, kind, nil
		}
	}
	for _, l := range q.tunnels(func(k *tunnelKind) bool { return k.kind != "wireguard" }) { // what is encrypted is not seen there
		k := tunnelKindOf(l)
		switch {
		case !l.Up:
		case kind != nil && kind.kind != k.kind:
			return true, nil, nil
		default:
			kind = k
		}
	}
	return kind != nil, kind, nil // without a tunnel there are other ways into INPUT: TPROXY, local routes
}

// askedKind is the kind of tunnel that a rule asks for by protocol and port, in the
// words of iptables or of nft.
func askedKind(rule string) *tunnelKind {
	words := strings.Fields(rule)
	var proto, ports string
	for i, w := range words[:max(0, len(words)-1)] {
		next := words[i+1]
		switch w {
		case "-p", "--protocol", "l4proto", "protocol", "nexthdr":
			proto = next
		case "--dport", "--dports", "--destination-port", "--destination-ports":
			ports = next
		case "dport":
			ports, proto = next, "udp"
		}
	}
	return tunnelKindBy(func(k *tunnelKind) bool {
		return slices.ContainsFunc(k.asks, func(asks string) bool {
			wants, port, _ := strings.Cut(asks, " ")
			return wants == proto && (port == "" || slices.Contains(strings.Split(ports, ","), port))
		})
	})
}
