// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// TestAskedBeside: a service is asked beside its ports, or it is not.
func TestAskedBeside(t *testing.T) {
	service := netip.MustParseAddr("10.96.0.10")
	const web = `-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-X`
	rule := func(table string, texts ...string) func(*recorded) {
		return func(r *recorded) {
			r.Places[nodeNS].Rules = &RuleSets{Legacy: func(yield func(meaning.Rule) bool) {
				for i, text := range texts {
					if !yield(meaning.Rule{Family: "ip", Table: table, Chain: "KUBE-SERVICES", Number: i + 1, Text: text}) {
						return
					}
				}
			}}
		}
	}
	ask := func(proto string, port uint16) *model.Packet {
		p := gone(service)
		p.Proto, p.DstPort = proto, port
		if proto == "icmp" {
			p.ICMP, p.ICMPID, p.TCPFlags, p.SrcPort = "echo-request", 7, "", 0
		}
		return p
	}
	for name, tc := range map[string]struct {
		packet *model.Packet
		node   func(*recorded)
		code   string
		says   string
	}{
		"ping":               {ask("icmp", 0), rule("nat", web), "service-untranslated", "10.96.0.10 is the address of a service (default/web:http), of which this node translates tcp port 80 only, not icmp"},
		"another port":       {ask("tcp", 8080), rule("nat", web), "service-untranslated", "translates tcp port 80 only, not tcp port 8080"},
		"another protocol":   {ask("udp", 80), rule("nat", web), "service-untranslated", "not udp port 80"},
		"two ports":          {ask("udp", 80), rule("nat", web, strings.Replace(web, "--dport 80", "--dport 443", 1)), "service-untranslated", "tcp port 80, tcp port 443 only"},
		"without endpoints":  {ask("icmp", 0), rule("filter", strings.Replace(web, "cluster IP\" -m tcp --dport 80 -j KUBE-SVC-X", "has no endpoints\" -m tcp --dport 80 -j REJECT", 1)), "service-untranslated", "tcp port 80 only"},
		"its own port":       {ask("tcp", 80), rule("nat", web), "left-node", ""},
		"a range":            {ask("tcp", 85), rule("nat", strings.Replace(web, "--dport 80", "--dport 80:90", 1)), "left-node", ""},
		"beside a range":     {ask("tcp", 91), rule("nat", strings.Replace(web, "--dport 80", "--dport 80:90", 1)), "service-untranslated", "tcp port 80:90 only"},
		"all of the address": {ask("udp", 80), rule("nat", web, "-A KUBE-SERVICES -d 10.96.0.10/32 -j DNAT --to-destination 10.1.1.1"), "left-node", ""},
		"not this address":   {ask("icmp", 0), rule("nat", strings.Replace(web, "-d", "! -d", 1)), "left-node", ""},
		"one like it":        {ask("icmp", 0), rule("nat", strings.Replace(web, "0.10/", "0.101/", 1)), "left-node", ""},
		"a mark only":        {ask("icmp", 0), rule("nat", strings.Replace(web, "KUBE-SVC-X", "KUBE-MARK-MASQ", 1)), "left-node", ""},
		"a policy":           {ask("icmp", 0), rule("filter", strings.Replace(web, "KUBE-SVC-X", "REJECT", 1)), "left-node", ""},
		"nft":                {ask("icmp", 0), rule("nat", "ip daddr 10.96.0.10 tcp dport 80 counter dnat to 10.244.1.3:8080"), "service-untranslated", "tcp port 80 only, not icmp"},
		"nft, its port":      {ask("tcp", 443), rule("nat", "ip daddr 10.96.0.10 tcp dport {80,443} dnat to 10.244.1.3"), "left-node", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := madeNode()
			tc.node(s)
			found := diagnoseAll(t, s, tc.packet)
			if len(found) != 1 || found[0].Code != tc.code || !strings.Contains(words(found[0]), tc.says) {
				t.Fatalf("want %s saying %q: %+v", tc.code, tc.says, found)
			}
			if tc.code != "left-node" && strings.Contains(words(found[0]), "in good order") {
				t.Errorf("in good order: %s", words(found[0]))
			}
		})
	}
}

// TestHandedTo: to whom on the link packets were handed that nobody answered.
func TestHandedTo(t *testing.T) {
	far, gateway := netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("172.30.0.254")
	entry := func(addr netip.Addr, mac string, state int) func(*recorded) {
		return func(r *recorded) {
			r.Places[nodeNS].Links[0].MAC = "02:00:00:00:00:01"
			r.Places[nodeNS].Neighbors = []node.Neighbor{{LinkIndex: 2, Addr: addr, MAC: mac, State: state}}
		}
	}
	other := gone(netip.MustParseAddr("203.0.113.9"))
	other.SrcPort = 40001
	answer := reply(other.Dst, other.DstPort)
	answer.DstPort = 40001
	const permanent, reachable = 0x80, 0x02
	for name, tc := range map[string]struct {
		packets []*model.Packet
		node    func(*recorded)
		says    string
		well    bool
	}{
		"by hand":         {[]*model.Packet{gone(far)}, entry(gateway, "02:00:5e:00:01:33", permanent), "172.30.0.254 at 02:00:5e:00:01:33, an entry that was written by hand (PERMANENT)", false},
		"by ARP":          {[]*model.Packet{gone(far)}, entry(gateway, "02:00:5e:00:01:33", reachable), "", true},
		"none":            {[]*model.Packet{gone(far)}, nil, "", true},
		"this node's own": {[]*model.Packet{gone(far)}, entry(gateway, "02:00:00:00:00:01", reachable), "which is the MAC of this node's own eth0", false},
		"of another":      {[]*model.Packet{gone(far)}, entry(node2, "02:00:5e:00:01:33", permanent), "", true},
		"which answers":   {[]*model.Packet{other, answer, gone(far)}, entry(gateway, "02:00:5e:00:01:33", permanent), "", true},
		"the other node":  {[]*model.Packet{leaving(nil)}, entry(node2, "02:00:5e:00:01:33", permanent), "172.30.0.2 at 02:00:5e:00:01:33", false},
		"a tunnel's, as ever": {[]*model.Packet{leaving(nil)}, func(r *recorded) {
			r.Places[nodeNS].Neighbors = []node.Neighbor{{LinkIndex: 3, Addr: netip.MustParseAddr("10.244.2.0"), MAC: "02:00:5e:00:01:33", State: permanent}}
		}, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := madeNode()
			s.Places[nodeNS].Routes = append(s.Places[nodeNS].Routes, node.Route{Dst: netip.MustParsePrefix("172.30.0.0/24"), LinkIndex: 2, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST})
			if tc.node != nil {
				tc.node(s)
			}
			found := diagnoseAll(t, s, tc.packets...)
			if len(found) != 1 || found[0].Code != "left-node" || !strings.Contains(words(found[0]), tc.says) {
				t.Fatalf("want left-node saying %q: %+v", tc.says, found)
			}
			if well := strings.Contains(words(found[0]), "in good order") || strings.Contains(words(found[0]), "which nothing rewrote, and"); well != tc.well {
				t.Errorf("in good order: %v: %s", well, words(found[0]))
			}
		})
	}
}

// TestSomeAnswered: of several connections some got no answer.
func TestSomeAnswered(t *testing.T) {
	far := netip.MustParseAddr("198.51.100.7")
	from := func(port uint16) *model.Packet {
		p := gone(far)
		p.SrcPort = port
		return p
	}
	back := func(port uint16) *model.Packet {
		p := reply(far, 53)
		p.DstPort = port
		return p
	}
	s := madeNode()
	found := diagnoseAll(t, s, from(1), back(1), from(2), from(3), back(3))
	if len(found) != 1 || !strings.Contains(words(found[0]), "1 of 3 connections got no answer, while 2 were answered") || strings.Contains(words(found[0]), "in good order") || strings.Contains(words(found[0]), "next hop") {
		t.Errorf("one of three: %+v", found)
	}
	s.Places[nodeNS].Routes[0].NextHops = []node.NextHop{{LinkIndex: 2, Gateway: netip.MustParseAddr("172.30.0.254")}, {LinkIndex: 2, Gateway: netip.MustParseAddr("172.30.0.77")}}
	found = diagnoseAll(t, s, from(1), back(1), from(2), from(3), from(4))
	if len(found) != 1 || !strings.Contains(words(found[0]), "3 of 4 connections got no answer") || !strings.Contains(words(found[0]), "2 next hops (172.30.0.254, 172.30.0.77)") {
		t.Errorf("several next hops: %+v", found)
	}
	found = diagnoseAll(t, s, from(1), from(2))
	if len(found) != 1 || !strings.Contains(words(found[0]), "which nothing rewrote, and no answer came back") {
		t.Errorf("none: %+v", found)
	}
	// a service's connections went to two backends
	to := func(port uint16, backend netip.Addr) *model.Packet {
		p := from(port)
		p.Hops = append([]model.Hop{p.Hops[0], {Stage: model.StageNAT, Netns: nodeNS, Place: "node", Hook: "PREROUTING", CTState: "new",
			Before: &model.Endpoints{Src: podA, SrcPort: port, Dst: far, DstPort: 53}, After: &model.Endpoints{Src: podA, SrcPort: port, Dst: backend, DstPort: 53}}}, p.Hops[1:]...)
		return p
	}
	well := reply(node2, 53)
	well.DstPort = 1
	found = diagnoseAll(t, madeNode(), to(1, node2), well, to(2, netip.MustParseAddr("172.30.0.3")))
	if len(found) != 1 || !strings.Contains(words(found[0]), "they went to 172.30.0.3:53, those that were answered to 172.30.0.2:53") {
		t.Errorf("two backends: %+v", found)
	}
}
