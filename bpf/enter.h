/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* enter.h - entry points: where packets of the flow are told from all others. */
#ifndef PATHTRACE_ENTER_H
#define PATHTRACE_ENTER_H

#include "sealed.h"

static __always_inline void tuple_of_ct(struct tuple *t,
					const struct nf_conntrack_tuple *c)
{
	__builtin_memset(t, 0, sizeof(*t));
	t->family = c->src_l3num == PF_INET ? 4 : 6;
	t->proto = c->dst_protonum;
	__builtin_memcpy(t->saddr, c->src_u3, 16);
	__builtin_memcpy(t->daddr, c->dst_u3, 16);
	if (has_ports(t->proto)) {
		t->sport = bpf_ntohs(c->src_u);
		t->dport = bpf_ntohs(c->dst_u);
	} else {
		t->sport = bpf_ntohs(c->src_u);
		t->dport = t->sport;
	}
}

/*
 * The direction of a packet by its conntrack entry: either of the entry's
 * address pairs, or client and real backend, being the two ends.
 */
SUBPROG int dir_of_ct(const struct tuple *orig, const struct tuple *reply,
		      u32 ctinfo)
{
	struct tuple real;
	int dir;

	if (!orig || !reply)
		return DIR_NONE;
	dir = dir_of(orig, ends_of(orig), 0);
	if (!dir) {
		reverse(&real, reply);
		dir = dir_of(&real, ends_of(&real), 0);
	}
	if (!dir) {
		/* the client as it is, the backend as it is */
		real = *orig;
		__builtin_memcpy(real.daddr, reply->saddr, 16);
		real.dport = reply->sport;
		dir = dir_of(&real, ends_of(&real), 0);
	}
	if (!dir)
		return DIR_NONE;
	if (ctinfo >= 3) /* IP_CT_IS_REPLY */
		dir = dir == DIR_FORWARD ? DIR_RETURN : DIR_FORWARD;
	return dir;
}

/* The same from skb->_nfct; DIR_NONE without an entry. */
SUBPROG int dir_of_nfct(u64 nfct)
{
	struct nf_conntrack_tuple c = {};
	struct tuple orig, reply;
	struct nf_conn *ct = (void *)(nfct & NFCT_PTRMASK);

	if (!ct)
		return DIR_NONE;
	bpf_probe_read_kernel(&c, sizeof(c), &ct->tuplehash[0].tuple);
	tuple_of_ct(&orig, &c);
	bpf_probe_read_kernel(&c, sizeof(c), &ct->tuplehash[1].tuple);
	tuple_of_ct(&reply, &c);
	return dir_of_ct(&orig, &reply, nfct & NFCT_INFOMASK);
}

/*
 * Entry point: matches the packet at nh and gives its entry, new or known.
 * origin: 1 packets begin here, 0 they may have been seen before.
 */
static __always_inline struct tracked *enter(struct sk_buff *skb, u64 nh,
					     struct net_device *dev,
					     struct pkt *p, int origin)
{
	u32 tentative = 0;
	u64 key = (u64)skb, head = (u64)BPF_CORE_READ(skb, head);
	struct tracked *t;
	int dir;

	__builtin_memset(p, 0, sizeof(*p));
	if (!armed)
		return 0;
	dir = match(nh, p, &tentative);
	t = entry_of(key);
	if (t && t->outer == OUTER_SEALED) {
		if (still_sealed(t, p, dev, origin))
			return t;
		was_sealed(t);
	} else if (t) {
		/* equal bytes again where packets begin: sent again */
		int again = origin && ((t->flags & TRACKED_DELIVERED) ||
				       (t->sent && t->first_netns == netns_of(dev) &&
					t->first_ifindex == BPF_CORE_READ(dev, ifindex)));
		int known = same_packet(t, p) && !again;

		if (!known && sealed(t, p)) {
			refresh(t, p);
			return t;
		}
		if (known && (dir || !same_tuple(&t->t, &p->l3.t))) {
			/* NAT may have taken it out of what matches by itself */
			refresh(t, p);
			if (dir && !tentative &&
			    (t->flags & (TRACKED_TENTATIVE | TRACKED_LEARNED)))
				settle(t, dir);
			if (t->head != head) {
				t->head = head;
				remember_head(t, t->last);
			}
			return t;
		}
		if (!known)
			__sync_fetch_and_add(&stats.stale, 1);
	}
	if (t)
		forget(key, t);
	if (!dir)
		return 0;
	/*
	 * Known only by what NAT made of the flow once, and not seen before: where
	 * packets begin that is good; midway it came by without matching, so
	 * only its conntrack entry can say that it is ours.
	 */
	if (tentative == MATCH_LEARNED && !origin) {
		dir = dir_of_nfct(BPF_CORE_READ(skb, _nfct));
		if (!dir)
			return 0;
		tentative = 0;
	}
	return track(key, head, p, dir, tentative, origin, netns_of(dev),
		     dev ? BPF_CORE_READ(dev, ifindex) : 0);
}

/* skb->protocol is one that may carry IP */
static __always_inline int may_be_ip(u16 proto)
{
	return proto == bpf_htons(ETH_P_IP) || proto == bpf_htons(ETH_P_IPV6) ||
	       proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD);
}

/*
 * Lets traffic of others go after one look at its header. A packet that is known
 * is none of them, whatever NAT has made of it.
 */
static __always_inline int foreign(struct sk_buff *skb, u64 nh)
{
	struct glance g;
	u64 key = (u64)skb;

	if (skb->protocol != bpf_htons(ETH_P_IP) ||
	    bpf_probe_read_kernel(&g, sizeof(g), (void *)nh) || !of_others(&g))
		return 0;
	return !in_flight || !bpf_map_lookup_elem(&skbs, &key);
}

OURS int on_transmit(struct sk_buff *skb, struct net_device *dev, u8 fn)
{
	u64 nh = network_header(skb);
	struct tracked *t;
	struct pkt p;
	u32 cut = 0; /* as on_sealing() */

	if (!may_be_ip(skb->protocol) || foreign(skb, nh))
		return 0;
	t = enter(skb, nh, dev, &p, BPF_CORE_READ(skb, skb_iif) == 0);
	if (!t)
		return 0;
	t->hook = 0;
	t->index = 0;
	t->chain = 0;
	t->sent = 1;
	if (cfg.sealed && decrypts(dev)) {
		t->flags |= TRACKED_SEALED;
		cut = gso_size(skb);
	}
	return emit(t, &p, BPF_CORE_READ(skb, dev), KIND_TRANSMIT, fn, cut);
}

/* What on_receive() does about WireGuard's packets, apart from its stack. */
OURS struct tracked *came_sealed(struct sk_buff *skb, struct net_device *dev, struct pkt *p,
				 struct tracked *t)
{
	if (t && p->encap && p->tun.kind == TUNNEL_WIREGUARD && t->outer != OUTER_SEALED) {
		/*
		 * It has come to the other end, in a namespace of this machine: told there
		 * as on a wire, where nobody could tell it.
		 */
		forget((u64)skb, t);
		t = 0;
	}
	if (!cfg.sealed)
		return t;
	if (!t)
		return enter_sealed(skb, p->nh, dev, p);
	if (decrypts(dev))
		came_out(t, p, skb);
	return t;
}

OURS int on_receive(struct sk_buff *skb, u8 fn)
{
	/* as plain numbers, which global functions take */
	struct net_device *dev = BPF_CORE_READ(skb, dev);
	u64 nh = (u64)BPF_CORE_READ(skb, data);
	u16 proto = skb->protocol;
	struct tracked *t;
	struct pkt p;

	if (!may_be_ip(proto) || foreign(skb, nh))
		return 0;
	if (proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD))
		nh += 4; /* tag still in the data */
	if (cfg.sealed)
		nothing_was();
	t = enter(skb, nh, dev, &p, from_outside(dev));
	if (cfg.sealed || (t && p.encap && p.tun.kind == TUNNEL_WIREGUARD))
		t = came_sealed(skb, dev, &p, t);
	if (!t)
		return 0;
	t->hook = 0;
	t->index = 0;
	t->chain = 0;
	set_current(skb, t);
	return emit(t, &p, dev, KIND_RECEIVE, fn, 0);
}

#endif
