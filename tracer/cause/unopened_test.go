// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// encrypted is a packet of a peer's that died in INPUT before it was decrypted.
func encrypted(from netip.Addr, port uint16, more ...func(*model.Packet)) *model.Packet {
	return dead("NETFILTER_DROP", "nf_hook_slow+0x1", func(p *model.Packet) {
		byRule("INPUT", "-A INPUT -p udp -m udp --dport 51820 -j DROP", "")(p)
		p.ID, p.Time, p.Proto, p.TCPFlags = 0, time.Now(), "udp", ""
		p.Src, p.SrcPort, p.Dst, p.DstPort = from, port, node1, 51820
		p.Drop.Hook, p.Drop.Interface, p.Drop.IfIndex = "INPUT", "eth0", 2
		p.Drop.Tunnel = &model.Tunnel{Kind: "wireguard", Src: from, SrcPort: port, Dst: node1, DstPort: 51820}
		p.Hops[0].Interface, p.Hops[0].IfIndex = "eth0", 2
		for _, change := range more {
			change(p)
		}
	})
}

// TestEncryptedDeaths: the peer's packets that died are told where something of the flow
// that would have come from it is missing, as likely, and never otherwise.
func TestEncryptedDeaths(t *testing.T) {
	left := func() *model.Packet {
		return leaving(func(p *model.Packet) {
			p.Hops[1].Interface, p.Hops[1].Tunnel = "wireguard.cali", &model.Tunnel{Kind: "wireguard", Src: node1, Dst: node2, DstPort: 51820}
		})
	}
	node3 := netip.MustParseAddr("172.30.0.3")
	from := func(src netip.Addr) *model.Start {
		return &model.Start{Type: model.TypeStart, Src: model.End{Given: src.String(), Addresses: model.Prefixes{netip.PrefixFrom(src, 32)}},
			Dst: model.End{Given: podA.String(), Netns: podNS, Addresses: model.Prefixes{netip.PrefixFrom(podA, 32)}}}
	}
	waits := func() *model.Packet {
		return intoIPIP("", "", func(p *model.Packet) {
			p.Time, p.Outcome, p.Drop = time.Now().Add(-time.Second), model.Unknown, nil
			p.Hops = append(p.Hops, model.Hop{Stage: model.StageEncapsulate, Netns: nodeNS, Place: "node", Interface: "wireguard.cali", IfIndex: 3})
		})
	}
	refused := func(p *model.Packet) {
		p.Drop = &model.Drop{Reason: "NO_SOCKET", Function: "__udp4_lib_rcv+0x1", Stage: model.StageDeliver, Netns: nodeNS, Place: "node", Interface: "eth0", IfIndex: 2, Tunnel: p.Drop.Tunnel}
	}
	never := func(p *recordedPlace) { p.WireGuard[0].Peers[1].Handshake = time.Time{} }
	rule := "rule 3 of INPUT in filter: -A INPUT -p udp -m udp --dport 51820 -j DROP\n"
	for name, tc := range map[string]struct {
		start   *model.Start
		packets []*model.Packet
		died    []*model.Packet
		node    func(*recordedPlace)
		codes   string
		says    []string
		dir     model.Direction
	}{
		"answers are missing": {from(podA), []*model.Packet{left()}, []*model.Packet{encrypted(node2, 51820), encrypted(node2, 51820)}, nil, "tunnel-blocked", []string{
			"so died 2 encrypted packets of WireGuard (wireguard.cali) from peer " + keyOfNode2 + " (172.30.0.2:51820), and no answer from 10.244.2.3:80 (tcp), which is behind that peer",
			"WireGuard, UDP port 51820", rule, "wg show wireguard.cali endpoints: " + keyOfNode2 + " 172.30.0.2:51820\n", "encrypted packets from 172.30.0.2:51820 died in hook INPUT at node (eth0)\n",
			"not known: what was inside"}, model.Return},
		"answered":                  {from(podA), []*model.Packet{left(), reply(remote, 80)}, []*model.Packet{encrypted(node2, 51820)}, nil, "", nil, ""},
		"those of another peer":     {from(podA), []*model.Packet{left()}, []*model.Packet{encrypted(node3, 51820)}, nil, "left-node", nil, model.Forward},
		"of nobody's endpoint":      {from(podA), []*model.Packet{left()}, []*model.Packet{encrypted(node2, 4500)}, nil, "left-node", nil, model.Forward},
		"before anything was asked": {from(podA), []*model.Packet{left()}, []*model.Packet{encrypted(node2, 51820, func(p *model.Packet) { p.Time = p.Time.Add(-time.Minute) })}, nil, "left-node", nil, model.Forward},
		"nothing came at all":       {from(remote), nil, []*model.Packet{encrypted(node2, 51820)}, nil, "tunnel-blocked", []string{"nothing of the flow from 10.244.2.3, which is behind that peer, was seen to come out of wireguard.cali", rule}, model.Forward},
		"its device is down": {from(remote), nil, []*model.Packet{encrypted(node2, 51820, refused)}, func(p *recordedPlace) { p.Links[1].Up = false }, "tunnel-broken", []string{
			"The tunnel interface wireguard.cali is set down, so that nobody here takes WireGuard's packets (UDP port 51820); so died 1 encrypted packet", "ip link: wireguard.cali <DOWN>"}, model.Forward},
		"nothing came, may not send": {from(remote), nil, nil, func(p *recordedPlace) {
			p.WireGuard[0].Peers[1].AllowedIPs = nil
			p.RouteRules[0].Flags, p.RouteRules[0].Mark, p.RouteRules[0].Mask = node.RuleInvert, 0x100000, 0x100000 // as Felix makes it
		}, "not-sent", []string{
			"if it sends, WireGuard (wireguard.cali) would take none from it", "wg show wireguard.cali: 2 peers, and none of their allowed IPs holds 10.244.2.3\n"}, model.Forward},
		"nothing came, of another":    {from(remote), nil, []*model.Packet{encrypted(node3, 51820)}, nil, "not-sent", nil, model.Forward},
		"nobody sent, the other asks": {from(podA), nil, []*model.Packet{encrypted(node2, 51820)}, nil, "not-sent", nil, model.Forward},
		"waits for a key":             {from(podA), []*model.Packet{waits()}, []*model.Packet{encrypted(node2, 51820)}, never, "tunnel-blocked wireguard", []string{"packets wait there for a key, which takes an answer of that peer's", rule}, model.Forward},
	} {
		t.Run(name, func(t *testing.T) {
			c := New(wireGuardNode(tc.node), func(line string) { t.Errorf("could not be asked: %s", line) })
			c.Start(tc.start)
			for i, p := range tc.packets {
				p.ID = uint64(i + 1)
				c.Packet(p)
			}
			for _, p := range tc.died {
				c.Unopened(p)
			}
			var codes, all []string
			for _, f := range c.Findings() {
				codes, all = append(codes, f.Code), append(all, words(f)+"\n")
				if f.Code == "tunnel-blocked" && (f.Confidence != Likely || f.Direction != tc.dir) {
					t.Errorf("%s, %s: %s", f.Confidence, f.Direction, words(f))
				}
			}
			if strings.Join(codes, " ") != tc.codes {
				t.Errorf("codes %q, want %q:\n%s", codes, tc.codes, strings.Join(all, "\n"))
			}
			for _, says := range tc.says {
				if !strings.Contains(strings.Join(all, "\n"), says) {
					t.Errorf("does not say %q:\n%s", says, strings.Join(all, "\n"))
				}
			}
		})
	}
}

// TestEncryptedDeathsAreBounded: however many senders there are, so many are kept.
func TestEncryptedDeathsAreBounded(t *testing.T) {
	c := New(wireGuardNode(func(p *recordedPlace) { p.WireGuard[0].Peers = []node.WireGuardPeer{} }), nil)
	for i := range 2 * maxUnopened {
		c.Unopened(encrypted(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 51820))
	}
	if n := len(c.unopened.order); n != maxUnopened {
		t.Errorf("%d kinds of death are kept, want %d", n, maxUnopened)
	}
}
