// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

var dns = netip.MustParseAddr("169.254.20.10")

// gone is a packet that left by the uplink for an address.
func gone(to netip.Addr) *model.Packet {
	return leaving(func(p *model.Packet) {
		p.Dst, p.DstPort = to, 53
		p.Hops = []model.Hop{p.Hops[0], p.Hops[2]}
	})
}

func TestNotLocal(t *testing.T) {
	vip := netip.MustParseAddr("203.0.113.10")
	holds := func(r *recorded) {
		r.Places[nodeNS].Links[0].Addrs = append(r.Places[nodeNS].Links[0].Addrs, netip.PrefixFrom(vip, 32))
	}
	local := node.Route{Dst: netip.PrefixFrom(vip, 32), LinkIndex: 2, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL}
	before := func(netns uint32) *model.Packet {
		p := arrived()
		p.Dst, p.DstPort, p.Time, p.SrcPort = vip, 53, time.Now().Add(-time.Minute), 39999
		p.Hops[0].Netns = netns
		return p
	}
	for name, tc := range map[string]struct {
		packets []*model.Packet
		node    func(*recorded)
		code    string
		says    string
	}{
		"link-local, and nobody's":          {[]*model.Packet{gone(dns)}, nil, "address-not-local", "No interface of this node has 169.254.20.10"},
		"a cloud's metadata":                {[]*model.Packet{gone(netip.MustParseAddr("169.254.169.254"))}, nil, "left-node", ""},
		"link-local without gateway":        {[]*model.Packet{gone(dns)}, func(r *recorded) { r.Places[nodeNS].Routes[0].Gateway = netip.Addr{} }, "left-node", ""},
		"held, but without its local route": {[]*model.Packet{gone(vip)}, holds, "address-not-local", "eth0 of this node has 203.0.113.10, but the local route to it is missing"},
		"held, and its route is back": {[]*model.Packet{gone(vip)}, func(r *recorded) {
			holds(r)
			r.Places[nodeNS].Routes = append(r.Places[nodeNS].Routes, local)
		}, "address-not-local", "its local route was missing when they came"},
		"local before":   {[]*model.Packet{before(nodeNS), gone(vip)}, nil, "address-not-local", "is no longer an address of this node"},
		"a pod's before": {[]*model.Packet{before(otherNS), gone(vip)}, nil, "left-node", ""},
		"never local":    {[]*model.Packet{gone(vip)}, nil, "left-node", ""},
		"comes back by its way in": {[]*model.Packet{before(nodeNS), leaving(func(p *model.Packet) {
			p.Dst = vip
			p.Hops = []model.Hop{{Stage: model.StageReceive, Netns: nodeNS, Place: "node", Interface: "eth0", IfIndex: 2}, p.Hops[2]}
		})}, nil, "address-not-local", "the interface that they came in by"},
	} {
		t.Run(name, func(t *testing.T) {
			s := madeNode()
			if tc.node != nil {
				tc.node(s)
			}
			found := withCode(diagnoseAll(t, s, tc.packets...), tc.code)
			if found == nil || !strings.Contains(words(*found), tc.says) {
				t.Errorf("want %s saying %q, not %+v", tc.code, tc.says, diagnoseAll(t, s, tc.packets...))
			}
		})
	}
	// one that is answered is no fault
	answer := reply(dns, 53)
	if found := diagnoseAll(t, madeNode(), gone(dns), answer); len(found) > 0 {
		t.Errorf("answered, but told %s", found[0].Code)
	}
}

// withCode finds the finding of a code; nil: none.
func withCode(all []model.Finding, code string) *model.Finding {
	for i := range all {
		if all[i].Code == code {
			return &all[i]
		}
	}
	return nil
}

func TestUntranslated(t *testing.T) {
	service := netip.MustParseAddr("10.96.0.10")
	before := arrived()
	before.Dst, before.DstPort, before.SrcPort = service, 53, 39999
	before.Hops = append([]model.Hop{{Stage: model.StageNAT, Netns: nodeNS, Place: "node", Hook: "PREROUTING",
		Before: &model.Endpoints{Src: podA, SrcPort: 39999, Dst: service, DstPort: 53}, After: &model.Endpoints{Src: podA, SrcPort: 39999, Dst: podB, DstPort: 5353}}}, before.Hops...)
	rule := func(text string) func(*recorded) {
		return func(r *recorded) {
			r.Places[nodeNS].Rules = &RuleSets{Legacy: func(yield func(meaning.Rule) bool) {
				yield(meaning.Rule{Family: "ip", Table: "nat", Chain: "KUBE-SERVICES", Number: 1, Text: text})
			}}
		}
	}
	for name, tc := range map[string]struct {
		packets []*model.Packet
		node    func(*recorded)
		code    string
	}{
		"translated before":        {[]*model.Packet{before, gone(service)}, nil, "service-untranslated"},
		"never translated":         {[]*model.Packet{gone(service)}, nil, "left-node"},
		"a rule names it":          {[]*model.Packet{before, gone(service)}, rule("-A KUBE-SERVICES -d 10.96.0.10/32 -p udp -j KUBE-SVC-X"), "left-node"},
		"a rule names one like it": {[]*model.Packet{before, gone(service)}, rule("-A KUBE-SERVICES -d 10.96.0.101/32 -p udp -j KUBE-SVC-X"), "service-untranslated"},
		"another port of it":       {[]*model.Packet{before, func() *model.Packet { p := gone(service); p.DstPort = 9153; return p }()}, nil, "left-node"},
	} {
		t.Run(name, func(t *testing.T) {
			s := madeNode()
			if tc.node != nil {
				tc.node(s)
			}
			found := diagnoseAll(t, s, tc.packets...)
			if withCode(found, tc.code) == nil {
				t.Fatalf("want %s, not %+v", tc.code, found)
			}
			if f := withCode(found, "service-untranslated"); f != nil && !strings.Contains(words(*f), "an earlier packet was translated from 10.96.0.10:53 to 10.244.1.3:5353") {
				t.Errorf("does not tell what it became: %s", words(*f))
			}
		})
	}
}

func TestUntranslatedByName(t *testing.T) {
	service := netip.MustParseAddr("10.96.0.10")
	c := New(madeNode(), nil)
	c.Start(&model.Start{Src: model.End{Given: "a", Netns: podNS}, Dst: model.End{Given: "svc/web", Kind: "service", Addresses: model.Prefixes{netip.PrefixFrom(service, 32)}}})
	c.Packet(gone(service))
	if f := withCode(c.Findings(), "service-untranslated"); f == nil || !strings.Contains(words(*f), "10.96.0.10 was asked for as svc/web") {
		t.Errorf("told %+v", f)
	}
}
