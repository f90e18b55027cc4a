// SPDX-License-Identifier: Apache-2.0

package cause

// The cause wireguard: the device knows no peer for the packet's destination, or none
// that may have sent its source; or the peer does not answer, so that there is no key.

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

const (
	// keyGood is how long a key is good for after the handshake that made it
	// (REJECT_AFTER_TIME, drivers/net/wireguard/messages.h).
	keyGood = 180 * time.Second
	// shownPeers and shownPrefixes bound what is told of a device.
	shownPeers    = 4
	shownPrefixes = 8
)

// wireGuard is what the kernel knows of a WireGuard device; nil: it could not be read.
func (q *inquiry) wireGuard(l *node.Link) *node.WireGuard {
	all, err := q.state.WireGuard(q.state.Node())
	q.gap(err)
	for i := range all {
		if all[i].LinkIndex == l.Index {
			return &all[i]
		}
	}
	return nil
}

// wireGuardCause are all of them.
func wireGuardCause(q *inquiry) *claim {
	if q.d.Hook != "" || q.d.Netns != q.state.Node() {
		return nil
	}
	return firstOf(q, wireGuardUnsent, wireGuardForeign, wireGuardWaits)
}

// atWireGuard is the WireGuard device that the packet ended on; nil: on none.
func (q *inquiry) atWireGuard() *node.Link {
	if l := q.link(q.d.Netns, int(q.d.IfIndex)); l != nil && l.Kind == "wireguard" {
		return l
	}
	return nil
}

// peerWords name a peer: by key, and where it is.
func peerWords(p *node.WireGuardPeer) string {
	if p.Endpoint.IsValid() {
		return fmt.Sprintf("peer %s (%s)", p.PublicKey, p.Endpoint)
	}
	return "peer " + p.PublicKey
}

// allowedWords are a peer's allowed IPs as `wg show allowed-ips` prints them.
func allowedWords(l *node.Link, p *node.WireGuardPeer) string {
	says := "wg show " + l.Name + " allowed-ips: " + p.PublicKey
	if len(p.AllowedIPs) == 0 {
		return says + " (none)"
	}
	for _, a := range p.AllowedIPs[:min(len(p.AllowedIPs), shownPrefixes)] {
		says += " " + a.String()
	}
	if n := len(p.AllowedIPs) - shownPrefixes; n > 0 {
		says += fmt.Sprintf(" and %d more", n)
	}
	return says
}

// wireGuardUnsent: wg_xmit found no peer whose allowed IPs hold the destination
// (ENOKEY), or one whose endpoint is not known (EDESTADDRREQ); it sends "host
// unreachable" and frees the packet without a reason (drivers/net/wireguard/device.c,
// 6.12).
func wireGuardUnsent(q *inquiry) *claim {
	l := q.atWireGuard()
	if l == nil || !q.p.Outcome.Died() || !q.in("wg_xmit*") {
		return nil
	}
	dst := endsAt(q.p).Dst
	c := &claim{subject: l.Name, evidence: []string{q.died()}}
	w := q.wireGuard(l)
	var peer *node.WireGuardPeer
	if w != nil {
		peer = w.PeerOf(dst)
	}
	if answer := lastAnswer(q.p); answer != "" && q.p.Outcome == model.Rejected {
		c.evidence = append(c.evidence, "the sender was told: "+answer)
	}
	c.missing = []string{"the kernel's own reason: it gives none here, and the peers were read right after"}
	switch {
	case w == nil:
		c.summary = fmt.Sprintf("WireGuard (%s) could not send it: no peer has %s among its allowed IPs, or that peer has no endpoint", l.Name, dst)
	case peer == nil:
		c.summary = fmt.Sprintf("WireGuard (%s) has no peer whose allowed IPs hold %s, so it does not know for whom to encrypt", l.Name, dst)
		c.evidence = append(c.evidence, fmt.Sprintf("wg show %s: %s, and none of their allowed IPs holds %s", l.Name, packetsWords(len(w.Peers), "peer", "peers"), dst))
		q.tellPeers(c, l, w, dst)
	case !peer.Endpoint.IsValid():
		c.summary = fmt.Sprintf("WireGuard (%s) does not know where the peer is that has %s: it has no endpoint", l.Name, dst)
		c.evidence = append(c.evidence, allowedWords(l, peer), fmt.Sprintf("wg show %s endpoints: %s (none)", l.Name, peer.PublicKey))
	default:
		c.summary = fmt.Sprintf("WireGuard (%s) did not take the packet for %s to send: it may have had no peer with an endpoint for it then", l.Name, dst)
		c.evidence = append(c.evidence, "by now it has: "+allowedWords(l, peer))
		c.missing = append(c.missing, "whether the peer, its allowed IPs or its endpoint was missing, or the packet itself was at fault: wg_xmit lets go of one whose protocol is not that of its header too, and of one that it cannot cut into segments")
	}
	c.fix = wireGuardFix(l, "see what the peers hold, and which node has the address: wg show "+l.Name+" allowed-ips; calicoctl ipam show --show-blocks; kubectl get pods -A -o wide")
	return c
}

// wireGuardFix goes from the look to who writes it.
func wireGuardFix(l *node.Link, look ...string) []string {
	agent := "have the agent write its peers again: restart flanneld (each node's key is in kubectl get node -o yaml: flannel.alpha.coreos.com/backend-data), or delete the calico-node pod of this node (projectcalico.org/WireguardPublicKey)"
	switch {
	case strings.HasPrefix(l.Name, "flannel"):
		agent = "have flanneld write its peers again: restart it; each node's key is in kubectl get node -o yaml: flannel.alpha.coreos.com/backend-data"
	case strings.HasPrefix(l.Name, "wireguard.cali"), strings.HasPrefix(l.Name, "wg-v6.cali"):
		agent = "have Felix write its peers again: delete the calico-node pod of this node; each node's key is in kubectl get node -o yaml: projectcalico.org/WireguardPublicKey, and what it holds are its blocks and addresses that others borrowed from them"
	}
	return append(look, agent)
}

// tellPeers adds what the peers hold, first of those of the node that the node's other
// routes lead to for the address.
func (q *inquiry) tellPeers(c *claim, l *node.Link, w *node.WireGuard, dst netip.Addr) {
	gateway, route := q.otherGateway(dst)
	peers := slices.Clone(w.Peers)
	if i := slices.IndexFunc(peers, func(p node.WireGuardPeer) bool { return p.Endpoint.Addr() == gateway }); i >= 0 && gateway.IsValid() {
		p := peers[i]
		peers = slices.Insert(slices.Delete(peers, i, i+1), 0, p)
		c.summary += fmt.Sprintf("; by the route %s it is on node %s, whose %s does not hold it", route, gateway, peerWords(&p))
	}
	for i := range peers[:min(len(peers), shownPeers)] {
		c.evidence = append(c.evidence, allowedWords(l, &peers[i]))
	}
}

// otherGateway is the node that the most special route to an address names, of those
// by another interface than a tunnel's: Calico leaves it in table main when it puts that
// into WireGuard in another one.
func (q *inquiry) otherGateway(addr netip.Addr) (gateway netip.Addr, route string) {
	routes, err := q.state.Routes(q.state.Node())
	q.gap(err)
	bits := 0 // of a default route nothing follows
	for _, r := range routes {
		r = oneWay(r)
		if !r.Gateway.IsValid() || !r.Dst.Contains(addr) || r.Dst.Bits() <= bits || tunnelKindOf(q.link(q.state.Node(), r.LinkIndex)) != nil {
			continue
		}
		bits, gateway, route = r.Dst.Bits(), r.Gateway, q.routeWords(q.state.Node(), r)
	}
	return gateway, route
}

// wireGuardForeign: it came, could be decrypted, and its source is not among the
// allowed IPs of the peer whose key it came by (wg_packet_consume_data_done, drivers/
// net/wireguard/receive.c, 6.12).
func wireGuardForeign(q *inquiry) *claim {
	l := q.atWireGuard()
	sure := q.in("wg_packet_consume_data_done*")
	if l == nil || !q.p.Outcome.Died() || !sure && !q.in("wg_packet_rx_poll*") {
		return nil
	}
	src := endsAt(q.p).Src
	c := &claim{certain: sure, subject: l.Name + src.String(), evidence: []string{q.died()}}
	c.summary = fmt.Sprintf("WireGuard (%s) took a packet from %s and dropped it, since that source is not among the allowed IPs of the peer that sent it", l.Name, src)
	if !sure {
		c.missing = []string{"the kernel's own reason: it may have come twice instead"}
	}
	look := "see what the peers may send: wg show " + l.Name + " allowed-ips; whose block the address is of: calicoctl ipam show --show-blocks; calicoctl ipam check"
	c.fix = wireGuardFix(l, look)
	w := q.wireGuard(l)
	if w == nil {
		return c
	}
	sender, holder := q.sendingPeer(w), w.PeerOf(src)
	if sender != nil {
		c.summary += ", " + peerWords(sender)
		c.evidence = append(c.evidence, allowedWords(l, sender))
	} else {
		c.missing = append(c.missing, "which peer sent it")
	}
	switch {
	case holder == nil:
		c.evidence = append(c.evidence, fmt.Sprintf("wg show %s: %s, and none of their allowed IPs holds %s", l.Name, packetsWords(len(w.Peers), "peer", "peers"), src))
		if sender == nil {
			q.tellPeers(c, l, w, src)
		}
	case sender == nil || holder.PublicKey != sender.PublicKey:
		c.evidence = append(c.evidence, "the one that may: "+allowedWords(l, holder))
	default:
		c.summary = strings.Replace(c.summary, "is not among", "was not among", 1)
		c.evidence = append(c.evidence, "by now it is: "+allowedWords(l, sender))
	}
	return c
}

// sendingPeer is the peer that an incoming packet came from: by the outer source, or
// the only one.
func (q *inquiry) sendingPeer(w *node.WireGuard) *node.WireGuardPeer {
	if h := lastHop(q.p, func(h *model.Hop) bool { return h.Tunnel != nil && h.Tunnel.Src.IsValid() }); h != nil {
		if i := slices.IndexFunc(w.Peers, func(p node.WireGuardPeer) bool { return p.Endpoint.Addr() == h.Tunnel.Src }); i >= 0 {
			return &w.Peers[i]
		}
		return nil
	}
	if len(w.Peers) == 1 {
		return &w.Peers[0]
	}
	return nil
}

// wireGuardWaits: it went into the device and did not come out: it waits for a
// handshake, or the kernel gave up on that after 90 seconds
// (wg_packet_purge_staged_packets).
func wireGuardWaits(q *inquiry) *claim {
	l := q.atWireGuard()
	purged := q.p.Outcome.Died() && q.in("wg_packet_purge_staged_packets*", "wg_packet_send_staged_packets*", "wg_expired_retransmit_handshake*")
	if l == nil || q.p.Outcome != model.Unknown && !purged {
		return nil
	}
	if h := lastHop(q.p, func(h *model.Hop) bool { return h.IfIndex != 0 }); h == nil || h.Stage == model.StageDecapsulate || h.Stage == model.StageReceive {
		return nil // it came out of it
	}
	w := q.wireGuard(l)
	if w == nil {
		return nil
	}
	peer := w.PeerOf(endsAt(q.p).Dst)
	if peer == nil || !keyless(peer, diedAt(q.p)) {
		return nil
	}
	c := q.noHandshake(l, peer)
	c.summary = fmt.Sprintf("packets to %s wait in WireGuard (%s) for a key: %s", endsAt(q.p).Dst, l.Name, c.summary)
	if purged {
		c.certain = true
		c.evidence = append([]string{q.died()}, c.evidence...)
	} else {
		c.missing = append(c.missing, "the packet's end: it was not seen to leave before the trace ended")
	}
	return c
}
