// SPDX-License-Identifier: Apache-2.0

package cause

// The cause mtu: a packet that does not fit.

import (
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// letICMP is a fix of everything that is too big.
const letICMP = "let ICMP \"fragmentation needed\" through to the sender, so that it learns the size by itself"

// tooBig: larger than the way allows and not to be fragmented (PKT_TOO_BIG, ICMP
// fragmentation needed); a bridge drops what is too large without a word
// (br_dev_queue_push_xmit, net/bridge/br_forward.c).
func tooBig(q *inquiry) *claim {
	answer := lastAnswer(q.p)
	told := q.because("PKT_TOO_BIG") || strings.Contains(answer, "frag-needed") || strings.Contains(answer, "too-big")
	out := q.outLink()
	bridged := q.in("br_dev_queue_push_xmit*", "br_nf_dev_queue_xmit*", "__br_forward*") && out != nil && q.p.Length > uint32(out.MTU)
	if !told && !bridged {
		return q.tooBigForPeer()
	}
	if c := q.tooBigOnceInside(out); c != nil {
		return c
	}
	by := out
	if out != nil && q.p.Length <= uint32(out.MTU) {
		out = nil // not the link, then: the route has an MTU of its own, say
	}
	c := &claim{certain: told, evidence: []string{q.died()}}
	limit := "what the way allows"
	if out == nil {
		limit = q.sizeOfRoute(c, by, limit)
	}
	if out != nil {
		limit = fmt.Sprintf("%d bytes, the MTU of %s", out.MTU, out.Name)
		c.evidence = append(c.evidence, fmt.Sprintf("ip link: %s; the packet has %d bytes and must not be fragmented", linkWords(out), q.p.Length))
	}
	c.summary = fmt.Sprintf("the packet (%d bytes) is larger than %s", q.p.Length, limit)
	if told && answer != "" && q.p.Outcome == model.Rejected {
		c.evidence = append(c.evidence, "the sender was told: "+answer)
	}
	if bridged && !told {
		c.missing = []string{"the kernel gives no reason of its own: a bridge drops what does not fit silently"}
	}
	q.changedBy(c, func(e *model.NodeEvent) bool {
		return e.What == model.LinkMTU && out != nil && e.Netns == q.d.Netns && int(e.IfIndex) == out.Index
	})
	q.widths(c, out)
	return c
}

// tooBigOnceInside: it fits the tunnel's interface, whose MTU leaves no room for the
// outer header on the way to the far end (tnl_update_pmtu, net/ipv4/ip_tunnel.c;
// skb_tunnel_check_pmtu of VXLAN and Geneve, net/ipv4/ip_tunnel_core.c; 6.12).
func (q *inquiry) tooBigOnceInside(tunnel *node.Link) *claim {
	k := tunnelKindOf(tunnel)
	if k == nil || k.kind == "wireguard" || q.d.Netns != q.state.Node() || q.p.Length > uint32(tunnel.MTU) {
		return nil
	}
	far := q.farEnd(tunnel)
	if !far.IsValid() {
		return nil
	}
	r, ok := q.routeTo(q.d.Netns, far)
	under := q.link(q.d.Netns, r.LinkIndex)
	if !ok || under == nil || int(q.p.Length)+k.bytes(far) <= under.MTU {
		return nil
	}
	room := under.MTU - k.bytes(far)
	c := &claim{subject: tunnel.Name, summary: fmt.Sprintf("the packet (%d bytes) is larger than what %s has room for inside %s: the tunnel %s has an MTU of %d, but of the %d bytes of %s %s takes %s", q.p.Length, k.name, under.Name, tunnel.Name, tunnel.MTU, under.MTU, under.Name, k.name, k.bytesWords(far))}
	c.evidence = []string{q.died(), "ip link: " + linkWords(tunnel), "ip link: " + linkWords(under)}
	if answer := lastAnswer(q.p); answer != "" && q.p.Outcome == model.Rejected {
		c.evidence = append(c.evidence, "the sender was told: "+answer)
	}
	c.missing = []string{"that nothing on the way allows even less: the MTUs were read right after"}
	c.fix = []string{fmt.Sprintf("give the tunnel and the pods an MTU of at most %d: Calico: mtu of the Installation, or veth_mtu in its ConfigMap; Flannel: restart flanneld, it takes that of the uplink", room),
		"make new pods after it: those that run keep their MTU", letICMP}
	return c
}

// tooBigForPeer: a veth pair of which one end sends what the other does not take. The
// kernel drops it without a word (__is_skb_forwardable, include/linux/netdevice.h,
// called by veth_xmit; 6.12), and no ICMP error says so.
func (q *inquiry) tooBigForPeer() *claim {
	own := q.link(q.d.Netns, int(q.d.IfIndex))
	if own == nil || own.Kind != "veth" || !q.because("NOT_SPECIFIED", "PKT_TOO_BIG") || !q.in("veth_xmit*", "veth_forward_skb*", "__dev_forward_skb*", "____dev_forward_skb*") {
		return nil
	}
	peer := q.link(own.PeerNetns, own.PeerIndex)
	if peer == nil || !peer.Up || q.p.Length <= uint32(peer.MTU) {
		return nil
	}
	whose := "in " + q.d.Place
	if own.PeerNetns == q.state.Node() {
		whose = "on this node"
	} else if own.PeerNetns != q.d.Netns {
		whose = "in the pod"
	}
	c := &claim{subject: peer.Name, summary: fmt.Sprintf("the packet (%d bytes) is larger than the other end of %s takes: %s %s has an MTU of %d, %s has %d", q.p.Length, own.Name, peer.Name, whose, peer.MTU, own.Name, own.MTU)}
	c.evidence = []string{q.died(), "ip link: " + linkWords(own), "ip link, its other end: " + linkWords(peer)}
	c.missing = []string{"the kernel gives no reason of its own here, and nobody is told: the sender cannot learn the size"}
	q.changedBy(c, func(e *model.NodeEvent) bool {
		return e.What == model.LinkMTU && (e.Netns == own.PeerNetns && int(e.IfIndex) == peer.Index || e.Netns == q.d.Netns && int(e.IfIndex) == own.Index)
	})
	c.fix = []string{fmt.Sprintf("give both ends of the pair one MTU: ip link set %s mtu %d, if the way behind it takes that; else %s in %s gets %d", peer.Name, own.MTU, own.Name, q.d.Place, peer.MTU),
		"see what made them differ: the CNI plugin's MTU was changed, and pods that were there before keep theirs"}
	return c
}

// outLink is the interface the packet was to leave by, where it died.
func (q *inquiry) outLink() *node.Link {
	if l := q.link(q.d.Netns, int(q.d.IfIndex)); l != nil && l.Master != 0 && q.d.Stage == model.StageBridge {
		return l // a bridge names the port it was to send by
	}
	if r := q.route(); r.IfIndex != 0 {
		return q.link(q.d.Netns, int(r.IfIndex))
	}
	dst := endsAt(q.p).Dst
	if r, ok := q.routeTo(q.d.Netns, dst); ok {
		return q.link(q.d.Netns, r.LinkIndex)
	}
	return nil
}

// widths compares the sender's MTU with that of the way.
func (q *inquiry) widths(c *claim, out *node.Link) {
	if out == nil {
		if len(c.fix) == 0 {
			c.fix = []string{"see the MTUs along the way: ip link; tracepath -n " + endsAt(q.p).Dst.String()}
		}
		return
	}
	if pod, ok := q.podOf(q.p.Src); ok {
		if host := q.hostLink(pod); host != nil && host.MTU > out.MTU {
			c.evidence = append(c.evidence, fmt.Sprintf("the sending pod's interface (%s) has MTU %d, more than the way", host.Name, host.MTU))
		}
	}
	switch {
	case tunnelKindOf(out) != nil:
		k := tunnelKindOf(out)
		c.fix = append(c.fix, fmt.Sprintf("give pods an MTU of at most %d (%s takes %s): Calico: veth_mtu in its ConfigMap or mtu of the Installation; Flannel: it is in /run/flannel/subnet.env", out.MTU, k.name, k.bytesWords(q.farEnd(out))))
	default:
		c.fix = append(c.fix, fmt.Sprintf("give %s the MTU of its pod and of the other pods: ip link set %s mtu N", out.Name, out.Name))
	}
	c.fix = append(c.fix, "make new pods after it: those that run keep their MTU", letICMP)
}
