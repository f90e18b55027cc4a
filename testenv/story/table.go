// SPDX-License-Identifier: Apache-2.0

// The table of scenarios: one row per case, from which the scenarios of every
// dataplane and protocol are made.

package story

import (
	"slices"
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/fault"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// way is where a case's traffic runs.
type way int

const (
	same       way = iota // between two pods of node1
	out                   // from node1 to node2
	in                    // from node2 to node1
	fixed                 // as the row says
	service               // to a service of a pod of node1
	serviceOut            // to a service of a pod of node2; IPVS only
)

// scenarioCase is one row.
type scenarioCase struct {
	name  string
	fault string
	doc   string
	kinds []cluster.Kind
	only  []cluster.Dataplane // of those kinds; nil: all
	// derived are the dataplanes made of a recorded one that make the row too; not: the
	// recorded ones do not.
	derived []cluster.Dataplane
	not     bool
	protos  []string
	way     way
	tweak   func(t *traffic.Spec)            // what is wrong with the traffic itself
	shape   func(t *traffic.Spec)            // what both twins have
	expect  func(d cluster.Dataplane) Expect // by dataplane
}

// of tells whether a dataplane makes the row.
func (c scenarioCase) of(d cluster.Dataplane) bool {
	switch {
	case !slices.Contains(c.kinds, d.Kind()):
		return false
	case !d.Recorded():
		return slices.Contains(c.derived, d)
	}
	return !c.not && (c.only == nil || slices.Contains(c.only, d))
}

var (
	anyKind     = []cluster.Kind{cluster.Calico, cluster.Flannel}
	onlyCalico  = []cluster.Kind{cluster.Calico}
	onlyFlannel = []cluster.Kind{cluster.Flannel}

	allProtos  = []string{"icmp", "tcp", "udp"}
	packets    = []string{"icmp", "udp"}
	transports = []string{"tcp", "udp"}
)

// wayOf finds two pods between which the protocol passes on a healthy node:
// Calico's recorded policies let TCP and ICMP of client into server, TCP of web2
// into server, and everything into client.
func wayOf(kind cluster.Kind, w way, proto string) (src, dst string) {
	const client, server, web2 = "default/client", "default/server", farPod
	switch {
	case w == out, w == serviceOut:
		return client, web2
	case w == in && kind == cluster.Calico && proto != "tcp":
		return web2, client
	case w == in:
		return web2, server
	case kind == cluster.Calico && proto == "udp":
		return server, client
	}
	return client, server
}

// serviceOf is the service of a way's own destination.
func serviceOf(w way, proto string) string {
	name := map[way]string{service: "svc:demo/one", serviceOut: "svc:demo/far"}[w]
	if name != "" && proto == "udp" {
		name += "-udp"
	}
	return name
}

// scenario makes a row's scenario for one dataplane and protocol.
func (c scenarioCase) scenario(d cluster.Dataplane, proto string) Scenario {
	src, dst := wayOf(d.Kind(), c.way, proto)
	t := traffic.Spec{Proto: proto, Src: src, Dst: dst, Count: 2, Timeout: 400 * time.Millisecond}
	if to := serviceOf(c.way, proto); to != "" {
		t.Dst = to
	}
	if c.shape != nil {
		c.shape(&t)
	}
	s := Scenario{
		Name: string(d) + "/" + c.name + "-" + proto, Doc: c.doc, Dataplane: d, Fault: c.fault,
		CrossNode: c.way == out || c.way == in || c.way == serviceOut, KubeProxy: c.way == service || c.way == serviceOut, Traffic: t, Healthy: t, Expect: c.expect(d),
	}
	if f, err := fault.Find(c.fault); err == nil {
		s.Expect.Code, s.Doc = f.Code, f.Doc
	}
	if c.tweak != nil {
		c.tweak(&s.Traffic)
	}
	return s
}

// always is an expectation that is the same on every dataplane.
func always(x Expect) func(cluster.Dataplane) Expect {
	return func(cluster.Dataplane) Expect { return x }
}

// byKind is one that differs between Calico and Flannel.
func byKind(calico, flannel Expect) func(cluster.Dataplane) Expect {
	return func(d cluster.Dataplane) Expect {
		if d.Kind() == cluster.Calico {
			return calico
		}
		return flannel
	}
}

// inFilter is an expectation of a rule in the filter table at a hook.
func inFilter(hook, nativeTable string, x Expect) func(cluster.Dataplane) Expect {
	return func(d cluster.Dataplane) Expect {
		x.Hook, x.Table, x.Stages = hook, "filter", []model.Stage{model.StageNetfilter}
		if d.Form() == cluster.FormNFTables {
			x.Table = nativeTable
		}
		x.Reasons, x.Functions = []string{"NETFILTER_DROP", "NOT_SPECIFIED"}, []string{"nf_hook_slow", "nft_do_chain", "ipt_do_table", "kfree_skb"}
		return x
	}
}

var (
	died     = []model.Outcome{model.Dropped}
	told     = []model.Outcome{model.Rejected}
	forwards = []Role{RoleSrcHost, RoleDstHost, RoleTunnel, RoleBridge}
	silent   = []traffic.Outcome{traffic.TimedOut}
	// iptablesForms are the nodes whose rules iptables wrote. The machine's own
	// kernel may have no queue for native ones (nft_queue).
	iptablesForms = []cluster.Dataplane{cluster.CalicoLegacy, cluster.CalicoNFT, cluster.FlannelLegacy, cluster.FlannelNFT}
)

func scenarioCases() []scenarioCase {
	return slices.Concat(healthyCases(), ruleCases(), policyCases(), conntrackCases(), routeCases(), linkCases(), tunnelCases(), wayCases(), ipvsCases(), farCases(), lossCases(), endCases(), silenceCases())
}

func healthyCases() []scenarioCase {
	passes := always(Expect{Outcomes: []model.Outcome{model.Delivered}, Sender: []traffic.Outcome{traffic.Answered}})
	leaves := always(Expect{Outcomes: []model.Outcome{model.Delivered, model.LeftNode}, Sender: []traffic.Outcome{traffic.Answered}})
	return []scenarioCase{
		{name: "healthy", doc: "pods of one node talk", kinds: anyKind, derived: derived, protos: allProtos, way: same, expect: passes},
		{name: "healthy-ipv6", doc: "pods of one node talk over IPv6", kinds: anyKind, protos: allProtos, way: same, expect: passes,
			shape: func(t *traffic.Spec) { t.IPv6 = true }},
		{name: "healthy-out", doc: "a pod talks to one on the other node", kinds: anyKind, derived: derived, protos: allProtos, way: out, expect: leaves},
		{name: "healthy-in", doc: "a pod on the other node talks to one here", kinds: anyKind, derived: derived, protos: allProtos, way: in, expect: leaves},
		{name: "healthy-service", doc: "a pod talks to a service of its node", kinds: anyKind, protos: []string{"tcp"}, way: service, expect: passes},
	}
}

func ruleCases() []scenarioCase {
	forward := Expect{Direction: model.Forward, Outcomes: died, Places: []Role{RoleNode}, Interface: forwards, Sender: silent}
	back := forward
	back.Direction = model.Return
	rejected := forward
	rejected.Outcomes, rejected.Sender = told, []traffic.Outcome{traffic.Refused}
	inPod := Expect{Direction: model.Forward, Outcomes: died, Places: []Role{RoleDst}, Interface: []Role{RoleDstPod}, Sender: silent}
	outPod := Expect{Direction: model.Forward, Outcomes: died, Places: []Role{RoleSrc}, Interface: []Role{RoleSrcPod}, Sender: []traffic.Outcome{traffic.TimedOut, traffic.NotSent}}
	queued := forward
	queued.Hook, queued.Table, queued.Stages = "FORWARD", "filter", []model.Stage{model.StageNetfilter}
	queued.Reasons, queued.Functions = []string{"NETFILTER_DROP", "NOT_SPECIFIED"}, []string{"nf_queue", "__nf_queue"}
	return []scenarioCase{
		{name: "rule-drop", fault: "rule-drop", kinds: anyKind, derived: ways, protos: allProtos, way: same, expect: inFilter("FORWARD", "site-maintenance-window", forward)},
		{name: "rule-drop-ipv6", fault: "rule-drop", kinds: anyKind, protos: allProtos, way: same,
			shape: func(t *traffic.Spec) { t.IPv6 = true }, expect: inFilter("FORWARD", "site-maintenance-window", forward)},
		{name: "rule-drop-out", fault: "rule-drop", kinds: anyKind, derived: ways, protos: allProtos, way: out, expect: inFilter("FORWARD", "site-maintenance-window", forward)},
		{name: "rule-reject", fault: "rule-reject", kinds: anyKind, protos: transports, way: same, expect: inFilter("FORWARD", "site-maintenance-window", rejected)},
		{name: "rule-drop-return", fault: "rule-drop-return", kinds: anyKind, protos: allProtos, way: same, expect: inFilter("FORWARD", "site-egress-lockdown", back)},
		{name: "rule-drop-return-out", fault: "rule-drop-return", kinds: anyKind, derived: ways, protos: allProtos, way: out, expect: byUplink(inFilter("FORWARD", "site-egress-lockdown", back))},
		{name: "queue-no-listener", fault: "queue-no-listener", kinds: anyKind, only: iptablesForms, protos: transports, way: same, expect: always(queued)},
		{name: "split-rulesets", fault: "split-rulesets", kinds: anyKind, protos: allProtos, way: same, expect: inFilter("FORWARD", "filter", forward)},
		{name: "pod-input-drop", fault: "pod-input-drop", kinds: anyKind, protos: allProtos, way: same, expect: inFilter("INPUT", "site-pod-firewall", inPod)},
		{name: "pod-output-drop", fault: "pod-output-drop", kinds: anyKind, protos: allProtos, way: same, expect: inFilter("OUTPUT", "site-pod-firewall", outPod)},
		{name: "forward-policy", fault: "forward-policy", kinds: onlyFlannel, protos: allProtos, way: same, expect: inFilter("FORWARD", "filter", withPolicy(forward))},
	}
}

// byUplink has what comes from the other node come by the uplink where there is no tunnel.
func byUplink(expect func(cluster.Dataplane) Expect) func(cluster.Dataplane) Expect {
	return func(d cluster.Dataplane) Expect {
		x := expect(d)
		if d.Way() == cluster.WayBare {
			x.Interface = []Role{RoleUplink}
		}
		return x
	}
}

func withPolicy(x Expect) Expect {
	x.Policy = true
	return x
}

// policyCases die by Calico's recorded policies.
func policyCases() []scenarioCase {
	deny := func(chain string) func(cluster.Dataplane) Expect {
		return inFilter("FORWARD", "calico", Expect{Code: "policy-deny", Direction: model.Forward, Outcomes: died, Chain: chain,
			Places: []Role{RoleNode}, Interface: forwards, Sender: silent})
	}
	unknown := Expect{Direction: model.Forward, Outcomes: died, Chain: "cali-from-wl-dispatch", Places: []Role{RoleNode}, Interface: forwards, Sender: silent}
	unknownBack := unknown
	unknownBack.Direction, unknownBack.Chain = model.Return, "cali-to-wl-dispatch"
	toDB := func(t *traffic.Spec) { t.Src, t.Dst = "default/server", "prod/db" }
	rpf := func(d cluster.Dataplane) Expect {
		x := inFilter("PREROUTING", "calico", Expect{Direction: model.Forward, Outcomes: died, Chain: "cali-PREROUTING",
			Places: []Role{RoleNode}, Interface: []Role{RoleSrcHost}, Sender: silent})(d)
		if d.Form() != cluster.FormNFTables {
			x.Table = "raw"
		}
		return x
	}
	return []scenarioCase{
		{name: "unknown-interface", fault: "unknown-interface", kinds: onlyCalico, protos: allProtos, way: same, expect: inFilter("FORWARD", "calico", unknown)},
		{name: "unknown-interface-return", fault: "unknown-interface-return", kinds: onlyCalico, protos: allProtos, way: out, expect: inFilter("FORWARD", "calico", unknownBack)},
		{name: "policy-deny", fault: "policy-deny", kinds: onlyCalico, protos: []string{"icmp", "tcp"}, way: same, expect: deny("cali-tw-cali7715d358f22")},
		{name: "policy-deny-db", fault: "policy-deny", kinds: onlyCalico, protos: allProtos, way: fixed, shape: toDB, expect: deny("cali-tw-calibc0d3acf431")},
		{name: "policy-other-port", doc: "the policy lets port 8080 in, the traffic goes to 9999", kinds: onlyCalico, protos: []string{"tcp"}, way: same,
			tweak: func(t *traffic.Spec) { t.Port = 9999 }, expect: deny("cali-tw-cali7715d358f22")},
		{name: "policy-other-pod", doc: "no policy lets prod/db into default/server", kinds: onlyCalico, protos: allProtos, way: fixed,
			shape: toDB, tweak: func(t *traffic.Spec) { t.Src, t.Dst = "prod/db", "default/server" }, expect: deny("cali-tw-cali7715d358f22")},
		{name: "policy-explicit-deny", doc: "a policy denies client's ICMP into prod/db", kinds: onlyCalico, protos: []string{"icmp"}, way: fixed,
			shape: toDB, tweak: func(t *traffic.Spec) { t.Src = "default/client" }, expect: deny("cali-pi-np/prod/db-ingress")},
		{name: "policy-bad-net", doc: "a global policy denies a foreign network", kinds: onlyCalico, protos: allProtos, way: fixed,
			shape: func(t *traffic.Spec) { t.Src, t.Dst = "default/client", "external" },
			tweak: func(t *traffic.Spec) { t.Dst = cluster.BadNetAddr.String() }, expect: deny("cali-po-gnp/deny-bad-nets")},
		{name: "policy-deny-in", doc: "no policy lets web2's ICMP into default/server", kinds: onlyCalico, protos: []string{"icmp"}, way: in,
			tweak: func(t *traffic.Spec) { t.Dst = "default/server" }, expect: deny("cali-tw-cali7715d358f22")},
		{name: "calico-rpf", fault: "calico-rpf", kinds: onlyCalico, protos: allProtos, way: fixed,
			shape: func(t *traffic.Spec) { t.Src, t.Dst = "default/client", "default/web2" },
			tweak: func(t *traffic.Spec) { t.Source = fault.SecondAddr }, expect: rpf},
	}
}

func routeCases() []scenarioCase {
	noForward := Expect{Direction: model.Forward, Outcomes: died, Stages: []model.Stage{model.StageRoute}, Places: []Role{RoleNode},
		Reasons: []string{"IP_INADDRERRORS", "NOT_SPECIFIED"}, Functions: []string{"ip_error"}, Sender: silent}
	noRoute := noForward
	// The sender is told, unless the kernel's rate limit for ICMP is used up.
	noRoute.Outcomes = []model.Outcome{model.Rejected, model.Dropped}
	noRoute.Reasons, noRoute.Sender = []string{"IP_INNOROUTES", "NOT_SPECIFIED"}, []traffic.Outcome{traffic.Unreachable, traffic.TimedOut}
	noRouteBack := noRoute
	noRouteBack.Direction, noRouteBack.Sender = model.Return, silent
	eaten := noForward
	eaten.Reasons = []string{"IP_INNOROUTES", "NOT_SPECIFIED"}
	martian := noForward
	martian.Reasons, martian.Functions, martian.Interface = []string{"IP_RPFILTER", "NOT_SPECIFIED"}, []string{"ip_rcv_finish", "ip_rcv"}, []Role{RoleTunnel}
	expired := Expect{Direction: model.Forward, Outcomes: noRoute.Outcomes, Stages: []model.Stage{model.StageForward}, Places: []Role{RoleNode},
		Reasons: []string{"IP_INHDR", "NOT_SPECIFIED"}, Functions: []string{"ip_forward"}, Sender: []traffic.Outcome{traffic.TTLExceeded, traffic.Unreachable, traffic.TimedOut}}
	one := func(t *traffic.Spec) { t.TTL = 1 }
	expiredCode := expired
	expiredCode.Code = "ttl"
	return []scenarioCase{
		{name: "ip-forward-off", fault: "ip-forward-off", kinds: onlyCalico, protos: allProtos, way: same, expect: always(noForward)},
		{name: "ip-forward-off-out", fault: "ip-forward-off", kinds: anyKind, derived: ways, protos: allProtos, way: out, expect: always(noForward)},
		{name: "rp-filter", fault: "rp-filter", kinds: anyKind, protos: allProtos, way: in, expect: always(martian)},
		{name: "no-route", fault: "no-route", kinds: onlyCalico, protos: allProtos, way: same, expect: always(noRoute)},
		{name: "no-route-out", fault: "no-route", kinds: anyKind, derived: routed, protos: allProtos, way: out, expect: always(noRoute)},
		{name: "no-route-return", fault: "no-route-return", kinds: anyKind, derived: routed, protos: allProtos, way: in, expect: always(noRouteBack)},
		{name: "blackhole-route", fault: "blackhole-route", kinds: onlyCalico, protos: allProtos, way: same, expect: always(eaten)},
		{name: "ttl-one", doc: "the packet is sent with a TTL of 1", kinds: onlyCalico, protos: packets, way: same, tweak: one, expect: always(expiredCode)},
		{name: "ttl-one-out", doc: "the packet is sent with a TTL of 1", kinds: anyKind, protos: packets, way: out, tweak: one, expect: always(expiredCode)},
		// An odd TTL is used up on node1, which takes the first hop.
		{name: "ttl-loop", fault: "ttl-loop", kinds: anyKind, protos: packets, way: out, expect: always(expired),
			shape: func(t *traffic.Spec) { t.TTL = 63 }},
	}
}

func linkCases() []scenarioCase {
	eaten := Expect{Direction: model.Forward, Outcomes: died, Stages: []model.Stage{model.StageRoute}, Places: []Role{RoleNode},
		Reasons: []string{"IP_INNOROUTES", "NOT_SPECIFIED"}, Functions: []string{"ip_error"}, Sender: silent}
	// The bridge floods; in hairpin mode the only port left is the source's own.
	flooded := Expect{Direction: model.Forward, Outcomes: died, Places: []Role{RoleSrc, RoleNode}, Sender: silent,
		Reasons: []string{"OTHERHOST", "NO_TX_TARGET", "NOT_SPECIFIED"}, Functions: []string{"ip_rcv", "br_"}}
	// Before the carrier's loss has come round the veth has nobody to hand it to.
	// Then the pod forgets its neighbours, with what waits for them, and asks again,
	// in vain.
	unplugged := Expect{Direction: model.Forward, Outcomes: []model.Outcome{model.Dropped, model.Rejected}, Stages: []model.Stage{model.StageTransmit, model.StageQdisc, model.StageNeighbor}, Places: []Role{RoleSrc},
		Interface: []Role{RoleSrcPod}, Reasons: []string{"QDISC_DROP", "NEIGH_FAILED", "QUEUE_PURGE", "NOT_SPECIFIED"}, Sender: []traffic.Outcome{traffic.TimedOut, traffic.NotSent, traffic.Unreachable}}
	tooBig := Expect{Direction: model.Forward, Outcomes: []model.Outcome{model.Rejected, model.Dropped}, Stages: []model.Stage{model.StageForward}, Places: []Role{RoleNode},
		Reasons: []string{"PKT_TOO_BIG", "NOT_SPECIFIED"}, Functions: []string{"ip_forward"}, Sender: []traffic.Outcome{traffic.TooBig, traffic.TimedOut}}
	tooBigBridge := Expect{Direction: model.Forward, Outcomes: died, Stages: []model.Stage{model.StageBridge}, Places: []Role{RoleNode},
		Functions: []string{"br_dev_queue_push_xmit", "br_nf_dev_queue_xmit"}, Sender: silent}
	// The sender is told, unless the kernel's rate limit for ICMP is used up.
	unanswered := Expect{Direction: model.Forward, Outcomes: []model.Outcome{model.Rejected, model.Dropped}, Stages: []model.Stage{model.StageNeighbor}, Places: []Role{RoleNode},
		Interface: []Role{RoleDstHost}, Reasons: []string{"NEIGH_FAILED", "NEIGH_QUEUEFULL", "NOT_SPECIFIED"},
		Functions: []string{"neigh_", "__neigh_event_send", "arp_error_report"}, Sender: []traffic.Outcome{traffic.Unreachable, traffic.TimedOut}}
	unansweredPod := unanswered
	unansweredPod.Outcomes, unansweredPod.Places, unansweredPod.Interface = []model.Outcome{model.Dropped, model.Rejected}, []Role{RoleSrc}, []Role{RoleSrcPod}
	big := func(size int) func(*traffic.Spec) {
		return func(t *traffic.Spec) { t.Size, t.DontFragment = size, true }
	}
	// Neighbours are given up after 3 s. TCP may try again once before; UDP
	// is not told, and would wait in vain for longer.
	patient := func(t *traffic.Spec) {
		t.Timeout, t.Count = 6*time.Second, 1
		if t.Proto == "udp" {
			t.Timeout = 4 * time.Second
		}
	}
	return []scenarioCase{
		{name: "interface-down", fault: "interface-down", kinds: anyKind, derived: ways, protos: allProtos, way: same, expect: byKind(eaten, flooded)},
		{name: "interface-down-source", fault: "interface-down-source", kinds: anyKind, protos: allProtos, way: same, shape: patient, expect: always(unplugged)},
		{name: "mtu", fault: "mtu", kinds: anyKind, protos: packets, way: same, shape: big(1372), expect: byKind(tooBig, tooBigBridge)},
		{name: "mtu-tunnel", fault: "mtu-tunnel", kinds: anyKind, derived: tunnels, protos: packets, way: out, expect: always(tooBig),
			shape: big(1372), tweak: big(1460)},
		{name: "neighbor-failed", fault: "neighbor-failed", kinds: anyKind, protos: allProtos, way: same, shape: patient,
			expect: byKind(unanswered, unansweredPod)},
		{name: "neighbor-failed-in", fault: "neighbor-failed", kinds: onlyFlannel, protos: allProtos, way: in, shape: patient,
			expect: always(onBridge(unanswered))},
		{name: "proxy-arp-off", fault: "proxy-arp-off", kinds: onlyCalico, protos: allProtos, way: same, shape: patient, expect: always(unansweredPod)},
	}
}

func onBridge(x Expect) Expect {
	x.Interface = []Role{RoleBridge}
	return x
}

func tunnelCases() []scenarioCase {
	blocked := Expect{Direction: model.Forward, Outcomes: died, Places: []Role{RoleNode}, Sender: silent}
	back := blocked
	back.Direction = model.Return
	lost := Expect{Direction: model.Forward, Outcomes: died, Stages: []model.Stage{model.StageEncapsulate}, Places: []Role{RoleNode},
		Interface: []Role{RoleTunnel}, Functions: []string{"vxlan_xmit"}, Reasons: []string{"NO_TX_TARGET", "IP_OUTNOROUTES", "NOT_SPECIFIED"}, Sender: []traffic.Outcome{traffic.TimedOut, traffic.Unreachable}}
	astray := Expect{Direction: model.Forward, Outcomes: []model.Outcome{model.LeftNode}, Interface: []Role{RoleUplink}, Sender: []traffic.Outcome{traffic.Unreachable, traffic.TimedOut}}
	return []scenarioCase{
		{name: "vxlan-blocked", fault: "vxlan-blocked", kinds: anyKind, protos: allProtos, way: out, expect: inFilter("OUTPUT", "site-no-tunnels", blocked)},
		{name: "vxlan-blocked-return", fault: "vxlan-blocked-return", kinds: anyKind, protos: allProtos, way: out, expect: inFilter("INPUT", "site-no-tunnels", back)},
		{name: "vxlan-fdb", fault: "vxlan-fdb", kinds: anyKind, protos: allProtos, way: out, expect: always(lost)},
		{name: "tunnel-down", fault: "tunnel-down", kinds: anyKind, protos: allProtos, way: out, expect: always(astray)},
		{name: "bgp-blocked", fault: "bgp-blocked", kinds: onlyCalico, protos: allProtos, way: out, expect: always(astray)},
		{name: "uplink-down", fault: "uplink-down", kinds: anyKind, protos: allProtos, way: out, expect: always(lost)},
	}
}

func endCases() []scenarioCase {
	nobody := always(Expect{Direction: model.Forward, Outcomes: []model.Outcome{model.Rejected, model.Delivered}, Stages: []model.Stage{model.StageDeliver, model.StageAnswer},
		Places: []Role{RoleDst}, Interface: []Role{RoleDstPod}, Reasons: []string{"NO_SOCKET", "NOT_SPECIFIED"},
		Functions: []string{"tcp_v4_rcv", "__udp4_lib_rcv", "udp_queue_rcv"}, Sender: []traffic.Outcome{traffic.Refused}})
	untranslated := always(Expect{Direction: model.Return, Outcomes: []model.Outcome{model.Rejected, model.Delivered}, Places: []Role{RoleSrc},
		Reasons: []string{"NO_SOCKET", "NOT_SPECIFIED"}, Functions: []string{"tcp_v4_rcv"}, Sender: silent})
	return []scenarioCase{
		{name: "no-listener", fault: "no-listener", kinds: anyKind, protos: transports, way: same, expect: nobody},
		{name: "reply-not-translated", fault: "bridge-nf-off", kinds: onlyFlannel, protos: []string{"tcp"}, way: service, expect: untranslated},
	}
}
