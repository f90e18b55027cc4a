// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

const peerMAC = "66:2d:bf:44:a6:8b"

func TestSelfsame(t *testing.T) {
	circles := dead("IP_INHDR", "ip_forward+0x2c0", func(p *model.Packet) {
		p.Dst, p.Drop.Interface, p.Drop.IfIndex = remote, "vxlan.calico", 3
		p.Hops = append(p.Hops, model.Hop{Stage: model.StageTransmit, Netns: nodeNS, Place: "node", Interface: "vxlan.calico", IfIndex: 3},
			model.Hop{Stage: model.StageReceive, Netns: nodeNS, Place: "node", Interface: "vxlan.calico", IfIndex: 3})
	})
	fdb := func(to netip.Addr) func(*recorded) {
		return func(r *recorded) {
			r.Places[nodeNS].Neighbors = []node.Neighbor{{LinkIndex: 3, Addr: netip.MustParseAddr("10.244.2.0"), MAC: peerMAC, State: 0x80}, {LinkIndex: 3, Addr: to, MAC: peerMAC, Bridge: true}}
		}
	}
	inTunnel := func(reason string) *model.Packet {
		return dead(reason, "vxlan_rcv+0x84", func(p *model.Packet) { p.Src, p.Drop.Interface, p.Drop.IfIndex = remote, "vxlan.calico", 3 })
	}
	group := func(dst string) *model.Packet {
		return dead("NOT_SPECIFIED", "ip_rcv_finish_core+0x25b", func(p *model.Packet) {
			p.Proto, p.TCPFlags, p.Dst, p.Drop.Stage = "udp", "", netip.MustParseAddr(dst), model.StageRoute
		})
	}
	forwarding := func(value string) func(*recorded) {
		return func(r *recorded) { r.Places[nodeNS].Sysctls["ipv4/conf/all/mc_forwarding"] = value }
	}
	for name, tc := range map[string]struct {
		packet     *model.Packet
		node       func(*recorded)
		code, sure string
		says       string
	}{
		"tunnel to this node itself": {circles, fdb(node1), "vxlan-broken", Certain, "leads to 172.30.0.1, an address of this node itself"},
		"tunnel to another node":     {circles, fdb(node2), "loop", Certain, "circle between this node"},

		"own MAC in the tunnel":                {inTunnel("LOCAL_MAC"), nil, "vxlan-broken", Certain, "two nodes have one MAC"},
		"the same on older kernels, or no MAC": {inTunnel("VXLAN_INVALID_SMAC"), nil, "vxlan-broken", Likely, "two nodes have one MAC"},
		"foreign header":                       {inTunnel("VXLAN_INVALID_HDR"), nil, "vxlan-broken", Certain, "its header is not"},

		"multicast":                     {group("239.1.1.1"), forwarding("0"), "multicast", Likely, "neither is a member of it nor routes multicast"},
		"multicast where it is routed":  {group("239.1.1.1"), forwarding("1"), "unexplained-drop", Likely, ""},
		"multicast that stays on links": {group("224.0.0.251"), forwarding("0"), "unexplained-drop", Likely, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := madeNode()
			if tc.node != nil {
				tc.node(s)
			}
			c := New(s, nil)
			c.Packet(tc.packet)
			found := c.Findings()
			if len(found) != 1 || found[0].Code != tc.code || found[0].Confidence != tc.sure || !strings.Contains(words(found[0]), tc.says) {
				t.Errorf("want %s (%s) saying %q: %+v", tc.code, tc.sure, tc.says, found)
			}
		})
	}
}

// What crosses a bridge is in FORWARD by a sysctl only; what is routed is so anyway.
func TestBridgedForward(t *testing.T) {
	died := func(iface string, index uint32) *model.Packet {
		return dead("NETFILTER_DROP", "nf_hook_slow+0x1", func(p *model.Packet) {
			byRule("FORWARD", ":FORWARD DROP", "")(p)
			p.Drop.Rule.Number, p.Drop.Interface, p.Drop.IfIndex = 0, iface, index
		})
	}
	for iface, index := range map[string]uint32{"calib": 5, "cni0": 9} {
		found := diagnoseAll(t, bridged(), died(iface, index))
		if len(found) != 1 || found[0].Code != "forward-policy" || strings.Contains(words(found[0]), "only by this do frames between two ports of cni0") != (iface == "calib") {
			t.Errorf("%s: %+v", iface, found)
		}
	}
}
