// SPDX-License-Identifier: Apache-2.0

package cause

// Packets at which nothing on the way is wrong but they themselves: conntrack refuses them
// for what they are, or no router may pass on their source.

import (
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// begins tells a packet that a connection may begin with, so that conntrack needs to have
// seen none before. Of SCTP the first chunk would tell, which is not seen.
func (q *inquiry) begins() bool {
	switch q.p.Proto {
	case "tcp":
		return strings.Contains(q.p.TCPFlags, "S") && !strings.Contains(q.p.TCPFlags, ".")
	case "udp":
		return true
	case "icmp", "icmpv6":
		return q.p.ICMP == "echo-request"
	case "sctp":
		return !q.isReply()
	}
	return false
}

// invalidByItself says why conntrack may call a packet invalid that begins a connection:
// its checksum, its length or its flags are wrong (tcp_error, udp_error, icmp_error,
// sctp_error: net/netfilter/nf_conntrack_proto_*.c, 5.17 to 6.18).
func (q *inquiry) invalidByItself(c *claim) {
	wrong := []string{"its length"}
	if q.p.Proto == "tcp" {
		wrong = append(wrong, "its flags")
	}
	checks, ok := q.sysctl(q.d.Netns, "netfilter/nf_conntrack_checksum")
	if ok {
		c.evidence = append(c.evidence, fmt.Sprintf("net.netfilter.nf_conntrack_checksum = %d", checks))
	}
	if !ok || checks != 0 {
		wrong = append([]string{"its checksum"}, wrong...)
	}
	what := fmt.Sprintf("a connection may begin with such a packet (%s), so that only the packet itself can be the reason: %s", strings.TrimSpace(q.p.Proto+" "+orElse(q.p.ICMP, q.p.TCPFlags)), strings.Join(wrong, ", or "))
	if q.p.Proto == "sctp" {
		what = fmt.Sprintf("if it is an association's first (INIT), only the packet itself can be the reason: %s; if not, conntrack has not seen the first", strings.Join(wrong, ", or "))
	}
	c.summary += "; " + what
	c.missing = append(c.missing, "which of these: its bytes were not looked at")
	c.fix = []string{fmt.Sprintf("have the kernel say why: sysctl -w net.netfilter.nf_conntrack_log_invalid=%d, then dmesg -w | grep nf_ct_proto (and 0 again)", protoNumbers[q.p.Proto])}
	if !ok || checks != 0 {
		offload := "tx off"
		if q.p.Proto == "sctp" {
			offload = "tx-checksum-sctp off"
		}
		c.fix = append(c.fix, fmt.Sprintf("a wrong checksum mostly is one that an offload was to put in: tcpdump -vvni %s shows it (bad cksum); on the sender's interface: ethtool -K IFACE %s", orElse(q.d.Interface, "any"), offload),
			"sysctl -w net.netfilter.nf_conntrack_checksum=0 has conntrack take it all the same: of use only if what is missing is put in behind this node, since the receiver looks, too")
	}
}

// linkLocalSource: routers do not pass on what has a link-local source (RFC 4291, 2.5.6;
// ip6_forward, net/ipv6/ip6_output.c, 5.17 to 6.18, which tells the sender "beyond scope
// of source address").
func linkLocalSource(q *inquiry) *claim {
	src, dst := endsAt(q.p).Src, endsAt(q.p).Dst
	told := lastAnswer(q.p) == "icmp-beyond-scope"
	if !q.p.Outcome.Died() || !q.ipv6() || !src.IsLinkLocalUnicast() || q.d.Hook != "" || !q.in("ip6_forward*") && !told {
		return nil
	}
	c := &claim{certain: told, subject: src.String()}
	c.summary = fmt.Sprintf("its source is link-local (%s), and no router passes such a packet on: it was for %s, which is not on that link", src, dst)
	c.evidence = []string{q.died(), q.packetWords()}
	if told {
		c.evidence = append(c.evidence, "the sender was told: icmp-beyond-scope")
	} else {
		c.missing = append(c.missing, "that it died for this: the sender was not seen to be told")
	}
	in := lastHop(q.p, func(h *model.Hop) bool { return h.Stage == model.StageReceive && h.Netns == q.d.Netns })
	var host *node.Link
	if in != nil {
		host = q.link(in.Netns, int(in.IfIndex))
	}
	if host == nil || host.PeerNetns == 0 || host.PeerNetns == q.d.Netns {
		c.fix = []string{fmt.Sprintf("see which addresses the sender has: ip -6 addr; it needs one of a wider scope than its link to reach %s", dst)}
		return c
	}
	name := q.placeOf(host.PeerNetns)
	own := q.link(host.PeerNetns, host.PeerIndex)
	if own == nil {
		return c
	}
	global := ""
	for _, p := range own.Addrs {
		if a := p.Addr(); a.Is6() && !a.IsLinkLocalUnicast() {
			global = a.String()
		}
	}
	switch global {
	case "":
		c.summary += fmt.Sprintf("; %s has no global IPv6 address (any more) to send from", orElse(name, "the sender"))
		c.evidence = append(c.evidence, fmt.Sprintf("ip -6 addr: %s of %s has no global address", own.Name, orElse(name, "the sender")))
		c.fix = []string{"see the pod's addresses: ip -6 addr in the pod; the CNI plugin gave it one when the pod was made: see who took it (disable_ipv6 that was set and reset takes all of them), or make the pod again"}
	default:
		c.evidence = append(c.evidence, fmt.Sprintf("ip addr: %s of %s has %s", own.Name, orElse(name, "the sender"), global))
		c.missing = append(c.missing, "why it did not send from "+global+": the application chose its source, or that address was not there or not ready yet (tentative, deprecated)")
		c.fix = []string{"see which source the kernel takes there: ip -6 route get " + dst.String() + " in the pod; ip -6 addr"}
	}
	return c
}

// placeOf is what people call a namespace, as far as the packet's hops tell.
func (q *inquiry) placeOf(netns uint32) string {
	if h := lastHop(q.p, func(h *model.Hop) bool { return h.Netns == netns && h.Place != "" }); h != nil {
		return h.Place
	}
	return ""
}
