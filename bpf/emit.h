/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* emit.h - an event: what is known of a packet here, into the ring buffer. */
#ifndef PATHTRACE_EMIT_H
#define PATHTRACE_EMIT_H

#include "frame.h"
#include "versions.h"

static __always_inline u32 netns_of(struct net_device *dev)
{
	return dev ? BPF_CORE_READ(dev, nd_net.net, ns.inum) : 0;
}

/* A failed reserve is counted, and the packet bears the mark from then on. */
static __always_inline void lost(struct tracked *t)
{
	__sync_fetch_and_add(&stats.lost_events, 1);
	t->flags |= TRACKED_LOST;
}

/*
 * Fills what all events share, but for kind and function. dev is an address,
 * since a global function takes no kernel pointers.
 */
SUBPROG int describe(struct event *e, struct tracked *t, const struct pkt *p,
		     u64 dev_addr)
{
	struct sk_buff *skb;
	struct net_device *dev = (void *)dev_addr;
	u64 nfct;

	if (!e || !t || !p)
		return 0;
	skb = (void *)t->skb;
	e->ts = bpf_ktime_get_ns();
	e->id = t->id;
	e->skb = t->skb;
	e->netns = netns_of(dev);
	e->ifindex = dev ? BPF_CORE_READ(dev, ifindex) : 0;
	__builtin_memset(e->ifname, 0, sizeof(e->ifname));
	if (dev)
		bpf_probe_read_kernel_str(e->ifname, sizeof(e->ifname), dev->name);
	e->len = BPF_CORE_READ(skb, len);
	e->mark = BPF_CORE_READ(skb, mark);
	e->seq = p->seq;
	e->ack = p->ack;
	e->l3len = p->l3.len;
	e->result = 0;
	e->cpu = bpf_get_smp_processor_id();
	e->ipid = p->l3.ipid;
	e->dir = t->dir;
	e->flags = (t->flags & TRACKED_TENTATIVE ? FLAG_TENTATIVE : 0) |
		   (p->encap ? FLAG_ENCAP : 0) | (p->l3.frag ? FLAG_FRAGMENT : 0) |
		   (p->icmp_error ? FLAG_ICMP_ERROR : 0) |
		   (t->flags & TRACKED_LOST ? FLAG_LOST : 0);
	if (!t->started) {
		e->flags |= t->flags & TRACKED_COPY ? FLAG_COPY : FLAG_NEW;
		if (t->flags & TRACKED_ORIGIN)
			e->flags |= FLAG_ORIGIN;
		t->started = 1;
	}
	e->hook = t->hook;
	e->pf = t->pf;
	nfct = BPF_CORE_READ(skb, _nfct);
	e->ct = nfct ? (nfct & NFCT_INFOMASK) + 1 : 0;
	e->index = t->index;
	e->ttl = p->l3.ttl;
	e->tcp_flags = p->tcp_flags;
	e->icmp_type = p->icmp_type;
	e->icmp_code = p->icmp_code;
	__builtin_memset(e->pad, 0, sizeof(e->pad));
	e->nft = e->hook ? nft_stamp(t->nf_net) : 0;
	e->routes = e->hook ? routes_stamp(t->nf_net, t->pf) : 0;
	e->sealed = t->sealed;
	e->frame = snaplen ? send_frame(t->skb, p->nh) : 0;
	e->t = t->t;
	e->tun = p->tun;
	return 0;
}

static __always_inline void fill(struct event *e, struct tracked *t,
				 const struct pkt *p, struct net_device *dev,
				 u8 kind, u8 fn)
{
	describe(e, t, p, (u64)dev);
	e->kind = kind;
	e->fn = fn;
}

/* An event that says no more than struct event does. */
static __always_inline int emit(struct tracked *t, const struct pkt *p,
				struct net_device *dev, u8 kind, u8 fn,
				s32 result)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		lost(t);
		return 0;
	}
	fill(e, t, p, dev, kind, fn);
	e->result = result;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

static __always_inline void set_current(struct sk_buff *skb, struct tracked *t)
{
	u32 zero = 0;
	struct current *c = bpf_map_lookup_elem(&currents, &zero);

	if (!c || t->t.family != 4)
		return;
	c->skb = (u64)skb;
	c->saddr = t->t.saddr[0];
	c->daddr = t->t.daddr[0];
}

#endif
