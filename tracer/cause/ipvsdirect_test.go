// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// inHook is a hop in a hook of the node.
func inHook(hook string) model.Hop {
	return model.Hop{Stage: model.StageNetfilter, Netns: nodeNS, Place: "node", Hook: hook, Backend: "legacy", Table: "filter", Verdict: "accept"}
}

// sentAs is a packet to the service that left by eth0 as it was, through these hops.
func sentAs(hops ...model.Hop) *model.Packet {
	return leaving(func(p *model.Packet) {
		p.Dst, p.DstPort = virtual.Addr(), virtual.Port()
		p.Hops = slices.Concat(p.Hops[:1], hops, p.Hops[2:])
	})
}

// own makes it the node's own.
func own(p *model.Packet) *model.Packet {
	p.Src, p.Hops = node1, p.Hops[1:]
	return p
}

// TestSentByIPVS: what IPVS sends to a real server as it is left in good order; the same
// packet that IPVS had nothing to do with did not.
func TestSentByIPVS(t *testing.T) {
	direct := func(method string) []node.RealServer {
		return []node.RealServer{{Addr: netip.AddrPortFrom(node2, 80), Method: method, Weight: 1}}
	}
	lost := func(r *recorded) { // kube-ipvs0 has not the address
		links := r.Places[nodeNS].Links
		links[len(links)-1].Addrs = nil
	}
	local := func(r *recorded) {
		p := r.Places[nodeNS]
		p.Routes = append(p.Routes, node.Route{Dst: netip.PrefixFrom(virtual.Addr(), 32), LinkIndex: 9, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL})
	}
	none := func(r *recorded) { r.Places[nodeNS].Balanced.services = nil }
	tunnel := model.Hop{Stage: model.StageEncapsulate, Netns: nodeNS, Place: "node", Interface: "vxlan.calico", IfIndex: 3, Tunnel: &model.Tunnel{Kind: "vxlan", VNI: 4096, Src: node1, Dst: node2, DstPort: 4789}}
	out := model.Hop{Stage: model.StageDecapsulate, Netns: nodeNS, Place: "node", Interface: "vxlan.calico", IfIndex: 3}
	bridged := func(hook string) model.Hop {
		h := inHook(hook)
		h.Family = "bridge"
		return h
	}
	const past = "answers go from the real server to the client and do not come back this way"
	for name, tc := range map[string]struct {
		packet  *model.Packet
		servers []node.RealServer
		node    []func(*recorded)
		code    string
		says    []string
	}{
		"Route":                   {sentAs(inHook("INPUT"), inHook("OUTPUT")), direct("Route"), []func(*recorded){local}, "left-node", []string{past, "with its method Route", "ipvsadm -Ln: -> 172.30.0.2:80 Route", "for service 10.96.0.20:80/TCP"}},
		"Tunnel":                  {sentAs(inHook("INPUT"), inHook("OUTPUT")), direct("Tunnel"), []func(*recorded){local}, "left-node", []string{past, "with its method Tunnel"}},
		"no local route any more": {sentAs(inHook("INPUT"), inHook("OUTPUT")), direct("Route"), nil, "left-node", []string{past}},
		"its entry":               {sentAs(inHook("INPUT"), inHook("OUTPUT")), direct("Route"), []func(*recorded){local, func(r *recorded) { ipvsEntry(r, netip.AddrPortFrom(node2, 80)) }}, "left-node", []string{past, "on the real server 172.30.0.2:80"}},
		"its entry, masqueraded since": {func() *model.Packet {
			p := sentAs(inHook("INPUT"), inHook("OUTPUT"))
			was := model.Endpoints{Src: podA, SrcPort: 40000, Dst: virtual.Addr(), DstPort: 80}
			is := was
			is.Src = node1
			p.Hops = slices.Insert(p.Hops, len(p.Hops)-1, model.Hop{Stage: model.StageNAT, Netns: nodeNS, Place: "node", Interface: "eth0", IfIndex: 2, Hook: "POSTROUTING", Before: &was, After: &is, CTState: "new"})
			return p
		}(), direct("Route"), []func(*recorded){local, func(r *recorded) { ipvsEntry(r, netip.AddrPortFrom(node2, 80)) }}, "left-node", []string{past, "on the real server 172.30.0.2:80"}},
		"the service is gone":               {sentAs(inHook("INPUT"), inHook("OUTPUT")), nil, []func(*recorded){local, none}, "left-node", []string{past, "Route or Tunnel"}},
		"by mark, the address elsewhere":    {sentAs(inHook("INPUT"), inHook("OUTPUT")), direct("Route"), []func(*recorded){lost}, "left-node", []string{past}},
		"the node's own":                    {own(sentAs(inHook("OUTPUT"))), direct("Route"), []func(*recorded){local}, "left-node", []string{past}},
		"the node's own, without address":   {own(sentAs(inHook("OUTPUT"))), direct("Route"), []func(*recorded){lost}, "left-node", []string{past}},
		"no hook shows":                     {sentAs(), direct("Route"), []func(*recorded){local}, "left-node", []string{past}},
		"no hook shows, it would translate": {sentAs(), []node.RealServer{server(podBServer, 1)}, []func(*recorded){local}, "address-not-local", nil},
		"forwarded":                         {sentAs(inHook("PREROUTING"), inHook("FORWARD")), direct("Route"), []func(*recorded){local}, "address-not-local", nil},
		"forwarded, without address":        {sentAs(inHook("FORWARD")), direct("Route"), []func(*recorded){lost}, "service-untranslated", nil},
		"through bridges":                   {sentAs(bridged("INPUT"), bridged("OUTPUT")), direct("Route"), []func(*recorded){lost}, "service-untranslated", nil},
		"no IPVS":                           {sentAs(inHook("OUTPUT")), nil, []func(*recorded){local, none}, "address-not-local", nil},
		"into a tunnel":                     {sentAs(inHook("FORWARD"), tunnel, inHook("OUTPUT")), direct("Route"), []func(*recorded){lost}, "service-untranslated", nil},
		"out of a tunnel":                   {sentAs(inHook("INPUT"), out, inHook("FORWARD"), tunnel, inHook("OUTPUT")), direct("Route"), []func(*recorded){lost}, "service-untranslated", nil},
	} {
		t.Run(name, func(t *testing.T) {
			state := madeNode()
			ipvsWith(tc.servers...)(state)
			for _, change := range tc.node {
				change(state)
			}
			found := diagnoseAll(t, state, tc.packet)
			if len(found) != 1 || found[0].Code != tc.code {
				t.Fatalf("told %+v, want %s", found, tc.code)
			}
			says := words(found[0])
			for _, want := range tc.says {
				if !strings.Contains(says, want) {
					t.Errorf("does not say %q:\n%s", want, says)
				}
			}
			if tc.says == nil && strings.Contains(says, past) {
				t.Errorf("says %q:\n%s", past, says)
			}
		})
	}
}

// TestSentByIPVSIsNoDetour: neither its way nor its state for conntrack is told as wrong
// when it leaves.
func TestSentByIPVSIsNoDetour(t *testing.T) {
	far := &peer{peerKey: peerKey{proto: "tcp", far: virtual}}
	untracked := inHook("OUTPUT")
	untracked.CTState = "untracked"
	for name, tc := range map[string]struct {
		hops []model.Hop
		told bool
	}{
		"sent by IPVS": {[]model.Hop{inHook("INPUT"), untracked}, false},
		"forwarded":    {[]model.Hop{inHook("FORWARD"), {Stage: model.StageConntrack, Netns: nodeNS, Place: "node", Hook: "POSTROUTING", CTState: "untracked"}}, true},
	} {
		state := madeNode()
		ipvsWith(node.RealServer{Addr: netip.AddrPortFrom(node2, 80), Method: "Route", Weight: 1})(state)
		p := sentAs(tc.hops...)
		p.TCPFlags = "."
		q := &inquiry{p: p, d: &model.Drop{}, state: state, start: &model.Start{}, mem: &New(state, nil).mem}
		if c := misrouted(q, far); (c != nil) != tc.told {
			t.Errorf("%s: misrouted %+v", name, c)
		}
		if c := unknownAway(q, far); (c != nil) != tc.told {
			t.Errorf("%s: conntrack-unknown %+v", name, c)
		}
	}
}

// TestLeftOutByIPVS: who took a packet out of conntrack is told by where it was first
// untracked.
func TestLeftOutByIPVS(t *testing.T) {
	as := func(hook, state string) model.Hop {
		h := inHook(hook)
		h.CTState = state
		return h
	}
	raw := as("OUTPUT", "untracked")
	raw.Table, raw.RuleSource, raw.Rules = "raw", model.RuleExact, []model.Rule{{Family: "ip", Table: "raw", Chain: "OUTPUT", Number: 1, Text: "-A OUTPUT -p tcp -j NOTRACK"}}
	before, after := model.Endpoints{Src: podB, SrcPort: 8080, Dst: podA, DstPort: 40000}, model.Endpoints{Src: virtual.Addr(), SrcPort: 80, Dst: podA, DstPort: 40000}
	answered := as("FORWARD", "untracked")
	answered.Stage, answered.NATBy, answered.Before, answered.After = model.StageNAT, model.ByIPVS, &before, &after
	const ipvs, rule, exempted = "IPVS takes it out of conntrack", "a rule exempts it", "rule 1 of OUTPUT in raw exempts it"
	for name, tc := range map[string]struct {
		hops   []model.Hop
		sysctl string
		why    string
		known  bool
	}{
		"sent on":                 {[]model.Hop{as("INPUT", "new"), as("OUTPUT", "untracked")}, "0", ipvs + " (net.ipv4.vs.conntrack is 0)", true},
		"an answer rewritten":     {[]model.Hop{as("FORWARD", "new"), answered}, "0", ipvs + " (net.ipv4.vs.conntrack is 0)", true},
		"not to be read":          {[]model.Hop{as("INPUT", "new"), as("OUTPUT", "untracked")}, "", ipvs + ", as it does unless", false},
		"IPVS leaves it":          {[]model.Hop{as("INPUT", "new"), as("OUTPUT", "untracked")}, "1", rule, false},
		"so before":               {[]model.Hop{as("PREROUTING", "untracked"), as("INPUT", "untracked"), as("OUTPUT", "untracked")}, "0", rule, false},
		"forwarded":               {[]model.Hop{as("FORWARD", "untracked")}, "0", rule, false},
		"the node's own":          {[]model.Hop{as("OUTPUT", "untracked")}, "0", rule, false},
		"a rule was seen to do":   {[]model.Hop{as("INPUT", "new"), raw}, "0", exempted, false},
		"in INPUT, not rewritten": {[]model.Hop{as("INPUT", "untracked")}, "0", rule, false},
	} {
		state := madeNode()
		if tc.sysctl != "" {
			state.Places[nodeNS].Sysctls["ipv4/vs/conntrack"] = tc.sysctl
		}
		p := sentAs(tc.hops...)
		q := &inquiry{p: p, d: &model.Drop{}, state: state, start: &model.Start{}, mem: &New(state, nil).mem}
		o, ok := q.outsideOf(nodeNS)
		if !ok || !strings.Contains(o.why, tc.why) || slices.Contains(o.evidence, "net.ipv4.vs.conntrack = 0") != tc.known || o.certain != (tc.why == exempted) {
			t.Errorf("%s: %+v, want %q", name, o, tc.why)
		}
	}
}

// TestConnectionsOfIPVSUnread: where its connections cannot be looked through, none is told
// as missing, and the finding says what could not be asked.
func TestConnectionsOfIPVSUnread(t *testing.T) {
	const gap = "too many connections of IPVS to look through"
	reset := dead("NO_SOCKET", "tcp_v4_rcv+0x1", func(p *model.Packet) {
		p.Dst, p.DstPort, p.TCPFlags = virtual.Addr(), virtual.Port(), "P."
		wasTold("tcp-reset")(p)
	})
	for name, tc := range map[string]struct {
		packet *model.Packet
		code   string
		says   string
	}{
		"midway":     {reset, "unexplained-drop", gap},
		"blackholed": {inXmit("icmp-host-unreachable"), "blackhole-route", "IPVS's entry of the connection could not be looked for"},
		"sent on":    {sentAs(inHook("INPUT"), inHook("OUTPUT")), "left-node", gap},
	} {
		state := madeNode()
		ipvsWith(server(goneServer, 1))(state)
		p := state.Places[nodeNS]
		p.Balanced.unread = errors.New(gap)
		p.Routes = append(p.Routes, node.Route{Dst: netip.MustParsePrefix("10.244.1.0/26"), Table: unix.RT_TABLE_MAIN, Type: unix.RTN_BLACKHOLE, Protocol: protoFelix})
		c := New(state, func(string) {})
		c.Start(&model.Start{Type: model.TypeStart, Src: model.End{Given: "a", Netns: podNS}, Dst: model.End{Given: virtual.Addr().String()}})
		tc.packet.ID = 1
		c.Packet(tc.packet)
		found := c.Findings()
		if len(found) != 1 || found[0].Code != tc.code {
			t.Errorf("%s: %+v, want %s", name, found, tc.code)
			continue
		}
		says := words(found[0])
		if !strings.Contains(says, "not known: ") || !strings.Contains(says, tc.says) || strings.Contains(says, "-Lnc has no ") || strings.Contains(says, "entry of the connection is gone") {
			t.Errorf("%s: %s", name, says)
		}
	}
}

// TestServersUnlisted: where real servers cannot be read, none is told as missing.
func TestServersUnlisted(t *testing.T) {
	const gap = "no answer"
	for name, tc := range map[string]struct {
		packet *model.Packet
		code   string
	}{
		"in INPUT": {inINPUT(wasTold("icmp-port-unreachable")), "unexplained-drop"},
		"sent on":  {sentAs(inHook("INPUT"), inHook("OUTPUT")), "left-node"},
		"midway": {dead("NO_SOCKET", "tcp_v4_rcv+0x1", func(p *model.Packet) {
			p.Dst, p.DstPort, p.TCPFlags = virtual.Addr(), virtual.Port(), "P."
			wasTold("tcp-reset")(p)
		}), "ipvs-unknown"},
	} {
		state := madeNode()
		ipvsWith()(state)
		state.Places[nodeNS].Balanced.unlisted = errors.New(gap)
		c := New(state, func(string) {})
		c.Start(&model.Start{Type: model.TypeStart, Src: model.End{Given: "a", Netns: podNS}, Dst: model.End{Given: virtual.Addr().String()}})
		tc.packet.ID = 1
		c.Packet(tc.packet)
		found := c.Findings()
		if len(found) != 1 || found[0].Code != tc.code || strings.Contains(words(found[0]), "real server in IPVS") || strings.Contains(words(found[0]), "without a real server") || !strings.Contains(words(found[0]), "not known: "+gap) {
			t.Errorf("%s: %+v, want %s", name, found, tc.code)
		}
	}
}
