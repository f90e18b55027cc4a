// SPDX-License-Identifier: Apache-2.0

package cause

// The cause rp-filter: a source that may not be.

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/routing"
)

// reversePath: the kernel's own source check. fib_validate_source gives EXDEV,
// since 6.18 the reason itself (net/ipv4/fib_frontend.c).
func reversePath(q *inquiry) *claim {
	martian := q.because("IP_LOCAL_SOURCE", "IP_INVALID_SOURCE")
	failed := q.because("IP_RPFILTER") || q.route().Error == "EXDEV" || strings.Contains(q.result("route"), "RPFILTER")
	if !martian && !failed {
		return nil
	}
	c := &claim{certain: true, evidence: []string{q.died()}}
	src, iface := endsAt(q.p).Src, q.d.Interface
	if martian {
		c.summary = fmt.Sprintf("%s refuses %s as a source (martian source): it is an address of its own, or none that may be a source", q.place(), src)
		c.fix = []string{"find out who sends with this source: it is another host with the same address, or a packet that came back"}
		return c
	}
	c.summary = fmt.Sprintf("the reverse path filter of %s drops packets from %s that come in by %s: the way back to %s does not lead there", q.place(), src, iface, src)
	own, okOwn := q.sysctl(q.d.Netns, "ipv4/conf/"+iface+"/rp_filter")
	all, okAll := q.sysctl(q.d.Netns, "ipv4/conf/all/rp_filter")
	if okOwn && okAll {
		c.evidence = append(c.evidence, fmt.Sprintf("net.ipv4.conf.%s.rp_filter = %d, all = %d: the greater counts, 1 is strict", iface, own, all))
	}
	q.changedBy(c, sysctlSet(q.d.Netns, "ipv4/conf/all/rp_filter", "ipv4/conf/"+iface+"/rp_filter"))
	q.tellLostRoute(c, src)
	q.tellRuleChange(c)
	w := q.wayBack(false)
	switch _, sure := w.sure(); {
	case w.fib == nil:
	case w.leads(int(q.d.IfIndex)):
		c.evidence = append(c.evidence, "by now the way back leads there: "+w.words())
	default:
		c.evidence = append(c.evidence, "the way back: "+w.words())
		if !sure {
			c.missing = append(c.missing, w.Doubts...)
		}
	}
	c.fix = []string{fmt.Sprintf("mend the route or the policy rule: the way back to %s should lead out of %s: %s", src, iface, backCommand(w))}
	if q.markNotAsked(c) {
		return c
	}
	c.fix = append(c.fix, fmt.Sprintf("if both ways are meant to differ, accept a source that is reachable by any interface: sysctl -w net.ipv4.conf.%s.rp_filter=2", sysctlName(iface)))
	return c
}

// backCommand asks what the source check asks, as near as `ip` can.
func backCommand(w way) string {
	if w.fib == nil {
		return "ip route get " + w.asked.Dst.String()
	}
	return w.getCommand()
}

// wayBack is the look-up of the source check: back to the source, as if it came in
// by the interface that the packet is to leave by, and without the packet's mark
// unless src_valid_mark says otherwise (__fib_validate_source; __mkroute_input,
// net/ipv4/route.c).
func (q *inquiry) wayBack(withMark bool) way {
	there := q.wayOf(q.d.Netns)
	back := there.asked
	back.Src, back.Dst, back.SrcPort, back.DstPort = back.Dst, back.Src, back.DstPort, back.SrcPort
	back.IIF = routing.Loopback // what is for this node itself
	if a, sure := there.sure(); sure && a.Error == 0 && len(a.Hops) > 0 && a.Hops[0].LinkIndex > 0 && !isLocal(a) {
		back.IIF = a.Hops[0].LinkIndex
	}
	if !withMark && !q.marksCount() {
		back.Mark = routing.Of(uint32(0))
	}
	return q.ask(q.d.Netns, back)
}

// marksCount tells whether the source check looks at marks: of the two sysctls one
// is enough (IN_DEV_SRC_VMARK, include/linux/inetdevice.h).
func (q *inquiry) marksCount() bool {
	all, _ := q.sysctl(q.d.Netns, "ipv4/conf/all/src_valid_mark")
	own, _ := q.sysctl(q.d.Netns, "ipv4/conf/"+q.d.Interface+"/src_valid_mark")
	return cmp.Or(all, own) != 0
}

// markNotAsked: with the packet's mark the way back would lead to where it came in,
// but the source check does not look at marks.
func (q *inquiry) markNotAsked(c *claim) bool {
	if q.marksCount() || q.ipv6() {
		return false
	}
	w := q.wayBack(true)
	iface := q.d.Interface
	if w.fib == nil || !w.anyLeads(int(q.d.IfIndex)) {
		return false
	}
	ignored := fmt.Sprintf("net.ipv4.conf.%s.src_valid_mark = 0, all = 0: the reverse path filter does not look at marks", iface)
	if !w.leads(int(q.d.IfIndex)) {
		c.evidence = append(c.evidence, "with a mark it would be another way: "+w.words(), ignored)
		c.missing = append(c.missing, w.Doubts...)
		return false
	} else if w.asked.Mark.Value == 0 {
		return false
	} else {
		c.summary += fmt.Sprintf(", except for marked packets: it does not look at marks (src_valid_mark = 0), and this one has %#x", w.asked.Mark.Value)
		c.evidence = append(c.evidence, fmt.Sprintf("with the packet's mark %#x %s", w.asked.Mark.Value, w.words()), ignored)
	}
	c.fix = []string{fmt.Sprintf("have the reverse path filter look at marks: sysctl -w net.ipv4.conf.%s.src_valid_mark=1", sysctlName(iface)),
		"make it last: a line in /etc/sysctl.d/"}
	return true
}
