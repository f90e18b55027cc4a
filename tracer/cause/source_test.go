// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

func TestLeftWithAnotherSource(t *testing.T) {
	far, floating := netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("172.30.0.50")
	masked := func(to netip.Addr) *model.Packet {
		return leaving(func(p *model.Packet) {
			p.Dst, p.DstPort = far, 80
			p.Hops = []model.Hop{p.Hops[0], {Stage: model.StageNAT, Netns: nodeNS, Place: "node", Hook: "POSTROUTING",
				Before: &model.Endpoints{Src: podA, SrcPort: 40000, Dst: far, DstPort: 80}, After: &model.Endpoints{Src: to, SrcPort: 40000, Dst: far, DstPort: 80}},
				{Stage: model.StageNetfilter, Netns: nodeNS, Place: "node", Hook: "POSTROUTING", Rules: []model.Rule{{Family: "ip", Table: "nat", Chain: "POSTROUTING", Number: 2, Text: "-A POSTROUTING -j MASQUERADE"}}}, p.Hops[2]}
		})
	}
	second := func(r *recorded) {
		l := &r.Places[nodeNS].Links[0]
		l.Addrs = append([]netip.Prefix{netip.PrefixFrom(floating, 24)}, l.Addrs...)
	}
	for name, tc := range map[string]struct {
		packet      *model.Packet
		node        func(*recorded)
		code        string
		says, never string
	}{
		"one address":           {masked(node1), nil, "left-node", "with the source 172.30.0.1 in place of 10.244.1.2", "floating"},
		"one of two":            {masked(floating), second, "left-node", "if 172.30.0.50 is a floating address", "in good order"},
		"none of this node's":   {masked(floating), nil, "masquerade", "to 172.30.0.50, which no interface of this node has", "in good order"},
		"a pod's":               {masked(podB), nil, "left-node", "with the source 10.244.1.3", ""},
		"as it was":             {gone(far), nil, "left-node", "with the pod's own address 10.244.1.2", "in good order"},
		"the rule is told, too": {masked(floating), nil, "masquerade", "rule 2 of POSTROUTING in nat: -A POSTROUTING -j MASQUERADE", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := madeNode()
			if tc.node != nil {
				tc.node(s)
			}
			found := diagnoseAll(t, s, tc.packet)
			if len(found) != 1 || found[0].Code != tc.code || !strings.Contains(words(found[0]), tc.says) {
				t.Fatalf("want %s saying %q: %+v", tc.code, tc.says, found)
			}
			if tc.never != "" && strings.Contains(words(found[0]), tc.never) {
				t.Errorf("says %q: %s", tc.never, words(found[0]))
			}
			if found := diagnoseAll(t, s, tc.packet, reply(far, tc.packet.DstPort)); len(found) > 0 {
				t.Errorf("answered, but told %s", found[0].Code)
			}
		})
	}
}

func TestDoubledMAC(t *testing.T) {
	toThird := func() *model.Packet {
		return sentOnBridge("IP_INADDRERRORS", "ip_error+0x94", inPod(thirdNS, "third"))
	}
	s := bridgedNode()
	s.Places[thirdNS].Links[0].MAC = macB
	s.Places[nodeNS].Neighbors[1].LinkIndex = 13 // learned behind the third pod's port
	found := diagnoseAll(t, s, toThird())
	if len(found) != 1 || found[0].Code != "duplicate-address" || !strings.Contains(words(found[0]), "Two pods have one MAC, "+macB) || !strings.Contains(words(found[0]), "bridge fdb: "+macB+" dev vethc master cni0") {
		t.Errorf("two pods with one MAC: %+v", found)
	}
	// the bridge alone is wrong
	s = bridgedNode()
	s.Places[nodeNS].Neighbors[1].LinkIndex = 13
	if found := diagnoseAll(t, s, toThird()); len(found) != 1 || found[0].Code != "stale-neighbor" {
		t.Errorf("a bridge that sends to the wrong port: %+v", found)
	}
}

func TestQueueing(t *testing.T) {
	s := madeNode()
	s.Places[nodeNS].Qdiscs = []node.Qdisc{{LinkIndex: 4, Kind: "tbf", Root: true, Rate: 8000}, {LinkIndex: 5, Kind: "htb", Root: true}}
	found := diagnoseAll(t, s, dead("QDISC_DROP", "__dev_queue_xmit+0x1", nil))
	if len(found) != 1 || found[0].Code != "queue-full" || !strings.Contains(words(found[0]), "tc qdisc: tbf dev calia root rate 8Kbit") || strings.Contains(words(found[0]), "htb dev") {
		t.Errorf("%+v", found)
	}
	for rate, want := range map[uint64]string{8: "8bit", 8000: "8Kbit", 8_388_608: "8388608bit", 1_500_000: "1500Kbit", 10_000_000_000: "10Gbit"} {
		if got := bitRate(rate); got != want {
			t.Errorf("%d is %s, want %s", rate, got, want)
		}
	}
}
