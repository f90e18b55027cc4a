// SPDX-License-Identifier: Apache-2.0

// Rows of the table of scenarios: nodes that are joined otherwise than by VXLAN, and
// services that IPVS balances.

package story

import (
	"slices"
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// The dataplanes that are made of a recorded one, by what they can show.
var (
	ipipTunnels      = []cluster.Dataplane{cluster.CalicoIPIP, cluster.FlannelIPIP}
	wireGuardTunnels = []cluster.Dataplane{cluster.CalicoWireGuard, cluster.FlannelWireGuard}
	bare             = []cluster.Dataplane{cluster.FlannelHostGW}
	ipvs             = []cluster.Dataplane{cluster.CalicoIPVS}

	tunnels = slices.Concat(ipipTunnels, wireGuardTunnels)
	// routed have a route of their own to the other node's pods in table main, without
	// which nothing leads there.
	routed  = slices.Concat(ipipTunnels, bare)
	ways    = slices.Concat(tunnels, bare)
	derived = slices.Concat(ways, ipvs)
)

// wayCases are about what leads to the other node and is not VXLAN.
func wayCases() []scenarioCase {
	blocked := Expect{Direction: model.Forward, Outcomes: died, Places: []Role{RoleNode}, Sender: silent}
	back := blocked
	back.Direction = model.Return
	astray := Expect{Direction: model.Forward, Outcomes: []model.Outcome{model.LeftNode}, Interface: []Role{RoleUplink}, Sender: []traffic.Outcome{traffic.Unreachable, traffic.TimedOut}}
	refused := Expect{Direction: model.Forward, Outcomes: []model.Outcome{model.Dropped, model.Rejected}, Places: []Role{RoleNode},
		Sender: []traffic.Outcome{traffic.Unreachable, traffic.TimedOut}}
	// nothing here takes the protocol: the other node is told
	unwanted := refused
	unwanted.Functions, unwanted.Sender = []string{"tunnel4_rcv", "ipip_rcv"}, silent
	keyless := refused
	keyless.Functions = []string{"wg_xmit"}
	foreign := Expect{Direction: model.Forward, Outcomes: died, Places: []Role{RoleNode}, Functions: []string{"wg_packet_", "wg_"}, Sender: silent}
	unanswered := refused
	unanswered.Stages, unanswered.Interface = []model.Stage{model.StageNeighbor}, []Role{RoleUplink}
	unanswered.Reasons = []string{"NEIGH_FAILED", "NEIGH_QUEUEFULL", "NOT_SPECIFIED"}
	unanswered.Functions = []string{"neigh_", "__neigh_event_send", "arp_error_report"}
	patient := func(t *traffic.Spec) { t.Timeout, t.Count = 4*time.Second, 1 } // a neighbour is given up after 3 s
	row := func(name, fault string, on []cluster.Dataplane, way way, expect func(cluster.Dataplane) Expect) scenarioCase {
		return scenarioCase{name: name, fault: fault, kinds: anyKind, derived: on, not: true, protos: allProtos, way: way, expect: expect}
	}
	slow := func(c scenarioCase) scenarioCase {
		c.protos, c.shape = packets, patient
		return c
	}
	// What leaves bare arrives: TCP's answer would come again, by the mended tunnel.
	datagrams := func(c scenarioCase) scenarioCase {
		c.protos = packets
		return c
	}
	return []scenarioCase{
		row("tunnel-blocked", "tunnel-blocked", tunnels, out, inFilter("OUTPUT", "site-known-protocols-only", blocked)),
		row("tunnel-blocked-return", "tunnel-blocked-return", ipipTunnels, out, inFilter("INPUT", "site-known-protocols-only", back)),
		row("tunnel-down", "tunnel-device-down", slices.Concat(ipipTunnels, []cluster.Dataplane{cluster.FlannelWireGuard}), out, always(astray)),
		datagrams(row("tunnel-down-bare", "tunnel-device-down", []cluster.Dataplane{cluster.CalicoWireGuard}, out, always(astray))),
		row("tunnel-down-in", "tunnel-device-down", ipipTunnels, in, always(unwanted)),
		row("tunnel-no-node", "tunnel-no-node", ipipTunnels, out, always(refused)),
		slow(row("tunnel-wrong-node", "tunnel-wrong-node", ipipTunnels, out, always(unanswered))),
		slow(row("next-hop-gone", "next-hop-gone", bare, out, always(unanswered))),
		row("wireguard-no-peer", "wireguard-no-peer", wireGuardTunnels, out, always(keyless)),
		row("wireguard-no-peer-in", "wireguard-no-peer", wireGuardTunnels, in, always(foreign)),
	}
}

// ipvsCases are about services that IPVS balances.
func ipvsCases() []scenarioCase {
	passes := Expect{Outcomes: []model.Outcome{model.Delivered, model.LeftNode}, Sender: []traffic.Outcome{traffic.Answered}}
	// IPVS tells the sender that the port is unreachable, as far as the kernel's rate limit for ICMP lets it.
	nowhere := Expect{Direction: model.Forward, Outcomes: []model.Outcome{model.Dropped, model.Rejected}, Places: []Role{RoleNode},
		Sender: []traffic.Outcome{traffic.Refused, traffic.Unreachable, traffic.TimedOut}}
	astray := Expect{Direction: model.Forward, Lasts: true, Outcomes: []model.Outcome{model.LeftNode}, Interface: []Role{RoleUplink}, Sender: nowhere.Sender}
	input := Expect{Direction: model.Forward, Outcomes: died, Places: []Role{RoleNode}, Sender: silent}
	reply := input
	reply.Direction = model.Return
	row := func(name, fault string, way way, expect func(cluster.Dataplane) Expect) scenarioCase {
		return scenarioCase{name: name, fault: fault, kinds: onlyCalico, derived: ipvs, not: true, protos: transports, way: way, expect: expect}
	}
	doc := func(doc string, c scenarioCase) scenarioCase {
		c.doc = doc
		return c
	}
	return []scenarioCase{
		doc("a pod talks to a service of its node by IPVS", row("healthy-ipvs", "", service, always(passes))),
		doc("a pod talks to a service of the other node by IPVS", row("healthy-ipvs-out", "", serviceOut, always(passes))),
		row("ipvs-no-server", "ipvs-no-server", service, always(nowhere)),
		row("ipvs-weight-zero", "ipvs-weight-zero", serviceOut, always(nowhere)),
		row("ipvs-stale-server", "ipvs-stale-server", service, always(nowhere)),
		row("ipvs-address-lost", "ipvs-address-lost", service, always(astray)),
		row("ipvs-input-drop", "ipvs-input-drop", serviceOut, inFilter("INPUT", "", input)),
		row("ipvs-reply-drop", "ipvs-reply-drop", service, inFilter("FORWARD", "", reply)),
		row("ipvs-reply-drop-out", "ipvs-reply-drop", serviceOut, inFilter("FORWARD", "", reply)),
	}
}
