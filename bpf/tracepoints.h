/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tracepoints.h - the BTF tracepoints that every backend binds: the entry
 * points, the ends of packets and what no function hook tells.
 *
 * Arguments of the tracepoints: include/trace/events/{net,skb,fib,tcp,icmp,
 * module}.h. Those that came later than 5.10 are not bound to names here but
 * read by position behind a probe of the loader (tracer/attach).
 */
#ifndef PATHTRACE_TRACEPOINTS_H
#define PATHTRACE_TRACEPOINTS_H

#include "hooks.h"
#include "rules_find.h"

struct sock;

/* kfree_skb has its reason since 5.17; before that the slot is no argument. */
const volatile u8 has_drop_reason = 0;

SEC("tp_btf/net_dev_start_xmit")
int BPF_PROG(tp_net_dev_start_xmit, struct sk_buff *skb, struct net_device *dev)
{
	if (!in_flight && !may_enter_by(dev))
		return 0;
	return on_transmit(skb, dev, FN_net_dev_start_xmit);
}

SEC("tp_btf/netif_receive_skb")
int BPF_PROG(tp_netif_receive_skb, struct sk_buff *skb)
{
	if (!in_flight && !may_enter_by(skb->dev))
		return 0;
	return on_receive(skb, FN_netif_receive_skb);
}

SEC("tp_btf/kfree_skb")
int BPF_PROG(tp_kfree_skb, struct sk_buff *skb, void *location)
{
	/* the device of a socket's packets is not known, or no pointer at all */
	if (!armed)
		return 0;
	/* third argument by position: absent on 5.10 */
	u32 reason = has_drop_reason ? (u32)ctx[2] : 0;

	return on_drop(ctx, skb, (u64)location, reason, FN_kfree_skb);
}

SEC("tp_btf/consume_skb")
int BPF_PROG(tp_consume_skb, struct sk_buff *skb)
{
	return in_flight ? on_end(skb, FN_consume_skb) : 0;
}

SEC("tp_btf/fib_table_lookup")
int BPF_PROG(tp_fib_table_lookup, u32 table, const struct flowi4 *flp,
	     const struct fib_nh_common *nhc, int err)
{
	if (!in_flight)
		return 0;
	return on_fib_lookup(table, flp, nhc, err, FN_fib_table_lookup);
}

SEC("tp_btf/tcp_send_reset")
int BPF_PROG(tp_tcp_send_reset, const struct sock *sk, struct sk_buff *skb)
{
	if (!skb)
		return 0;
	return on_answer(skb, FN_tcp_send_reset, 0);
}

SEC("tp_btf/icmp_send")
int BPF_PROG(tp_icmp_send, struct sk_buff *skb, int type, int code)
{
	return on_answer(skb, FN_icmp_send, type << 8 | code);
}

SEC("tp_btf/module_load")
int BPF_PROG(tp_module_load, struct module *m)
{
	return on_module(m);
}

/*
 * Not attached: user space runs it (BPF_PROG_TEST_RUN) with an skb's address
 * and a time, to forget an entry that was not seen since. It is the only way
 * out of the map besides the hooks, so that in_flight and arrived stay exact.
 */
SEC("raw_tp")
int sweep(struct bpf_raw_tracepoint_args *ctx)
{
	u64 key = ctx->args[0], before = ctx->args[1];
	struct tracked *t = bpf_map_lookup_elem(&skbs, &key);

	if (t && t->last < before)
		forget(key, t);
	return 0;
}

#endif
