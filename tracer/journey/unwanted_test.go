// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"net/netip"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// What comes to all on a link is no death where nobody wants it; one packet to one
// receiver is, and so is what a rule drops.
func TestUnwanted(t *testing.T) {
	broadcast := model.Hop{Route: &model.Route{Type: "broadcast"}}
	for name, c := range map[string]struct {
		dst              string
		reason, function string
		hook             string
		hops             []model.Hop
		want             bool
	}{
		"mDNS":                       {"224.0.0.251", "NOT_SPECIFIED", "ip_rcv_finish_core+0x1", "", nil, true},
		"mDNS by IPv6":               {"ff02::fb", "NOT_SPECIFIED", "ip6_mc_input+0x1", "", nil, true},
		"nobody listens to it":       {"192.0.2.255", "NO_SOCKET", "__udp4_lib_mcast_deliver+0x1", "", []model.Hop{broadcast}, true},
		"a ping to all":              {"255.255.255.255", "NOT_SPECIFIED", "icmp_rcv+0x1", "", nil, true},
		"a group that is routed":     {"239.1.1.1", "NOT_SPECIFIED", "ip_rcv_finish_core+0x1", "", nil, false},
		"one receiver":               {"192.0.2.7", "NO_SOCKET", "__udp4_lib_rcv+0x1", "", nil, false},
		"a rule drops it":            {"224.0.0.251", "NETFILTER_DROP", "nf_hook_slow+0x1", "INPUT", nil, false},
		"its checksum is wrong":      {"224.0.0.251", "UDP_CSUM", "__udp4_lib_rcv+0x1", "", nil, false},
		"it died before it was sent": {"224.0.0.251", "NOT_SPECIFIED", "__dev_queue_xmit+0x1", "", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := &model.Packet{Dst: netip.MustParseAddr(c.dst), Outcome: model.Dropped, Hops: c.hops, Drop: &model.Drop{Reason: c.reason, Function: c.function, Hook: c.hook}}
			if SettleUnwanted(p); p.Unwanted != c.want || (p.Outcome == model.Delivered) != c.want || (p.Drop == nil) != c.want {
				t.Errorf("outcome %s, unwanted %v, want %v", p.Outcome, p.Unwanted, c.want)
			}
		})
	}
}
