// SPDX-License-Identifier: Apache-2.0

package cause

// The cause reply-not-translated: a reply that nobody translates back.

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// replyNotTranslated: the reply to a translated request reached the client with
// the address of the pod instead of the service's, so the client refuses it.
func replyNotTranslated(q *inquiry) *claim {
	if !q.isReply() || q.d.Hook != "" {
		return nil
	}
	if !q.because("NO_SOCKET") && lastAnswer(q.p) != "tcp-reset" && lastAnswer(q.p) != "icmp-port-unreachable" {
		return nil
	}
	e := endsAt(q.p)
	from := netip.AddrPortFrom(e.Src, e.SrcPort)
	t := q.mem.translationOf(q.p.Proto, from, netip.AddrPortFrom(e.Dst, e.DstPort))
	if t == nil {
		return nil
	}
	place, iface := q.end()
	said := fmt.Sprintf("the reply reached %s from %s, while %s had been asked", place, from, t.asked)
	c := &claim{certain: true, summary: said + ": nobody translated it back, so the client refuses it"}
	t.tell(c, "the request")
	c.evidence = append(c.evidence, fmt.Sprintf("the reply's source was still %s at %s", from, at(place, iface)))
	if q.d.Function != "" {
		c.evidence = append(c.evidence, q.died())
	}
	if t.ipvs {
		q.leftByIPVS(c, t, said)
		return c
	}
	if o, ok := q.outsideOf(t.hop.Netns); ok {
		c.summary = fmt.Sprintf("%s: nobody translated it back, because %s; so the client refuses it", said, o.why)
		c.certain = o.certain
		c.evidence, c.missing, c.fix = append(c.evidence, o.evidence...), append(c.missing, o.missing...), o.fix
		return c
	}
	if state, hop := q.tracked(t.hop.Netns); hop != nil {
		c.evidence = append(c.evidence, conntrackWords(state, hop))
		c.missing = append(c.missing, "why NAT left it as it is")
		c.fix = []string{"see the connection's entry: conntrack -L -d " + t.asked.Addr().String()}
		return c
	}
	q.passedBy(c, t)
	return c
}

// conntrackWords say what conntrack made of a packet, and where.
func conntrackWords(state string, hop *model.Hop) string {
	return fmt.Sprintf("conntrack's state of it at %s: %s", at(hop.Place, hop.Interface), state)
}

// passedBy: conntrack of the namespace that translated the request did not see the
// reply: a bridge handed it on, or it took another way.
func (q *inquiry) passedBy(c *claim, t *translation) {
	name := "bridge/bridge-nf-call-iptables"
	if q.ipv6() {
		name = "bridge/bridge-nf-call-ip6tables"
	}
	here := lastHop(q.p, func(h *model.Hop) bool { return h.Netns == t.hop.Netns }) != nil
	call, ok := q.sysctl(q.state.Node(), name)
	switch short := strings.ReplaceAll(name, "/", "."); {
	case !here:
		c.evidence = append(c.evidence, fmt.Sprintf("it was not seen in %s's namespace, which translated the request: the reply takes another way", t.owner()))
		c.fix = []string{"see which way the reply takes: it must pass where the request was translated"}
	case ok && call == 0:
		c.evidence = append(c.evidence, "net."+short+" = 0: replies between pods of one bridge pass conntrack by")
		c.fix = []string{"sysctl -w net." + short + "=1", "make it last: a line in /etc/sysctl.d/, and br_netfilter in /etc/modules-load.d/"}
	case !ok:
		c.evidence = append(c.evidence, "net."+short+" does not exist: br_netfilter is not loaded")
		c.fix = []string{"modprobe br_netfilter; sysctl -w net." + short + "=1", "make it last: /etc/modules-load.d/ and /etc/sysctl.d/"}
	default:
		c.certain = false
		c.evidence = append(c.evidence, fmt.Sprintf("net.%s = %d, so it is not the bridge", short, call))
		c.missing = append(c.missing, "why conntrack did not look at it: no sighting tells")
		c.fix = []string{"see whether the reply passes conntrack: conntrack -L -d " + t.asked.Addr().String()}
	}
}
