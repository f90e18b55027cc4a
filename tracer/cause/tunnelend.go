// SPDX-License-Identifier: Apache-2.0

package cause

// The cause tunnel-broken: of tunnels other than VXLAN, the device lost the packet, or
// what it needs to send or to take it is missing.

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// tunnelBroken is vxlanBroken of the other kinds.
func tunnelBroken(q *inquiry) *claim {
	return firstOf(q, tunnelDown(notVXLAN), tunnelToNobody(notVXLAN), tunnelNoWay, tunnelUnwanted)
}

// farEnd is where a tunnel sends the packet, as far as the node's state tells: the
// forwarding entry of VXLAN, the peer of WireGuard, the far end that a tunnel is made
// with, or the gateway of the route into it. Invalid: not known.
func (q *inquiry) farEnd(tunnel *node.Link) netip.Addr {
	switch {
	case tunnel.Kind == "vxlan":
		_, entry, _ := q.vtepOf(tunnel)
		return entry.Addr
	case tunnel.Kind == "wireguard":
		if w := q.wireGuard(tunnel); w != nil {
			if p := w.PeerOf(endsAt(q.p).Dst); p != nil {
				return p.Endpoint.Addr()
			}
		}
		return netip.Addr{}
	case tunnel.Tunnel.Remote.IsValid():
		return tunnel.Tunnel.Remote
	}
	if r, ok := q.routeTo(q.state.Node(), endsAt(q.p).Dst); ok && r.LinkIndex == tunnel.Index && len(r.NextHops) < 2 {
		return r.Gateway
	}
	return netip.Addr{}
}

// toNobodyByRoute adds to an asking that nobody answers how the tunnel came to ask it.
func (q *inquiry) toNobodyByRoute(c *claim, far netip.Addr, tunnel *node.Link) {
	c.missing = append(c.missing, "whether that is the wrong address, or that node is down or unreachable")
	compare := fmt.Sprintf("compare with the address of the node that has %s: kubectl get nodes -o wide", endsAt(q.p).Dst)
	if tunnel == nil {
		c.fix = []string{compare}
		return
	}
	show := "ip route show dev " + tunnel.Name
	if tunnel.Kind == "wireguard" {
		show = "wg show " + tunnel.Name + " endpoints"
	} else if says := tunnelWords(tunnel); tunnel.Tunnel.Remote == far {
		c.evidence, show = append(c.evidence, "ip -d link: "+says), "ip -d link show dev "+tunnel.Name
	} else {
		c.evidence = append(c.evidence, "the way to it: "+q.wayFor(q.state.Node(), endsAt(q.p).Dst).words())
	}
	c.fix = []string{compare + "; if it is another one: " + show,
		"have the agent write it again: restart flanneld, or delete the calico-node pod of this node; see which address the other node announces (public-ip of flannel, IP of calico-node)",
		"if the address is right: that node is down, or the network between the nodes does not let ARP through"}
}

// tunnelWords are a tunnel device as `ip -d link` shows it: "tunl0 ipip remote any
// local any".
func tunnelWords(l *node.Link) string {
	or := func(a netip.Addr) string {
		if a.IsValid() {
			return a.String()
		}
		return "any"
	}
	switch {
	case l.Kind == "geneve":
		return fmt.Sprintf("%s geneve id %d remote %s dstport %d", l.Name, l.Tunnel.VNI, or(l.Tunnel.Remote), l.Tunnel.Port)
	case l.Tunnel.External:
		return l.Name + " " + l.Kind + " external"
	}
	return fmt.Sprintf("%s %s remote %s local %s", l.Name, l.Kind, or(l.Tunnel.Remote), or(l.Tunnel.Local))
}

// tunnelSenders are the functions that put a packet into another and free what they
// cannot send (net/ipv4/ip_tunnel.c, ipip.c, ip_gre.c; net/ipv6/sit.c, ip6_tunnel.c,
// ip6_gre.c; drivers/net/geneve.c, 6.12). They give no reason.
var tunnelSenders = [...]string{"ip_tunnel_xmit", "ip_md_tunnel_xmit", "ipip_tunnel_xmit", "ipgre_xmit", "erspan_xmit", "gre_tap_xmit", "sit_tunnel_xmit*", "ipip6_tunnel_xmit*",
	"ip6_tnl_*", "ip4ip6_tnl_xmit", "ip6ip6_tnl_xmit", "ip6gre_*", "__gre6_xmit", "geneve_xmit*"}

// tunnelNoWay: the tunnel had nowhere to send it, or no address to send it from.
func tunnelNoWay(q *inquiry) *claim {
	if !q.p.Outcome.Died() || q.d.Hook != "" || q.d.Netns != q.state.Node() {
		return nil
	}
	l := q.link(q.d.Netns, int(q.d.IfIndex))
	if k := tunnelKindOf(l); k == nil || k.kind == "vxlan" || k.kind == "wireguard" || l.Tunnel.External {
		return nil
	}
	if !q.in(tunnelSenders[:]...) && q.d.Stage != model.StageEncapsulate {
		return nil
	}
	self, dst, t := q.state.Node(), endsAt(q.p).Dst, l.Tunnel
	far := q.farEnd(l)
	c := &claim{subject: l.Name, missing: []string{"the kernel's own reason: it gives none here, and what is told was read right after"}}
	c.evidence = []string{q.died(), "ip -d link: " + tunnelWords(l)}
	c.fix = []string{fmt.Sprintf("see what the tunnel is made of: ip -d link show dev %s; ip route show table all dev %s; ip -s -s link show dev %s", l.Name, l.Name, l.Name),
		"have the agent make it again: restart flanneld, or delete the calico-node pod of this node"}
	if !far.IsValid() {
		c.summary = fmt.Sprintf("the route into the tunnel %s names no node: without a gateway the tunnel takes %s itself for the address to send to", l.Name, dst)
		c.evidence = append(c.evidence, "the way to it: "+q.wayFor(self, dst).words())
		return c
	}
	w := q.wayTo(self, far)
	a, known := w.sure()
	switch {
	case t.Local.IsValid() && !q.holds(self, t.Local):
		c.summary = fmt.Sprintf("the tunnel %s is to send from %s, which is no address of this node", l.Name, t.Local)
		c.evidence = append(c.evidence, fmt.Sprintf("no interface of this node has %s", t.Local))
	case known && a.Leads(l.Index):
		c.summary = fmt.Sprintf("the tunnel %s leads to node %s, and the route to that node leads into the tunnel itself", l.Name, far)
		c.evidence = append(c.evidence, fmt.Sprintf("the way to node %s: %s", far, w.words()))
	case known && (a.Route == nil || routeKinds[a.Route.Type] != "" && routeKinds[a.Route.Type] != "local"):
		c.summary = fmt.Sprintf("the tunnel %s leads to node %s, to which there is no route", l.Name, far)
		c.evidence = append(c.evidence, fmt.Sprintf("the way to node %s: %s", far, w.words()))
	default:
		return nil
	}
	return c
}

// tunnelTakers are the functions in which an outer packet ends that no device takes,
// and the kinds that they are for (net/ipv4/tunnel4.c, gre_demux.c, ipip.c, ip_gre.c;
// net/ipv6/tunnel6.c, sit.c, ip6_tunnel.c; drivers/net/geneve.c, 6.12). Other ends are
// in them too: a packet that is too short, flags that are not known, a wrong checksum.
// Those that tell send "port unreachable" where no device takes it, and only then.
var tunnelTakers = [...]struct {
	function, kind string
	tells          bool
}{
	{"tunnel4_rcv", "ipip", true}, {"tunnel64_rcv", "sit", true}, {"gre_rcv", "gre", true}, {"tunnel6_rcv", "ip6tnl", true}, {"tunnel46_rcv", "ip6tnl", true},
	{"ipip_rcv", "ipip", false}, {"ipip_tunnel_rcv", "ipip", false}, {"sit_tunnel_rcv", "sit", false}, {"ipip6_rcv", "sit", false}, {"__ipip6_rcv", "sit", false},
	{"ipgre_rcv", "gre", false}, {"ip6gre_rcv", "gre", false}, {"ip4ip6_rcv", "ip6tnl", false}, {"ip6ip6_rcv", "ip6tnl", false},
	{"geneve_udp_encap_recv", "geneve", false}, {"geneve_rx", "geneve", false},
}

// tunnelUnwanted: a packet of another node's tunnel came, and no tunnel of this node
// takes it: there is none, it is down, or it is made with other ends.
func tunnelUnwanted(q *inquiry) *claim {
	if q.d.Netns != q.state.Node() || !q.p.Outcome.Died() {
		return nil
	}
	dst := endsAt(q.p).Dst
	in, outer := q.inside()
	kind, last, sure := outerKind(outer), false, false
	for _, t := range tunnelTakers {
		if q.in(t.function) {
			kind, last = tunnelKindBy(func(k *tunnelKind) bool { return k.kind == t.kind }), t.tells
		}
	}
	if h := lastHop(q.p, func(h *model.Hop) bool { return h.Answer != "" && h.Netns == q.d.Netns }); last && h != nil {
		sure = h.Answer == "icmp-port-unreachable"
	}
	// without its module nothing takes the protocol, or nothing listens on Geneve's port
	noModule := in && (q.because("IP_NOPROTO") || q.because("NO_SOCKET") && kind != nil && kind.kind == "geneve")
	if kind == nil && !noModule || kind != nil && !noModule && !q.takes() {
		return nil
	}
	what := "a tunnel packet"
	if kind != nil {
		what = kind.name + " packet"
		what = article(what) + " " + what
	}
	c := &claim{certain: sure || noModule, summary: fmt.Sprintf("%s from another node, with one for %s inside, came in, and no tunnel of this node takes it", what, dst), evidence: []string{q.died()}}
	if outer != nil {
		c.evidence = append(c.evidence, "it was inside "+outerWords(outer))
	}
	if sure {
		c.evidence = append(c.evidence, "the sender was told: icmp-port-unreachable")
	}
	if !c.certain {
		c.missing = []string{"the kernel's own reason: its checksum, flags, sequence number or key may be wrong instead, or it is cut off"}
	}
	kinds := 0
	for _, l := range q.tunnels(func(k *tunnelKind) bool {
		return kind == nil && k.kind != "wireguard" || kind != nil && k.kind == kind.kind
	}) {
		kinds++
		c.evidence = append(c.evidence, "ip link: "+linkWords(l))
		if l.Kind != "vxlan" {
			c.evidence = append(c.evidence, "ip -d link: "+tunnelWords(l))
		}
		if !l.Up && q.inUse(l) {
			c.summary = strings.Replace(c.summary, "no tunnel of this node takes it", "the tunnel "+l.Name+" of this node is set down", 1)
		}
	}
	if kinds == 0 && kind != nil {
		c.evidence = append(c.evidence, fmt.Sprintf("ip -d link: this node has no interface of kind %s", strings.Join(kind.links, " or ")))
	}
	c.fix = []string{"compare on both nodes: ip -d link (kind, up, remote, local, key)",
		"have the agent make it again: restart flanneld, or delete the calico-node pod of the node that differs; both nodes have to use the same kind of tunnel (Calico: IPPool; Flannel: net-conf.json)"}
	return c
}

// takes tells that the packet died in one of tunnelTakers.
func (q *inquiry) takes() bool {
	for _, t := range tunnelTakers {
		if q.in(t.function) {
			return true
		}
	}
	return false
}

// article goes before a name as it is spoken.
func article(name string) string {
	if strings.ContainsRune("AEIOSaeio", rune(name[0])) {
		return "an"
	}
	return "a"
}
