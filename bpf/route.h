/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* route.h - routes and neighbours on a packet's way, and modules that arrive. */
#ifndef PATHTRACE_ROUTE_H
#define PATHTRACE_ROUTE_H

#include "ends.h"

/* Tells the route that a packet at hand was given. */
static __always_inline int tell_route(struct tracked *t, struct pkt *p,
				      struct sk_buff *skb, s32 ret, u8 fn)
{
	u8 family = carried_as(t, p);
	struct event_route *e;
	struct net_device *out;
	struct dst_entry *dst;

	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		lost(t);
		return 0;
	}
	fill(&e->e, t, p, BPF_CORE_READ(skb, dev), KIND_ROUTE, fn);
	e->e.result = ret;
	e->table = 0;
	e->gw_family = 0;
	__builtin_memset(e->gw, 0, sizeof(e->gw));
	__builtin_memset(e->oifname, 0, sizeof(e->oifname));
	__builtin_memset(e->pad, 0, sizeof(e->pad));
	read_dst(skb, family, &e->oif, &e->error, &e->type, &out);
	if (out)
		bpf_probe_read_kernel_str(e->oifname, sizeof(e->oifname), out->name);
	dst = (void *)(BPF_CORE_READ(skb, _skb_refdst) & ~SKB_DST_NOREF);
	if (dst && family == 4) {
		e->gw_family = BPF_CORE_READ((struct rtable *)dst, rt_gw_family);
		if (e->gw_family == PF_INET)
			e->gw[0] = BPF_CORE_READ((struct rtable *)dst, rt_gw4);
		else
			e->gw_family = 0;
	} else if (dst) {
		struct rt6_info *rt = (void *)dst;

		if (BPF_CORE_READ(rt, rt6i_flags) & RTF_GATEWAY) {
			e->gw_family = PF_INET6;
			BPF_CORE_READ_INTO(&e->gw, rt, rt6i_gateway.in6_u.u6_addr32);
		}
	}
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/* An input route was looked up: ret is the function's own result. */
static __always_inline int on_route(struct sk_buff *skb, s32 ret, u8 fn)
{
	struct pkt p;
	struct tracked *t = seen(skb, &p);

	return t ? tell_route(t, &p, skb, ret, fn) : 0;
}

/*
 * One routing table was asked. No skb is at hand: it is the one this CPU
 * received last if the addresses asked for are its own. The caller has looked at
 * the gate.
 */
OURS int on_fib_lookup(u32 table, const struct flowi4 *flp, const struct fib_nh_common *nhc,
		       s32 err, u8 fn)
{
	struct event_route *e;
	struct net_device *out;
	struct current *c;
	struct tracked *t;
	struct pkt p;
	u32 zero = 0;
	u64 key;

	c = bpf_map_lookup_elem(&currents, &zero);
	if (!c || !c->skb || BPF_CORE_READ(flp, daddr) != c->daddr ||
	    BPF_CORE_READ(flp, saddr) != c->saddr)
		return 0;
	key = c->skb;
	t = bpf_map_lookup_elem(&skbs, &key);
	if (!t || t->t.family != 4 || t->t.saddr[0] != c->saddr)
		return 0;
	/* rewritten since (DNAT): the lookup is for what it is now */
	if (!BPF_CORE_READ(flp, __fl_common.flowic_iif))
		return 0;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		lost(t);
		return 0;
	}
	__builtin_memset(&p, 0, sizeof(p));
	p.l3.t = t->t;
	fill(&e->e, t, &p, BPF_CORE_READ((struct sk_buff *)key, dev),
	     KIND_FIB, fn);
	e->table = table;
	e->error = err;
	e->type = 0;
	e->gw_family = 0;
	e->oif = 0;
	__builtin_memset(e->gw, 0, sizeof(e->gw));
	__builtin_memset(e->oifname, 0, sizeof(e->oifname));
	__builtin_memset(e->pad, 0, sizeof(e->pad));
	if (nhc) {
		out = BPF_CORE_READ(nhc, nhc_dev);
		if (out) {
			e->oif = BPF_CORE_READ(out, ifindex);
			bpf_probe_read_kernel_str(e->oifname, sizeof(e->oifname),
						  out->name);
		}
		if (BPF_CORE_READ(nhc, nhc_gw_family) == PF_INET) {
			e->gw_family = PF_INET;
			e->gw[0] = BPF_CORE_READ(nhc, nhc_gw.ipv4);
		}
	}
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/*
 * The next hop's address has to be asked for, or checked. What this host sends
 * itself may be seen here first, and wait here for seconds: an entry point.
 */
static __always_inline int on_neigh(struct sk_buff *skb, struct neighbour *n,
				    u8 fn)
{
	int origin = skb->skb_iif == 0;
	struct event_neigh *e;
	struct pkt p;
	struct tracked *t;

	if (!in_flight && (!origin || !may_enter_by(n->dev)))
		return 0;
	if (origin)
		t = enter(skb, network_header(skb), BPF_CORE_READ(n, dev), &p, 1);
	else
		t = seen(skb, &p);
	if (!t)
		return 0;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		lost(t);
		return 0;
	}
	fill(&e->e, t, &p, BPF_CORE_READ(n, dev), KIND_NEIGH, fn);
	e->state = BPF_CORE_READ(n, nud_state);
	e->family = t->t.family;
	bpf_probe_read_kernel(e->ha, sizeof(e->ha), n->ha);
	__builtin_memset(e->addr, 0, sizeof(e->addr));
	if (e->family == 4)
		bpf_probe_read_kernel(e->addr, 4, n->primary_key);
	else
		bpf_probe_read_kernel(e->addr, 16, n->primary_key);
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/* A kernel module arrived: hooks in it may now be attached. */
static __always_inline int on_module(struct module *m)
{
	struct event_module *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		__sync_fetch_and_add(&stats.lost_events, 1);
		return 0;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->e.kind = KIND_MODULE;
	e->e.ts = bpf_ktime_get_ns();
	bpf_probe_read_kernel_str(e->name, sizeof(e->name), m->name);
	bpf_ringbuf_submit(e, 0);
	return 0;
}

#endif
