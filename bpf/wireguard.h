/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* wireguard.h - into a tunnel that encrypts, and what it refuses that comes out. */
#ifndef PATHTRACE_WIREGUARD_H
#define PATHTRACE_WIREGUARD_H

#include "enter.h"

#define MAX_ERRNO 4095 /* include/linux/err.h */

/* drivers/net/wireguard/peerlookup.h, noise.h, queueing.h (5.6 to 7.3) */
struct wg_peer;

struct index_hashtable_entry {
	struct wg_peer *peer;
} CORE;

struct noise_keypair {
	struct index_hashtable_entry entry;
} CORE;

struct packet_cb {
	struct noise_keypair *keypair;
} CORE;

struct sk_buff___cb {
	char cb[48];
} CORE;

/*
 * A packet is handed to the device: from here on its bytes do not tell it any more.
 * .result is the size of the segments that it will be cut into, 0: it stays whole.
 */
static __always_inline int on_sealing(struct sk_buff *skb, u8 fn)
{
	struct pkt p;
	struct tracked *t = seen(skb, &p);

	if (!t)
		return 0;
	t->flags |= TRACKED_SEALED;
	return emit(t, &p, BPF_CORE_READ(skb, dev), KIND_ENCAP, fn, gso_size(skb));
}

/*
 * skb was cut: first is the first of its segments, and holds its headers. Of a packet
 * that WireGuard takes in, that one is followed as a copy; the others go the same way.
 */
static __always_inline int on_cut(struct sk_buff *skb, u64 first)
{
	u64 key = (u64)skb;
	struct tracked *t = bpf_map_lookup_elem(&skbs, &key), *part;

	if (!t || !(t->flags & TRACKED_SEALED) || !first || first >= (u64)-MAX_ERRNO || first == key)
		return 0;
	part = bpf_map_lookup_elem(&skbs, &first);
	if (part)
		forget(first, part);
	if (bpf_map_update_elem(&skbs, &first, &zero_tracked, BPF_NOEXIST))
		return 0;
	__sync_fetch_and_add(&in_flight, 1);
	part = bpf_map_lookup_elem(&skbs, &first);
	if (!part)
		return 0;
	*part = *t;
	part->skb = first;
	part->head = (u64)BPF_CORE_READ((struct sk_buff *)first, head);
	part->last = bpf_ktime_get_ns();
	part->flags = (t->flags & (TRACKED_SEALED | TRACKED_TENTATIVE | TRACKED_LEARNED)) | TRACKED_COPY;
	part->started = 0;
	part->hook = 0;
	part->index = 0;
	part->chain = 0;
	return 0;
}

/*
 * A decrypted packet's source was looked up among the peers' allowed IPs. It goes on
 * if it belongs to the peer that sent it, which is told by netif_receive_skb; else the
 * device lets go of it as if in good order (receive.c: wg_packet_consume_data_done).
 * .result is 1 if another peer has the source, 0 if none has.
 */
static __always_inline int on_source(struct sk_buff *skb, u64 found, u8 fn)
{
	struct packet_cb *cb = (void *)((u64)skb + bpf_core_field_offset(struct sk_buff___cb, cb));
	struct net_device *dev = BPF_CORE_READ(skb, dev);
	struct tracked *t;
	struct pkt p;

	if (found == (u64)BPF_CORE_READ(cb, keypair, entry.peer))
		return 0;
	if (cfg.sealed)
		nothing_was();
	t = enter(skb, network_header(skb), dev, &p, 1);
	if (t && cfg.sealed)
		came_out(t, &p, skb);
	return t ? emit(t, &p, dev, KIND_DECAP, fn, found != 0) : 0;
}

#endif
