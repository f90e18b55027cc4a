// SPDX-License-Identifier: Apache-2.0

package cause

import (
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
