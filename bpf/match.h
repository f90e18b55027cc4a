/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* match.h - is this packet of the flow? See flow.h, Matching. */
#ifndef PATHTRACE_MATCH_H
#define PATHTRACE_MATCH_H

#include "tunnel.h"

static __always_inline int in_end(const volatile struct end *e,
				  const u32 *a, u8 family)
{
	if (e->any)
		return 1;
	if (family == 4) {
		for (u32 i = 0; i < MAX_PREFIX; i++) {
			if (i >= e->n4)
				return 0;
			if ((a[0] & e->p4[i].mask[0]) == e->p4[i].addr[0])
				return 1;
		}
		return 0;
	}
	for (u32 i = 0; i < MAX_PREFIX; i++) {
		if (i >= e->n6)
			return 0;
		if ((a[0] & e->p6[i].mask[0]) == e->p6[i].addr[0] &&
		    (a[1] & e->p6[i].mask[1]) == e->p6[i].addr[1] &&
		    (a[2] & e->p6[i].mask[2]) == e->p6[i].addr[2] &&
		    (a[3] & e->p6[i].mask[3]) == e->p6[i].addr[3])
			return 1;
	}
	return 0;
}

enum end_bit { SRC_IN_SRC = 1, SRC_IN_DST = 2, DST_IN_SRC = 4, DST_IN_DST = 8 };

/* Which ends an address belongs to now: enum end_of. */
static __always_inline u32 moved_end(const u32 *a, u8 family)
{
	struct end_key k = {};
	u32 ends = 0, *found;

	k.prefixlen = 32 + (family == 4 ? 32 : 128);
	k.family = family;
	__builtin_memcpy(k.addr, a, family == 4 ? 4 : 16);
	found = bpf_map_lookup_elem(&moved_ends, &k);
	if (found)
		ends = *found;
	if (cfg.src.any)
		ends |= END_SRC;
	if (cfg.dst.any)
		ends |= END_DST;
	return ends;
}

SUBPROG u32 moved_ends_of(const struct tuple *t)
{
	u32 src, dst;

	if (!t)
		return 0;
	if (t->family == 4) {
		src = moved_end(t->saddr, 4);
		dst = moved_end(t->daddr, 4);
	} else {
		src = moved_end(t->saddr, 6);
		dst = moved_end(t->daddr, 6);
	}
	return src | dst << 2; /* enum end_bit */
}

/* Which ends the two addresses belong to: end_bit mask. */
SUBPROG u32 ends_of(const struct tuple *t)
{
	u32 m = 0;

	if (!t)
		return 0;
	if (moved)
		return moved_ends_of(t);
	if (in_end(&cfg.src, t->saddr, t->family))
		m |= SRC_IN_SRC;
	if (in_end(&cfg.dst, t->saddr, t->family))
		m |= SRC_IN_DST;
	if (in_end(&cfg.src, t->daddr, t->family))
		m |= DST_IN_SRC;
	if (in_end(&cfg.dst, t->daddr, t->family))
		m |= DST_IN_DST;
	return m;
}

/* Does one of two IPv4 addresses belong to an end, as they are now? */
SUBPROG int moved_either(u32 saddr, u32 daddr)
{
	return moved_end(&saddr, 4) || moved_end(&daddr, 4);
}

static __always_inline int proto_wanted(u8 proto)
{
	if (!cfg.proto)
		return 1;
	if (cfg.proto == IPPROTO_ICMP)
		return proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6;
	return proto == cfg.proto;
}

static __always_inline int has_ports(u8 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP ||
	       proto == IPPROTO_SCTP;
}

/* A port was asked for: is it this packet's, on the side that is dst? */
static __always_inline int port_wanted(u8 proto, u16 port, u8 frag)
{
	if (!cfg.port || frag)
		return 1;
	return has_ports(proto) && port == cfg.port;
}

/* Direction of a tuple by the two ends alone. */
static __always_inline int dir_of(const struct tuple *t, u32 ends, u8 frag)
{
	if (!proto_wanted(t->proto))
		return DIR_NONE;
	if ((ends & (SRC_IN_SRC | DST_IN_DST)) == (SRC_IN_SRC | DST_IN_DST) &&
	    port_wanted(t->proto, t->dport, frag))
		return DIR_FORWARD;
	if ((ends & (SRC_IN_DST | DST_IN_SRC)) == (SRC_IN_DST | DST_IN_SRC) &&
	    port_wanted(t->proto, t->sport, frag))
		return DIR_RETURN;
	return DIR_NONE;
}

/* The same addresses seen from the other side. */
static __always_inline void reverse(struct tuple *r, const struct tuple *t)
{
	__builtin_memcpy(r->saddr, t->daddr, 16);
	__builtin_memcpy(r->daddr, t->saddr, 16);
	r->sport = t->dport;
	r->dport = t->sport;
	r->proto = t->proto;
	r->family = t->family;
	r->pad = 0;
}

/*
 * Which learned tuples there may be: one bit for each hash of addresses and
 * ports, the same both ways round. Spares all others a look into the map.
 */
#define LEARNED_BITS 8192
u32 learned_bits[LEARNED_BITS / 32] = {};

static __always_inline u32 learned_hash(u32 saddr, u32 daddr, u16 sport, u16 dport)
{
	u32 h = (saddr ^ daddr) * 0x9E3779B1U;

	h ^= (u32)(sport ^ dport) * 0x85EBCA6BU;
	return (h ^ (h >> 15)) & (LEARNED_BITS - 1);
}

static __always_inline u32 hash_of(const struct tuple *t)
{
	return learned_hash(t->saddr[0] ^ t->saddr[1] ^ t->saddr[2] ^ t->saddr[3],
			    t->daddr[0] ^ t->daddr[1] ^ t->daddr[2] ^ t->daddr[3],
			    t->sport, t->dport);
}

SUBPROG int learn(const struct tuple *t, u32 dir)
{
	u32 bit;

	struct tuple k, r; /* map keys: on the stack, or 6.1 refuses them */
	struct learned_tuple v = {};

	if (!t)
		return 0;
	k = *t;
	reverse(&r, &k);
	v.last = bpf_ktime_get_ns();
	v.dir = dir;
	bpf_map_update_elem(&learned, &k, &v, BPF_ANY);
	v.dir = dir == DIR_FORWARD ? DIR_RETURN : DIR_FORWARD;
	bpf_map_update_elem(&learned, &r, &v, BPF_ANY);
	bit = hash_of(&k);
	learned_bits[bit / 32] |= 1U << (bit & 31);
	learned_count = 1;
	return 0;
}

/* A port that NAT gave to the flow is given to another one sooner or later. */
#define LEARNED_VALID_NS 60000000000ULL

SUBPROG int learned_dir(const struct tuple *t)
{
	struct learned_tuple *d;
	struct tuple k;
	u32 bit;
	u64 now;

	if (!t || !learned_count)
		return DIR_NONE;
	bit = hash_of(t);
	if (!(learned_bits[bit / 32] & (1U << (bit & 31))))
		return DIR_NONE;
	k = *t;
	d = bpf_map_lookup_elem(&learned, &k);
	now = bpf_ktime_get_ns();
	if (!d || now - d->last > LEARNED_VALID_NS)
		return DIR_NONE;
	return d->dir;
}

/* An ICMP error belongs to the flow of the packet it quotes, other way round. */
SUBPROG int quoted_dir(u64 l4, const struct pkt *outer)
{
	struct layer3 q = {};
	u8 b[8];
	int d;

	if (!outer)
		return DIR_NONE;
	l4 = parse_l3(l4 + 8, &q);
	if (!l4 || q.frag)
		return DIR_NONE;
	if (has_ports(q.t.proto)) {
		if (bpf_probe_read_kernel(b, 8, (void *)l4))
			return DIR_NONE;
		q.t.sport = bpf_ntohs(*(u16 *)&b[0]);
		q.t.dport = bpf_ntohs(*(u16 *)&b[2]);
	} else if (q.t.proto == IPPROTO_ICMP || q.t.proto == IPPROTO_ICMPV6) {
		if (bpf_probe_read_kernel(b, 8, (void *)l4))
			return DIR_NONE;
		q.t.sport = bpf_ntohs(*(u16 *)&b[4]);
		q.t.dport = q.t.sport;
	}
	d = dir_of(&q.t, ends_of(&q.t), 0);
	if (!d)
		d = learned_dir(&q.t);
	if (!d)
		return DIR_NONE;
	return d == DIR_FORWARD ? DIR_RETURN : DIR_FORWARD;
}

/* How sure a match is, where it is not by both ends. */
enum match_how { MATCH_TENTATIVE = 1, MATCH_LEARNED = 2 };

/*
 * The direction of a tunnel's packet by its own addresses, where what is inside is none
 * of ours: somebody asks for the two ends of the tunnel. p becomes the outer packet then.
 */
SUBPROG int outer_dir(struct pkt *p)
{
	struct pkt outer = {};
	u64 l4;
	int dir;

	if (!p)
		return DIR_NONE;
	outer.nh = p->nh;
	outer.outer = 1;
	l4 = parse_l3(p->nh, &outer.l3);
	if (!l4)
		return DIR_NONE;
	parse_l4(l4, &outer);
	dir = dir_of(&outer.l3.t, ends_of(&outer.l3.t), 0);
	if (dir)
		*p = outer;
	return dir;
}

/*
 * Full look at the packet whose IP header is at nh. Gives its direction, with
 * *tentative set when it is not by both ends (enum match_how); DIR_NONE if it is none of ours
 * (p is then only filled as far as was needed to know).
 */
SUBPROG int match(u64 nh, struct pkt *p, u32 *tentative)
{
	u64 l4, now, *until;
	struct tuple k;
	u32 ends;
	int dir;

	if (!p || !tentative)
		return DIR_NONE;
	p->nh = nh;
	l4 = parse_l3(nh, &p->l3);
	if (!l4)
		return DIR_NONE;
	if (may_carry(p->l3.t.proto) && !p->l3.frag) {
		if (!unwrap(l4, p))
			parse_l4(l4, p);
		ends = ends_of(&p->l3.t);
	} else {
		ends = ends_of(&p->l3.t);
		/* neither end, nothing learned, no error that may quote us */
		if (!ends && !learned_count && p->l3.t.proto != IPPROTO_ICMP &&
		    p->l3.t.proto != IPPROTO_ICMPV6)
			return DIR_NONE;
		parse_l4(l4, p);
	}
	if (p->icmp_error && !p->encap) {
		dir = quoted_dir(l4, p);
		if (dir)
			return dir;
	}
	dir = dir_of(&p->l3.t, ends, p->l3.frag);
	if (dir)
		return dir;
	dir = learned_dir(&p->l3.t);
	if (dir) {
		*tentative = MATCH_LEARNED;
		return dir;
	}
	if (p->encap) {
		dir = outer_dir(p);
		if (dir)
			return dir;
	}
	if (!cfg.tentative || !proto_wanted(p->l3.t.proto) || p->icmp_error)
		return DIR_NONE;
	/* one end is --src, the other is none of --dst: NAT may make it so */
	if (ends == SRC_IN_SRC)
		dir = DIR_FORWARD;
	else if (ends == DST_IN_SRC)
		dir = DIR_RETURN;
	else
		return DIR_NONE;
	k = p->l3.t;
	until = bpf_map_lookup_elem(&others, &k);
	now = bpf_ktime_get_ns();
	if (until && now < *until)
		return DIR_NONE;
	*tentative = MATCH_TENTATIVE;
	return dir;
}

/* The part of an IPv4 header without options, and the ports behind it. */
struct glance {
	u8 version_ihl;
	u8 tos;
	u16 len;
	u16 id;
	u16 frag_off;
	u8 ttl;
	u8 protocol;
	u16 check;
	u32 saddr;
	u32 daddr;
	u16 sport;
	u16 dport;
};

/*
 * Is this IPv4 packet certainly none of the flow's? One read and a few compares
 * answer for nearly all traffic of others; 0 says no more than "look closer".
 */
static __always_inline int of_others(const struct glance *g)
{
	u32 bit;

	if (g->version_ihl != 0x45 || g->protocol == IPPROTO_ICMP || carries(g->protocol))
		return 0;
	if (g->protocol == IPPROTO_UDP && cfg.n_carriers && carrier(bpf_ntohs(g->dport)))
		return 0;
	if (moved) {
		if (moved_either(g->saddr, g->daddr))
			return 0;
	} else if (in_end(&cfg.src, &g->saddr, 4) || in_end(&cfg.src, &g->daddr, 4) ||
		   in_end(&cfg.dst, &g->saddr, 4) || in_end(&cfg.dst, &g->daddr, 4)) {
		return 0;
	}
	if (!learned_count)
		return 1;
	if (g->frag_off & bpf_htons(0x1fff))
		return 0;
	bit = learned_hash(g->saddr, g->daddr, bpf_ntohs(g->sport), bpf_ntohs(g->dport));
	return !(learned_bits[bit / 32] & (1U << (bit & 31)));
}

#endif
