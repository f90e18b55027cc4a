// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// A link-local source is told as the fault, with what other addresses the sender has.
func TestLinkLocalSource(t *testing.T) {
	const local, global = "fe80::2", "fd00::2"
	packet := func(src, answer string) *model.Packet {
		return dead("IP_INADDRERRORS", "ip6_forward+0x642", func(p *model.Packet) {
			p.Src, p.Dst = netip.MustParseAddr(src), netip.MustParseAddr("fd00::3")
			p.Hops = append([]model.Hop{{Stage: model.StageTransmit, Netns: podNS, Place: "default/a", Interface: "eth0", IfIndex: 2}}, p.Hops...)
			if answer != "" {
				p.Hops = append(p.Hops, model.Hop{Stage: model.StageAnswer, Netns: nodeNS, Answer: answer})
			}
		})
	}
	has := func(tentative bool, addrs ...string) func(*recorded) {
		return func(r *recorded) {
			l := &r.Places[podNS].Links[0]
			for _, a := range addrs {
				l.Addrs = append(l.Addrs, netip.MustParsePrefix(a+"/128"))
				if tentative {
					l.Tentative = append(l.Tentative, netip.MustParseAddr(a))
				}
			}
		}
	}
	for name, tc := range map[string]struct {
		packet *model.Packet
		is     func(*recorded)
		code   string
		sure   string
		says   string
	}{
		"no other":     {packet(local, "icmp-beyond-scope"), has(false, local), "link-local-source", Certain, "eth0 of default/a (behind calia) has no other IPv6 address"},
		"tentative":    {packet(local, "icmp-beyond-scope"), has(true, global), "link-local-source", Certain, "which it does not use yet (tentative)"},
		"another":      {packet(local, "icmp-beyond-scope"), has(false, local, global), "link-local-source", Certain, "ip addr: eth0 of default/a (behind calia) has fd00::2"},
		"no answer":    {packet(local, ""), has(false, local), "link-local-source", Likely, "no router passes that on"},
		"a global one": {packet(global, ""), has(false, global), "unexplained-drop", Likely, "no known cause fits"},
	} {
		t.Run(name, func(t *testing.T) {
			state := madeNode()
			tc.is(state)
			if found := diagnoseAll(t, state, tc.packet); len(found) != 1 || found[0].Code != tc.code || found[0].Confidence != tc.sure || !says(found[0], tc.says) {
				t.Errorf("told %+v, want %s (%s) saying %q", found, tc.code, tc.sure, tc.says)
			}
		})
	}
}

// That a pod has not the address that it is traced by is told where nothing was seen.
func TestLostSource(t *testing.T) {
	for addr, lost := range map[string]bool{"10.244.1.2": false, "10.244.1.77": true} {
		c := New(madeNode(), nil)
		a := netip.MustParseAddr(addr)
		c.Start(&model.Start{Type: model.TypeStart, Src: model.End{Given: addr, Netns: podNS, Addresses: model.Prefixes{netip.PrefixFrom(a, 32)}},
			Dst: model.End{Given: podB.String(), Addresses: model.Prefixes{netip.PrefixFrom(podB, 32)}}})
		found := c.Findings()
		if len(found) != 1 || found[0].Code != "not-sent" || lost != says(found[0], "eth0 of the source pod does not have "+addr) {
			t.Errorf("%s: told %+v", addr, found)
		}
	}
}

// Fragments that may take no memory, or have taken all, are told by the limit.
func TestFragmentRoom(t *testing.T) {
	for name, tc := range map[string]struct {
		function, sysctl, limit, stat string
		code, says                    string
	}{
		"none":       {"ip_defrag+0x795", "ipv4/ipfrag_high_thresh", "0", "", "sysctl-drop", "net.ipv4.ipfrag_high_thresh = 0"},
		"full":       {"ip_defrag+0x795", "ipv4/ipfrag_high_thresh", "4194304", "FRAG: inuse 900 memory 4195000\n", "sysctl-drop", "4195000 bytes of 4194304"},
		"room":       {"ip_defrag+0x795", "ipv4/ipfrag_high_thresh", "4194304", "FRAG: inuse 0 memory 0\n", "unexplained-drop", "could not be put together"},
		"of IPv6":    {"nf_ct_frag6_gather+0x1", "netfilter/nf_conntrack_frag6_high_thresh", "0", "", "sysctl-drop", "net.netfilter.nf_conntrack_frag6_high_thresh = 0"},
		"of another": {"ip_rcv_core+0x1", "ipv4/ipfrag_high_thresh", "0", "", "unexplained-drop", "no known cause fits"},
	} {
		t.Run(name, func(t *testing.T) {
			state := madeNode()
			p := state.Places[nodeNS]
			p.Sysctls[tc.sysctl], p.Proc = tc.limit, map[string]string{"sockstat": tc.stat}
			found := diagnoseAll(t, state, dead("NOT_SPECIFIED", tc.function, nil))
			if len(found) != 1 || found[0].Code != tc.code || found[0].Confidence != Likely || !strings.Contains(words(found[0]), tc.says) {
				t.Errorf("told %+v, want %s saying %q", found, tc.code, tc.says)
			}
		})
	}
}
