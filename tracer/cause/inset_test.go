// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// TestRuleWithASet: the element is taken out, and never the rule.
func TestRuleWithASet(t *testing.T) {
	native := func(text string) func(*model.Packet) {
		return func(p *model.Packet) {
			byRule("forward", text, "")(p)
			p.Drop.Table, p.Drop.Chain, p.Drop.Backend, p.Drop.Rule.Table, p.Drop.Rule.Handle = "guard", "forward", "nft", "guard", 3
		}
	}
	for name, tc := range map[string]struct {
		how         func(*model.Packet)
		says, never string
	}{
		"nft, the source":         {native("ip saddr @bad counter drop"), "nft delete element ip guard bad { 10.244.1.2 }", "nft delete rule"},
		"nft, the destination":    {native("ip daddr @bad drop"), "10.244.1.3 is in the set bad", "nft delete rule"},
		"nft, all others":         {native("ip saddr != @allowed drop"), "nft add element ip guard allowed { 10.244.1.2 }", "nft delete"},
		"CrowdSec's":              {native("ip saddr @crowdsec-blacklists drop"), "cscli decisions delete --ip 10.244.1.2", "nft delete rule"},
		"an ipset":                {byRule("FORWARD", "-A FORWARD -m set --match-set bad src -j DROP", ""), "ipset del bad 10.244.1.2", "-D FORWARD"},
		"all others of an ipset":  {byRule("FORWARD", "-A FORWARD -m set ! --match-set allowed dst -j DROP", ""), "ipset add allowed 10.244.1.3", "ipset del"},
		"two sets":                {byRule("FORWARD", "-A FORWARD -m set --match-set a src -m set --match-set b dst -j DROP", ""), "if nobody needs it", "is in the set"},
		"more than an address":    {byRule("FORWARD", "-A FORWARD -m set --match-set a src,dst -j DROP", ""), "if nobody needs it", "is in the set"},
		"a set in a comment only": {byRule("FORWARD", `-A FORWARD -m comment --comment "--match-set a src " -j DROP`, ""), "if nobody needs it", "is in the set"},
		"none":                    {native("ip saddr 10.244.1.2 drop"), "nft delete rule", "element"},
	} {
		found := diagnoseAll(t, madeNode(), dead("NETFILTER_DROP", "nf_hook_slow+0x1", tc.how))
		if len(found) != 1 || found[0].Code != "rule-drop" || !strings.Contains(words(found[0]), tc.says) || strings.Contains(words(found[0]), tc.never) {
			t.Errorf("%s: want %q, never %q: %+v", name, tc.says, tc.never, found)
		}
	}
}

// TestRuleByItsTarget: the rule behind a match that only the kernel knows is found by where
// it sends to.
func TestRuleByItsTarget(t *testing.T) {
	const led = `-A KUBE-SVC-A -m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-OLD --mask 255.255.255.255 --rsource -j KUBE-SEP-OLD`
	refused := func(state string) *model.Packet {
		return dead("NO_SOCKET", "tcp_v4_rcv+0x91", func(p *model.Packet) {
			p.Hops = append(p.Hops, model.Hop{Stage: model.StageNAT, Netns: nodeNS, Place: "node", Hook: "PREROUTING", CTState: state,
				Before: &model.Endpoints{Src: podA, SrcPort: 40000, Dst: remote, DstPort: 80}, After: &model.Endpoints{Src: podA, SrcPort: 40000, Dst: podB, DstPort: 9090}},
				model.Hop{Stage: model.StageAnswer, Netns: otherNS, Place: "default/b", Answer: "tcp-reset"})
			p.Drop.Netns, p.Drop.Place = otherNS, "default/b"
		})
	}
	with := func(texts ...string) *recorded {
		s := madeNode()
		s.Places[nodeNS].Rules = &RuleSets{Legacy: func(yield func(meaning.Rule) bool) {
			for i, text := range texts {
				chain, _, _ := strings.Cut(strings.TrimPrefix(text, "-A "), " ")
				if !yield(meaning.Rule{Family: "ip", Table: "nat", Chain: chain, Number: i + 1, Text: text}) {
					return
				}
			}
		}}
		return s
	}
	to := "-A KUBE-SEP-OLD -p tcp -m tcp -j DNAT --to-destination " + podB.String() + ":9090"
	other := "-A KUBE-SEP-NEW -p tcp -m tcp -j DNAT --to-destination " + podB.String() + ":8080"
	for name, tc := range map[string]struct {
		state       string
		rules       []string
		says, never string
	}{
		"by affinity":   {"new", []string{led, to, other}, "session affinity a client stays there for 10800 s", "KUBE-SEP-NEW"},
		"by chance":     {"new", []string{to, other}, "rule 1 of KUBE-SEP-OLD in nat", "affinity"},
		"none":          {"new", []string{other}, "(not known which)", "KUBE-SEP"},
		"a known entry": {"established", []string{led, to, other}, "conntrack's entry of its connection", "affinity"},
		"seen matching": {"new", []string{led, to, other}, "session affinity a client stays there for 10800 s", "(not known which)"},
	} {
		packet := refused(tc.state)
		if name == "seen matching" {
			packet.Hops = append(packet.Hops, model.Hop{Stage: model.StageNetfilter, Netns: nodeNS, Place: "node", Hook: "PREROUTING", Table: "nat", RuleSource: model.RuleExact,
				Rules: []model.Rule{{Family: "ip", Table: "nat", Chain: "KUBE-SEP-OLD", Number: 1, Text: to}}})
		}
		found := diagnoseAll(t, with(tc.rules...), packet)
		if len(found) != 1 || found[0].Code != "no-listener" || !strings.Contains(words(found[0]), tc.says) || strings.Contains(words(found[0]), tc.never) {
			t.Errorf("%s: want %q, never %q: %+v", name, tc.says, tc.never, found)
		}
	}
}
