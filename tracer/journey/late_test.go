// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"net/netip"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// A segment that finds no socket is late if its receiver's side had ended before,
// and the death that it looks like if not.
func TestLateSegments(t *testing.T) {
	client, server := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	service := netip.MustParseAddr("10.96.0.1")
	out := func(flags string) *model.Packet {
		return &model.Packet{Proto: "tcp", Src: client, SrcPort: 40000, Dst: server, DstPort: 80, TCPFlags: flags, Outcome: model.Delivered}
	}
	back := func(flags string) *model.Packet {
		return &model.Packet{Proto: "tcp", Src: server, SrcPort: 80, Dst: client, DstPort: 40000, TCPFlags: flags, Outcome: model.Delivered}
	}
	died := func(p *model.Packet, o model.Outcome, reason, function string) *model.Packet {
		p.Outcome, p.Drop = o, &model.Drop{Reason: reason, Function: function}
		return p
	}
	toService := func(p *model.Packet) *model.Packet {
		p.Hops = []model.Hop{{After: &model.Endpoints{Src: client, SrcPort: 40000, Dst: server, DstPort: 80}}}
		p.Dst = service
		return p
	}
	asks := func(p *model.Packet, netns uint32) *model.Packet {
		p.Hops = append([]model.Hop{{Netns: netns}}, p.Hops...)
		return p
	}
	at := func(p *model.Packet, netns uint32) *model.Packet {
		p.Drop.Netns = netns
		return p
	}
	for name, c := range map[string]struct {
		before []*model.Packet
		last   *model.Packet
		late   bool
	}{
		"its receiver had closed":         {[]*model.Packet{out("F."), back("F.")}, died(out("."), model.Rejected, "NO_SOCKET", "tcp_v4_rcv+0x1"), true},
		"its receiver had reset it":       {[]*model.Packet{back("R")}, died(out("P."), model.Dropped, "NO_SOCKET", "tcp_v4_rcv+0x1"), true},
		"its own side had reset it":       {[]*model.Packet{out("R.")}, died(out("P."), model.Dropped, "NO_SOCKET", "tcp_v6_rcv+0x1"), true},
		"no reason was given":             {[]*model.Packet{back("F.")}, died(out("."), model.Rejected, "NOT_SPECIFIED", "tcp_v4_rcv+0x1"), true},
		"through a service":               {[]*model.Packet{back("F.")}, died(toService(out(".")), model.Rejected, "NO_SOCKET", "tcp_v4_rcv+0x1"), true},
		"its client had given up":         {[]*model.Packet{asks(out("S"), 7)}, at(died(back("S."), model.Rejected, "NO_SOCKET", "tcp_v4_rcv+0x1"), 7), true},
		"another pod had asked":           {[]*model.Packet{asks(out("S"), 8)}, at(died(back("S."), model.Rejected, "NO_SOCKET", "tcp_v4_rcv+0x1"), 7), false},
		"it had asked somebody else":      {[]*model.Packet{asks(toService(out("S")), 7)}, at(died(back("S."), model.Rejected, "NO_SOCKET", "tcp_v4_rcv+0x1"), 7), false},
		"it was asked before the trace":   {nil, at(died(back("S."), model.Rejected, "NO_SOCKET", "tcp_v4_rcv+0x1"), 7), true},
		"only its own side had closed":    {[]*model.Packet{out("F.")}, died(out("."), model.Rejected, "NO_SOCKET", "tcp_v4_rcv+0x1"), false},
		"nobody had closed":               {[]*model.Packet{out("S"), back("S.")}, died(out("P."), model.Rejected, "NO_SOCKET", "tcp_v4_rcv+0x1"), false},
		"a new one begins":                {[]*model.Packet{back("F.")}, died(out("S"), model.Rejected, "NO_SOCKET", "tcp_v4_rcv+0x1"), false},
		"a new one had begun":             {[]*model.Packet{back("F."), out("S")}, died(out("P."), model.Rejected, "NO_SOCKET", "tcp_v4_rcv+0x1"), false},
		"it died of something else":       {[]*model.Packet{back("F.")}, died(out("."), model.Dropped, "NETFILTER_DROP", "nf_hook_slow+0x1"), false},
		"another connection had closed":   {[]*model.Packet{{Proto: "tcp", Src: server, SrcPort: 81, Dst: client, DstPort: 40000, TCPFlags: "F."}}, died(out("."), model.Rejected, "NO_SOCKET", "tcp_v4_rcv+0x1"), false},
		"a datagram has no connection":    {[]*model.Packet{back("F.")}, died(&model.Packet{Proto: "udp", Src: client, SrcPort: 40000, Dst: server, DstPort: 80}, model.Dropped, "NO_SOCKET", "tcp_v4_rcv"), false},
		"freed elsewhere without reasons": {[]*model.Packet{back("F.")}, died(out("."), model.Dropped, "NOT_SPECIFIED", "ip_rcv+0x1"), false},
	} {
		t.Run(name, func(t *testing.T) {
			all := NewConnections()
			for _, p := range c.before {
				all.Settle(p)
			}
			all.Settle(c.last)
			if late := c.last.Late && c.last.Outcome == model.Delivered && c.last.Drop == nil; late != c.late || c.last.Late != c.late {
				t.Errorf("late %v, outcome %s, want late %v", c.last.Late, c.last.Outcome, c.late)
			}
		})
	}
}
