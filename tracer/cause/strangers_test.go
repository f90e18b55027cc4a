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

func TestStrangersRules(t *testing.T) {
	const marked = `-A KUBE-FIREWALL -m comment --comment "kubernetes firewall for dropping marked packets" -m mark --mark 0x8000/0x8000 -j DROP`
	rule := func(chain, text string, more func(p *model.Packet)) *model.Packet {
		return dead("NETFILTER_DROP", "nf_hook_slow+0x1", func(p *model.Packet) {
			byRule(chain, text, "")(p)
			if more != nil {
				more(p)
			}
			if p.Drop.Hook == "INPUT" {
				p.Dst = node1
			}
		})
	}
	hook := func(name string, mark uint32) func(p *model.Packet) {
		return func(p *model.Packet) { p.Drop.Hook, p.Hops[0].Mark = name, mark }
	}
	policy := func(h string, d model.Direction) *model.Packet {
		return rule(h, ":"+h+" DROP", func(p *model.Packet) { p.Drop.Hook, p.Drop.Rule.Number, p.Direction = h, 0, d })
	}
	for name, tc := range map[string]struct {
		packet      *model.Packet
		says, never string
	}{
		"Tailscale's":                 {rule("ts-input", "-A ts-input -s 100.64.0.0/10 ! -i tailscale0 -j DROP", hook("INPUT", 0)), "a chain of tailscaled's", "-D ts-input"},
		"the kubelet's, and the mark": {rule("KUBE-FIREWALL", marked, hook("OUTPUT", 0xca6c)), "it came with mark 0xca6c, which no rule that it met had set", "kube-proxy is told"},
		"a mark that a rule set": {rule("KUBE-FIREWALL", marked, func(p *model.Packet) {
			hook("OUTPUT", 0x8000)(p)
			p.Hops[0].Rules = []model.Rule{{Text: "-A OUTPUT -j MARK --set-xmark 0x8000/0x8000"}}
		}), "the packet's mark was 0x8000", "no rule that it met"},
		"a mark of rules not known": {rule("KUBE-FIREWALL", marked, func(p *model.Packet) {
			hook("OUTPUT", 0x8000)(p)
			p.Hops[0].RulesUnknown = "the table was replaced"
		}), "the packet's mark was 0x8000", "no rule that it met"},
		"a mark from elsewhere": {rule("KUBE-FIREWALL", marked, hook("INPUT", 0x8000)), "the packet's mark was 0x8000", "no rule that it met"},
		"above a rate":          {rule("FORWARD", "-A FORWARD -p tcp -m hashlimit --hashlimit-above 5/sec --hashlimit-name x -j DROP", nil), "drops what is above its limit of 5/sec", "-D FORWARD"},
		"below a rate":          {rule("FORWARD", "-A FORWARD -p tcp -m hashlimit --hashlimit-upto 5/sec --hashlimit-name x -j DROP", nil), "-D FORWARD", "above its limit"},
		"policy of INPUT":       {policy("INPUT", model.Forward), "iptables-legacy -I INPUT -s 10.244.1.2 -p tcp -j ACCEPT", ""},
		"policy, and a reply":   {policy("INPUT", model.Return), "--ctstate RELATED,ESTABLISHED -j ACCEPT", "-s 10.244.1.2"},
		"policy of OUTPUT":      {policy("OUTPUT", model.Forward), "iptables-legacy -I OUTPUT -d 10.244.1.3 -p tcp -j ACCEPT", ""},
	} {
		t.Run(name, func(t *testing.T) {
			found := diagnoseAll(t, madeNode(), tc.packet)
			if len(found) != 1 || found[0].Code != "rule-drop" || !strings.Contains(words(found[0]), tc.says) {
				t.Fatalf("want rule-drop saying %q: %+v", tc.says, found)
			}
			if tc.never != "" && strings.Contains(words(found[0]), tc.never) {
				t.Errorf("says %q: %s", tc.never, words(found[0]))
			}
		})
	}
}

func TestTproxyUnheard(t *testing.T) {
	const text = "-A ISTIO_TPROXY ! -d 127.0.0.1/32 -p tcp -j TPROXY --on-port 15006 --on-ip 0.0.0.0 --tproxy-mark 0x539/0xffffffff"
	there := func(texts ...string) func(*recorded) {
		return func(r *recorded) {
			var all []meaning.Rule
			for i, text := range texts {
				all = append(all, meaning.Rule{Backend: "legacy", Family: "ip", Table: "mangle", Chain: "ISTIO_TPROXY", Number: i + 1, Text: text})
			}
			r.Places[nodeNS].Rules = &RuleSets{Legacy: Rules(slices.Values(all))}
		}
	}
	listening := func(port uint16) func(*recorded) {
		return func(r *recorded) {
			there(text)(r)
			r.Places[nodeNS].Sockets = []node.Socket{{Local: netip.AddrPortFrom(netip.IPv4Unspecified(), port), State: node.TCPListen}}
		}
	}
	unknown := func() *model.Packet {
		return dead("NETFILTER_DROP", "nf_hook_slow+0x7d", func(p *model.Packet) {
			p.Drop.Hook, p.Drop.RuleUnknown = "PREROUTING", "nothing is known to hang there that ends packets so"
		})
	}
	seen := dead("NETFILTER_DROP", "nf_hook_slow+0x7d", func(p *model.Packet) {
		byRule("ISTIO_TPROXY", text, "")(p)
		p.Drop.Hook, p.Drop.Table, p.Drop.Rule.Table = "PREROUTING", "mangle", "mangle"
	})
	for name, tc := range map[string]struct {
		packet     *model.Packet
		node       func(*recorded)
		code, sure string
		says       string
	}{
		"nobody listens":            {unknown(), there(text), "no-listener", Likely, "hands it to tcp port 15006 of this node by TPROXY, and nothing listens there"},
		"seen, and nobody listens":  {seen, there(text), "no-listener", Certain, "no socket listens on tcp port 15006 there"},
		"another port is listened":  {unknown(), listening(15001), "no-listener", Likely, "nothing listens there"},
		"somebody listens":          {unknown(), listening(15006), "no-listener", Likely, "is not transparent"},
		"no such rule":              {unknown(), nil, "rule-drop", Likely, "which rule: nothing is known"},
		"for UDP":                   {unknown(), there(strings.Replace(text, "-p tcp", "-p udp", 1)), "rule-drop", Likely, ""},
		"for another port":          {unknown(), there(strings.Replace(text, "-p tcp", "-p tcp -m tcp --dport 81", 1)), "rule-drop", Likely, ""},
		"for all but another port":  {unknown(), there(strings.Replace(text, "-p tcp", "-p tcp -m tcp ! --dport 81", 1)), "no-listener", Likely, ""},
		"two that may have done it": {unknown(), there(text, strings.Replace(text, "15006", "15008", 1)), "rule-drop", Likely, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := madeNode()
			if tc.node != nil {
				tc.node(s)
			}
			found := diagnoseAll(t, s, tc.packet)
			if len(found) != 1 || found[0].Code != tc.code || found[0].Confidence != tc.sure || !strings.Contains(words(found[0]), tc.says) {
				t.Errorf("want %s (%s) saying %q: %+v", tc.code, tc.sure, tc.says, found)
			}
		})
	}
}
