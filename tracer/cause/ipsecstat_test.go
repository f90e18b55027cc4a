// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

const xfrmStat = "XfrmInError             \t0\nXfrmInNoStates          \t3\nXfrmOutNoStates         \t4\nXfrmOutStateExpired     \t2\nXfrmFwdHdrError         \t9\n"

// What IPsec does not send gives no reason: it is told by the policy, the states and the
// counters, and only if a policy wants it.
func TestUnkeyed(t *testing.T) {
	esp := node.IPsecTemplate{Src: node1, Dst: node2, Proto: "esp", Mode: "tunnel", ReqID: 11}
	wants := node.IPsecPolicy{Src: netip.PrefixFrom(podA, 32), Dst: netip.PrefixFrom(podB, 32), Dir: "out", Templates: []node.IPsecTemplate{esp}}
	fits := node.IPsecState{Src: node1, Dst: node2, Proto: "esp", Mode: "tunnel", ReqID: 11}
	other := wants
	other.Dst = netip.PrefixFrom(remote, 32)
	blocks := wants
	blocks.Block = true
	for name, tc := range map[string]struct {
		function string
		policy   node.IPsecPolicy
		states   []node.IPsecState
		says     string // "": not by IPsec
	}{
		"no state":               {"dst_discard_out+0x14", wants, nil, "there is no such state"},
		"a state that cannot":    {"xfrm_output_resume+0x1", wants, []node.IPsecState{fits}, "and no state that is there could"},
		"a state, and discarded": {"dst_discard_out+0x14", wants, []node.IPsecState{fits}, ""},
		"a policy for another":   {"dst_discard_out+0x14", other, nil, ""},
		"a policy that blocks":   {"dst_discard_out+0x14", blocks, nil, ""},
		"another function":       {"ip_finish_output2+0x1", wants, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := madeNode()
			s.Places[nodeNS].IPsec = node.IPsec{Policies: []node.IPsecPolicy{tc.policy}, States: tc.states}
			s.Places[nodeNS].Proc = map[string]string{"xfrm_stat": xfrmStat}
			found := diagnoseAll(t, s, dead("NOT_SPECIFIED", tc.function, nil))
			if len(found) != 1 {
				t.Fatalf("%+v", found)
			}
			if tc.says == "" {
				if found[0].Code == "ipsec-policy" {
					t.Errorf("told as IPsec's: %s", words(found[0]))
				}
				return
			}
			says := words(found[0])
			if found[0].Code != "ipsec-policy" || found[0].Confidence != Likely || !strings.Contains(says, tc.says) ||
				!strings.Contains(says, "/proc/net/xfrm_stat: XfrmOutNoStates 4 (there is no state that the policy wants)") || strings.Contains(says, "XfrmInNoStates") {
				t.Errorf("want ipsec-policy (likely) saying %q: %s: %s", tc.says, found[0].Confidence, says)
			}
		})
	}
}

// Silence: what came in by IPsec and was refused while it was traced is counted; what was
// counted before is not told. A policy of the source pod that blocks all is named.
func TestIPsecSilence(t *testing.T) {
	dst := model.End{Given: podB.String(), Addresses: model.Prefixes{netip.PrefixFrom(podB, 32)}}
	silence := func(s *recorded, src model.End, later string) string {
		c := New(s, nil)
		c.Start(&model.Start{Type: model.TypeStart, Src: src, Dst: dst})
		if later != "" {
			s.Places[nodeNS].Proc = map[string]string{"xfrm_stat": later}
		}
		found := c.Findings()
		if len(found) != 1 || found[0].Code != "not-sent" || found[0].Confidence != Likely {
			t.Fatalf("%+v", found)
		}
		return words(found[0])
	}
	counted := madeNode()
	counted.Places[nodeNS].Proc = map[string]string{"xfrm_stat": xfrmStat}
	far := model.End{Given: remote.String(), Addresses: model.Prefixes{netip.PrefixFrom(remote, 32)}}
	says := silence(counted, far, strings.Replace(xfrmStat, "\t3", "\t8", 1))
	if !strings.Contains(says, "XfrmInNoStates 8 (no state has that SPI: the other end has keys that this one has not), 5 more than when the trace began") || strings.Contains(says, "XfrmOut") {
		t.Error(says)
	}
	counted.Places[nodeNS].Proc = map[string]string{"xfrm_stat": xfrmStat}
	if says := silence(counted, far, xfrmStat); strings.Contains(says, "Xfrm") {
		t.Errorf("told what was counted before: %s", says)
	}
	near := model.End{Given: "a", Netns: podNS, Addresses: model.Prefixes{netip.PrefixFrom(podA, 32)}}
	block := node.IPsecPolicy{Src: netip.PrefixFrom(podA, 32), Dst: netip.PrefixFrom(podB, 32), Dir: "out", Block: true}
	for name, tc := range map[string]struct {
		change func(*node.IPsecPolicy)
		told   bool
	}{
		"blocks": {func(*node.IPsecPolicy) {}, true}, "lets pass": {func(p *node.IPsecPolicy) { p.Block = false }, false},
		"of what comes in": {func(p *node.IPsecPolicy) { p.Dir = "in" }, false}, "for TCP": {func(p *node.IPsecPolicy) { p.Proto = 6 }, false},
	} {
		p, s := block, madeNode()
		tc.change(&p)
		s.Places[podNS].IPsec = node.IPsec{Policies: []node.IPsecPolicy{p}}
		if says := silence(s, near, ""); strings.Contains(says, "an IPsec policy of the source pod blocks all from 10.244.1.2/32 to 10.244.1.3/32") != tc.told {
			t.Errorf("%s: %s", name, says)
		}
	}
}
