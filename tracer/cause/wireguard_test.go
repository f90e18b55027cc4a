// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

const keyOfNode2, keyOfNode3 = "2222222222222222222222222222222222222222222=", "3333333333333333333333333333333333333333333="

// wireGuardNode is tunnelNode with Calico's WireGuard: its own table holds the pods of
// another node, main has the plain way to it.
func wireGuardNode(more func(*recordedPlace)) *recorded {
	return tunnelNode(func(p *recordedPlace) {
		p.Links[1] = node.Link{Index: 3, Name: "wireguard.cali", Kind: "wireguard", Up: true, Carrier: true, MTU: 1440}
		p.RouteRules = append([]node.PolicyRule{{Family: unix.AF_INET, Priority: 99, Action: node.ActTable, Table: 1, SuppressPrefixLength: -1, SuppressGroup: -1}}, node.DefaultRules()...)
		p.Routes[1].LinkIndex = 2
		p.Routes = append(p.Routes, node.Route{Dst: netip.MustParsePrefix("10.244.2.0/24"), LinkIndex: 3, Table: 1, Type: unix.RTN_UNICAST})
		p.WireGuard = []node.WireGuard{{LinkIndex: 3, PublicKey: "1111111111111111111111111111111111111111111=", ListenPort: 51820, Peers: []node.WireGuardPeer{
			{PublicKey: keyOfNode3, Endpoint: netip.MustParseAddrPort("172.30.0.3:51820"), AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.244.3.0/24")}, Handshake: time.Now()},
			{PublicKey: keyOfNode2, Endpoint: netip.MustParseAddrPort("172.30.0.2:51820"), AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.244.2.0/24")}, Handshake: time.Now().Add(-2 * time.Minute)},
		}}}
		if more != nil {
			more(p)
		}
	})
}

func TestWireGuard(t *testing.T) {
	peer2 := func(change func(*node.WireGuardPeer)) func(*recordedPlace) {
		return func(p *recordedPlace) { change(&p.WireGuard[0].Peers[1]) }
	}
	forgets := peer2(func(p *node.WireGuardPeer) {
		p.AllowedIPs = []netip.Prefix{netip.MustParsePrefix("10.244.2.64/26")}
	})
	sent := intoIPIP("NOT_SPECIFIED", "wg_xmit+0x1", func(p *model.Packet) {
		p.Outcome, p.Drop.Interface = model.Rejected, "wireguard.cali"
		p.Hops = append(p.Hops, model.Hop{Stage: model.StageAnswer, Netns: nodeNS, Place: "node", Interface: "wireguard.cali", IfIndex: 3, Answer: "icmp-host-unreachable"})
	})
	came := func(function string, from netip.Addr) *model.Packet {
		return cameIn("NOT_SPECIFIED", function, func(p *model.Packet) {
			p.Drop.Interface, p.Drop.IfIndex = "wireguard.cali", 3
			p.Hops = []model.Hop{{Stage: model.StageDecapsulate, Netns: nodeNS, Place: "node", Interface: "wireguard.cali", IfIndex: 3}}
			if from.IsValid() {
				p.Hops[0].Tunnel = &model.Tunnel{Kind: "wireguard", Src: from, Dst: node1}
			}
		})
	}
	waits := func(outcome model.Outcome, function string) *model.Packet {
		return intoIPIP("NOT_SPECIFIED", function, func(p *model.Packet) {
			p.Time, p.Outcome, p.Drop.Interface = time.Now().Add(-time.Second), outcome, "wireguard.cali"
			p.Hops = append(p.Hops, model.Hop{Stage: model.StageEncapsulate, Netns: nodeNS, Place: "node", Interface: "wireguard.cali", IfIndex: 3})
			if outcome == model.Unknown {
				p.Drop = nil
			}
		})
	}
	// of a bridge's hook it is told last that it handed the packet on
	behindBridge := func(p *model.Packet) *model.Packet {
		p.Hops = append(p.Hops, model.Hop{Stage: model.StageNetfilter, Netns: nodeNS, Place: "node", Interface: "cni0", IfIndex: 7, Hook: "PREROUTING", Verdict: "stolen"})
		return p
	}
	sealed := func(before time.Duration) *model.Packet { // the handshake of long is 300 s ago, so its key ended 120 s ago
		return leaving(func(p *model.Packet) {
			p.Time = p.Time.Add(-before)
			p.Hops[1].Interface, p.Hops[1].Tunnel = "wireguard.cali", &model.Tunnel{Kind: "wireguard", Src: node1, Dst: node2, DstPort: 51820}
		})
	}
	unsealed := func(p *model.Packet) *model.Packet { // how it left was not seen, only that it went into the device
		p.Hops[1].Tunnel = nil
		return p
	}
	never := peer2(func(p *node.WireGuardPeer) { p.Handshake = time.Time{} })
	long := peer2(func(p *node.WireGuardPeer) { p.Handshake = time.Now().Add(-5 * time.Minute) })
	for name, tc := range map[string]struct {
		packet     *model.Packet
		node       func(*recordedPlace)
		code, sure string
		says       []string
		never      string
	}{
		"no peer holds it": {sent, forgets, "wireguard", Likely, []string{
			"WireGuard (wireguard.cali) has no peer whose allowed IPs hold 10.244.2.3",
			"by the route 10.244.2.0/24 via 172.30.0.2 dev eth0 it is on node 172.30.0.2, whose peer " + keyOfNode2 + " (172.30.0.2:51820) does not hold it",
			"wg show wireguard.cali: 2 peers, and none of their allowed IPs holds 10.244.2.3", "the sender was told: icmp-host-unreachable",
			"wg show wireguard.cali allowed-ips: " + keyOfNode2 + " 10.244.2.64/26\n", "have Felix write its peers again"}, "flanneld"},
		"no peers at all": {sent, func(p *recordedPlace) { p.WireGuard[0].Peers = nil }, "wireguard", Likely,
			[]string{"wg show wireguard.cali: 0 peers"}, "it is on node"},
		"no endpoint": {sent, peer2(func(p *node.WireGuardPeer) { p.Endpoint = netip.AddrPort{} }), "wireguard", Likely,
			[]string{"does not know where the peer is that has 10.244.2.3: it has no endpoint", "wg show wireguard.cali endpoints: " + keyOfNode2 + " (none)"}, ""},
		"in order by now": {sent, nil, "wireguard", Likely, []string{"did not take the packet for 10.244.2.3 to send: it may have had no peer with an endpoint", "whether the peer, its allowed IPs or its endpoint was missing, or the packet itself was at fault"}, "had no peer with an endpoint for 10.244.2.3 when"},
		"device is gone":  {sent, func(p *recordedPlace) { p.WireGuard = nil }, "wireguard", Likely, []string{"or that peer has no endpoint"}, ""},

		"source of nobody": {came("wg_packet_consume_data_done", node2), forgets, "wireguard", Certain, []string{
			"took a packet from 10.244.2.3 and dropped it, since that source is not among the allowed IPs of the peer that sent it, peer " + keyOfNode2,
			"none of their allowed IPs holds 10.244.2.3"}, "not known:"},
		"source of another peer": {came("wg_packet_consume_data_done", netip.MustParseAddr("172.30.0.3")), nil, "wireguard", Certain, []string{
			"peer " + keyOfNode3 + " (172.30.0.3:51820)", "the one that may: wg show wireguard.cali allowed-ips: " + keyOfNode2 + " 10.244.2.0/24"}, ""},
		"source by now allowed": {came("wg_packet_consume_data_done", node2), nil, "wireguard", Certain, []string{"was not among the allowed IPs", "by now it is: "}, ""},
		"sender not known":      {came("wg_packet_consume_data_done", netip.Addr{}), forgets, "wireguard", Certain, []string{"not known: which peer sent it"}, ""},
		"may have come twice":   {came("wg_packet_rx_poll+0x1", node2), forgets, "wireguard", Likely, []string{"it may have come twice instead"}, ""},

		"no handshake": {waits(model.Unknown, ""), never, "wireguard", Likely, []string{
			"ackets to 10.244.2.3 wait in WireGuard (wireguard.cali) for a key: there was no handshake with peer " + keyOfNode2 + " (172.30.0.2:51820) so far",
			"wg show wireguard.cali latest-handshakes: " + keyOfNode2 + " 0", "tcpdump -ni any udp port 51820"}, ""},
		"no handshake, behind a bridge":               {behindBridge(waits(model.Unknown, "")), never, "wireguard", Likely, []string{"wait in WireGuard (wireguard.cali) for a key"}, ""},
		"old handshake":                               {waits(model.Unknown, ""), long, "wireguard", Likely, []string{"and a key is good for 180 s"}, "so far"},
		"given up on":                                 {waits(model.Dropped, "wg_packet_purge_staged_packets+0x1"), never, "wireguard", Certain, []string{"wait in WireGuard"}, "the packet's end"},
		"good handshake":                              {waits(model.Unknown, ""), nil, "unanswered", Likely, []string{"last seen at node (wireguard.cali)"}, "handshake"},
		"left after the key had ended":                {unsealed(sealed(0)), long, "wireguard", Likely, []string{"got no answer, and the peer has stopped to answer at all: the last handshake with peer " + keyOfNode2, "the last of these packets came at "}, ""},
		"left, and the tunnel idles since":            {sealed(150 * time.Second), long, "left-node", Certain, []string{"sent in wireguard to node 172.30.0.2", "latest-handshakes: " + keyOfNode2}, "stopped to answer"},
		"left sealed, and the peer is another by now": {sealed(0), never, "left-node", Certain, []string{"sent in wireguard to node 172.30.0.2"}, "stopped to answer"},
		"left, and is not answered":                   {sealed(0), nil, "left-node", Certain, []string{"sent in wireguard to node 172.30.0.2, port 51820", "latest-handshakes: " + keyOfNode2, "may send 10.244.1.2: wg show wireguard.cali allowed-ips"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			found := diagnoseAll(t, wireGuardNode(tc.node), tc.packet)
			if len(found) != 1 || found[0].Code != tc.code || found[0].Confidence != tc.sure {
				t.Fatalf("want %s (%s): %+v", tc.code, tc.sure, found)
			}
			for _, says := range tc.says {
				if !strings.Contains(words(found[0])+"\n", says) {
					t.Errorf("does not say %q:\n%s", says, words(found[0]))
				}
			}
			if tc.never != "" && strings.Contains(words(found[0]), tc.never) {
				t.Errorf("says %q:\n%s", tc.never, words(found[0]))
			}
		})
	}
}

// Calico's WireGuard comes before the plain way in table main: that is no detour, unless
// it leads to another node.
func TestEncryptedIsNoDetour(t *testing.T) {
	left := func() *model.Packet {
		return leaving(func(p *model.Packet) {
			p.Hops[1].Interface, p.Hops[1].Tunnel = "wireguard.cali", &model.Tunnel{Kind: "wireguard", Src: node1, Dst: node2, DstPort: 51820}
		})
	}
	vxlan := func(p *recordedPlace) {
		mac := "0a:00:00:00:00:f2"
		p.Links = append(p.Links, node.Link{Index: 9, Name: "vxlan.calico", Kind: "vxlan", Up: true, Carrier: true})
		p.Routes[1].LinkIndex, p.Routes[1].Gateway = 9, netip.MustParseAddr("10.244.2.0")
		p.Neighbors = []node.Neighbor{{LinkIndex: 9, Addr: p.Routes[1].Gateway, MAC: mac, State: 0x80}, {LinkIndex: 9, Addr: node2, MAC: mac, Bridge: true}}
	}
	elsewhere := netip.MustParseAddrPort("172.30.0.3:51820")
	for name, tc := range map[string]struct {
		node func(*recordedPlace)
		code string
	}{
		"main leads there bare":     {nil, "left-node"},
		"main leads there in VXLAN": {vxlan, "left-node"},
		"main leads there in IPIP": {func(p *recordedPlace) {
			p.Links = append(p.Links, node.Link{Index: 9, Name: "ipip1", Kind: "ipip", Up: true, Carrier: true, Tunnel: node.Tunnel{Remote: node2}})
			p.Routes[1].LinkIndex, p.Routes[1].Gateway = 9, netip.Addr{}
		}, "left-node"},
		"the peer is another node":              {func(p *recordedPlace) { p.WireGuard[0].Peers[1].Endpoint = elsewhere }, "misrouted"},
		"the peer is another node than VXLAN's": {func(p *recordedPlace) { vxlan(p); p.WireGuard[0].Peers[1].Endpoint = elsewhere }, "misrouted"},
		"nobody's":                              {func(p *recordedPlace) { p.WireGuard[0].Peers = nil }, "misrouted"},
	} {
		if found := diagnoseAll(t, wireGuardNode(tc.node), left()); len(found) != 1 || found[0].Code != tc.code {
			t.Errorf("%s: want %s: %+v", name, tc.code, found)
		}
	}
}

// A device that is down has packets leave bare for the node whose peer has them: that
// is told, and of no other way.
func TestUnencrypted(t *testing.T) {
	bare := leaving(func(p *model.Packet) { p.Hops = append(p.Hops[:1:1], p.Hops[2:]...) })
	down := func(more func(*recordedPlace)) *recorded {
		return wireGuardNode(func(p *recordedPlace) {
			p.Links[1].Up, p.Links[1].Addrs = false, []netip.Prefix{netip.MustParsePrefix("10.244.1.0/32")}
			p.Routes = p.Routes[:len(p.Routes)-1]
			if more != nil {
				more(p)
			}
		})
	}
	found := diagnoseAll(t, down(nil), bare)
	if len(found) != 1 || found[0].Code != "tunnel-broken" || found[0].Confidence != Likely {
		t.Fatalf("told %+v", found)
	}
	for _, says := range []string{"wireguard.cali is set down", "leave unencrypted for node 172.30.0.2", "allowed-ips: " + keyOfNode2 + " 10.244.2.0/24", "ip link set wireguard.cali up"} {
		if !strings.Contains(words(found[0]), says) {
			t.Errorf("does not say %q:\n%s", says, words(found[0]))
		}
	}
	for name, state := range map[string]*recorded{
		"it is up":                     wireGuardNode(func(p *recordedPlace) { p.Routes = p.Routes[:len(p.Routes)-1] }),
		"no peer has the address":      down(func(p *recordedPlace) { p.WireGuard[0].Peers[1].AllowedIPs = nil }),
		"the way leads to another one": down(func(p *recordedPlace) { p.WireGuard[0].Peers[1].Endpoint = netip.MustParseAddrPort("172.30.0.3:51820") }),
	} {
		if found := diagnoseAll(t, state, bare); len(found) != 1 || found[0].Code == "tunnel-broken" {
			t.Errorf("%s: told %+v", name, found)
		}
	}
	if found := diagnoseAll(t, down(nil), bare, reply(remote, 80)); len(found) > 0 {
		t.Errorf("answered, but told %+v", found)
	}
}

// Of many peers the first few are told, that of the node in question before others.
func TestManyPeers(t *testing.T) {
	found := diagnoseAll(t, wireGuardNode(func(p *recordedPlace) {
		w := &p.WireGuard[0]
		w.Peers[1].AllowedIPs = nil
		for range 200 {
			w.Peers = append([]node.WireGuardPeer{w.Peers[0]}, w.Peers...)
		}
		for range 50 {
			w.Peers[0].AllowedIPs = append(w.Peers[0].AllowedIPs, netip.MustParsePrefix("10.9.0.0/24"))
		}
	}), intoIPIP("NOT_SPECIFIED", "wg_xmit+0x1", nil))
	if len(found) != 1 || len(found[0].Evidence) > 10 {
		t.Fatalf("told %+v", found)
	}
	if says := words(found[0]); !strings.Contains(says, "allowed-ips: "+keyOfNode2+" (none)") || !strings.Contains(says, "and 43 more") {
		t.Errorf("told %s", says)
	}
}
