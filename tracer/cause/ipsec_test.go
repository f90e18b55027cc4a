// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

func TestIPsecPolicy(t *testing.T) {
	esp := node.IPsecTemplate{Src: node2, Dst: node1, Proto: "esp", Mode: "tunnel", ReqID: 11}
	state := node.IPsecState{Src: node2, Dst: node1, Proto: "esp", Mode: "tunnel", ReqID: 11}
	policy := func(dir string, more func(*node.IPsecPolicy)) node.IPsecPolicy {
		p := node.IPsecPolicy{Src: netip.PrefixFrom(podA, 24).Masked(), Dst: netip.PrefixFrom(podB, 32), Dir: dir, Index: 1, Templates: []node.IPsecTemplate{esp}}
		if more != nil {
			more(&p)
		}
		return p
	}
	forwarded := func() *model.Packet { return dead("XFRM_POLICY", "ip_forward+0x2c0", nil) }
	for name, tc := range map[string]struct {
		packet *model.Packet
		ipsec  node.IPsec
		sure   string
		says   string
		never  string
	}{
		"in clear, and no states": {forwarded(), node.IPsec{Policies: []node.IPsecPolicy{policy("fwd", nil)}}, Certain, "and this one came unencrypted.", "another state"},
		"in clear, with states": {forwarded(), node.IPsec{Policies: []node.IPsecPolicy{policy("fwd", nil)}, States: []node.IPsecState{state}}, Certain,
			"unencrypted, or by another state", ""},
		"blocked":             {forwarded(), node.IPsec{Policies: []node.IPsecPolicy{policy("fwd", func(p *node.IPsecPolicy) { p.Block = true })}}, Certain, "dir fwd) blocks all from 10.244.1.0/24", ""},
		"no state to send by": {forwarded(), node.IPsec{Policies: []node.IPsecPolicy{policy("out", nil)}}, Certain, "there is no such state", ""},
		"state to send by is there by now": {forwarded(), node.IPsec{Policies: []node.IPsecPolicy{policy("out", nil)}, States: []node.IPsecState{state}}, Likely,
			"ip xfrm state: 1 of 1 fit", ""},
		"the lowest priority counts": {forwarded(), node.IPsec{Policies: []node.IPsecPolicy{
			policy("fwd", func(p *node.IPsecPolicy) { p.Priority = 5 }), policy("fwd", func(p *node.IPsecPolicy) { p.Priority, p.Block = 1, true })}}, Certain, "blocks all", ""},
		"delivered here": {dead("XFRM_POLICY", "tcp_v4_rcv+0x1", nil), node.IPsec{Policies: []node.IPsecPolicy{policy("fwd", nil), policy("in", nil)}}, Certain, "dir in) takes packets", ""},
		"gone by now":    {forwarded(), node.IPsec{}, Certain, "which policy it was: it is gone", "blocks"},
		"for another port": {forwarded(), node.IPsec{Policies: []node.IPsecPolicy{policy("fwd", func(p *node.IPsecPolicy) { p.DstPort = 81 })}}, Certain,
			"which policy it was", "unencrypted"},
		"for UDP only": {forwarded(), node.IPsec{Policies: []node.IPsecPolicy{policy("fwd", func(p *node.IPsecPolicy) { p.Proto = 17 })}}, Certain, "which policy it was", "unencrypted"},
		"of an xfrm interface": {forwarded(), node.IPsec{Policies: []node.IPsecPolicy{policy("fwd", func(p *node.IPsecPolicy) { p.Interface = 7 })}}, Certain,
			"which policy it was", "unencrypted"},
		"demands nothing": {forwarded(), node.IPsec{Policies: []node.IPsecPolicy{policy("fwd", func(p *node.IPsecPolicy) { p.Templates[0].Optional = true })}}, Certain,
			"which policy it was", "unencrypted"},
	} {
		t.Run(name, func(t *testing.T) {
			s := madeNode()
			s.Places[nodeNS].IPsec = tc.ipsec
			found := diagnoseAll(t, s, tc.packet)
			if len(found) != 1 || found[0].Code != "ipsec-policy" || found[0].Confidence != tc.sure || !strings.Contains(words(found[0]), tc.says) {
				t.Fatalf("want ipsec-policy (%s) saying %q: %+v", tc.sure, tc.says, found)
			}
			if tc.never != "" && strings.Contains(words(found[0]), tc.never) {
				t.Errorf("says %q: %s", tc.never, words(found[0]))
			}
		})
	}
}
