//go:build ignore

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tracepoint.bpf.c - the backend for kernels that refuse fentry: BTF
 * tracepoints, and BPF netfilter links (6.4+) between the tables.
 *
 * A link sees a packet pass; it always lets it go on. Links are placed before
 * the first, between all, and behind the last table or base chain of a hook
 * (tracer/attach/brackets.go): the bracket a packet passed last before it was freed
 * names the table that dropped it, and a legacy table between two links tells
 * its rules (rules_bracket.h). One program per bracket number, since a
 * netfilter program is told its hook but not its priority.
 */
#include "tracepoints.h"
#include "rules_bracket.h"

char _license[] SEC("license") = "Dual BSD/GPL";

OURS int bracket_ours(struct bpf_nf_ctx *ctx, u8 index, int last)
{
	const struct nf_hook_state *st = ctx->state;
	struct sk_buff *skb = ctx->skb;
	struct pkt p;
	struct tracked *t;
	u64 nfct, dst;
	u8 hook;

	hook = st->hook;
	if (hook == NF_INET_LOCAL_OUT && (index == 0 || last))
		/* local output begins here: an entry point */
		t = enter(skb, network_header(skb), hook_dev(st), &p, 1);
	else
		t = seen(skb, &p);
	if (!t) {
		if (in_flight)
			passed_by(st, index);
		return NF_ACCEPT;
	}
	end_rules(t, &p, hook_dev(st), NF_ACCEPT);
	nfct = BPF_CORE_READ(skb, _nfct);
	if (nfct != t->nfct) {
		t->nfct = nfct;
		if (nfct) /* it is cleared on the way to another namespace */
			tell_conntrack(t, &p, skb, st,
				       FN_nf_hook_run_bpf);
	}
	dst = BPF_CORE_READ(skb, _skb_refdst);
	if (dst != t->dst && (hook == NF_INET_FORWARD || hook == NF_INET_LOCAL_IN)) {
		t->dst = dst;
		tell_route(t, &p, skb, 0, FN_nf_hook_run_bpf);
	}
	enter_hook(t, st);
	t->index = index + 1;
	emit(t, &p, hook_dev(st), KIND_PASS, FN_nf_hook_run_bpf, last);
	if (last && hook == NF_INET_LOCAL_IN && (!p.encap || t->outer == OUTER_SEALED)) {
		delivered(t);
		emit(t, &p, hook_dev(st), KIND_DELIVER, FN_nf_hook_run_bpf, 0);
	}
	if (!last)
		begin_rules(t, st, index);
	return NF_ACCEPT;
}

/* Other traffic comes by here too, and has to be let go at once. */
static __always_inline int bracket(struct bpf_nf_ctx *ctx, u8 index, int last)
{
	if (!in_flight && (ctx->state->hook != NF_INET_LOCAL_OUT || (index && !last) ||
			   !may_enter_by(ctx->state->out)))
		return NF_ACCEPT;
	return bracket_ours(ctx, index, last);
}

/*
 * A legacy table's counters are about to be allocated (xt_percpu_counter_alloc,
 * net/netfilter/x_tables.c): a table will get new contents. Nothing else tells
 * here. include/trace/events/percpu.h, since Linux 6.0.
 */
SEC("tp_btf/percpu_alloc_percpu")
int BPF_PROG(tp_percpu_alloc_percpu, unsigned long call_site, int reserved, int is_atomic,
	     unsigned long size, unsigned long align)
{
	if (size == sizeof(struct counter_block) && align == sizeof(struct counter_block))
		__sync_fetch_and_add(&rules_generation, 1);
	return 0;
}

#define BRACKET(n)                                          \
	SEC("netfilter") int pass_##n(struct bpf_nf_ctx *ctx) \
	{                                                   \
		return bracket(ctx, n, 0);                  \
	}
BRACKET(0)
BRACKET(1)
BRACKET(2)
BRACKET(3)
BRACKET(4)
BRACKET(5)
BRACKET(6)
BRACKET(7)

SEC("netfilter") int pass_last(struct bpf_nf_ctx *ctx)
{
	return bracket(ctx, 31, 1);
}
