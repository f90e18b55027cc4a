// SPDX-License-Identifier: Apache-2.0

package cause

// The cause ipvs-rescheduled: IPVS ends its entry of a connection to choose a real server
// anew, and drops the packet that led it to that, since conntrack has an entry of the old
// connection, too, which leads to the old real server. It ends that as well, so that what
// is sent next goes to another one. It does so with
//
//   - the first segment of a TCP connection, where its own entry is in TIME_WAIT and
//     conn_reuse_mode is set, or its real server has weight 0 and expire_nodest_conn is set,
//   - any packet whose real server was taken out, where expire_nodest_conn is set; since
//     Linux 5.9 such entries are ended by themselves right after, so that few packets meet one
//
// (ip_vs_in_hook, ip_vs_conn_uses_old_conntrack, ip_vs_expire_nodest_conn_flush,
// net/netfilter/ipvs/ip_vs_core.c, ip_vs_conn.c and include/net/ip_vs.h,
// 5.17 to 7.3). A packet that conntrack counts to no old connection is
// not dropped. Before Linux 5.9 it was if net.ipv4.vs.conntrack was set.

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/node"
)

// rescheduled: IPVS dropped a packet to choose a real server anew.
func rescheduled(q *inquiry) *claim {
	if !q.droppedByHook() || lastAnswer(q.p) != "" {
		return nil
	}
	b := q.balancing()
	if b == nil || b.seen {
		return nil
	}
	state, at := q.tracked(b.netns)
	tracked, read := q.sysctl(b.netns, "ipv4/vs/conntrack")
	if at == nil || strings.HasPrefix(state, "untracked") || read && tracked == 0 {
		return nil
	}
	c := q.serverLeft(b)
	if c == nil && state == "established" {
		c = q.portReused(b)
	}
	if c == nil {
		return nil
	}
	c.balanced, c.subject = true, "ipvs rescheduled "+b.service.String()
	c.evidence = append([]string{q.where() + ", by none of its rules", conntrackWords(state, at)}, c.evidence...)
	c.evidence = append(c.evidence, b.words()...)
	c.missing = append(c.missing, "that it died for this: the kernel gives no reason of its own, and IPVS has ended the entry that it was about")
	return c
}

// serverLeft: the real server of the connection gets no more, and entries that lead to such
// are ended at once.
func (q *inquiry) serverLeft(b *balancing) *claim {
	expire, ok := q.sysctl(b.netns, "ipv4/vs/expire_nodest_conn")
	if !ok || expire == 0 {
		return nil
	}
	to, t := q.leftServer(b)
	if !to.IsValid() {
		return nil
	}
	gone := "was taken out"
	if b.lists(to) {
		gone = "has weight 0"
	}
	c := &claim{summary: fmt.Sprintf("%s, to which IPVS has sent this connection to %s so far, %s: IPVS ends the entry (expire_nodest_conn is %d) and drops the packet that it came to it with; what is sent next gets another real server", to, b.name(), gone, expire)}
	if t != nil {
		t.tell(c, "an earlier packet of it")
	}
	c.evidence = append(c.evidence, fmt.Sprintf("net.ipv4.vs.expire_nodest_conn = %d", expire))
	if !b.lists(to) {
		c.evidence = append(c.evidence, fmt.Sprintf("%s is not among the real servers any more", to))
	}
	c.fix = []string{"nothing, if it is one packet while the service's pods are replaced: send again",
		"if connections are to end in order before: give the pods time to (terminationGracePeriodSeconds, a preStop hook), kube-proxy keeps a real server with weight 0 while connections to it are open"}
	if midway(q.p) {
		c.fix = append(c.fix, "have the client connect again: IPVS takes a TCP connection by its first segment only, so that what is left of this one is reset")
	}
	return c
}

// leftServer is the real server that the connection went to so far and that gets nothing
// more of it: by how an earlier packet from the same socket was sent, or by IPVS's entry,
// while that is still there. Invalid: there is none.
func (q *inquiry) leftServer(b *balancing) (netip.AddrPort, *translation) {
	ends := func(to netip.AddrPort) bool {
		i := slices.IndexFunc(b.servers, func(r node.RealServer) bool { return r.Addr == to })
		return i < 0 || b.servers[i].Weight == 0 && q.p.TCPFlags == "S"
	}
	client := netip.AddrPortFrom(q.p.Src, q.p.SrcPort)
	var left []*translation
	for key, t := range q.mem.dnat {
		if key.proto == q.p.Proto && t.ipvs && t.asked == b.asked && netip.AddrPortFrom(t.hop.Before.Src, t.hop.Before.SrcPort) == client && ends(t.to) {
			left = append(left, t)
		}
	}
	if len(left) > 0 {
		t := slices.MinFunc(left, func(a, b *translation) int { // any, the same each time
			return cmp.Or(a.to.Addr().Compare(b.to.Addr()), cmp.Compare(a.to.Port(), b.to.Port()))
		})
		return t.to, t
	}
	if b.conn != nil && ends(b.conn.Real) {
		return b.conn.Real, nil
	}
	return netip.AddrPort{}, nil
}

// portReused: a connection begins from a port whose last one is not over for conntrack.
func (q *inquiry) portReused(b *balancing) *claim {
	reuse, ok := q.sysctl(b.netns, "ipv4/vs/conn_reuse_mode")
	if !ok || reuse == 0 || q.p.TCPFlags != "S" {
		return nil
	}
	c := &claim{summary: fmt.Sprintf("IPVS drops the first segment of a connection to %s from a port of the client's (%d) whose last connection to it was not over for conntrack: to choose a real server anew (conn_reuse_mode is %d) it ends both entries first, and takes the segment when it is sent again, a second later", b.name(), endsAt(q.p).SrcPort, reuse)}
	c.evidence = []string{fmt.Sprintf("net.ipv4.vs.conn_reuse_mode = %d", reuse)}
	if tracked, ok := q.sysctl(b.netns, "ipv4/vs/conntrack"); ok {
		c.evidence = append(c.evidence, fmt.Sprintf("net.ipv4.vs.conntrack = %d", tracked))
	}
	c.missing = []string{"in which state IPVS had the last connection: it does so in TIME_WAIT"}
	c.fix = []string{"have the client use fewer ports anew: keep connections open, or give it more (net.ipv4.ip_local_port_range in the pod)",
		fmt.Sprintf("see why conntrack takes the last connection for open, as where its end went another way: conntrack -L -p tcp -s %s -d %s", endsAt(q.p).Src, b.asked.Addr()),
		"sysctl -w net.ipv4.vs.conn_reuse_mode=0 has new connections from such a port go on to the old real server instead, also where others have less to do (kube-proxy does so before Linux 5.9 only)"}
	return c
}
