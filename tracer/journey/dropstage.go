// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// dropStages says which part of the stack a function that frees packets
// belongs to, by the beginning of its name; the first row that fits counts.
// The functions are those of Linux 5.10 to 7.3 (net/ipv4, net/ipv6, net/core,
// net/bridge, drivers/net/vxlan, geneve.c, wireguard).
var dropStages = []struct {
	prefix string
	stage  model.Stage
}{
	{"nf_hook_slow", model.StageNetfilter},
	{"nft_do_chain", model.StageNetfilter},
	{"nf_", model.StageNetfilter},
	{"ip_error", model.StageRoute},
	{"ip_rcv_finish", model.StageRoute},
	{"ip_sublist_rcv_finish", model.StageRoute},
	{"ip_route_", model.StageRoute},
	{"ip6_pkt_", model.StageRoute},
	{"dst_discard", model.StageRoute},
	{"dst_blackhole", model.StageRoute},
	{"ip_forward", model.StageForward},
	{"ip6_forward", model.StageForward},
	{"neigh_", model.StageNeighbor},
	{"__neigh_", model.StageNeighbor},
	{"arp_", model.StageNeighbor},
	{"ndisc_", model.StageNeighbor},
	{"vxlan_rcv", model.StageDecapsulate},
	{"vxlan_", model.StageEncapsulate},
	{"geneve_udp_encap_recv", model.StageDecapsulate},
	{"geneve_", model.StageEncapsulate},
	{"ip_tunnel_rcv", model.StageDecapsulate},
	{"ip_tunnel_", model.StageEncapsulate},
	{"tunnel4_rcv", model.StageDecapsulate},
	{"tunnel6_rcv", model.StageDecapsulate},
	{"tunnel46_rcv", model.StageDecapsulate},
	{"tunnel64_rcv", model.StageDecapsulate},
	{"ipip_rcv", model.StageDecapsulate},
	{"ipip_tunnel_rcv", model.StageDecapsulate},
	{"ipip_", model.StageEncapsulate},
	{"ipip6_rcv", model.StageDecapsulate},
	{"ipip6_", model.StageEncapsulate},
	{"sit_tunnel_rcv", model.StageDecapsulate},
	{"sit_", model.StageEncapsulate},
	{"gre_rcv", model.StageDecapsulate},
	{"gre_", model.StageEncapsulate},
	{"ipgre_", model.StageEncapsulate},
	{"ip6_tnl_rcv", model.StageDecapsulate},
	{"__ip6_tnl_rcv", model.StageDecapsulate},
	{"ip6_tnl_", model.StageEncapsulate},
	{"ip6gre_", model.StageEncapsulate},
	{"wg_packet_receive", model.StageDecapsulate},
	{"wg_packet_consume_data", model.StageDecapsulate},
	{"wg_packet_rx_poll", model.StageDecapsulate},
	{"wg_packet_decrypt", model.StageDecapsulate},
	{"wg_", model.StageEncapsulate},
	{"br_", model.StageBridge},
	{"__dev_queue_xmit", model.StageQdisc},
	{"__dev_xmit_skb", model.StageQdisc},
	{"qdisc_", model.StageQdisc},
	{"sch_direct_xmit", model.StageQdisc},
	{"noop_enqueue", model.StageQdisc},
	{"dev_hard_start_xmit", model.StageTransmit},
	{"validate_xmit_skb", model.StageTransmit},
	{"veth_", model.StageTransmit},
	{"__dev_forward_skb", model.StageTransmit}, // the other end of a veth is down
	{"dev_forward_skb", model.StageTransmit},
	{"ip_finish_output", model.StageTransmit},
	{"ip6_finish_output", model.StageTransmit},
	{"ip_fragment", model.StageTransmit},
	{"ip_do_fragment", model.StageTransmit},
	{"__netif_receive_skb", model.StageReceive},
	{"enqueue_to_backlog", model.StageReceive},
	{"netif_", model.StageReceive},
	{"ip_rcv", model.StageReceive},
	{"ipv6_rcv", model.StageReceive},
	{"ip6_rcv", model.StageReceive},
	{"tcp_", model.StageDeliver},
	{"udp", model.StageDeliver},
	{"__udp", model.StageDeliver},
	{"icmp", model.StageDeliver},
	{"ping_", model.StageDeliver},
	{"raw", model.StageDeliver},
	{"sctp_", model.StageDeliver},
	{"sock_", model.StageDeliver},
	{"__sk_", model.StageDeliver},
	{"sk_", model.StageDeliver},
	{"ip_local_deliver", model.StageDeliver},
	{"ip_protocol_deliver", model.StageDeliver},
	{"ip6_input", model.StageDeliver},
	{"ip6_protocol_deliver", model.StageDeliver},
}

// queueFreers free what stood in a queue for whoever called them.
var queueFreers = []string{"skb_queue_purge", "__skb_queue_purge", "skb_rbtree_purge", "kfree_skb_list"}

// stageAt gives the stage of a death in function: that of its first caller that
// tells one where the function only empties a queue (a neighbour's, for example,
// when the carrier goes). stack begins with the function.
func stageAt(function string, stack []string) model.Stage {
	if s := stageOf(function); s != "" {
		return s
	}
	for _, f := range stack {
		if s := stageOf(f); s != "" {
			return s
		}
		if !slices.ContainsFunc(queueFreers, func(freer string) bool { return strings.HasPrefix(f, freer) }) {
			return ""
		}
	}
	return ""
}

// stageOf gives the stage of a function (symbol+offset), "" if it is in no row.
func stageOf(function string) model.Stage {
	for _, s := range dropStages {
		if strings.HasPrefix(function, s.prefix) {
			return s.stage
		}
	}
	return ""
}
