/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * flow.h - which packets are traced, and which packet an skb is.
 *
 * Matching. Packets are compared with the two ends only where they may enter:
 * transmit, receive, drop, and for what this host sends OUTPUT and neighbour
 * resolution. Both directions are tried, for VXLAN on the inner
 * packet, for an ICMP error on the packet it quotes. What NAT made of a packet
 * of the flow is learned as an exact tuple (and its reverse), so that replies
 * are known by their first hop. A packet that has only the --src end (traffic
 * to a service address, say) is followed tentatively until an address rewrite
 * or its conntrack entry settles it; user space drops those never settled and
 * names them in `others`, so that they are not followed again.
 *
 * Gate. in_flight is the number of entries in `skbs`, exactly: every insert
 * and every successful delete counts, the sweep of user space included. Hooks
 * that are no entry points read it first and do nothing more while it is 0.
 *
 * Identity. skbs is keyed by the skb's address. An address is reused at once
 * after a free, and some frees are not told (__kfree_skb), so an entry is
 * believed only while the packet's signature (see parse.h) is the one it was
 * entered with. Clones share skb->head: `heads` gives a clone the id of its
 * original when it is first seen.
 */
#ifndef PATHTRACE_FLOW_H
#define PATHTRACE_FLOW_H

#include "parse.h"

/* An index below a power of two, in a form clang does not optimise away. */
#define BELOW(x, size)                                     \
	({                                                 \
		u64 __x = (x);                             \
		asm volatile("%0 &= %1" : "+r"(__x) : "i"((size)-1)); \
		__x;                                       \
	})

const volatile struct filter cfg = {};

/* Set once everything is attached: a packet that was under way before would be
 * told with its middle missing.
 */
u32 armed = 0;

/* Zeroed by the loader, read by everybody: see Gate above. */
u64 in_flight = 0;
u64 learned_count = 0;
u64 next_id = 0;
struct counters stats = {};

/*
 * Links by which packets of the flow may enter, one bit for each hash of
 * interface and namespace: all other links cost no more than this look. Set by
 * user space; all bits where the flow may come from anywhere.
 */
#define ENTRY_BITS 4096
u32 entry_links[ENTRY_BITS / 32] = {};

/* dev must be a pointer the verifier knows (a hook's argument, or read from one). */
static __always_inline int may_enter_by(struct net_device *dev)
{
	u32 h = dev->ifindex * 61 + dev->nd_net.net->ns.inum;

	h &= ENTRY_BITS - 1;
	return entry_links[h / 32] & (1U << (h & 31));
}

enum tracked_flag {
	TRACKED_TENTATIVE = 1,
	TRACKED_DELIVERED = 2, /* handed to its receiver: only a late drop can follow */
	TRACKED_LOST = 4, /* the ring buffer refused one of its events */
	TRACKED_COPY = 8, /* first sighting was as a clone */
	TRACKED_ORIGIN = 16, /* first sighting was where packets begin */
	TRACKED_LEARNED = 64, /* matched by what NAT made of the flow before */
	TRACKED_FRAGMENT = 32, /* a later fragment: no ports, .sig is fragment_sig() */
};

/* A packet in flight. */
struct tracked {
	u64 id;
	u64 skb; /* the key again, as a plain number */
	u64 sig;
	u64 head;
	u64 last; /* CLOCK_MONOTONIC ns of the last sighting */
	u64 chain; /* name of the nft base chain it is in, and of its table: kernel addresses */
	u64 chain_table;
	u64 nfct; /* skb->_nfct as last told, tracepoint backend */
	u64 dst; /* skb->_skb_refdst as last told, tracepoint backend */
	struct tuple t;
	struct tuple first; /* as it came in, for learning when NAT settles it */
	u32 nf_netns; /* netns of the hook below */
	u32 first_netns; /* where it was first seen */
	u32 first_ifindex;
	u32 pad;
	u8 dir;
	u8 flags;
	u8 hook; /* netfilter hook it is in, + 1 */
	u8 pf;
	u8 index; /* last bracket passed in that hook, + 1 */
	u8 started; /* its first event is out */
	u8 sent; /* was handed to a device since */
	u8 chain_family; /* nfproto of that table */
};

struct head_id {
	u64 id;
	u64 sig;
	u64 ended; /* 0, or when an skb with this head was freed or delivered */
	u64 last;
	u32 netns; /* where the packet was first seen */
	u32 ifindex;
	u32 dir;
	u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u64);
	__type(value, struct tracked);
} skbs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, u64);
	__type(value, struct head_id);
} heads SEC(".maps");

/* What NAT made of the flow, and when that was last seen. */
struct learned_tuple {
	u64 last;
	u32 dir;
	u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct tuple);
	__type(value, struct learned_tuple);
} learned SEC(".maps");

/* Tuples found not to be of the flow -> until when (ns) to leave them alone. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct tuple);
	__type(value, u64);
} others SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 23); /* mapped twice into user space */
} events SEC(".maps");

/* Keeps clang from dropping a zeroed constant onto the stack. */
static const struct tracked zero_tracked = {};

/* The packet this CPU handled last, for hooks that are given no skb. */
struct current {
	u64 skb;
	u32 saddr;
	u32 daddr;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct current);
} currents SEC(".maps");

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

/* Which ends the two addresses belong to: end_bit mask. */
SUBPROG u32 ends_of(const struct tuple *t)
{
	u32 m = 0;

	if (!t)
		return 0;
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

static __always_inline int is_vxlan_port(u16 port)
{
	for (u32 i = 0; i < MAX_PORTS; i++) {
		if (i >= cfg.n_vxlan)
			return 0;
		if (cfg.vxlan[i] == port)
			return 1;
	}
	return 0;
}

/*
 * Reads what is inside an outer UDP packet to a VXLAN port: p becomes the
 * inner packet with .tun the outer one. Leaves p alone if it is none.
 */
SUBPROG int unwrap(u64 l4, struct pkt *p)
{
	u8 b[30]; /* UDP 8, VXLAN 8, Ethernet 14 */
	struct tunnel tun = {};
	u16 type;

	if (!p || bpf_probe_read_kernel(b, 30, (void *)l4))
		return 0;
	if (!is_vxlan_port(bpf_ntohs(*(u16 *)&b[2])) || !(b[8] & 0x08))
		return 0;
	type = bpf_ntohs(*(u16 *)&b[28]);
	if (type != ETH_P_IP && type != ETH_P_IPV6)
		return 0;
	__builtin_memcpy(tun.saddr, p->l3.t.saddr, 16);
	__builtin_memcpy(tun.daddr, p->l3.t.daddr, 16);
	tun.sport = bpf_ntohs(*(u16 *)&b[0]);
	tun.dport = bpf_ntohs(*(u16 *)&b[2]);
	tun.vni = bpf_ntohl(*(u32 *)&b[12]) >> 8;
	tun.family = p->l3.t.family;
	l4 = parse_l3(l4 + 30, &p->l3);
	if (!l4)
		return 0;
	p->tun = tun;
	p->encap = 1;
	parse_l4(l4, p);
	return 1;
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
	if (p->l3.t.proto == IPPROTO_UDP && cfg.n_vxlan && !p->l3.frag) {
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

	if (g->version_ihl != 0x45 || g->protocol == IPPROTO_ICMP)
		return 0;
	if (g->protocol == IPPROTO_UDP && cfg.n_vxlan && is_vxlan_port(bpf_ntohs(g->dport)))
		return 0;
	if (in_end(&cfg.src, &g->saddr, 4) || in_end(&cfg.src, &g->daddr, 4) ||
	    in_end(&cfg.dst, &g->saddr, 4) || in_end(&cfg.dst, &g->daddr, 4))
		return 0;
	if (!learned_count)
		return 1;
	if (g->frag_off & bpf_htons(0x1fff))
		return 0;
	bit = learned_hash(g->saddr, g->daddr, bpf_ntohs(g->sport), bpf_ntohs(g->dport));
	return !(learned_bits[bit / 32] & (1U << (bit & 31)));
}

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

	if (bpf_map_delete_elem(&skbs, &key))
		return; /* someone else was faster, and has counted it */
	__sync_fetch_and_add(&in_flight, -1);
	end_head(head, id);
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
	if (p->l3.t.proto != IPPROTO_UDP || p->l3.frag || !cfg.n_vxlan ||
	    !unwrap(l4, p))
		parse_l4(l4, p);
	if (!same_packet(t, p))
		return 0;
	refresh(t, p);
	return 1;
}

/*
 * The entry of an skb at a hook that is no entry point; p is filled. 0 when it
 * is not traced. This is the only way for such hooks to get at a packet.
 */
static __always_inline struct tracked *seen(struct sk_buff *skb, struct pkt *p)
{
	struct tracked *t;
	u64 key = (u64)skb;

	if (!in_flight)
		return 0;
	t = bpf_map_lookup_elem(&skbs, &key);
	if (!t)
		return 0;
	if (!recheck(t, p, network_header(skb))) {
		__sync_fetch_and_add(&stats.stale, 1);
		forget(key, t);
		return 0;
	}
	return t;
}

EXPORT(enum, tracked_flag);

#endif
