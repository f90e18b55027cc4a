// SPDX-License-Identifier: Apache-2.0

package cause

// What IPVS has to do with a packet: the virtual service that was asked for, its real
// servers, the one that was chosen. A finding about such a packet tells all of it: nobody
// has asked for the address that it died with.

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// shownServers is how many real servers of a service are listed.
const shownServers = 8

// balancing is IPVS's part in a packet's way.
type balancing struct {
	netns    uint32
	service  node.VirtualService
	servers  []node.RealServer
	unlisted bool // they could not be read
	asked    netip.AddrPort
	// chosen is the real server; invalid: not known. seen: the packet itself showed it,
	// else IPVS's entry of its connection does.
	chosen netip.AddrPort
	seen   bool
	conn   *node.BalancedConnection // its entry; nil: there is none, or
	unread bool                     // they could not be looked through
}

// balancing gives IPVS's part; nil: it has none.
func (q *inquiry) balancing() *balancing {
	if q.isReply() {
		return nil
	}
	e, t := endsAt(q.p), lastTranslation(q.p)
	netns, asked, client := q.d.Netns, netip.AddrPortFrom(e.Dst, e.DstPort), netip.AddrPortFrom(e.Src, e.SrcPort)
	if t != nil && t.ipvs {
		netns, asked, client = t.hop.Netns, t.asked, netip.AddrPortFrom(t.hop.Before.Src, t.hop.Before.SrcPort)
	} else if q.d.Hook != "INPUT" && q.d.Hook != "OUTPUT" && !q.in("ip_vs_*") {
		return nil // it is not where IPVS takes packets
	}
	b := q.balancingOf(netns, asked)
	if b == nil || b.unlisted {
		return nil
	}
	if t != nil && t.ipvs {
		b.chosen, b.seen = t.to, true
	}
	q.findEntry(b, client)
	return b
}

// balancingOf reads the service that takes what is for an address, and its real servers;
// nil: there is none.
func (q *inquiry) balancingOf(netns uint32, asked netip.AddrPort) *balancing {
	service, ok := q.virtualService(netns, asked)
	if !ok {
		return nil
	}
	servers, err := q.state.RealServers(netns, service)
	q.gap(err)
	return &balancing{netns: netns, service: service, servers: servers, unlisted: err != nil, asked: asked}
}

// findEntry reads IPVS's entry of what a client sends to the service. One that leads
// elsewhere than the packet was seen to go is of another connection.
func (q *inquiry) findEntry(b *balancing, client netip.AddrPort) {
	conn, ok, err := q.state.BalancedConnection(b.netns, q.p.Proto, client, b.asked)
	q.gap(err)
	b.unread = err != nil
	if ok && (!b.seen || conn.Real == b.chosen) {
		b.conn, b.chosen = &conn, conn.Real
	}
}

// virtualService finds the service that takes what is for an address, as IPVS does: by
// mark, by address and port, by address alone (ip_vs_service_find, net/netfilter/ipvs/
// ip_vs_ctl.c, 5.17 to 7.3).
func (q *inquiry) virtualService(netns uint32, asked netip.AddrPort) (s node.VirtualService, ok bool) {
	if netns == 0 || q.p.Proto != "tcp" && q.p.Proto != "udp" && q.p.Proto != "sctp" {
		return s, false
	}
	all, err := q.state.VirtualServices(netns)
	q.gap(err)
	var mark uint32
	for _, hook := range []string{"INPUT", "OUTPUT"} { // it takes what is the node's own in OUTPUT
		if h := lastHop(q.p, func(h *model.Hop) bool { return h.Netns == netns && h.Hook == hook }); h != nil {
			mark = h.Mark
			break
		}
	}
	for _, fits := range []func(node.VirtualService) bool{
		func(s node.VirtualService) bool { return s.Mark != 0 && s.Mark == mark && s.IPv6 == asked.Addr().Is6() },
		func(s node.VirtualService) bool { return s.Proto == q.p.Proto && s.Addr == asked },
		func(s node.VirtualService) bool {
			return s.Proto == q.p.Proto && s.Mark == 0 && s.Addr == netip.AddrPortFrom(asked.Addr(), 0)
		},
	} {
		if i := slices.IndexFunc(all, fits); i >= 0 {
			return all[i], true
		}
	}
	return s, false
}

// takes tells a real server that gets new connections.
func takes(r node.RealServer) bool {
	return r.Weight > 0 && (r.Upper == 0 || r.Active+r.Inactive < r.Upper)
}

// lists tells whether an address is among the service's real servers.
func (b *balancing) lists(addr netip.AddrPort) bool {
	return slices.ContainsFunc(b.servers, func(r node.RealServer) bool { return r.Addr == addr })
}

// closed is the state of an entry whose connection was reset. It ends after 10 s
// (tcp_timeouts, net/netfilter/ipvs/ip_vs_proto_tcp.c, 5.17 to 7.3): nobody would find it.
const closed = "CLOSE"

// words are the service and its real servers as ipvsadm has them, and the entry of the
// connection.
func (b *balancing) words() []string {
	says := []string{"ipvsadm -Ln: " + b.service.String()}
	if len(b.servers) == 0 && !b.unlisted {
		says[0] += ", without a real server"
	}
	for i, r := range b.servers {
		if i == shownServers {
			says = append(says, fmt.Sprintf("and %d more real servers", len(b.servers)-i))
			break
		}
		says = append(says, "ipvsadm -Ln: -> "+r.String())
	}
	if b.conn != nil && b.conn.State != closed {
		says = append(says, "ipvsadm -Lnc: "+b.conn.String())
	}
	return says
}

// name is the service in a sentence.
func (b *balancing) name() string {
	says := fmt.Sprintf("service %s/%s", b.asked, strings.ToUpper(b.service.Proto))
	if b.service.Mark != 0 {
		says = fmt.Sprintf("service by mark %d, asked for as %s", b.service.Mark, b.asked)
	}
	return says
}

// tellBalancing adds IPVS's part to a cause that is about something else.
func (q *inquiry) tellBalancing(c *claim) {
	if c.balanced {
		return
	}
	b := q.balancing()
	if b == nil {
		return
	}
	switch {
	case b.seen && strings.Contains(c.summary, "IPVS"): // it names the translation by itself
		q.tellTaken(c, b)
	case b.seen:
		c.summary += fmt.Sprintf("; IPVS has chosen %s for %s", b.chosen, b.name())
		q.tellTaken(c, b)
	case q.d.Rule != nil:
		c.summary += fmt.Sprintf("; it was for %s, which IPVS takes from this hook", b.name())
	default:
		c.summary += fmt.Sprintf("; it was for %s, which IPVS balances", b.name())
		q.tellFacts(c, b)
	}
	c.evidence = append(c.evidence, b.words()...)
	q.tellARP(c, b.asked.Addr())
}

// tellTaken says what else is known of the real server that was chosen.
func (q *inquiry) tellTaken(c *claim, b *balancing) {
	if !b.lists(b.chosen) {
		c.evidence = append(c.evidence, fmt.Sprintf("%s is not among the real servers any more", b.chosen))
	}
	c.fix = append(c.fix, b.serverFix(b.chosen)...)
}

// serverFix is for a real server that does not do.
func (b *balancing) serverFix(real netip.AddrPort) []string {
	return []string{fmt.Sprintf("see whether %s is still an endpoint of the service: kubectl get endpointslices -A -o wide | grep -w %s", real, real.Addr()),
		"if it is none: kube-proxy has not taken it out of IPVS: see its log on this node, and start it again (kubectl -n kube-system get pod -l k8s-app=kube-proxy -o wide)",
		"if it is one: see what became of that pod or host"}
}

// tellFacts adds the settings of IPVS by which it drops without a word.
func (q *inquiry) tellFacts(c *claim, b *balancing) {
	for _, name := range []string{"conn_reuse_mode", "expire_nodest_conn", "conntrack"} {
		if value, ok := q.sysctl(b.netns, "ipv4/vs/"+name); ok {
			c.evidence = append(c.evidence, fmt.Sprintf("net.ipv4.vs.%s = %d", name, value))
		}
	}
	reuse, _ := q.sysctl(b.netns, "ipv4/vs/conn_reuse_mode")
	tracked, _ := q.sysctl(b.netns, "ipv4/vs/conntrack")
	if state, _ := q.tracked(b.netns); q.p.TCPFlags == "S" && reuse != 0 && tracked != 0 && state == "" && lastAnswer(q.p) == "" {
		c.missing = append(c.missing, "whether conntrack took it for one of the last connection from its port: IPVS drops it then, and takes it when it is sent again after a second (conn_reuse_mode)")
	}
}
