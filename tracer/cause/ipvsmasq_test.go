// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// InSet implements State.
func (r *recorded) InSet(netns uint32, set string, e setEntry) (setHolding, error) {
	p, err := r.place(netns)
	if err != nil {
		return setMissing, err
	}
	elements, there := p.Sets[set]
	switch {
	case !there:
		return setMissing, nil
	case slices.Contains(elements, e.String()):
		return setHolds, nil
	}
	return setWithout, nil
}

// kubeNAT is what kube-proxy writes into table nat in ipvs mode.
const kubeNAT = `-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-LOAD-BALANCER -m comment --comment "Kubernetes service load balancer ip + port with externalTrafficPolicy=local" -m set --match-set KUBE-LOAD-BALANCER-LOCAL dst,dst -j RETURN
-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-NODE-PORT -p tcp -m comment --comment "Kubernetes nodeport TCP port for masquerade purpose" -m set --match-set KUBE-NODE-PORT-TCP dst -j KUBE-MARK-MASQ
-A KUBE-POSTROUTING -m comment --comment "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose" -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-SERVICES -m comment --comment "Kubernetes service lb portal" -m set --match-set KUBE-LOAD-BALANCER dst,dst -j KUBE-LOAD-BALANCER
-A KUBE-SERVICES ! -s 10.244.0.0/16 -m comment --comment "Kubernetes service cluster ip + port for masquerade purpose" -m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ
-A KUBE-SERVICES -m comment --comment "Kubernetes service external ip + port for masquerade and filter purpose" -m set --match-set KUBE-EXTERNAL-IP dst,dst -j KUBE-MARK-MASQ
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT`

// natRules gives the node rules of table nat: kube-proxy's, changed.
func natRules(change func(string) string) func(*recorded) {
	return func(r *recorded) {
		numbers := map[string]int{}
		var all []meaning.Rule
		for _, text := range strings.Split(change(kubeNAT), "\n") {
			if text == "" {
				continue
			}
			chain := strings.Fields(text)[1]
			numbers[chain]++
			all = append(all, meaning.Rule{Backend: "legacy", Family: "ip", Table: "nat", Chain: chain, Number: numbers[chain], Text: text})
		}
		r.Places[nodeNS].Rules = &RuleSets{Legacy: Rules(slices.Values(all))}
	}
}

// replaced puts a text for another; nothing: the rules that have it are gone.
func replaced(old, with string) func(*recorded) {
	return natRules(func(all string) string {
		if with != "" {
			return strings.Replace(all, old, with, 1)
		}
		return strings.Join(slices.DeleteFunc(strings.Split(all, "\n"), func(r string) bool { return strings.Contains(r, old) }), "\n")
	})
}

// kubeProxied is a node with all that kube-proxy keeps for a service on 10.96.0.20:80 and
// a node port 30080.
func kubeProxied() *recorded {
	r := madeNode()
	ipvsWith(server(fromPodA, 1))(r)
	natRules(func(all string) string { return all })(r)
	p := r.Places[nodeNS]
	p.Sysctls["ipv4/vs/conntrack"] = "1"
	p.Sets = map[string][]string{"KUBE-LOOP-BACK": {"10.244.1.2,tcp:8080,10.244.1.2"}, "KUBE-CLUSTER-IP": {"10.96.0.20,tcp:80"}, "KUBE-EXTERNAL-IP": nil, "KUBE-EXTERNAL-IP-LOCAL": nil,
		"KUBE-LOAD-BALANCER": {"172.30.0.100,tcp:80"}, "KUBE-LOAD-BALANCER-LOCAL": nil, "KUBE-NODE-PORT-TCP": {"30080"}, "KUBE-NODE-PORT-LOCAL-TCP": nil}
	return r
}

// emptied takes the elements out of a set.
func emptied(set string) func(*recorded) {
	return func(r *recorded) { r.Places[nodeNS].Sets[set] = nil }
}

func filled(set, element string) func(*recorded) {
	return func(r *recorded) { r.Places[nodeNS].Sets[set] = []string{element} }
}

// TestSentBack: a pod's own request comes back to it with its own address.
func TestSentBack(t *testing.T) {
	back := func(src netip.Addr, by string) *model.Packet {
		return dead("IP_LOCAL_SOURCE", "ip_rcv_finish_core+0x1", func(p *model.Packet) {
			p.Dst, p.DstPort = virtual.Addr(), virtual.Port()
			before, after := model.Endpoints{Src: podA, SrcPort: 40000, Dst: virtual.Addr(), DstPort: 80}, model.Endpoints{Src: podA, SrcPort: 40000, Dst: podA, DstPort: 8080}
			p.Hops = append(p.Hops, inHook("INPUT"), model.Hop{Stage: model.StageNAT, Netns: nodeNS, Place: "node", Interface: "calia", IfIndex: 4, Hook: "OUTPUT", Before: &before, After: &after, NATBy: by, CTState: "new"})
			if src != podA {
				was, is := after, after
				is.Src = src
				p.Hops = append(p.Hops, model.Hop{Stage: model.StageNAT, Netns: nodeNS, Place: "node", Interface: "calia", IfIndex: 4, Hook: "POSTROUTING", Before: &was, After: &is, CTState: "new"})
			}
			p.Hops = append(p.Hops, model.Hop{Stage: model.StageReceive, Netns: podNS, Place: "default/a", Interface: "eth0", IfIndex: 2})
			p.Drop.Netns, p.Drop.Place, p.Drop.Interface, p.Drop.IfIndex = podNS, "default/a", "eth0", 2
		})
	}
	const gone = "IPVS has chosen the one who asks for service 10.96.0.20:80 itself (10.244.1.2:8080), and sent it back with its own address as source, which default/a refuses"
	for name, tc := range map[string]struct {
		packet *model.Packet
		node   func(*recorded)
		code   string
		says   []string
	}{
		"the set lacks it":    {back(podA, model.ByIPVS), emptied("KUBE-LOOP-BACK"), "masquerade-missing", []string{gone, "ipset KUBE-LOOP-BACK does not hold 10.244.1.2,tcp:8080,10.244.1.2", "ipvsadm -Ln: -> 10.244.1.2:40000 Masq", "have kube-proxy write its sets and rules again"}},
		"no such set":         {back(podA, model.ByIPVS), func(r *recorded) { delete(r.Places[nodeNS].Sets, "KUBE-LOOP-BACK") }, "masquerade-missing", []string{"there is no ipset KUBE-LOOP-BACK"}},
		"no such rule":        {back(podA, model.ByIPVS), replaced("KUBE-LOOP-BACK", ""), "masquerade-missing", []string{"iptables-save -t nat: no rule of KUBE-POSTROUTING has --match-set KUBE-LOOP-BACK dst,dst,src and -j MASQUERADE"}},
		"nothing jumps there": {back(podA, model.ByIPVS), replaced("-j KUBE-POSTROUTING", ""), "masquerade-missing", []string{"no rule of POSTROUTING has -j KUBE-POSTROUTING"}},
		"not in conntrack":    {back(podA, model.ByIPVS), func(r *recorded) { r.Places[nodeNS].Sysctls["ipv4/vs/conntrack"] = "0" }, "masquerade-missing", []string{"net.ipv4.vs.conntrack = 0", "sysctl -w net.ipv4.vs.conntrack=1"}},
		"all is there by now": {back(podA, model.ByIPVS), nil, "masquerade-missing", []string{"not known: why it was not masqueraded"}},
		"not by IPVS":         {back(podA, ""), emptied("KUBE-LOOP-BACK"), "rp-filter", nil},
		"it was masqueraded":  {back(node1, model.ByIPVS), emptied("KUBE-LOOP-BACK"), "rp-filter", nil},
	} {
		t.Run(name, func(t *testing.T) {
			state := kubeProxied()
			if tc.node != nil {
				tc.node(state)
			}
			holdsOne(t, diagnoseAll(t, state, tc.packet), tc.code, tc.says)
		})
	}
}

// holdsOne wants one finding, a likely one unless it is another cause's.
func holdsOne(t *testing.T, found []model.Finding, code string, says []string) {
	t.Helper()
	if len(found) != 1 || found[0].Code != code || says != nil && found[0].Confidence != Likely {
		t.Fatalf("told %+v, want %s", found, code)
	}
	for _, want := range says {
		if !strings.Contains(words(found[0]), want) {
			t.Errorf("does not say %q:\n%s", want, words(found[0]))
		}
	}
}

// TestUnmasqueraded: what IPVS sends to another node keeps the address of a client that
// answers reach without this node.
func TestUnmasqueraded(t *testing.T) {
	outside := netip.MustParseAddr("172.30.0.254")
	sent := func(client netip.Addr, asked netip.AddrPort, more func(*model.Packet)) *model.Packet {
		return leaving(func(p *model.Packet) {
			p.Src, p.Dst, p.DstPort = client, asked.Addr(), asked.Port()
			before, after := model.Endpoints{Src: client, SrcPort: 40000, Dst: asked.Addr(), DstPort: asked.Port()}, model.Endpoints{Src: client, SrcPort: 40000, Dst: remote, DstPort: 8080}
			nat := model.Hop{Stage: model.StageNAT, Netns: nodeNS, Place: "node", Interface: "vxlan.calico", IfIndex: 3, Hook: "OUTPUT", Before: &before, After: &after, NATBy: model.ByIPVS, CTState: "new"}
			local := model.Hop{Stage: model.StageRoute, Netns: nodeNS, Place: "node", Interface: "eth0", IfIndex: 2, Route: &model.Route{Type: "local"}} // before IPVS has it
			p.Hops = slices.Insert(p.Hops, 1, local, inHook("INPUT"), nat)
			if more != nil {
				more(p)
			}
		})
	}
	cluster, nodePort, balancer := virtual, netip.AddrPortFrom(node1, 30080), netip.MustParseAddrPort("172.30.0.100:80")
	serve := func(at netip.AddrPort) func(*recorded) {
		return func(r *recorded) {
			b := &r.Places[nodeNS].Balanced
			b.services = []node.VirtualService{{Proto: "tcp", Addr: at, Scheduler: "rr"}}
			b.servers = map[string][]node.RealServer{at.String(): {server(netip.AddrPortFrom(remote, 8080), 1)}}
		}
	}
	source := func(p *model.Packet) {
		was := *p.Hops[3].After
		is := was
		is.Src = node1
		p.Hops = slices.Insert(p.Hops, 4, model.Hop{Stage: model.StageNAT, Netns: nodeNS, Place: "node", Hook: "POSTROUTING", Before: &was, After: &is, CTState: "new"})
	}
	ownService := sent(cluster.Addr(), cluster, func(p *model.Packet) { p.Hops = p.Hops[3:] }) // kube-ipvs0's address as source
	marked := func(p *model.Packet) { p.Hops[3].Mark = 0x4000 }
	const left = "packets of 172.30.0.254 to service 172.30.0.1:30080 left for the real server that IPVS chose (10.244.2.3:8080) with their source as it was"
	for name, tc := range map[string]struct {
		packet *model.Packet
		asked  netip.AddrPort
		node   func(*recorded)
		code   string
		says   []string
	}{
		"node port not in the set":    {sent(outside, nodePort, nil), nodePort, emptied("KUBE-NODE-PORT-TCP"), "masquerade-missing", []string{"P" + left[1:], "none of the ipsets by which kube-proxy marks what is to be masqueraded names 172.30.0.1:30080", "ipset KUBE-NODE-PORT-TCP does not hold 30080", "ipset KUBE-CLUSTER-IP does not hold 172.30.0.1,tcp:30080", "it left by eth0 with the source 172.30.0.254"}},
		"node port, no rule asks":     {sent(outside, nodePort, nil), nodePort, replaced("KUBE-NODE-PORT-TCP", ""), "masquerade-missing", []string{"ipset KUBE-NODE-PORT-TCP holds 30080", "no rule of KUBE-NODE-PORT has --match-set KUBE-NODE-PORT-TCP dst and -j KUBE-MARK-MASQ"}},
		"node port, no way to it":     {sent(outside, nodePort, nil), nodePort, replaced("-j KUBE-NODE-PORT", ""), "masquerade-missing", []string{"no rule of KUBE-SERVICES has --dst-type LOCAL and -j KUBE-NODE-PORT"}},
		"no mark is set":              {sent(outside, nodePort, nil), nodePort, replaced("-A KUBE-MARK-MASQ", ""), "masquerade-missing", []string{"KUBE-MARK-MASQ sets no mark"}},
		"marked, and not masqueraded": {sent(outside, nodePort, marked), nodePort, replaced("requiring SNAT", ""), "masquerade-missing", []string{"KUBE-POSTROUTING has no rule that masquerades what bears kube-proxy's mark"}},
		"no jump from PREROUTING":     {sent(outside, nodePort, nil), nodePort, replaced("-A PREROUTING", ""), "masquerade-missing", []string{"PREROUTING does not jump to kube-proxy's KUBE-SERVICES"}},
		"not in conntrack":            {sent(outside, nodePort, nil), nodePort, func(r *recorded) { r.Places[nodeNS].Sysctls["ipv4/vs/conntrack"] = "0" }, "masquerade-missing", []string{"net.ipv4.vs.conntrack is 0: IPVS takes what it sends out of conntrack"}},
		"all flushed":                 {sent(outside, nodePort, nil), nodePort, natRules(func(string) string { return "" }), "masquerade-missing", []string{"no rule of POSTROUTING has -j KUBE-POSTROUTING"}},
		"cluster CIDR too wide":       {sent(outside, cluster, nil), cluster, replaced("10.244.0.0/16", "172.16.0.0/12"), "masquerade-missing", []string{"leaves out sources in 172.16.0.0/12, which it takes for pods (--cluster-cidr), and 172.30.0.254 is one", "rule 2 of KUBE-SERVICES in nat: -A KUBE-SERVICES ! -s 172.16.0.0/12"}},
		"cluster CIDR not known":      {sent(outside, cluster, nil), cluster, replaced("! -s 10.244.0.0/16 -m comment --comment \"Kubernetes service cluster ip + port for masquerade purpose\" -m set --match-set KUBE-CLUSTER-IP dst,dst", "-m set --match-set KUBE-CLUSTER-IP src,dst"), "masquerade-missing", []string{"does not know which sources are pods", "clusterCIDR"}},
		"a balancer's, no mark":       {sent(outside, balancer, nil), balancer, replaced("-A KUBE-LOAD-BALANCER -j", ""), "masquerade-missing", []string{"KUBE-LOAD-BALANCER does not jump to KUBE-MARK-MASQ"}},
		"the node's own, as service": {ownService, cluster, replaced("-A OUTPUT", ""), "masquerade-missing", []string{"Packets of this node to service 10.96.0.20:80 left for the real server that IPVS chose (10.244.2.3:8080) with the source 10.96.0.20, which every node has on kube-ipvs0",
			"ip addr: kube-ipvs0 has 10.96.0.20", "OUTPUT does not jump to kube-proxy's KUBE-SERVICES"}},
		"the policy is Local":     {sent(outside, balancer, nil), balancer, filled("KUBE-LOAD-BALANCER-LOCAL", "172.30.0.100,tcp:80"), "left-node", nil},
		"all is there":            {sent(outside, nodePort, nil), nodePort, nil, "left-node", nil},
		"it has another source":   {sent(outside, nodePort, source), nodePort, emptied("KUBE-NODE-PORT-TCP"), "masquerade", nil},
		"a pod of this node asks": {sent(podA, cluster, nil), cluster, emptied("KUBE-CLUSTER-IP"), "left-node", nil},
		"the node's own address":  {sent(node1, nodePort, nil), nodePort, emptied("KUBE-NODE-PORT-TCP"), "left-node", nil},
		"no kube-proxy": {sent(outside, nodePort, nil), nodePort, func(r *recorded) {
			natRules(func(string) string { return "" })(r)
			p := r.Places[nodeNS]
			p.Links, p.Sets = p.Links[:len(p.Links)-1], nil
		}, "left-node", nil},
	} {
		t.Run(name, func(t *testing.T) {
			state := kubeProxied()
			serve(tc.asked)(state)
			if tc.node != nil {
				tc.node(state)
			}
			holdsOne(t, diagnoseAll(t, state, tc.packet), tc.code, tc.says)
		})
	}
}
