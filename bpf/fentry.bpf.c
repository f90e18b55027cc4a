//go:build ignore

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * fentry.bpf.c - the full backend: function entry and exit besides the BTF
 * tracepoints. Binds bodies of hooks.h to functions, nothing else.
 *
 * Which of these functions the running kernel has, and whether the skb stands
 * where it is expected, is probed by tracer/attach before loading.
 */
#include "tracepoints.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* The value a traced function returned; its position in ctx depends on the
 * number of arguments, which differs by kernel.
 */
static __always_inline s32 returned(void *ctx)
{
	u64 ret = 0;

	bpf_get_func_ret(ctx, &ret);
	return (s32)ret;
}

#define ARG(n, type) ((type)(unsigned long)ctx[n])

/* --- netfilter --- */

SEC("fentry/nf_hook_slow")
int nf_hook_slow_in(u64 *ctx)
{
	const struct nf_hook_state *st = ARG(1, const struct nf_hook_state *);
	int local_out = st->hook == NF_INET_LOCAL_OUT && st->pf != PF_BRIDGE;

	if (!in_flight && (!local_out || !may_enter_by(st->out)))
		return 0;
	return on_hook_enter(ARG(0, struct sk_buff *), st, local_out);
}

SEC("fexit/nf_hook_slow")
int nf_hook_slow_out(u64 *ctx)
{
	if (!in_flight)
		return 0;
	return on_hook_exit(ARG(0, struct sk_buff *),
			    ARG(1, const struct nf_hook_state *), returned(ctx),
			    FN_nf_hook_slow);
}

SEC("fentry/ipt_do_table")
int ipt_do_table_in(u64 *ctx)
{
	if (!in_flight)
		return 0;
	return on_rules_enter(ARG(1, struct sk_buff *), ARG(0, struct xt_table *), 0);
}

SEC("fentry/ip6t_do_table")
int ip6t_do_table_in(u64 *ctx)
{
	if (!in_flight)
		return 0;
	return on_rules_enter(ARG(1, struct sk_buff *), ARG(0, struct xt_table *), 1);
}

/* Before the new table is in: what is seen from here on is of the new generation. */
SEC("fentry/xt_replace_table")
int xt_replace_table_in(u64 *ctx)
{
	return on_replace(ctx[0]);
}

SEC("fexit/ipt_do_table")
int ipt_do_table_out(u64 *ctx)
{
	if (!in_flight)
		return 0;
	return on_table(ARG(1, struct sk_buff *), ARG(0, struct xt_table *),
			ARG(2, const struct nf_hook_state *), returned(ctx),
			FN_ipt_do_table);
}

SEC("fexit/ip6t_do_table")
int ip6t_do_table_out(u64 *ctx)
{
	if (!in_flight)
		return 0;
	return on_table(ARG(1, struct sk_buff *), ARG(0, struct xt_table *),
			ARG(2, const struct nf_hook_state *), returned(ctx),
			FN_ip6t_do_table);
}

SEC("fentry/nft_do_chain")
int nft_do_chain_in(u64 *ctx)
{
	return on_chain_enter(ARG(0, struct nft_pktinfo *),
			      ARG(1, struct nft_chain *));
}

SEC("fexit/nft_do_chain")
int nft_do_chain_out(u64 *ctx)
{
	if (!in_flight)
		return 0;
	return on_chain_exit(ARG(0, struct nft_pktinfo *),
			     ARG(1, struct nft_chain *), returned(ctx),
			     FN_nft_do_chain);
}

/*
 * Expressions that a rule may end with: void f(const struct nft_expr *, struct
 * nft_regs *, const struct nft_pktinfo *), net/netfilter/nft_*.c and
 * net/ipv[46]/netfilter/nft_*.c. Those that only ever compare are not here.
 */
#define EVAL_AS(func, by_map)                                               \
	SEC("fexit/" #func) int func##_out(u64 *ctx)                        \
	{                                                                   \
		if (!in_flight)                                             \
			return 0;                                           \
		return on_eval(ctx, by_map);                                \
	}
#define EVAL(func) EVAL_AS(func, 0)

EVAL(nft_immediate_eval)
EVAL_AS(nft_lookup_eval, 1)
EVAL(nft_target_eval_xt)
EVAL(nft_target_eval_bridge)
EVAL(nft_counter_eval)
EVAL(nft_meta_set_eval)
EVAL(nft_payload_set_eval)
EVAL(nft_exthdr_tcp_set_eval)
EVAL(nft_ct_set_eval)
EVAL(nft_ct_set_zone_eval)
EVAL(nft_ct_helper_obj_eval)
EVAL(nft_ct_timeout_obj_eval)
EVAL(nft_notrack_eval)
EVAL(nft_objref_eval)
EVAL(nft_objref_map_eval)
EVAL(nft_dynset_eval)
EVAL(nft_limit_pkts_eval)
EVAL(nft_limit_bytes_eval)
EVAL(nft_quota_eval)
EVAL(nft_connlimit_eval)
EVAL(nft_log_eval)
EVAL(nft_nat_eval)
EVAL(nft_nat_inet_eval)
EVAL(nft_masq_ipv4_eval)
EVAL(nft_masq_ipv6_eval)
EVAL(nft_masq_inet_eval)
EVAL(nft_masq_eval)
EVAL(nft_redir_ipv4_eval)
EVAL(nft_redir_ipv6_eval)
EVAL(nft_redir_inet_eval)
EVAL(nft_redir_eval)
EVAL(nft_reject_ipv4_eval)
EVAL(nft_reject_ipv6_eval)
EVAL(nft_reject_inet_eval)
EVAL(nft_reject_bridge_eval)
EVAL(nft_reject_netdev_eval)
EVAL(nft_queue_eval)
EVAL(nft_queue_sreg_eval)
EVAL(nft_tproxy_eval)
EVAL(nft_synproxy_eval)
EVAL(nft_dup_ipv4_eval)
EVAL(nft_dup_ipv6_eval)
EVAL(nft_dup_netdev_eval)
EVAL(nft_fwd_netdev_eval)
EVAL(nft_fwd_neigh_eval)
EVAL(nft_flow_offload_eval)
EVAL(nft_last_eval)

SEC("fexit/nf_conntrack_in")
int nf_conntrack_in_out(u64 *ctx)
{
	return on_conntrack(ARG(0, struct sk_buff *),
			    ARG(1, const struct nf_hook_state *),
			    FN_nf_conntrack_in);
}

/* --- routing --- */

SEC("fexit/ip_route_input_slow")
int ip_route_input_slow_out(u64 *ctx)
{
	if (!in_flight)
		return 0;
	return on_route(ARG(0, struct sk_buff *), returned(ctx),
			FN_ip_route_input_slow);
}

SEC("fexit/ip6_route_input")
int ip6_route_input_out(u64 *ctx)
{
	return on_route(ARG(0, struct sk_buff *), 0, FN_ip6_route_input);
}

SEC("fexit/fib_validate_source")
int fib_validate_source_out(u64 *ctx)
{
	s32 ret;

	if (!in_flight)
		return 0;
	ret = returned(ctx);
	if (ret >= 0)
		return 0;
	return on_sight(ARG(0, struct sk_buff *), 0, KIND_RPFILTER,
			FN_fib_validate_source, ret);
}

#define SIGHT(func, arg, kind)                                              \
	SEC("fentry/" #func) int func##_in(u64 *ctx)                        \
	{                                                                   \
		return on_sight(ARG(arg, struct sk_buff *), 0, kind, FN_##func, 0); \
	}

SIGHT(ip_forward, 0, KIND_FORWARD)
SIGHT(ip6_forward, 0, KIND_FORWARD)

SEC("fentry/neigh_resolve_output")
int neigh_resolve_output_in(u64 *ctx)
{
	return on_neigh(ARG(1, struct sk_buff *), ARG(0, struct neighbour *),
			FN_neigh_resolve_output);
}

/* --- bridge --- */

SEC("fentry/br_handle_frame")
int br_handle_frame_in(u64 *ctx)
{
	struct sk_buff *skb = 0;
	u64 pskb = 0;

	if (!in_flight)
		return 0;
	/* a pointer to a pointer cannot be read from ctx, only asked for */
	bpf_get_func_arg(ctx, 0, &pskb);
	bpf_probe_read_kernel(&skb, sizeof(skb), (void *)pskb);
	return on_sight(skb, 0, KIND_BRIDGE, FN_br_handle_frame, 0);
}

SEC("fentry/br_forward")
int br_forward_in(u64 *ctx)
{
	struct net_bridge_port *to = ARG(0, struct net_bridge_port *);

	if (!in_flight)
		return 0;
	return on_sight(ARG(1, struct sk_buff *),
			to ? BPF_CORE_READ(to, dev) : 0, KIND_BRIDGE,
			FN_br_forward, 0);
}

SIGHT(br_pass_frame_up, 0, KIND_BRIDGE)

/* --- tunnels --- */

SIGHT(vxlan_xmit, 0, KIND_ENCAP)
SIGHT(vxlan_rcv, 1, KIND_DECAP)
SIGHT(geneve_xmit, 0, KIND_ENCAP)
SIGHT(geneve_udp_encap_recv, 1, KIND_DECAP)
SIGHT(ip_tunnel_xmit, 0, KIND_ENCAP) /* ipip, gre, gretap */
SIGHT(ip_tunnel_rcv, 1, KIND_DECAP) /* the same, and IPv4 that came to sit */
SIGHT(sit_tunnel_xmit, 0, KIND_ENCAP)
SIGHT(ipip6_rcv, 0, KIND_DECAP)
SIGHT(ip6_tnl_xmit, 0, KIND_ENCAP) /* ip6tnl, ip6gre */
SIGHT(ip6_tnl_rcv, 1, KIND_DECAP)

SEC("fentry/wg_xmit")
int wg_xmit_in(u64 *ctx)
{
	return on_sealing(ARG(0, struct sk_buff *), FN_wg_xmit);
}

/* Called with the packet at hand, so nothing ends it meanwhile; attached where there is WireGuard. */
SEC("fexit/__skb_gso_segment")
int __skb_gso_segment_out(u64 *ctx)
{
	u64 first = 0;

	if (!in_flight)
		return 0;
	bpf_get_func_ret(ctx, &first);
	return on_cut(ARG(0, struct sk_buff *), first);
}

SEC("fexit/wg_allowedips_lookup_src")
int wg_allowedips_lookup_src_out(u64 *ctx)
{
	struct sk_buff *skb = ARG(1, struct sk_buff *);
	u64 found = 0;

	if (!in_flight && !may_enter_by(skb->dev))
		return 0;
	bpf_get_func_ret(ctx, &found);
	return on_source(skb, found, FN_wg_allowedips_lookup_src);
}

/* --- queueing --- */

SEC("fexit/__dev_queue_xmit")
int __dev_queue_xmit_out(u64 *ctx)
{
	s32 ret;

	if (!in_flight)
		return 0;
	ret = returned(ctx);
	if (!ret)
		return 0;
	return on_sight(ARG(0, struct sk_buff *), 0, KIND_QDISC,
			FN___dev_queue_xmit, ret);
}

/* --- delivery --- */

#define DELIVER(func, arg)                                                   \
	SEC("fentry/" #func) int func##_in(u64 *ctx)                         \
	{                                                                    \
		return on_deliver(ARG(arg, struct sk_buff *), 0, FN_##func); \
	}

#define DELIVERED(func, arg)                                       \
	SEC("fexit/" #func) int func##_out(u64 *ctx)               \
	{                                                          \
		return on_delivered(ARG(arg, struct sk_buff *));   \
	}

DELIVER(tcp_v4_rcv, 0)
DELIVERED(tcp_v4_rcv, 0)
DELIVER(tcp_v6_rcv, 0)
DELIVERED(tcp_v6_rcv, 0)
DELIVER(udp_queue_rcv_skb, 1)
DELIVER(udpv6_queue_rcv_skb, 1)
DELIVER(icmp_rcv, 0)
DELIVER(icmpv6_rcv, 0)
DELIVER(sctp_rcv, 0)

/* --- answers of the stack itself --- */

/* up to 6.9 the tracepoint tcp_send_reset is silent where there is no socket */
#define RESET(func, arg)                                                        \
	SEC("fentry/" #func) int func##_in(u64 *ctx)                            \
	{                                                                       \
		return on_answer(ARG(arg, struct sk_buff *), FN_##func, 0);     \
	}

RESET(tcp_v4_send_reset, 1)
RESET(tcp_v6_send_reset, 1)

SEC("fentry/__icmp_send")
int __icmp_send_in(u64 *ctx)
{
	return on_answer(ARG(0, struct sk_buff *), FN___icmp_send,
			 (u32)ctx[1] << 8 | (u8)ctx[2]);
}

SEC("fentry/icmp6_send")
int icmp6_send_in(u64 *ctx)
{
	return on_answer(ARG(0, struct sk_buff *), FN_icmp6_send,
			 (u32)(u8)ctx[1] << 8 | (u8)ctx[2]);
}

RESET(nf_send_reset, 2)
RESET(nf_send_reset6, 2)
