// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// What a packet is too large for is the interface that its own look-up led to, not
// that of the ICMP error about it; and an interface that it fits is not named.
func TestTooBigForWhat(t *testing.T) {
	looked := func(iface string, index uint32) model.Hop {
		return model.Hop{Stage: model.StageRoute, Netns: nodeNS, Route: &model.Route{Type: "unicast", Interface: iface, IfIndex: index}}
	}
	tooBig := func(length uint32, more ...model.Hop) *model.Packet {
		return dead("PKT_TOO_BIG", "ip_forward+0x1", func(p *model.Packet) {
			p.Length, p.Outcome = length, model.Rejected
			p.Hops = append(p.Hops, more...)
		})
	}
	answer := model.Hop{Stage: model.StageAnswer, Netns: nodeNS, Answer: "icmp-frag-needed"}
	for name, c := range map[string]struct {
		packet *model.Packet
		says   string
	}{
		"its own look-up":                  {tooBig(1478, looked("vxlan.calico", 3), answer), "the MTU of vxlan.calico"},
		"the answer is looked up after it": {tooBig(1478, looked("vxlan.calico", 3), answer, looked("eth0", 2)), "the MTU of vxlan.calico"},
		"it fits the interface":            {tooBig(1478, looked("eth0", 2), answer), "larger than what the way allows"},
	} {
		t.Run(name, func(t *testing.T) {
			found := diagnoseAll(t, madeNode(), c.packet)
			if len(found) != 1 || found[0].Code != "mtu" || !strings.Contains(found[0].Summary, c.says) {
				t.Errorf("want mtu saying %q: %+v", c.says, found)
			}
		})
	}
}
