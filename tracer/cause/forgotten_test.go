// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// TestForgottenAnswer: answers to what left under the node's address, when conntrack knows
// them and when it does not.
func TestForgottenAnswer(t *testing.T) {
	far := netip.MustParseAddr("198.51.100.7")
	began := time.Now().Add(-10 * time.Second)
	asked := func(port uint16) *model.Packet {
		return leaving(func(p *model.Packet) {
			p.Time, p.Proto, p.TCPFlags, p.Dst, p.DstPort = began, "udp", "", far, 53
			p.Hops = []model.Hop{p.Hops[0], {Stage: model.StageNAT, Netns: nodeNS, Place: "node", Hook: "POSTROUTING",
				Before: &model.Endpoints{Src: podA, SrcPort: 40000, Dst: far, DstPort: 53}, After: &model.Endpoints{Src: node1, SrcPort: port, Dst: far, DstPort: 53}}, p.Hops[2]}
		})
	}
	answer := func(port uint16, after time.Duration, state string) *model.Packet {
		return &model.Packet{Direction: model.Return, Time: began.Add(after), Proto: "udp", Src: far, SrcPort: 53, Dst: node1, DstPort: port, Outcome: model.Dropped,
			Hops: []model.Hop{{Stage: model.StageConntrack, Netns: nodeNS, Place: "node", Interface: "eth0", IfIndex: 2, Hook: "INPUT", CTState: state}},
			Drop: &model.Drop{Reason: "NO_SOCKET", Function: "__udp4_lib_rcv+0x4bc", Netns: nodeNS, Place: "node", Interface: "eth0", IfIndex: 2}}
	}
	others := func(p *model.Packet) *model.Packet { p.Src = node2; return p }
	dropped := func(p *model.Packet) *model.Packet {
		d := p.Drop
		d.Reason, d.Function, d.Hook, d.Family, d.Table, d.Chain, d.Backend, d.Stage = "NETFILTER_DROP", "nf_hook_slow+0x1", "INPUT", "ip", "filter", "INPUT", "legacy", model.StageNetfilter
		d.Rule, d.RuleSource = &model.Rule{Family: "ip", Table: "filter", Chain: "INPUT", Number: 2, Text: "-A INPUT -j DROP"}, model.RuleExact
		return p
	}
	for name, tc := range map[string]struct {
		packets     []*model.Packet
		kept        string
		code        string
		says, never string
	}{
		"timed out":           {[]*model.Packet{asked(40000), answer(40000, 2*time.Second, "new")}, "1", "conntrack-unknown", "it came after 2.0 s, and conntrack keeps an entry of udp of which nothing more is heard for 1 s only (nf_conntrack_udp_timeout)", "nothing listens"},
		"of another port":     {[]*model.Packet{asked(61000), answer(61000, 2*time.Second, "new")}, "1", "conntrack-unknown", "in place of 10.244.1.2:40000", "nothing listens"},
		"deleted":             {[]*model.Packet{asked(40000), answer(40000, 2*time.Second, "new")}, "30", "conntrack-unknown", "it timed out, was deleted", "it came after"},
		"exempted":            {[]*model.Packet{asked(40000), answer(40000, 2*time.Second, "untracked")}, "1", "conntrack-unknown", "NOTRACK", "it came after"},
		"the default, slower": {[]*model.Packet{asked(40000), answer(40000, 6*time.Second, "new")}, "5", "conntrack-unknown", "for 5 s only", ""},
		"to another port":     {[]*model.Packet{asked(40000), answer(40001, 2*time.Second, "new")}, "1", "no-listener", "", "conntrack"},
		"of somebody else":    {[]*model.Packet{asked(40000), others(answer(40000, 2*time.Second, "new"))}, "1", "no-listener", "", "conntrack"},
		"of nothing":          {[]*model.Packet{answer(40000, 2*time.Second, "new")}, "1", "no-listener", "", "conntrack"},
		"dropped by a rule":   {[]*model.Packet{asked(40000), dropped(answer(40000, 2*time.Second, "new"))}, "1", "rule-drop", "", "in good order"},
	} {
		t.Run(name, func(t *testing.T) {
			s := madeNode()
			s.Places[nodeNS].Sysctls["netfilter/nf_conntrack_udp_timeout"] = tc.kept
			s.Places[nodeNS].Sysctls["ipv4/icmp_ratelimit"], s.Places[nodeNS].Sysctls["ipv4/icmp_msgs_per_sec"] = "1000", "1000"
			found := diagnoseAll(t, s, tc.packets...)
			f := withCode(found, tc.code)
			if f == nil || !strings.Contains(words(*f), tc.says) {
				t.Fatalf("want %s saying %q: %+v", tc.code, tc.says, found)
			}
			if tc.never != "" && strings.Contains(words(*f), tc.never) {
				t.Errorf("says %q: %s", tc.never, words(*f))
			}
			if tc.code == "conntrack-unknown" && len(found) != 1 {
				t.Errorf("more than that: %+v", found)
			}
		})
	}
	// an answer that conntrack knows is none that it forgot, though its translation was not seen
	known := answer(40000, 20*time.Millisecond, "established-reply")
	known.Outcome, known.Drop = model.Delivered, nil
	known.Hops = append(known.Hops, model.Hop{Stage: model.StageDeliver, Netns: podNS, Place: "default/a", Interface: "eth0", IfIndex: 2})
	if found := diagnoseAll(t, madeNode(), asked(40000), known); len(found) > 0 {
		t.Errorf("answered, but told %+v", found)
	}
}
