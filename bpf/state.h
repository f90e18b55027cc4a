/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* state.h - the filter, and what is kept of the flow and its packets: see flow.h. */
#ifndef PATHTRACE_STATE_H
#define PATHTRACE_STATE_H

#include "parse.h"

/* An index below a power of two, in a form clang does not optimise away. */
#define BELOW(x, size)                                     \
	({                                                 \
		u64 __x = (x);                             \
		asm volatile("%0 &= %1" : "+r"(__x) : "i"((size)-1)); \
		__x;                                       \
	})

const volatile struct filter cfg = {};

/*
 * The ends as they are now, once one of them has moved (a pod was restarted, a
 * service has other backends): every prefix with the ends it belongs to, those
 * by shorter prefixes included. Until then they are cfg's, which the verifier
 * knows and packets of others cost least with.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 4 * MAX_PREFIX * 2);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct end_key);
	__type(value, u32); /* enum end_of */
} moved_ends SEC(".maps");

u32 moved = 0; /* look there, no more at cfg's */

/* Set once everything is attached: a packet that was under way before would be
 * told with its middle missing.
 */
u32 armed = 0;

/* Zeroed by the loader, read by everybody: see Gate above. */
u64 in_flight = 0;
u64 arrived = 0;
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
	TRACKED_DELIVERED = 2, /* handed to its receiver: only a late drop or an answer can follow */
	TRACKED_LOST = 4, /* the ring buffer refused one of its events */
	TRACKED_COPY = 8, /* first sighting was as a clone */
	TRACKED_ORIGIN = 16, /* first sighting was where packets begin */
	TRACKED_LEARNED = 64, /* matched by what NAT made of the flow before */
	TRACKED_FRAGMENT = 32, /* a later fragment: no ports, .sig is fragment_sig() */
	TRACKED_SEALED = 128, /* went into a tunnel that encrypts: see tunnel.h */
};

/* tracked.outer: why an entry is for a tunnel's own packet. */
enum outer_as {
	OUTER_OURS = 1, /* it is of the flow itself */
	OUTER_SEALED, /* it came in encrypted, and may hold one of the flow: see sealed.h */
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
	u64 nf_net; /* struct net of the hook below */
	u64 sealed; /* as event.sealed */
	struct tuple t;
	struct tuple first; /* as it came in, for learning when NAT settles it */
	u32 nf_netns; /* netns of the hook below */
	u32 first_netns; /* where it was first seen */
	u32 first_ifindex;
	u32 outer; /* enum outer_as: not looked inside */
	u8 dir;
	u8 flags;
	u8 hook; /* netfilter hook it is in, + 1 */
	u8 pf;
	u8 index; /* last bracket passed in that hook, + 1 */
	u8 started; /* its first event is out */
	u8 sent; /* was handed to a device since */
	u8 chain_family; /* nfproto of that table */
	u32 room; /* OUTER_SEALED: bytes of the packet inside, with what it is padded with */
	u32 pad;
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
	/* the encrypted packet that the skb was before which is looked at: see sealed.h */
	u64 was;
	u64 sealed;
	u32 room;
	u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct current);
} currents SEC(".maps");

#endif
