// SPDX-License-Identifier: Apache-2.0

package cause

// Packets at which nothing on the way is wrong but they themselves: conntrack refuses them
// for what they are, or no router may pass on their source.

import (
	"fmt"
	"strings"
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
	c.fix = []string{fmt.Sprintf("have the kernel say why: sysctl -w net.netfilter.nf_conntrack_log_invalid=%d, then dmesg -w | grep nf_ct_proto (and 0 again)", protocols[q.p.Proto])}
	if !ok || checks != 0 {
		offload := "tx off"
		if q.p.Proto == "sctp" {
			offload = "tx-checksum-sctp off"
		}
		c.fix = append(c.fix, fmt.Sprintf("a wrong checksum mostly is one that an offload was to put in: tcpdump -vvni %s shows it (bad cksum); on the sender's interface: ethtool -K IFACE %s", orElse(q.d.Interface, "any"), offload),
			"sysctl -w net.netfilter.nf_conntrack_checksum=0 has conntrack take it all the same: of use only if what is missing is put in behind this node, since the receiver looks, too")
	}
}
