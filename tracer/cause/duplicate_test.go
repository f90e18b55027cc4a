// SPDX-License-Identifier: Apache-2.0

package cause

// Addresses that two have.

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// doubleNode is madeNode with a third pod behind calix that has pod A's address too,
// and the route to it.
func doubleNode(addr string) *recorded {
	r := madeNode()
	n := r.Places[nodeNS]
	n.Links = append(n.Links, node.Link{Index: 6, Name: "calix", Kind: "veth", Up: true, Carrier: true, MTU: 1450, PeerIndex: 2, PeerNetns: thirdNS})
	for i := range n.Routes {
		if n.Routes[i].Dst.String() == addr {
			n.Routes[i].LinkIndex = 6
		}
	}
	for _, name := range []string{"ipv4/conf/calia/rp_filter", "ipv4/conf/all/rp_filter"} {
		n.Sysctls[name] = "1"
	}
	r.Places[thirdNS] = &recordedPlace{Links: []node.Link{{Index: 2, Name: "eth0", Kind: "veth", Up: true, Carrier: true, MTU: 1450, PeerIndex: 6, PeerNetns: nodeNS, Addrs: []netip.Prefix{netip.MustParsePrefix(addr)}}}, Rules: &RuleSets{}}
	return r
}

// request is pod A's own, delivered.
func request(proto string) *model.Packet {
	p := arrived()
	p.Proto, p.Time = proto, time.Now().Add(-time.Second)
	p.Hops = append([]model.Hop{{Stage: model.StageTransmit, Netns: podNS, Place: "default/a", Interface: "eth0", IfIndex: 2}}, p.Hops...)
	if proto == "icmp" {
		p.TCPFlags, p.ICMP, p.ICMPID, p.SrcPort, p.DstPort = "", "echo-request", 7, 0, 0
	}
	return p
}

// answeredIn is the reply to it, which came to a namespace.
func answeredIn(netns uint32, proto string) *model.Packet {
	p := reply(podB, 80)
	p.Proto = proto
	if proto == "icmp" {
		p.TCPFlags, p.ICMP, p.ICMPID, p.SrcPort, p.DstPort = "", "echo-reply", 7, 0, 0
	}
	p.Hops = []model.Hop{{Stage: model.StageTransmit, Netns: otherNS, Place: "default/b", Interface: "eth0", IfIndex: 2},
		{Stage: model.StageDeliver, Netns: netns, Place: "default/x", Interface: "eth0", IfIndex: 2}}
	return p
}

// refusedIn is a reply that nobody waited for.
func refusedIn(netns uint32) *model.Packet {
	p := answeredIn(netns, "tcp")
	p.Outcome, p.Drop = model.Rejected, &model.Drop{Reason: "NO_SOCKET", Function: "tcp_v4_rcv+0x91", Netns: netns, Place: "default/x", Interface: "eth0", IfIndex: 2, Stage: model.StageDeliver}
	return p
}

func TestDuplicateAddress(t *testing.T) {
	const doubled = "10.244.1.2/32"
	refusedSource := func(reason string) *model.Packet { return dead(reason, "ip_rcv_finish_core+0x1", nil) }
	docker := func(r *recorded) {
		*r = *madeNode()
		for _, netns := range []uint32{podNS, otherNS} {
			r.Places[netns].Links = append(r.Places[netns].Links, node.Link{Index: 9, Name: "docker0", Kind: "bridge", Up: true, Addrs: []netip.Prefix{netip.MustParsePrefix("172.17.0.1/16")}})
		}
	}
	for name, tc := range map[string]struct {
		packets []*model.Packet
		node    func(*recorded)
		code    string // "": nothing
		says    string
		sure    string
	}{
		"reply to the other":              {[]*model.Packet{request("tcp"), refusedIn(thirdNS)}, nil, "duplicate-address", "which did not ask", Certain},
		"reply told before the request":   {[]*model.Packet{refusedIn(thirdNS), request("tcp")}, nil, "duplicate-address", "which did not ask", Certain},
		"request not seen":                {[]*model.Packet{refusedIn(thirdNS)}, nil, "duplicate-address", "not known: which of the two had asked", Likely},
		"echo reply to the other":         {[]*model.Packet{request("icmp"), answeredIn(thirdNS, "icmp")}, nil, "duplicate-address", "which did not ask", Certain},
		"echo reply to the one who asked": {[]*model.Packet{request("icmp"), answeredIn(podNS, "icmp")}, nil, "", "", ""},
		"strict filter":                   {[]*model.Packet{refusedSource("IP_RPFILTER")}, nil, "duplicate-address", "the node's route to it: 10.244.1.2/32 dev calix", Certain},
		"node has it": {[]*model.Packet{refusedSource("IP_LOCAL_SOURCE")}, func(r *recorded) {
			*r = *madeNode()
			r.Places[nodeNS].Links[0].Addrs = append(r.Places[nodeNS].Links[0].Addrs, netip.MustParsePrefix(doubled))
		}, "duplicate-address", "eth0 of this node", Certain},
		"one holder, strict filter": {[]*model.Packet{refusedSource("IP_RPFILTER")}, func(r *recorded) { r.Places[thirdNS].Links[0].Addrs = nil }, "rp-filter", "the way back", Certain},
		"one holder, closed client": {[]*model.Packet{refusedIn(podNS)}, func(r *recorded) { *r = *madeNode() }, "", "", ""},
		"a network that pods have of their own": {[]*model.Packet{dead("IP_RPFILTER", "ip_rcv_finish_core+0x1", func(p *model.Packet) { p.Src = netip.MustParseAddr("172.17.0.1") })}, func(r *recorded) {
			docker(r)
			r.Places[nodeNS].Sysctls["ipv4/conf/calia/rp_filter"], r.Places[nodeNS].Sysctls["ipv4/conf/all/rp_filter"] = "1", "0"
		}, "rp-filter", "", Certain},
	} {
		t.Run(name, func(t *testing.T) {
			state := doubleNode(doubled)
			if tc.node != nil {
				tc.node(state)
			}
			found := diagnoseAll(t, state, tc.packets...)
			if tc.code == "" {
				for _, f := range found {
					if f.Code == "duplicate-address" {
						t.Errorf("told %s: %s", f.Code, words(f))
					}
				}
				return
			}
			if len(found) != 1 || found[0].Code != tc.code || found[0].Confidence != tc.sure || !says(found[0], tc.says) {
				t.Fatalf("want %s (%s) saying %q: %+v", tc.code, tc.sure, tc.says, found)
			}
			if all := words(found[0]); tc.code == "duplicate-address" && (strings.Contains(all, "rp_filter=2") || !strings.Contains(all, "calia")) {
				t.Errorf("names not both, or loosens the filter:\n%s", all)
			}
		})
	}
}

// A request to an address that two have is the address' fault only where the other
// one would have taken it.
func TestDoubledServer(t *testing.T) {
	closed := func() *model.Packet {
		p := dead("NO_SOCKET", "tcp_v4_rcv+0x1", inPod(thirdNS, "default/x"))
		p.Outcome = model.Rejected
		return p
	}
	state := doubleNode("10.244.1.3/32")
	state.Places[otherNS].Sockets = []node.Socket{{Local: netip.MustParseAddrPort("0.0.0.0:80"), State: node.TCPListen}}
	if found := diagnoseAll(t, state, closed()); len(found) != 1 || found[0].Code != "duplicate-address" {
		t.Errorf("the other one listens: %+v", found)
	}
	state.Places[otherNS].Sockets = nil
	if found := diagnoseAll(t, state, closed()); len(found) != 1 || found[0].Code != "no-listener" {
		t.Errorf("nobody listens: %+v", found)
	}
}
