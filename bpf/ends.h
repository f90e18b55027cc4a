/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ends.h - where packets end: freed as dropped or in good order, handed to their
 * receiver.
 */
#ifndef PATHTRACE_ENDS_H
#define PATHTRACE_ENDS_H

#include "enter.h"
#include "rules_legacy.h"
#include "rules_nft.h"

/* The family of the header that is routed: the outer one's in a tunnel. */
static __always_inline u8 carried_as(const struct tracked *t, const struct pkt *p)
{
	return p->encap ? p->tun.family : t->t.family;
}

/* What the route decided so far says, from the skb's dst. */
static __always_inline void read_dst(struct sk_buff *skb, u8 family, u32 *oif,
				     s32 *error, u8 *type,
				     struct net_device **dev)
{
	struct dst_entry *dst =
		(void *)(BPF_CORE_READ(skb, _skb_refdst) & ~SKB_DST_NOREF);

	*oif = 0;
	*error = 0;
	*type = 0;
	*dev = 0;
	if (!dst)
		return;
	*dev = BPF_CORE_READ(dst, dev);
	*error = BPF_CORE_READ(dst, error);
	if (*dev)
		*oif = BPF_CORE_READ(*dev, ifindex);
	if (family == 4)
		*type = BPF_CORE_READ((struct rtable *)dst, rt_type);
	else if (BPF_CORE_READ((struct rt6_info *)dst, rt6i_flags) & RTF_LOCAL)
		*type = 2; /* RTN_LOCAL */
	else
		*type = 1; /* RTN_UNICAST */
}

/* nft_do_chain() is freeing a packet: the rules that brought it there. */
static __always_inline void tell_walk(struct tracked *t, const struct pkt *p,
				      struct net_device *dev)
{
	struct event_table *ev = walked(t->skb);

	if (!ev)
		return;
	fill(&ev->e, t, p, dev, KIND_TABLE, FN_nft_do_chain);
	if (!ev->e.netns)
		ev->e.netns = t->nf_netns;
	ev->e.result = 0; /* NF_DROP */
	send_table(ev, t);
}

/*
 * A packet is through with the table it was in, or died there: where there is no
 * fexit to tell (rules_bracket.h).
 */
static __always_inline void end_rules(struct tracked *t, const struct pkt *p,
				      struct net_device *dev, u32 verdict)
{
	u32 cpu = bpf_get_smp_processor_id();
	struct rules_cpu *c = bpf_map_lookup_elem(&rules_cpus, &cpu);
	struct traversal *v = 0, *below;
	struct xt_table *table;
	u32 depth;

	if (!c || !c->depth || c->busy)
		return;
	depth = c->depth;
	for (u32 i = 0; i < MAX_NESTING && depth; i++) {
		depth--;
		v = traversal_at(cpu, depth);
		if (!v || v->skb == t->skb)
			break;
		v = 0;
	}
	if (!v)
		return;
	c->busy = 1;
	if (depth + 1 != c->depth)
		v->ev.rules |= RULES_MIXED; /* what ran in between has no end */
	close_segment(v, cpu);
	table = (void *)v->table;
	if (generation_of((u64)table) != v->ev.generation ||
	    (have_x_tables() && (u64)BPF_CORE_READ(table, private) != v->ev.content))
		v->ev.rules |= RULES_REPLACED;
	c->depth = depth;
	if (depth) {
		below = traversal_at(cpu, depth - 1);
		if (below && !(below->ev.rules & ~RULES_SEEN))
			open_segment(below, cpu);
	}
	c->busy = 0;
	fill(&v->ev.e, t, p, dev, KIND_TABLE, FN_nf_hook_run_bpf);
	if (!v->ev.e.netns)
		v->ev.e.netns = t->nf_netns;
	v->ev.e.result = verdict;
	send_table(&v->ev, t);
}

static __always_inline int on_drop(void *ctx, struct sk_buff *skb, u64 location,
				   u32 reason, u8 fn)
{
	struct net_device *dev, *out;
	struct event_drop *e;
	struct pkt p;
	struct tracked *t;
	u64 key = (u64)skb;

	if (!may_be_ip(skb->protocol))
		return 0;
	__builtin_memset(&p, 0, sizeof(p));
	/* in a UDP socket's queue the member holds something else (dev_scratch) */
	dev = BPF_CORE_READ(skb, dev);
	if (dev && !netns_of(dev))
		dev = 0;
	t = entry_of(key);
	/*
	 * While headers are pushed or pulled the network header may be off:
	 * a known skb is believed then, an unknown one is not ours.
	 */
	if (t && !parse_l3(network_header(skb), &p.l3)) {
		p.l3.t = t->t;
		p.sig = t->sig;
	} else {
		t = enter(skb, network_header(skb), dev, &p, 0);
		if (!t)
			return 0;
	}
	if (t->chain)
		tell_walk(t, &p, dev);
	if (links_tell_rules)
		end_rules(t, &p, dev, 0);
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		lost(t);
		if (t->chain)
			end_walk(key);
		forget(key, t);
		return 0;
	}
	read_dst(skb, carried_as(t, &p), &e->dst_oif, &e->dst_error, &e->dst_type, &out);
	/* the device is often cleared by now: the route knows it */
	fill(&e->e, t, &p, dev ? dev : out, KIND_DROP, fn);
	e->location = location;
	e->reason = reason;
	__builtin_memset(e->stack, 0, sizeof(e->stack));
	bpf_get_stack(ctx, e->stack, sizeof(e->stack), 0);
	__builtin_memset(e->table, 0, sizeof(e->table));
	__builtin_memset(e->chain, 0, sizeof(e->chain));
	e->family = 0;
	/*
	 * No type of nf_tables here: this runs on kernels without that module,
	 * where a relocation to it would keep every backend from loading.
	 */
	if (t->chain) {
		bpf_probe_read_kernel_str(e->chain, sizeof(e->chain), (void *)t->chain);
		bpf_probe_read_kernel_str(e->table, sizeof(e->table), (void *)t->chain_table);
		e->family = t->chain_family;
	}
	if (!e->e.netns && t->hook)
		e->e.netns = t->nf_netns;
	__builtin_memset(e->pad, 0, sizeof(e->pad));
	bpf_ringbuf_submit(e, 0);
	if (t->chain)
		end_walk(key);
	forget(key, t);
	return 0;
}

/* An skb is let go of; the caller has looked at the gate. */
OURS int on_end(struct sk_buff *skb, u8 fn)
{
	struct tracked *t;
	struct pkt p;
	u64 key = (u64)skb;

	t = bpf_map_lookup_elem(&skbs, &key);
	if (!t)
		return 0;
	__builtin_memset(&p, 0, sizeof(p));
	/*
	 * Freed unseen before, and another packet's now? The allocator hands out
	 * the same skb with the same buffer again, so neither address tells.
	 */
	if (!may_be_ip(skb->protocol) ||
	    !recheck(t, &p, network_header(skb))) {
		__sync_fetch_and_add(&stats.stale, 1);
		forget(key, t);
		return 0;
	}
	p.l3.t = t->t; /* the headers may be gone: the entry knows */
	p.nh = 0;
	emit(t, &p, BPF_CORE_READ(skb, dev), KIND_END, fn, 0);
	if (t->chain)
		end_walk(key);
	forget(key, t);
	return 0;
}

/* Hooks that only say "it was here". */
static __always_inline int on_sight(struct sk_buff *skb, struct net_device *dev,
				    u8 kind, u8 fn, s32 result)
{
	struct pkt p;
	struct tracked *t = seen(skb, &p);

	if (!t)
		return 0;
	return emit(t, &p, dev ? dev : BPF_CORE_READ(skb, dev), kind, fn,
		    result);
}

/*
 * The skb reached its receiver; deliveries of a tunnel's outer packet do not count,
 * but for one that is encrypted: nothing is seen of it until it has come out.
 */
static __always_inline int on_deliver(struct sk_buff *skb,
				      struct net_device *dev, u8 fn)
{
	struct pkt p;
	struct tracked *t = seen(skb, &p);

	if (!t || (p.encap && t->outer != OUTER_SEALED))
		return 0;
	delivered(t);
	return emit(t, &p, dev ? dev : BPF_CORE_READ(skb, dev),
		    KIND_DELIVER, fn, 0);
}

/*
 * What the stack itself answers, a reset or an ICMP error, and to which packet:
 * its receiver may have it by now.
 */
static __always_inline int on_answer(struct sk_buff *skb, u8 fn, s32 result)
{
	struct pkt p;
	struct tracked *t = seen_late(skb, &p);

	if (!t)
		return 0;
	return emit(t, &p, BPF_CORE_READ(skb, dev), KIND_ANSWER, fn, result);
}

/* The receive function has returned and kept the skb: nothing more will be said. */
static __always_inline int on_delivered(struct sk_buff *skb)
{
	struct tracked *t;
	u64 key = (u64)skb;

	if (!arrived)
		return 0;
	t = bpf_map_lookup_elem(&skbs, &key);
	if (t && (t->flags & TRACKED_DELIVERED))
		forget(key, t);
	return 0;
}

#endif
