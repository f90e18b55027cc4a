// SPDX-License-Identifier: Apache-2.0

package cause

// The cause service-no-backend: a service that has nobody to answer for it, by IPVS or by
// the rules of kube-proxy; and real servers of IPVS to which no route leads.

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// endpointFixes are for a service without endpoints. The rule, or the empty virtual
// service, is as it should be then.
func endpointFixes(name string) []string {
	see := "see the service's endpoints: kubectl get endpointslices -A"
	if namespace, service, ok := strings.Cut(name, "/"); ok {
		service, _, _ = strings.Cut(service, ":")
		see = fmt.Sprintf("see the service's endpoints: kubectl -n %s get endpointslices -l kubernetes.io/service-name=%s", namespace, service)
	}
	return []string{see + ": it takes a ready endpoint",
		"see why there is none: no pod fits the service's selector, they are not ready (readiness probes), or they are being ended",
		"if there is one: kube-proxy of this node has not heard of it: see its log (kubectl -n kube-system get pod -l k8s-app=kube-proxy -o wide)"}
}

// emptyService: kube-proxy rejects, or drops, what is for a service without endpoints.
func emptyService(q *inquiry) *claim {
	c := ofKind(emptyFixes, meaning.NoEndpoints, meaning.NoLocalEndpoints)(q)
	if c == nil {
		return nil
	}
	e := endsAt(q.p)
	c.summary += fmt.Sprintf("; %s port %d of %s was asked", q.p.Proto, e.DstPort, e.Dst)
	// in nftables mode a map leads to a chain that rejects whatever comes there
	if way := meaning.WayTo(q.p); q.d.Rule.Table == "kube-proxy" && len(way) > 1 && strings.Contains(way[len(way)-2].Text, "@no-endpoint-") {
		r := way[len(way)-2]
		led := []string{fmt.Sprintf("rule %d of %s in %s: %s", r.Number, r.Chain, r.Table, r.Text)}
		if r.Element != "" {
			led = append(led, "the element that matched: "+r.Element)
		}
		c.evidence = slices.Insert(c.evidence, 1, led...)
	}
	q.tellServiceOnLink(c, e.Dst)
	return c
}

func emptyFixes(_ *inquiry, m meaning.Meaning) []string {
	fix := endpointFixes(m.Service)
	if m.Kind == meaning.NoLocalEndpoints {
		fix = append(fix, "the traffic policy is Local: only endpoints on this node count; Cluster would use all")
	}
	return append(fix, "leave the rule: kube-proxy takes it away when there is an endpoint")
}

// droppedByHook tells that none of the tables of a hook in which IPVS takes packets ended
// it. The nat table of iptables-legacy has no rule that drops: iptables refuses those. It
// stands right behind IPVS in INPUT, so that no bracket parts the two.
func (q *inquiry) droppedByHook() bool {
	d := q.d
	if !q.p.Outcome.Died() || d.Hook != "INPUT" && d.Hook != "OUTPUT" || d.Rule != nil || d.Table != "" || len(d.RuleCandidates) > 0 {
		return false
	}
	for _, c := range d.Candidates {
		if !strings.HasPrefix(c.Function, "ip_vs_") && !strings.Contains(c.Function, "nf_nat") && (c.Backend != "legacy" || c.Table != "nat") {
			return false
		}
	}
	return true
}

// noRealServer: IPVS has nobody to send it to. It answers with "port unreachable" and
// drops it then (ip_vs_leave, net/netfilter/ipvs/ip_vs_core.c, 5.17 to 7.3).
func noRealServer(q *inquiry) *claim {
	if !q.droppedByHook() {
		return nil
	}
	b := q.balancing()
	if b == nil || b.seen {
		return nil
	}
	told := lastAnswer(q.p) == "icmp-port-unreachable"
	switch {
	case told:
	case b.conn != nil && !b.lists(b.conn.Real):
		return q.pinned(b)
	default:
		return nil
	}
	c := &claim{certain: true, balanced: true, subject: "ipvs " + b.service.String(), evidence: []string{q.where() + ", by none of its rules",
		"the sender was told: icmp-port-unreachable"}}
	c.evidence = append(c.evidence, b.words()...)
	able, weightless := 0, 0
	for _, r := range b.servers {
		if takes(r) {
			able++
		} else if r.Weight == 0 {
			weightless++
		}
	}
	switch {
	case len(b.servers) == 0:
		c.summary = fmt.Sprintf("%s has no real server in IPVS (scheduler %s): IPVS drops what is for it, no rule does", b.name(), b.service.Scheduler)
		c.fix = endpointFixes("")
	case weightless == len(b.servers):
		c.summary = fmt.Sprintf("all real servers of %s in IPVS have weight 0 (%s; scheduler %s): they get no new connections, and IPVS drops those", b.name(), b.serverList(), b.service.Scheduler)
		c.fix = append([]string{"weight 0 is what kube-proxy gives to an endpoint that ends, as long as connections to it are open"}, endpointFixes("")...)
	case able == 0:
		c.summary = fmt.Sprintf("no real server of %s in IPVS takes new connections (%s; scheduler %s): they have weight 0, or as many as they may have", b.name(), b.serverList(), b.service.Scheduler)
		c.fix = append([]string{"see their limits: ipvsadm -Ln --thresholds"}, endpointFixes("")...)
	default:
		c.certain = false
		c.summary = fmt.Sprintf("IPVS found no real server for %s (scheduler %s), though by now there are some: %s", b.name(), b.service.Scheduler, b.serverList())
		c.missing = []string{"what was missing when it came: the real servers were read right after"}
		c.fix = append([]string{"watch them: ipvsadm -Ln"}, endpointFixes("")...)
	}
	q.tellARP(c, b.asked.Addr())
	return c
}

// serverList names the real servers, in a sentence.
func (b *balancing) serverList() string {
	var names []string
	for i, r := range b.servers {
		if i == alsoShown {
			names = append(names, fmt.Sprintf("%d more", len(b.servers)-i))
			break
		}
		names = append(names, r.Addr.String())
	}
	return strings.Join(names, ", ")
}

// pinned: IPVS's entry of the connection leads to a real server that was taken out. It
// drops what follows, and answers nothing, unless it is set to end such entries
// (ipvs-rescheduled).
func (q *inquiry) pinned(b *balancing) *claim {
	expire, known := q.sysctl(b.netns, "ipv4/vs/expire_nodest_conn")
	if known && expire != 0 {
		return nil
	}
	real := b.conn.Real
	c := &claim{balanced: true, subject: "ipvs " + b.service.String() + real.String(),
		summary: fmt.Sprintf("IPVS's entry of this connection to %s leads to %s, which is not a real server of it any more: IPVS drops what belongs to the connection", b.name(), real)}
	c.evidence = append([]string{q.where() + ", by none of its rules"}, b.words()...)
	if n := len(c.evidence) - 1; b.conn.State != closed { // the entry is the last of its words
		c.evidence[n] += fmt.Sprintf("; it ends in %d s", b.conn.Expires)
	}
	c.missing = []string{"that it died for this: the kernel gives no reason of its own"}
	if known {
		c.evidence = append(c.evidence, "net.ipv4.vs.expire_nodest_conn = 0")
		c.summary += " as long as that entry lives (expire_nodest_conn is 0)"
		c.fix = []string{"have IPVS end such entries: sysctl -w net.ipv4.vs.expire_nodest_conn=1 (kube-proxy sets it so in ipvs mode: see what sets it back)"}
	}
	c.fix = append(c.fix, "have the client open a new connection, of another port: it goes to a real server that there is", "or wait: ipvsadm -Lnc shows when the entry ends; what is dropped does not make it live longer")
	return c
}

// ipvsXmit are the functions in which IPVS sends to a real server.
var ipvsXmit = []string{"ip_vs_nat_xmit*", "ip_vs_dr_xmit*", "ip_vs_tunnel_xmit*"}

// serverBlackholed, serverUnrouted: IPVS chose a real server, and a route or policy rule
// refuses the way to it, or there is none. IPVS looks that up itself, before it rewrites
// the packet, and tells the sender "host unreachable" (__ip_vs_get_out_rt,
// net/netfilter/ipvs/ip_vs_xmit.c, 5.17 to 7.3).
func serverBlackholed(q *inquiry) *claim { return q.serverUnreached(true) }

func serverUnrouted(q *inquiry) *claim { return q.serverUnreached(false) }

func (q *inquiry) serverUnreached(refused bool) *claim {
	if !q.p.Outcome.Died() || !q.in(ipvsXmit...) {
		return nil
	}
	told := lastAnswer(q.p)
	if told == "icmp-frag-needed" || told == "icmp-packet-too-big" || told == "icmp-time-exceeded" {
		return nil
	}
	b := q.balancing()
	if b == nil {
		return nil
	}
	real := b.chosen
	if !real.IsValid() && len(b.servers) == 1 {
		real = b.servers[0].Addr
	}
	if !real.IsValid() {
		return nil
	}
	w := q.wayTo(b.netns, real.Addr())
	a, sure := w.sure()
	refuses := sure && a.Error != 0 && a.Rule != nil
	nowhere := sure && a.Error != 0 && a.Rule == nil
	if refused && !refuses || !refused && !nowhere {
		return nil
	}
	c := &claim{balanced: true, certain: strings.HasPrefix(told, "icmp-") && b.conn != nil, subject: "ipvs " + real.String()}
	c.evidence = []string{q.died(), "IPVS let go of it when it looked for the way to the real server: its destination was not rewritten yet"}
	if told != "" {
		c.evidence = append(c.evidence, "the sender was told: "+told)
	}
	c.evidence = append(c.evidence, b.words()...)
	c.evidence = append(c.evidence, fmt.Sprintf("the way to %s: %s", real.Addr(), w.words()))
	why := "this node has no route to it"
	switch {
	case refuses && a.Route != nil:
		why = fmt.Sprintf("%q of this node is the best route to it", q.routeWords(b.netns, *a.Route))
	case refuses:
		why = fmt.Sprintf("policy rule %d of this node refuses packets to it", a.Rule.Priority)
	}
	c.summary = fmt.Sprintf("IPVS has chosen real server %s for %s, and %s", real, b.name(), why)
	if _, pod := q.podOf(real.Addr()); !pod {
		c.evidence = append(c.evidence, fmt.Sprintf("no pod of this node has %s", real.Addr()))
		if refuses && a.Route != nil && (a.Route.Protocol == protoFelix || a.Route.Protocol == protoBIRD) {
			c.summary += ": no pod of this node has that address"
			c.evidence = append(c.evidence, fmt.Sprintf("the route is Calico's (protocol %d): the blackhole for a block of its own, in which each pod has a route", a.Route.Protocol))
		}
	}
	switch {
	case b.unread:
		c.missing = append(c.missing, "which real server it was for: IPVS's entry of the connection could not be looked for")
	case b.conn == nil:
		c.missing = append(c.missing, "which real server it was for: IPVS's entry of the connection is gone")
	}
	q.tellLostRoute(c, real.Addr())
	c.fix = append(b.serverFix(real), w.getCommand()+"   # says the same of the way to it")
	return c
}

// serviceNotTaken: IPVS has a service for an address that the node does not have, so that
// packets for it are routed out instead of being delivered to INPUT, where IPVS takes
// them.
func serviceNotTaken(q *inquiry, p *peer) *claim {
	self, addr := q.state.Node(), p.far.Addr()
	if lastTranslation(q.p) != nil || q.holds(self, addr) {
		return nil
	}
	b := q.balancingOf(self, p.far)
	if b == nil || b.service.Mark != 0 || q.sentByIPVS() != nil { // IPVS takes what is in OUTPUT, whatever its address
		return nil
	}
	c := &claim{subject: p.far.String(), balanced: true, summary: fmt.Sprintf("IPVS has a %s, but no interface of this node has %s, so packets to it leave by %s and IPVS never gets them", b.name(), addr, q.wayOut())}
	c.evidence = []string{fmt.Sprintf("no interface of this node has %s", addr)}
	c.evidence = append(c.evidence, b.words()...)
	switch l := q.linkNamed(self, parking); {
	case l == nil:
		c.evidence = append(c.evidence, parking+", on which kube-proxy keeps the addresses of services, is not there")
	default:
		c.evidence = append(c.evidence, fmt.Sprintf("%s, on which kube-proxy keeps the addresses of services, has %s", parking, addressWords(l.Addrs)))
	}
	q.changedBy(c, func(e *model.NodeEvent) bool {
		return e.Netns == self && strings.Contains(e.Object, addr.String())
	})
	if r, ok := q.routeTo(self, addr); ok {
		c.evidence = append(c.evidence, "the way to it now: "+q.routeWords(self, r))
	}
	c.missing = []string{"that something outside was to answer for it"}
	c.fix = []string{fmt.Sprintf("ip addr add %s dev %s", netip.PrefixFrom(addr, addr.BitLen()), parking),
		"have kube-proxy do so, and the rest of what it keeps: start it again on this node (kubectl -n kube-system get pod -l k8s-app=kube-proxy -o wide)",
		"see what takes addresses off interfaces that it does not know: systemd-networkd, NetworkManager (unmanaged-devices=interface-name:kube-ipvs0)"}
	return c
}

// parking is where kube-proxy keeps the addresses of services in ipvs mode
// (pkg/proxy/ipvs/proxier.go: defaultDummyDevice).
const parking = "kube-ipvs0"

// addressWords lists addresses; "no address" for none.
func addressWords(all []netip.Prefix) string {
	if len(all) == 0 {
		return "no address"
	}
	var names []string
	for i, p := range all {
		if i == alsoShown {
			names = append(names, fmt.Sprintf("and %d more", len(all)-i))
			break
		}
		names = append(names, p.String())
	}
	return strings.Join(names, ", ")
}
