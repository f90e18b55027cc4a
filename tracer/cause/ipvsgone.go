// SPDX-License-Identifier: Apache-2.0

package cause

// The cause ipvs-unknown: a connection under way that IPVS has no entry of. It takes new
// connections by their first segment only (tcp_conn_schedule, net/netfilter/ipvs/
// ip_vs_proto_tcp.c, 5.17 to 7.3), so that what follows goes to the node's own TCP; and
// answers do not get the service's address back.

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// unknownToIPVS: a segment of a connection to a service reached the node's own TCP.
func unknownToIPVS(q *inquiry) *claim {
	if !q.p.Outcome.Died() || !midway(q.p) || q.d.Hook != "" || !q.because("NO_SOCKET") && lastAnswer(q.p) != "tcp-reset" || lastTranslation(q.p) != nil || q.isReply() {
		return nil
	}
	e := endsAt(q.p)
	client, asked := netip.AddrPortFrom(e.Src, e.SrcPort), netip.AddrPortFrom(e.Dst, e.DstPort)
	b := q.balancingOf(q.d.Netns, asked)
	if b == nil || !q.holds(b.netns, e.Dst) {
		return nil
	}
	if q.findEntry(b, client); b.conn != nil || b.unread {
		return nil
	}
	place, iface := q.end()
	c := &claim{balanced: true, subject: "ipvs " + b.service.String(),
		summary: fmt.Sprintf("IPVS has no entry of a connection to %s that is under way, and takes new ones by their first segment only: the segment went to the TCP of %s itself, which knows no such connection", b.name(), q.place())}
	c.evidence = []string{q.died()}
	if a := lastAnswer(q.p); a != "" {
		c.evidence = append(c.evidence, fmt.Sprintf("%s answered: %s", at(place, iface), a))
	}
	c.evidence = append(c.evidence, b.words()...)
	c.evidence = append(c.evidence, noEntryWords(q.p.Proto, client, asked))
	if t := q.translatedBefore(); t != nil && t.ipvs {
		t.tell(c, "an earlier packet of it")
	}
	c.missing = []string{"why the entry is gone: they end when nothing was sent for a while, with their service, or are deleted; one that began over another node has its entry there"}
	c.fix = slices.Clone(entryFix)
	q.tellARP(c, e.Dst)
	return c
}

// noEntryWords say that IPVS has none.
func noEntryWords(proto string, client, virtual netip.AddrPort) string {
	return fmt.Sprintf("ipvsadm -Lnc has no %s entry from %s to %s", strings.ToUpper(proto), client, virtual)
}

// entryFix is for entries that end too soon.
var entryFix = []string{"see how long entries live without a packet: ipvsadm -Ln --timeout (the first is TCP's, 900 s; kube-proxy: --ipvs-tcp-timeout)",
	"have the application, or its kernel, send something more often than that: TCP keepalive is off by default, and waits 7200 s (net.ipv4.tcp_keepalive_time in the pod)"}

// leftByIPVS says why IPVS did not put the service's address into an answer.
func (q *inquiry) leftByIPVS(c *claim, t *translation, said string) {
	client := netip.AddrPortFrom(t.hop.Before.Src, t.hop.Before.SrcPort)
	_, known, err := q.state.BalancedConnection(t.hop.Netns, q.p.Proto, client, t.asked)
	q.gap(err)
	switch here := lastHop(q.p, func(h *model.Hop) bool { return h.Netns == t.hop.Netns && h.Hook != "" }) != nil; {
	case !here:
		c.summary = fmt.Sprintf("%s: it passed by the netfilter hooks of %s, where IPVS had chosen %s, so nobody put the service's address back", said, t.owner(), t.to)
		c.fix = []string{"have answers come back over this node: the requests need its address as source (kube-proxy's masquerade rules: KUBE-MARK-MASQ, KUBE-POSTROUTING), or the real server a route to the client over it",
			"between pods of one bridge: net.bridge.bridge-nf-call-iptables=1"}
	case err == nil && !known:
		c.summary = fmt.Sprintf("%s: IPVS has no entry of the connection any more, so it does not put the service's address back", said)
		c.evidence = append(c.evidence, noEntryWords(q.p.Proto, client, t.asked))
		c.fix = entryFix
	default:
		c.certain = false
		c.missing = append(c.missing, "why IPVS left it as it is")
		c.fix = []string{"see its entry: ipvsadm -Lnc"}
	}
}
