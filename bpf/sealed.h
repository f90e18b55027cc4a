/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sealed.h - packets that come in encrypted, before anybody knows what is inside.
 *
 * WireGuard decrypts in place: the skb that came in by UDP is the one that comes out of
 * the device (drivers/net/wireguard/receive.c, 5.6 to 7.3: wg_packet_receive to
 * wg_packet_consume_data_done). So what came in is followed from there on with an entry
 * of its own; that ends when the skb comes out, and tells its id to what did.
 */
#ifndef PATHTRACE_SEALED_H
#define PATHTRACE_SEALED_H

#include "emit.h"

/*
 * At most so many in a window of 2^27 ns (134 ms): most may be of other flows. What is
 * left out begins where it has been decrypted.
 */
#define SEALED_QUOTA 32

u64 sealed_window = 0;
u64 sealed_used = 0;

static __always_inline int over_sealed_quota(u64 now)
{
	u64 w = now >> WINDOW_SHIFT;

	if (sealed_window != w) {
		sealed_window = w;
		sealed_used = 0;
	}
	return __sync_fetch_and_add(&sealed_used, 1) >= SEALED_QUOTA;
}

/* drivers/net/wireguard/messages.h (5.6 to 7.3): a type of 32 bits, little-endian. */
#define WG_HANDSHAKE 1 /* 2 and 3 belong to it too */
#define WG_DATA 4
#define WG_OVERHEAD 32 /* header and authentication tag of data */

/*
 * Of a UDP packet whose header is at l4: is it one of WireGuard's messages to a device
 * of this node? *room is what data can hold.
 */
static __always_inline int message(u64 l4, u32 *room)
{
	u8 b[12];
	u32 type, len;

	if (bpf_probe_read_kernel(b, 12, (void *)l4) ||
	    carrier(bpf_ntohs(*(u16 *)&b[2])) != TUNNEL_WIREGUARD)
		return 0;
	type = *(u32 *)&b[8];
	if (type < WG_HANDSHAKE || type > WG_DATA)
		return 0;
	len = bpf_ntohs(*(u16 *)&b[4]);
	*room = type == WG_DATA && len > 8 + WG_OVERHEAD ? len - 8 - WG_OVERHEAD : 0;
	return 1;
}

/* Does a packet that enters here come from outside what we can see? */
static __always_inline int from_outside(struct net_device *dev)
{
	u32 ifindex = BPF_CORE_READ(dev, ifindex);

	for (u32 i = 0; i < MAX_UPLINKS; i++) {
		if (i >= cfg.n_uplinks)
			return 0;
		if (cfg.uplinks[i] == ifindex)
			return netns_of(dev) == cfg.node_netns;
	}
	return 0;
}

/* Makes the entry of a packet of WireGuard's that came in by a link that leads off the node. */
OURS struct tracked *enter_sealed(struct sk_buff *skb, u64 nh, struct net_device *dev,
				  struct pkt *p)
{
	u64 key = (u64)skb, now = bpf_ktime_get_ns(), l4;
	struct tracked *t;
	u32 room = 0;

	if (!armed || !from_outside(dev))
		return 0;
	__builtin_memset(p, 0, sizeof(*p));
	l4 = parse_l3(nh, &p->l3);
	if (!l4 || p->l3.t.proto != IPPROTO_UDP || p->l3.frag || !message(l4, &room))
		return 0;
	parse_l4(l4, p);
	p->nh = nh;
	wrap(p);
	/* whatever the skb held before: what is decrypted must not be told as of that */
	t = entry_of(key);
	if (t)
		forget(key, t);
	if (over_sealed_quota(now) ||
	    bpf_map_update_elem(&skbs, &key, &zero_tracked, BPF_NOEXIST))
		return 0;
	__sync_fetch_and_add(&in_flight, 1);
	t = bpf_map_lookup_elem(&skbs, &key);
	if (!t)
		return 0;
	t->id = __sync_fetch_and_add(&next_id, 1) + 1;
	t->sealed = t->id;
	t->skb = key;
	t->sig = p->sig;
	t->head = (u64)BPF_CORE_READ(skb, head);
	t->last = now;
	t->t = p->l3.t;
	t->first = p->l3.t;
	t->dir = DIR_FORWARD; /* not known */
	t->outer = OUTER_SEALED;
	t->room = room;
	t->first_netns = netns_of(dev);
	t->first_ifindex = BPF_CORE_READ(dev, ifindex);
	t->flags = TRACKED_TENTATIVE | TRACKED_ORIGIN;
	return t;
}

/* At an entry point: is an skb still the encrypted packet that its entry is for? */
OURS int still_sealed(struct tracked *t, struct pkt *p, struct net_device *dev, int origin)
{
	if (p->sig != t->sig || p->l3.t.proto != IPPROTO_UDP ||
	    (origin && ((t->flags & TRACKED_DELIVERED) ||
			(t->first_netns == netns_of(dev) &&
			 t->first_ifindex == BPF_CORE_READ(dev, ifindex)))))
		return 0;
	t->last = bpf_ktime_get_ns();
	wrap(p);
	return 1;
}

/* include/net/rtnetlink.h */
struct rtnl_link_ops {
	const char *kind;
} CORE;

struct net_device___ops {
	struct rtnl_link_ops *rtnl_link_ops;
} CORE;

OURS int decrypts(struct net_device *dev)
{
	const char *kind = BPF_CORE_READ((struct net_device___ops *)dev, rtnl_link_ops, kind);
	char b[10] = {};

	bpf_probe_read_kernel_str(b, sizeof(b), kind);
	for (u32 i = 0; i < sizeof(b); i++)
		if (b[i] != "wireguard"[i])
			return 0;
	return 1;
}

/*
 * What enter() finds an skb to have been goes to its caller by these, and not on the
 * stack, which is short: nothing before, this one, and whether that is the one p was in.
 */
OURS int nothing_was(void)
{
	u32 zero = 0;
	struct current *c = bpf_map_lookup_elem(&currents, &zero);

	if (c)
		c->was = 0;
	return 0;
}

SUBPROG int was_sealed(const struct tracked *t)
{
	u32 zero = 0;
	struct current *c = bpf_map_lookup_elem(&currents, &zero);

	if (!t || !c)
		return 0;
	c->was = t->skb;
	c->sealed = t->id;
	c->room = t->room;
	return 0;
}

/*
 * p comes out of WireGuard in the skb of an encrypted packet: was it inside? Data is
 * padded to 16 bytes at most, and GRO may have joined more to it.
 */
OURS int came_out(struct tracked *t, const struct pkt *p, struct sk_buff *skb)
{
	u32 zero = 0;
	struct current *c = bpf_map_lookup_elem(&currents, &zero);

	if (c && c->was == (u64)skb && c->room && !p->encap && p->l3.len + 16 > c->room &&
	    (p->l3.len <= c->room || gso_size(skb)))
		t->sealed = c->sealed;
	return 0;
}

#endif
