// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// A rule of the arp family is told where it is known to drop the question or the answer,
// and not where it asks for anything else.
func TestARPRule(t *testing.T) {
	for text, drops := range map[string]bool{
		`iifname "cali*" arp operation request counter drop`:                           true,
		`iifname "calia" counter packets 3 bytes 84 drop comment "no arp"`:             true,
		`arp htype 1 arp ptype ip arp operation request arp daddr ip 169.254.1.1 drop`: true,
		`arp operation request arp saddr ip 10.244.1.0/24 counter drop`:                true,
		`oifname "calia" arp operation reply drop`:                                     true,
		`drop`:                 true,
		`iifname "calib" drop`: false,
		`oifname "calia" arp operation request drop`:                                          false,
		`arp operation reply arp saddr ip 10.9.9.9 drop`:                                      false,
		`arp saddr ether 02:00:00:00:00:01 drop`:                                              false,
		`iifname != "calia" drop`:                                                             false,
		`iifname "calia" arp operation request counter accept`:                                false,
		`iifname "cali*" arp operation request limit rate over 5/second burst 5 packets drop`: false,
	} {
		state := madeNode()
		for _, p := range state.Places {
			p.Sysctls = map[string]string{"ipv4/ip_forward": "1", "ipv4/conf/calia/forwarding": "1", "ipv4/conf/calia/proxy_arp": "1", "ipv4/conf/all/proxy_arp": "0", "ipv4/conf/calia/proxy_arp_pvlan": "0"}
		}
		state.Places[nodeNS].Rules = &RuleSets{NFT: Rules(slices.Values([]meaning.Rule{{Backend: "nft", Family: "arp", Table: "filter", Chain: "INPUT", Number: 1, Text: text}}))}
		found := diagnoseAll(t, state, dead("NEIGH_FAILED", "neigh_invalidate+0x1", func(p *model.Packet) {
			p.Drop.Netns, p.Drop.Place, p.Drop.Interface, p.Drop.IfIndex, p.Drop.Stage, p.Hops = podNS, "default/a", "eth0", 2, model.StageNeighbor, nil
		}))
		if len(found) != 1 || found[0].Code != "neighbor-failed" {
			t.Fatalf("%s: told %+v", text, found)
		}
		if told := says(found[0], "in table arp filter of this node drops the ARP"); told != drops {
			t.Errorf("%s: told: %v, want %v\n%s", text, told, drops, words(found[0]))
		}
	}
}

// A port that gets no broadcasts, or nothing for groups, never hears the questions of
// other ports; the answer back is no such frame.
func TestUnaskedPort(t *testing.T) {
	cold := func(v6 bool) *model.Packet {
		return sentOnBridge("NEIGH_FAILED", "neigh_invalidate+0x1", func(p *model.Packet) {
			p.Drop.Netns, p.Drop.Place, p.Drop.Interface, p.Drop.IfIndex, p.Drop.Stage, p.Hops = podNS, "default/a", "eth0", 2, model.StageNeighbor, nil
			if v6 {
				p.Src, p.Dst = netip.MustParseAddr("fd00::2"), netip.MustParseAddr("fd00::3")
			}
		})
	}
	six := func(r *recorded) {
		for netns, addr := range map[uint32]string{podNS: "fd00::2/64", otherNS: "fd00::3/64"} {
			r.Places[netns].Links[0].Addrs = append(r.Places[netns].Links[0].Addrs, netip.MustParsePrefix(addr))
		}
	}
	noBroadcast, noMulticast := func(p *node.BridgePort) { p.NoBroadcast = true }, func(p *node.BridgePort) { p.NoMulticast = true }
	for name, tc := range map[string]struct {
		packet *model.Packet
		fault  func(*recorded)
		code   string
		says   string
	}{
		"ARP":                    {cold(false), ports(noBroadcast, 12), "bridge-port", "bridge -d link: vethb bcast_flood off"},
		"the asker's own port":   {cold(false), ports(noBroadcast, 11), "neighbor-failed", "nobody answers"},
		"ARP goes to no group":   {cold(false), ports(noMulticast, 12), "neighbor-failed", "nobody answers"},
		"neighbour discovery":    {cold(true), all(six, ports(noMulticast, 12)), "bridge-port", "bridge -d link: vethb mcast_flood off"},
		"which is not broadcast": {cold(true), all(six, ports(noBroadcast, 12)), "neighbor-failed", "nobody answers"},
	} {
		t.Run(name, func(t *testing.T) {
			state := bridgedNode()
			tc.fault(state)
			if found := diagnoseAll(t, state, tc.packet); len(found) != 1 || found[0].Code != tc.code || !says(found[0], tc.says) {
				t.Errorf("told %+v, want %s saying %q", found, tc.code, tc.says)
			}
		})
	}
}
