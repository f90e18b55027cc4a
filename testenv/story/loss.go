// SPDX-License-Identifier: Apache-2.0

// Rows of the table of scenarios: what is lost elsewhere, and what programs,
// queues and checksums lose.

package story

import (
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// farCases leave node1 in good order.
func farCases() []scenarioCase {
	gone := always(Expect{Direction: model.Forward, Outcomes: []model.Outcome{model.LeftNode}, Interface: []Role{RoleUplink}, Sender: silent})
	return []scenarioCase{
		{name: "left-node", fault: "far-policy", kinds: anyKind, derived: ways, protos: allProtos, way: out, expect: gone},
		{name: "masquerade", fault: "masquerade", kinds: anyKind, protos: allProtos, way: out, expect: gone},
	}
}

func lossCases() []scenarioCase {
	program := Expect{Direction: model.Forward, Outcomes: died, Places: []Role{RoleNode}, Interface: []Role{RoleSrcHost},
		Reasons: []string{"TC_INGRESS", "NOT_SPECIFIED"}, Sender: silent}
	egress := program
	egress.Interface, egress.Reasons = []Role{RoleDstHost}, []string{"TC_EGRESS", "NOT_SPECIFIED"}
	xdp := program
	xdp.Reasons = []string{"XDP", "NOT_SPECIFIED"}
	inPod := Expect{Direction: model.Forward, Outcomes: died, Places: []Role{RoleDst}, Interface: []Role{RoleDstPod}, Sender: silent}
	// A SYN that finds the queue full is consumed, not dropped (tcp_conn_request).
	backlog := inPod
	backlog.Outcomes = []model.Outcome{model.Dropped, model.Delivered}
	buffer := inPod
	buffer.Reasons = []string{"SOCKET_RCVBUFF", "NOT_SPECIFIED"}
	shaped := egress
	shaped.Reasons = []string{"QDISC_DROP", "QDISC_OVERLIMIT", "NOT_SPECIFIED"}
	sum := inPod
	sum.Reasons = []string{"ICMP_CSUM", "TCP_CSUM", "UDP_CSUM", "NOT_SPECIFIED"}
	outerSum := program
	outerSum.Interface, outerSum.Reasons = []Role{RoleUplink}, []string{"UDP_CSUM", "NOT_SPECIFIED"}
	return []scenarioCase{
		{name: "tc-drop", fault: "tc-drop", kinds: anyKind, protos: allProtos, way: same, expect: always(program)},
		{name: "tc-drop-egress", fault: "tc-drop-egress", kinds: anyKind, protos: packets, way: same, expect: always(egress)},
		// the request comes again after 1 s
		{name: "accept-queue", fault: "accept-queue", kinds: anyKind, protos: []string{"tcp"}, way: same, expect: always(backlog),
			shape: func(t *traffic.Spec) { t.Timeout = 1500 * time.Millisecond }},
		{name: "socket-buffer", fault: "socket-buffer", kinds: anyKind, protos: []string{"udp"}, way: same, expect: always(buffer)},
		{name: "shaper", fault: "shaper", kinds: anyKind, protos: allProtos, way: same, expect: always(shaped)},
		{name: "checksum", fault: "checksum", kinds: anyKind, protos: allProtos, way: same, expect: always(sum)},
		{name: "checksum-tunnel", fault: "checksum-tunnel", kinds: anyKind, protos: allProtos, way: in, expect: always(outerSum)},
		{name: "xdp-drop", fault: "xdp-drop", kinds: anyKind, protos: packets, way: same, expect: always(xdp)},
	}
}

// silenceCases show no packet at all.
func silenceCases() []scenarioCase {
	nothing := always(Expect{Direction: model.Forward, Silence: true, Sender: []traffic.Outcome{traffic.Unreachable, traffic.NotSent, traffic.TimedOut}})
	mute := always(Expect{Code: "not-sent", Direction: model.Forward, Silence: true, Sender: silent})
	return []scenarioCase{
		{name: "pod-interface-down", fault: "pod-interface-down", kinds: anyKind, protos: allProtos, way: same, expect: nothing},
		{name: "pod-no-route", fault: "pod-no-route", kinds: anyKind, protos: allProtos, way: out, expect: nothing},
		{name: "not-sent", doc: "the sender sends nothing", kinds: anyKind, protos: []string{"tcp"}, way: same, expect: mute,
			tweak: func(t *traffic.Spec) { t.Mute = true }},
	}
}

func conntrackCases() []scenarioCase {
	invalid := func(d cluster.Dataplane) Expect {
		x := inFilter("FORWARD", "calico", Expect{Direction: model.Return, Outcomes: died, Places: []Role{RoleNode}, Sender: silent})(d)
		if d == cluster.FlannelNFTables {
			x.Table = "site-invalid"
		}
		return x
	}
	full := Expect{Direction: model.Forward, Outcomes: died, Places: []Role{RoleNode}, Hook: "PREROUTING", Interface: []Role{RoleSrcHost, RoleBridge},
		Reasons: []string{"NETFILTER_DROP", "NOT_SPECIFIED"}, Sender: silent}
	return []scenarioCase{
		// A reply over UDP begins a connection as good as any.
		{name: "conntrack-invalid", fault: "conntrack-invalid", kinds: anyKind, protos: []string{"icmp", "tcp"}, way: out, expect: invalid},
		// The table knows nothing of rules, and filling it takes seconds.
		{name: "conntrack-full", fault: "conntrack-full", kinds: anyKind, protos: []string{"tcp"},
			only: []cluster.Dataplane{cluster.CalicoLegacy, cluster.CalicoNFTables, cluster.FlannelLegacy, cluster.FlannelNFTables}, way: same, expect: always(full)},
	}
}
