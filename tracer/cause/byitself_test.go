// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// TestInvalidByItself: of what begins a connection no other direction is missing.
func TestInvalidByItself(t *testing.T) {
	invalid := func(proto, flags, icmp string) *model.Packet {
		return dead("NETFILTER_DROP", "nf_hook_slow+0x1", func(p *model.Packet) {
			byRule("FORWARD", "-A FORWARD -m conntrack --ctstate INVALID -j DROP", "")(p)
			p.Proto, p.TCPFlags, p.ICMP = proto, flags, icmp
			p.Hops = append(p.Hops, model.Hop{Stage: model.StageConntrack, Netns: nodeNS, Hook: "PREROUTING", CTState: "invalid"})
		})
	}
	for name, tc := range map[string]struct {
		packet      *model.Packet
		checks      string
		says, never string
	}{
		"a SYN":              {invalid("tcp", "S", ""), "1", "(tcp S), so that only the packet itself can be the reason: its checksum, or its length, or its flags", "asymmetric"},
		"UDP":                {invalid("udp", "", ""), "1", "(udp), so that only the packet itself can be the reason: its checksum, or its length", "asymmetric"},
		"an echo request":    {invalid("icmp", "", "echo-request"), "1", "(icmp echo-request)", "asymmetric"},
		"SCTP":               {invalid("sctp", "", ""), "1", "if it is an association's first (INIT)", "asymmetric"},
		"checksums are let":  {invalid("udp", "", ""), "0", "can be the reason: its length", "checksum, or"},
		"a segment":          {invalid("tcp", ".", ""), "1", "the way may be asymmetric", "by itself"},
		"an echo reply":      {invalid("icmp", "", "echo-reply"), "1", "the way may be asymmetric", "only the packet itself"},
		"a SYN that answers": {invalid("tcp", "S.", ""), "1", "the way may be asymmetric", "only the packet itself"},
	} {
		s := madeNode()
		s.Places[nodeNS].Sysctls["netfilter/nf_conntrack_checksum"] = tc.checks
		found := diagnoseAll(t, s, tc.packet)
		if len(found) != 1 || found[0].Code != "conntrack-invalid" || !strings.Contains(words(found[0]), tc.says) || strings.Contains(words(found[0]), tc.never) {
			t.Errorf("%s: want %q, never %q: %+v", name, tc.says, tc.never, found)
		}
	}
}

// TestLinkLocalSource: what has a link-local source is not passed on.
func TestLinkLocalSource(t *testing.T) {
	local, global, far := netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fd00::81"), netip.MustParseAddr("fd00::82")
	died := func(src netip.Addr, answer string) *model.Packet {
		return dead("IP_INADDRERRORS", "ip6_forward+0x642", func(p *model.Packet) {
			p.Proto, p.TCPFlags, p.ICMP, p.Src, p.Dst, p.SrcPort, p.DstPort = "icmpv6", "", "echo-request", src, far, 0, 0
			p.Hops = append([]model.Hop{{Stage: model.StageTransmit, Netns: podNS, Place: "default/a", Interface: "eth0", IfIndex: 2}}, p.Hops...)
			if answer != "" {
				p.Hops = append(p.Hops, model.Hop{Stage: model.StageAnswer, Netns: nodeNS, Place: "node", Answer: answer})
			}
		})
	}
	with := func(r *recorded) {
		l := &r.Places[podNS].Links[0]
		l.Addrs = append(l.Addrs, netip.PrefixFrom(global, 128), netip.PrefixFrom(local, 64))
	}
	for name, tc := range map[string]struct {
		packet     *model.Packet
		node       func(*recorded)
		code, sure string
		says       string
	}{
		"lost":         {died(local, "icmp-beyond-scope"), nil, "link-local-source", Certain, "default/a has no global IPv6 address"},
		"not told":     {died(local, ""), nil, "link-local-source", Likely, "the sender was not seen to be told"},
		"chosen":       {died(local, "icmp-beyond-scope"), with, "link-local-source", Certain, "ip addr: eth0 of default/a has fd00::81"},
		"a global one": {died(global, ""), nil, "unexplained-drop", Likely, "or its addresses are of a kind that is not passed on"},
	} {
		s := madeNode()
		if tc.node != nil {
			tc.node(s)
		}
		found := diagnoseAll(t, s, tc.packet)
		if len(found) != 1 || found[0].Code != tc.code || found[0].Confidence != tc.sure || !strings.Contains(words(found[0]), tc.says) {
			t.Errorf("%s: want %s %s: %q: %+v", name, tc.sure, tc.code, tc.says, found)
		}
	}
}
