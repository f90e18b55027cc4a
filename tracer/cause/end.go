// SPDX-License-Identifier: Apache-2.0

package cause

// Causes that the kernel names by itself, mostly at the packet's end: nobody
// listens, no room, a wrong checksum, conntrack's table.

import (
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// noListener: TCP answers with a reset, UDP with an ICMP error, to what no
// socket takes (NO_SOCKET in tcp_v4_rcv, __udp4_lib_rcv and their v6 twins).
func noListener(q *inquiry) *claim {
	opens := q.p.Proto != "tcp" || q.p.TCPFlags == "S" || q.p.TCPFlags == "SEW"
	answer := lastAnswer(q.p)
	answered := answer == "tcp-reset" || answer == "icmp-port-unreachable"
	if !opens || !q.because("NO_SOCKET") && !answered || q.d.Hook != "" || strings.HasPrefix(q.p.Proto, "icmp") {
		return nil
	}
	e := endsAt(q.p)
	place, iface := q.end()
	if q.isReply() {
		return goneClient(q, place)
	}
	c := &claim{certain: true, summary: fmt.Sprintf("it reached %s, but nothing listens on %s port %d of %s there", place, q.p.Proto, e.DstPort, e.Dst)}
	t := lastTranslation(q.p)
	if t != nil {
		q.knownRule(t)
		c.summary += fmt.Sprintf(": %s was asked, and redirected there by %s", t.asked, t.by())
		t.tell(c, "it")
	}
	if q.d.Function != "" {
		c.evidence = append(c.evidence, q.died())
	}
	if answered {
		c.evidence = append(c.evidence, fmt.Sprintf("%s answered: %s", at(place, iface), answer))
	} else {
		c.missing = append(c.missing, "the answer to the sender was not seen ("+q.rateLimit(q.d.Netns)+")")
	}
	if t != nil && t.hop.Netns != q.state.Node() && q.holds(t.hop.Netns, e.Dst) {
		c.fix = t.sidecarFix(q.p.Proto, e.DstPort)
		q.tellListeners(c, e, place)
		return c
	}
	where := "in the pod (kubectl exec, or nsenter -t PID -n)"
	if q.d.Netns == q.state.Node() {
		where = "on this node"
	}
	c.fix = []string{
		fmt.Sprintf("see what listens there: ss -ln%s %s", q.p.Proto[:1], where),
		fmt.Sprintf(loopbackFix+" is not reached from outside: let it listen on 0.0.0.0 or %s", e.Dst),
		"if the pod has just started: see its readiness; if a service leads there: compare its targetPort with the container's port",
	}
	q.tellListeners(c, e, place)
	switch {
	case t != nil:
		q.tellCandidates(c, t)
		q.tellServiceOnLink(c, t.asked.Addr())
	case q.d.Netns == q.state.Node():
		q.tellPortElsewhere(c, e)
	}
	return c
}

// goneClient: a reply found the asking socket closed.
func goneClient(q *inquiry, place string) *claim {
	e := endsAt(q.p)
	return &claim{certain: true, summary: fmt.Sprintf("the reply reached %s, but the socket that had asked (%s port %d) is closed: the client did not wait for it", place, q.p.Proto, e.DstPort),
		evidence: []string{fmt.Sprintf("%s answered: %s", place, orElse(lastAnswer(q.p), "nothing that was seen"))}, fix: []string{"see why the answer takes so long, or let the client wait longer"}}
}

// end is where the packet was last.
func (q *inquiry) end() (place, iface string) {
	if q.d.Place != "" {
		return q.d.Place, q.d.Interface
	}
	h := lastHop(q.p, func(h *model.Hop) bool { return h.Place != "" })
	if h == nil {
		return "its destination", ""
	}
	return h.Place, h.Interface
}

// queue is a queue without room: the reasons that tell of it, and what to do.
type queue struct {
	reasons []string
	what    string
	limits  func(q *inquiry) []string // how large it may be, and how full it is; may be nil
	fix     []string
}

var acceptsSlowly = queue{[]string{"TCP_BACKLOG", "TCP_LISTEN_OVERFLOW"}, "the listening socket's accept queue is full: the application accepts too slowly", nil,
	[]string{"see it: ss -lnt (Recv-Q at Send-Q) and nstat -az TcpExtListenOverflows in the pod",
		"have the application accept faster, or ask for a longer queue (listen's backlog and net.core.somaxconn)"}}

// full are all of them.
var full = []queue{
	{[]string{"SOCKET_RCVBUFF", "SOCKET_BACKLOG"}, "the receiving socket's buffer is full: the application reads too slowly", nil,
		[]string{"see the queue and its losses: ss -nump (skmem d is what was dropped) and nstat -az UdpRcvbufErrors in the pod",
			"have the application read faster, or ask for a larger buffer (SO_RCVBUF, up to net.core.rmem_max)"}},
	{[]string{"PROTO_MEM"}, "the protocol's memory limit is reached", protocolMemory,
		[]string{"see it: cat /proc/net/sockstat; sysctl net.ipv4.tcp_mem net.ipv4.udp_mem"}},
	acceptsSlowly,
	{[]string{"CPU_BACKLOG"}, "the CPU's backlog of received packets is full", cpuBacklog,
		[]string{"see it: the second column of /proc/net/softnet_stat", "spread the load over more CPUs (RPS, the card's queues), or let more wait: sysctl -w net.core.netdev_max_backlog=4000"}},
	{[]string{"QDISC_DROP", "QDISC_BURST_DROP", "QDISC_OVERLIMIT", "QDISC_CONGESTED", "CAKE_FLOOD", "FQ_BAND_LIMIT", "FQ_FLOW_LIMIT", "FQ_HORIZON_LIMIT", "DUALPI2_STEP_DROP",
		"QDISC_DROP_GENERIC", "QDISC_DROP_OVERLIMIT", "QDISC_DROP_CONGESTED", "QDISC_DROP_MAXFLOWS", "QDISC_DROP_FLOOD_PROTECTION", "QDISC_DROP_BAND_LIMIT",
		"QDISC_DROP_HORIZON_LIMIT", "QDISC_DROP_FLOW_LIMIT", "QDISC_DROP_L4S_STEP_NON_ECN"}, "the interface's queueing discipline drops it: its queue is full, or a shaper's rate is used up", queueing,
		[]string{"see it: tc -s qdisc show dev IFACE", "if a rate is set (a pod's kubernetes.io/ingress-bandwidth or egress-bandwidth, a tbf or htb of somebody's): compare it with what was meant, and raise it"}},
	{[]string{"FULL_RING"}, "a device's ring is full", nil, []string{"see it: ip -s -s link show dev IFACE; ethtool -S IFACE"}},
}

// queueFull: there was no room. An interface without a carrier has a queueing
// discipline that drops everything (noop_qdisc): that is no queue that is full.
func queueFull(q *inquiry) *claim {
	if l := q.link(q.d.Netns, int(q.d.IfIndex)); l != nil && !l.Carrier {
		return nil
	}
	for _, f := range full {
		if !q.because(f.reasons...) {
			continue
		}
		place, iface := q.end()
		c := &claim{certain: true, summary: fmt.Sprintf("%s (%s)", f.what, at(place, iface)), evidence: []string{q.died()}}
		if f.limits != nil {
			c.evidence = append(c.evidence, f.limits(q)...)
		}
		for _, fix := range f.fix {
			c.fix = append(c.fix, strings.ReplaceAll(fix, "IFACE", iface))
		}
		return c
	}
	if r := q.result(model.StageQdisc); r == "NET_XMIT_DROP" && q.p.Outcome.Died() {
		return &claim{certain: true, summary: fmt.Sprintf("the queueing discipline of %s drops it: its queue is full, or a shaper's rate is used up", at(q.d.Place, q.d.Interface)),
			evidence: []string{q.died(), "__dev_queue_xmit gave " + r}, fix: []string{"see it: tc -s qdisc show dev " + q.d.Interface}}
	}
	return nil
}

// checksum: the receiver, or IP on the way, found a wrong checksum.
func checksum(q *inquiry) *claim {
	if !q.because("IP_CSUM", "TCP_CSUM", "UDP_CSUM", "ICMP_CSUM", "SKB_CSUM") {
		return nil
	}
	place, iface := q.end()
	if place == "node" {
		place = "this node"
	}
	c := &claim{certain: true, summary: fmt.Sprintf("its %s checksum is wrong, so %s drops it", strings.TrimSuffix(q.d.Reason, "_CSUM"), place), evidence: []string{q.died()}}
	if tunnel := q.tunnelOf(); tunnel != "" {
		c.evidence = append(c.evidence, "it came through a tunnel ("+tunnel+"): checksum offload of the outer header is the usual fault")
		c.fix = []string{"on the sending node: ethtool -K " + tunnel + " tx-checksum-ip-generic off (Calico: FELIX_FEATUREDETECTOVERRIDE=ChecksumOffloadBroken=true)"}
	}
	if q.inTunnelStill() {
		c.summary = fmt.Sprintf("the outer UDP checksum of its tunnel packet is wrong, so %s drops it", place)
	}
	c.fix = append(c.fix, "see who sends it so: tcpdump -vv -i "+iface+" on this side and the sender's; switch offloads off one by one (ethtool -K IFACE tx off)")
	return c
}

// tunnelOf is the tunnel device by which the packet came, "" if it did not.
func (q *inquiry) tunnelOf() string {
	if h := lastHop(q.p, func(h *model.Hop) bool { return h.Stage == model.StageDecapsulate }); h != nil {
		return h.Interface
	}
	udp := func(k *tunnelKind) bool { return k.kind == "vxlan" || k.kind == "geneve" }
	if tunnels := q.tunnels(udp); q.inTunnelStill() && len(tunnels) > 0 {
		return tunnels[0].Name
	}
	return ""
}

// inTunnelStill tells a packet that died of the checksum of its outer UDP header.
func (q *inquiry) inTunnelStill() bool {
	return q.because("UDP_CSUM") && q.d.Netns == q.state.Node() && q.d.Tunnel != nil
}

// nearlyFull is the part of conntrack's limit past which its table is suspected.
const nearlyFull = 0.95

// conntrackFull: nf_conntrack_in drops what it finds no room for (and says
// "table full" in the kernel's log).
func conntrackFull(q *inquiry) *claim {
	if q.d.Hook != "PREROUTING" && q.d.Hook != "OUTPUT" || q.d.Rule != nil {
		return nil
	}
	used, okUsed := q.sysctl(q.d.Netns, "netfilter/nf_conntrack_count")
	limit, okLimit := q.sysctl(q.d.Netns, "netfilter/nf_conntrack_max")
	if !okUsed || !okLimit || limit == 0 || float64(used) < nearlyFull*float64(limit) {
		return nil
	}
	return &claim{
		summary:  fmt.Sprintf("conntrack's table of %s is full (%d of %d), so new connections are dropped", q.place(), used, limit),
		evidence: []string{q.where(), fmt.Sprintf("net.netfilter.nf_conntrack_count = %d, nf_conntrack_max = %d", used, limit)},
		missing:  []string{"no rule is known to have dropped it, but the kernel gives no reason of its own: dmesg | grep 'table full' tells"},
		fix: []string{"see what fills it: conntrack -L | awk '{print $1, $4}' | sort | uniq -c | sort -n",
			fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_max=%d (kube-proxy sets it: --conntrack-max-per-core)", 2*limit)},
	}
}
