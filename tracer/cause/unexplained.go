// SPDX-License-Identifier: Apache-2.0

package cause

// The cause unexplained-drop: what no other cause explains is told as what the
// kernel said of it, with what was looked at, so that no death is silent.

import (
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// unexplained comes last of all causes.
func unexplained(q *inquiry) *claim {
	if !q.p.Outcome.Died() {
		return nil
	}
	d := q.d
	where := at(orElse(d.Place, "node"), d.Interface)
	c := &claim{summary: fmt.Sprintf("a packet died at %s, and no known cause fits", where)}
	if words, ok := reasonWords(d.Reason, symbol(d.Function)); ok {
		c.summary += ": " + words
	} else if d.Function != "" {
		c.summary += fmt.Sprintf(": the kernel let go of it in %s and gave no reason that is known", symbol(d.Function))
	}
	c.evidence = []string{q.died(), q.packetWords()}
	if len(d.Stack) > 1 {
		c.evidence = append(c.evidence, "called from "+strings.Join(callers(d.Stack), ", "))
	}
	if a := lastAnswer(q.p); a != "" {
		c.evidence = append(c.evidence, "the sender was told: "+a)
	}
	c.evidence = append(c.evidence, q.ruledOut()...)
	c.missing = []string{"why"}
	c.fix = []string{"see more: " + q.moreBy()}
	q.saysItself(c)
	return c
}

// shownCallers is how much of a stack tells where in the kernel it was.
const shownCallers = 4

// callers are the functions that led to a death, without offsets.
func callers(stack []string) (names []string) {
	for _, s := range stack[1:] {
		if len(names) == shownCallers {
			break
		}
		names = append(names, symbol(s))
	}
	return names
}

// packetWords say which packet it was.
func (q *inquiry) packetWords() string {
	p, e := q.p, endsAt(q.p)
	what := p.Proto
	if p.ICMP != "" {
		what += " " + p.ICMP
	}
	if p.TCPFlags != "" {
		what += " [" + p.TCPFlags + "]"
	}
	ends := fmt.Sprintf("%s > %s", e.Src, e.Dst)
	if e.DstPort != 0 || e.SrcPort != 0 {
		ends = fmt.Sprintf("%s:%d > %s:%d", e.Src, e.SrcPort, e.Dst, e.DstPort)
	}
	return fmt.Sprintf("packet #%d: %s %s, %d bytes, TTL %d when first seen", p.ID, what, ends, p.Length, p.TTL)
}

// ruledOut says what of the node was looked at and is in order.
func (q *inquiry) ruledOut() (says []string) {
	if l := q.link(q.d.Netns, int(q.d.IfIndex)); l != nil && l.Up && l.Carrier {
		says = append(says, "not the link: "+linkWords(l))
	}
	if q.d.Hook == "" && q.d.Stage != model.StageNetfilter {
		says = append(says, "not a packet filter: it died outside the netfilter hooks")
	}
	return says
}

// moreBy is the one command that shows more of such a death.
func (q *inquiry) moreBy() string {
	name, dev := symbol(q.d.Function), orElse(q.d.Interface, "any")
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.HasPrefix(name, p) {
				return true
			}
		}
		return false
	}
	switch {
	case q.d.Hook != "" || q.d.Stage == model.StageNetfilter:
		return "nft monitor trace, with a rule 'meta nftrace set 1' for this flow; or iptables -t raw -j TRACE with xtables-monitor --trace"
	case has("br_", "__br_"):
		return "bridge -d link show; bridge fdb show; bridge vlan show"
	case has("tcp_"):
		return "nstat -az | grep -i tcpext; ss -tinem, in " + q.place()
	case has("udp", "__udp"):
		return "nstat -az | grep -i udp; ss -unem, in " + q.place()
	case has("icmp", "ping_"):
		return "nstat -az | grep -i icmp, in " + q.place()
	case has("wg_"):
		return "wg show " + dev + "; ip -s -s link show dev " + dev
	case has("ip_tunnel", "ip_md_tunnel", "ipip", "tunnel4", "tunnel6", "sit_", "gre_", "ipgre", "ip6gre", "ip6_tnl", "geneve"):
		return "ip -d -s -s link show dev " + dev + "; ip route get " + endsAt(q.p).Dst.String()
	case has("__dev_", "dev_", "sch_", "__netif", "netif", "veth", "vxlan", "tun_"):
		return "ip -s -s link show dev " + dev + "; tc -s qdisc show dev " + dev
	case has("ip_", "ip6_", "ipv6_", "fib_", "dst_"):
		return fmt.Sprintf("ip route get %s from %s iif %s; nstat -az | grep -i '^ip'", endsAt(q.p).Dst, endsAt(q.p).Src, dev)
	}
	return "perf record -e skb:kfree_skb -ag -- sleep 10; perf script"
}
