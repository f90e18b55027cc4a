// SPDX-License-Identifier: Apache-2.0

package cause

// Causes that show in the way back only: a reply that nobody translates back, a
// request that left and got no answer.

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// replyNotTranslated: the reply to a translated request reached the client with
// the address of the pod instead of the service's, so the client refuses it.
func replyNotTranslated(q *inquiry) *claim {
	if q.p.Direction != model.Return || q.d.Hook != "" {
		return nil
	}
	if !q.because("NO_SOCKET") && lastAnswer(q.p) != "tcp-reset" && lastAnswer(q.p) != "icmp-port-unreachable" {
		return nil
	}
	from := netip.AddrPortFrom(endsAt(q.p).Src, endsAt(q.p).SrcPort)
	asked, translated := q.mem.dnat[from]
	if !translated {
		return nil
	}
	place, iface := q.end()
	c := &claim{certain: true, summary: fmt.Sprintf("the reply reached %s from %s, while %s had been asked: nobody translated it back, so the client refuses it", place, from, asked)}
	c.evidence = []string{fmt.Sprintf("the request was translated from %s to %s", asked, from),
		fmt.Sprintf("the reply's source was still %s at %s", from, at(place, iface))}
	if q.d.Function != "" {
		c.evidence = append(c.evidence, q.died())
	}
	name := "bridge/bridge-nf-call-iptables"
	if q.ipv6() {
		name = "bridge/bridge-nf-call-ip6tables"
	}
	call, ok := q.sysctl(q.state.Node(), name)
	switch short := strings.ReplaceAll(name, "/", "."); {
	case ok && call == 0:
		c.evidence = append(c.evidence, "net."+short+" = 0: replies between pods of one bridge pass conntrack by")
		c.fix = []string{"sysctl -w net." + short + "=1", "make it last: a line in /etc/sysctl.d/, and br_netfilter in /etc/modules-load.d/"}
	case !ok:
		c.evidence = append(c.evidence, "net."+short+" does not exist: br_netfilter is not loaded")
		c.fix = []string{"modprobe br_netfilter; sysctl -w net." + short + "=1", "make it last: /etc/modules-load.d/ and /etc/sysctl.d/"}
	default:
		c.evidence = append(c.evidence, fmt.Sprintf("net.%s = %d, so it is not the bridge: the reply takes another way than the request", short, call))
		c.fix = []string{"see which way the reply takes: it must pass the node that translated the request"}
	}
	return c
}
