/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* netfilter.h - hooks, tables, chains and conntrack on a packet's way. */
#ifndef PATHTRACE_NETFILTER_H
#define PATHTRACE_NETFILTER_H

#include "ends.h"

static __always_inline struct net_device *hook_dev(const struct nf_hook_state *st)
{
	struct net_device *in = BPF_CORE_READ(st, in);
	struct net_device *out = BPF_CORE_READ(st, out);
	u8 hook = BPF_CORE_READ(st, hook);

	if (hook == NF_INET_POST_ROUTING || hook == NF_INET_LOCAL_OUT)
		return out ? out : in;
	return in ? in : out;
}

/* Notes in the entry which hook the packet is in. */
static __always_inline void enter_hook(struct tracked *t,
				       const struct nf_hook_state *st)
{
	t->hook = BPF_CORE_READ(st, hook) + 1;
	t->pf = BPF_CORE_READ(st, pf);
	t->nf_net = (u64)BPF_CORE_READ(st, net);
	t->nf_netns = BPF_CORE_READ(st, net, ns.inum);
}

/*
 * local_out: local output begins here, which makes this hook an entry point
 * (transmit comes after OUTPUT's rules).
 */
static __always_inline int on_hook_enter(struct sk_buff *skb,
					 const struct nf_hook_state *st,
					 int local_out)
{
	struct tracked *t;
	struct pkt p;

	if (local_out)
		t = enter(skb, network_header(skb), hook_dev(st), &p, 1);
	else
		t = seen(skb, &p);
	if (t)
		enter_hook(t, st);
	return 0;
}

/* nf_hook_slow() returned: 1 goes on, 0 taken by a target, negative dropped. */
static __always_inline int on_hook_exit(struct sk_buff *skb,
					const struct nf_hook_state *st, s32 ret,
					u8 fn)
{
	struct pkt p;
	struct tracked *t = seen(skb, &p);
	int r;

	if (!t)
		return 0;
	enter_hook(t, st);
	r = emit(t, &p, hook_dev(st), KIND_HOOK, fn, ret);
	t->hook = 0;
	t->index = 0;
	return r;
}

/* Tells a table's verdict, with the rules that matched where they were seen. */
static __always_inline int tell_table(struct tracked *t, const struct pkt *p,
				      struct net_device *dev, struct event_table *ev,
				      u32 verdict, u8 fn)
{
	fill(&ev->e, t, p, dev, KIND_TABLE, fn);
	ev->e.result = verdict;
	return send_table(ev, t);
}

/* The same without rules. */
static __always_inline int tell_table_only(struct tracked *t, const struct pkt *p,
					   struct net_device *dev, u64 table, u64 chain,
					   u8 family, u32 verdict, u8 fn)
{
	struct event_table *e = bpf_ringbuf_reserve(&events, TABLE_HEAD, 0);

	if (!e) {
		lost(t);
		return 0;
	}
	__builtin_memset(&e->table, 0, TABLE_HEAD - sizeof(e->e));
	fill(&e->e, t, p, dev, KIND_TABLE, fn);
	e->e.result = verdict;
	bpf_probe_read_kernel_str(e->table, sizeof(e->table), (void *)table);
	if (chain)
		bpf_probe_read_kernel_str(e->chain, sizeof(e->chain), (void *)chain);
	e->family = family;
	e->rules = RULES_LATE;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

static __always_inline int on_table(struct sk_buff *skb, struct xt_table *table,
				    const struct nf_hook_state *st, u32 verdict,
				    u8 fn)
{
	struct traversal *v = on_rules_exit(skb, table);
	struct pkt p;
	struct tracked *t = seen(skb, &p);

	if (!t)
		return 0;
	enter_hook(t, st);
	if (!v)
		return tell_table_only(t, &p, hook_dev(st), (u64)table->name, 0, 0, verdict, fn);
	bpf_probe_read_kernel_str(v->ev.table, sizeof(v->ev.table), table->name);
	return tell_table(t, &p, hook_dev(st), &v->ev, verdict, fn);
}

/* nft frees what it drops inside nft_do_chain(): on_drop reads .chain. */
static __always_inline int on_chain_enter(struct nft_pktinfo *pkt,
					  struct nft_chain *chain)
{
	struct tracked *t;
	struct pkt p;

	if (!in_flight)
		return 0;
	t = seen(BPF_CORE_READ(pkt, skb), &p);
	if (!t)
		return 0;
	t->chain = (u64)BPF_CORE_READ(chain, name);
	t->chain_table = (u64)BPF_CORE_READ(chain, table, name);
	t->chain_family = BPF_CORE_READ(chain, table, family) & NFT_FAMILY_MASK;
	enter_hook(t, BPF_CORE_READ(pkt, state));
	begin_walk(t->skb, chain, nft_stamp(t->nf_net));
	return 0;
}

static __always_inline int on_chain_exit(struct nft_pktinfo *pkt,
					 struct nft_chain *chain, u32 verdict,
					 u8 fn)
{
	struct net_device *dev;
	struct event_table *ev;
	struct sk_buff *skb;
	struct pkt p;
	struct tracked *t;

	if (!in_flight)
		return 0;
	skb = BPF_CORE_READ(pkt, skb);
	t = seen(skb, &p);
	if (!t)
		return 0; /* dropped by it: the walk has ended with the packet */
	t->chain = 0;
	dev = hook_dev(BPF_CORE_READ(pkt, state));
	ev = walked((u64)skb);
	if (!ev)
		return tell_table_only(t, &p, dev, (u64)BPF_CORE_READ(chain, table, name),
				       (u64)BPF_CORE_READ(chain, name),
				       BPF_CORE_READ(chain, table, family) & NFT_FAMILY_MASK,
				       verdict, fn);
	tell_table(t, &p, dev, ev, verdict, fn);
	end_walk((u64)skb);
	return 0;
}

/* Settles a packet by its conntrack entry. */
static __always_inline void settle_by_ct(struct tracked *t, u32 ctinfo,
					 const struct tuple *orig,
					 const struct tuple *reply)
{
	int dir = dir_of_ct(orig, reply, ctinfo);

	if (dir)
		settle(t, dir);
}

/* Tells the conntrack entry of a packet at hand. */
static __always_inline int tell_conntrack(struct tracked *t, struct pkt *p,
					  struct sk_buff *skb,
					  const struct nf_hook_state *st, u8 fn)
{
	struct nf_conntrack_tuple c = {};
	struct event_ct *e;
	struct nf_conn *ct;
	u64 nfct;

	if (st)
		enter_hook(t, st);
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		lost(t);
		return 0;
	}
	__builtin_memset(&e->orig, 0, sizeof(e->orig));
	__builtin_memset(&e->reply, 0, sizeof(e->reply));
	e->status = 0;
	nfct = BPF_CORE_READ(skb, _nfct);
	ct = (void *)(nfct & NFCT_PTRMASK);
	if (ct) {
		bpf_probe_read_kernel(&c, sizeof(c), &ct->tuplehash[0].tuple);
		tuple_of_ct(&e->orig, &c);
		bpf_probe_read_kernel(&c, sizeof(c), &ct->tuplehash[1].tuple);
		tuple_of_ct(&e->reply, &c);
		e->status = BPF_CORE_READ(ct, status);
		if (t->flags & (TRACKED_TENTATIVE | TRACKED_LEARNED))
			settle_by_ct(t, nfct & NFCT_INFOMASK, &e->orig, &e->reply);
	}
	fill(&e->e, t, p, st ? hook_dev(st) : BPF_CORE_READ(skb, dev),
	     KIND_CONNTRACK, fn);
	bpf_ringbuf_submit(e, 0);
	return 0;
}

static __always_inline int on_conntrack(struct sk_buff *skb,
					const struct nf_hook_state *st, u8 fn)
{
	struct pkt p;
	struct tracked *t = seen(skb, &p);

	return t ? tell_conntrack(t, &p, skb, st, fn) : 0;
}

#endif
