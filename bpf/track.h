/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* track.h - which packet an skb is: see flow.h, Gate and Identity. */
#ifndef PATHTRACE_TRACK_H
#define PATHTRACE_TRACK_H

#include "match.h"

static __always_inline int same_tuple(const struct tuple *a, const struct tuple *b)
{
	const u64 *x = (const u64 *)a, *y = (const u64 *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3] &&
	       x[4] == y[4];
}

/* From here on equal bytes in this buffer, sent again, are another packet. */
SUBPROG int end_head(u64 head, u64 id)
{
	struct head_id *h = bpf_map_lookup_elem(&heads, &head);

	if (h && h->id == id)
		h->ended = bpf_ktime_get_ns();
	return 0;
}

/* Forgets an skb; its head stays known as ended, for clones still under way. */
static __always_inline void forget(u64 key, struct tracked *t)
{
	u64 head = t->head, id = t->id;
	int was_delivered = t->flags & TRACKED_DELIVERED;

	if (bpf_map_delete_elem(&skbs, &key))
		return; /* someone else was faster, and has counted it */
	if (was_delivered)
		__sync_fetch_and_add(&arrived, -1);
	else
		__sync_fetch_and_add(&in_flight, -1);
	end_head(head, id);
}

/* The packet is with its receiver: it no longer keeps the gate open. */
static __always_inline void delivered(struct tracked *t)
{
	if (!(t->flags & TRACKED_DELIVERED)) {
		t->flags |= TRACKED_DELIVERED;
		__sync_fetch_and_add(&arrived, 1);
		__sync_fetch_and_add(&in_flight, -1);
	}
	end_head(t->head, t->id);
}

/* The entry of an skb, under way or delivered. */
static __always_inline struct tracked *entry_of(u64 key)
{
	return in_flight || arrived ? bpf_map_lookup_elem(&skbs, &key) : 0;
}

SUBPROG int remember_head(struct tracked *t, u64 now)
{
	struct head_id h = {};
	u64 head;

	if (!t)
		return 0;
	head = t->head;
	h.id = t->id;
	h.sig = t->sig;
	h.last = now;
	h.netns = t->first_netns;
	h.ifindex = t->first_ifindex;
	h.dir = t->dir;
	bpf_map_update_elem(&heads, &head, &h, BPF_ANY);
	return 0;
}

/*
 * One more packet cannot be followed, or is not to be. Counted once: its head is
 * kept with no id, so that later entry points know it and leave it alone.
 */
SUBPROG int leave_alone(u64 head, u64 sig, u32 netns, u32 ifindex, u32 dir)
{
	struct head_id h = {};

	h.sig = sig;
	h.last = bpf_ktime_get_ns();
	h.netns = netns;
	h.ifindex = ifindex;
	h.dir = dir;
	bpf_map_update_elem(&heads, &head, &h, BPF_ANY);
	return 0;
}

/*
 * Sampling: at most `quota` new packets in a window of 2^27 ns (134 ms) are
 * followed, the others are counted and left alone. User space sets the quota by
 * what it can take; 0: no limit. Two CPUs that begin a window at once may let a
 * few more in, never fewer.
 */
#define WINDOW_SHIFT 27

u64 quota = 0;
u64 window = 0;
u64 window_used = 0;

static __always_inline int over_quota(u64 now)
{
	u64 w = now >> WINDOW_SHIFT;

	if (!quota)
		return 0;
	if (window != w) {
		window = w;
		window_used = 0;
	}
	return __sync_fetch_and_add(&window_used, 1) >= quota;
}

#define HEAD_VALID_NS 30000000000ULL
/* A packet left alone comes by several entry points within so long. */
#define LEFT_ALONE_NS 150000000ULL

/*
 * Makes an entry for an skb that was not known: as a clone of a packet that
 * is under way, or as a new packet. origin says that packets begin here: equal
 * bytes in a buffer that was used before are a new packet then, unless the
 * first one is still on its way elsewhere (a bridge floods what its own host
 * sends).
 */
static __always_inline struct tracked *track(u64 key, u64 head, struct pkt *p,
					     int dir, u32 tentative, int origin,
					     u32 netns, u32 ifindex)
{
	struct head_id *h = bpf_map_lookup_elem(&heads, &head);
	u64 now = bpf_ktime_get_ns();
	struct tracked *t;
	int copy = 0;
	u64 id;

	if (h && h->sig == p->sig && h->dir == dir && now - h->last < HEAD_VALID_NS &&
	    ((!h->id && now - h->last < LEFT_ALONE_NS) ||
	     !(origin && (h->ended || (h->netns == netns && h->ifindex == ifindex))))) {
		id = h->id;
		copy = 1;
		if (!id)
			return 0; /* it was left alone */
	} else if (over_quota(now)) {
		leave_alone(head, p->sig, netns, ifindex, dir);
		__sync_fetch_and_add(&stats.sampled, 1);
		return 0;
	}
	if (bpf_map_update_elem(&skbs, &key, &zero_tracked, BPF_NOEXIST)) {
		if (!copy) {
			leave_alone(head, p->sig, netns, ifindex, dir);
			__sync_fetch_and_add(&stats.lost_packets, 1);
		}
		return 0;
	}
	__sync_fetch_and_add(&in_flight, 1);
	t = bpf_map_lookup_elem(&skbs, &key);
	if (!t)
		return 0;
	if (!copy) {
		id = __sync_fetch_and_add(&next_id, 1) + 1;
		__sync_fetch_and_add(&stats.packets, 1);
	}
	t->id = id;
	t->skb = key;
	t->sig = p->sig;
	t->head = head;
	t->last = now;
	t->t = p->l3.t;
	t->first = p->l3.t;
	t->dir = dir;
	t->outer = p->outer;
	t->first_netns = copy ? h->netns : netns;
	t->first_ifindex = copy ? h->ifindex : ifindex;
	t->flags = (tentative == MATCH_TENTATIVE ? TRACKED_TENTATIVE : 0) |
		   (tentative == MATCH_LEARNED ? TRACKED_LEARNED : 0) |
		   (copy ? TRACKED_COPY : 0) | (origin ? TRACKED_ORIGIN : 0) |
		   (p->l3.frag ? TRACKED_FRAGMENT : 0);
	remember_head(t, now);
	return t;
}

/* Settles a tentative packet: now known to be of the flow. */
static __always_inline void settle(struct tracked *t, u32 dir)
{
	t->flags &= ~(TRACKED_TENTATIVE | TRACKED_LEARNED);
	t->dir = dir;
	learn(&t->first, dir);
}

/*
 * Is this the packet the entry was made for? Reassembly leaves the skb of the
 * fragment that came last, with the contents of all.
 */
static __always_inline int same_packet(const struct tracked *t,
				       const struct pkt *p)
{
	if (p->sig == t->sig)
		return 1;
	return (t->flags & TRACKED_FRAGMENT) && !p->l3.frag &&
	       fragment_sig(&p->l3) == t->sig;
}

/*
 * Takes over what a later look at a known packet showed. A tuple that changed
 * is NAT's work: learn it both ways.
 */
static __always_inline void refresh(struct tracked *t, struct pkt *p)
{
	u64 now = bpf_ktime_get_ns();

	t->last = now;
	if (same_tuple(&t->t, &p->l3.t) || p->l3.frag)
		return;
	if (t->flags & TRACKED_FRAGMENT) {
		/* reassembled: the ports are back, which is no rewrite */
		t->flags &= ~TRACKED_FRAGMENT;
		t->sig = p->sig;
		t->t = p->l3.t;
		return;
	}
	if (t->flags & (TRACKED_TENTATIVE | TRACKED_LEARNED)) {
		int dir = dir_of(&p->l3.t, ends_of(&p->l3.t), p->l3.frag);

		if (dir)
			settle(t, dir);
		else if (t->flags & TRACKED_LEARNED)
			t->flags |= TRACKED_TENTATIVE; /* NAT's port is another flow's now */
	}
	if (!(t->flags & TRACKED_TENTATIVE) && !p->icmp_error)
		learn(&p->l3.t, t->dir);
	t->t = p->l3.t;
}

/* Where the IP header is, as seen from inside the stack. */
static __always_inline u64 network_header(struct sk_buff *skb)
{
	return (u64)BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, network_header);
}

/*
 * A later look at a known packet: reads its headers into p. 0 if they are of
 * another packet.
 */
SUBPROG int recheck(struct tracked *t, struct pkt *p, u64 nh)
{
	u64 l4;

	if (!t || !p)
		return 0;
	l4 = parse_l3(nh, &p->l3);
	if (!l4) {
		p->l3.t = t->t; /* headers are being built: believe the entry */
		p->sig = t->sig;
		return 1;
	}
	p->nh = nh;
	if (t->outer || !may_carry(p->l3.t.proto) || p->l3.frag || !unwrap(l4, p))
		parse_l4(l4, p);
	if (!same_packet(t, p) && !sealed(t, p))
		return 0;
	if (t->outer == OUTER_SEALED)
		wrap(p);
	refresh(t, p);
	return 1;
}

/*
 * An skb's entry t (0: it has none), if the packet is the one it was made for;
 * p is filled. Otherwise p is not touched, which would cost all other packets
 * most of what they pay.
 */
static __always_inline struct tracked *still(struct tracked *t, struct sk_buff *skb,
					     struct pkt *p)
{
	u64 key = (u64)skb;

	if (!t)
		return 0;
	__builtin_memset(p, 0, sizeof(*p));
	if (!recheck(t, p, network_header(skb))) {
		__sync_fetch_and_add(&stats.stale, 1);
		forget(key, t);
		return 0;
	}
	return t;
}

/*
 * The entry of an skb at a hook that is no entry point, 0 when it is not traced.
 * This and seen_late() are the only ways for such hooks to get at a packet.
 */
static __always_inline struct tracked *seen(struct sk_buff *skb, struct pkt *p)
{
	u64 key = (u64)skb;

	return in_flight ? still(bpf_map_lookup_elem(&skbs, &key), skb, p) : 0;
}

/* The same at hooks that a delivered packet may still come by. */
static __always_inline struct tracked *seen_late(struct sk_buff *skb, struct pkt *p)
{
	return still(entry_of((u64)skb), skb, p);
}

EXPORT(enum, tracked_flag);

#endif
