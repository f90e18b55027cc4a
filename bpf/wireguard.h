/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* wireguard.h - into a tunnel that encrypts, and what it refuses that comes out. */
#ifndef PATHTRACE_WIREGUARD_H
#define PATHTRACE_WIREGUARD_H

#include "enter.h"

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

/* A packet is handed to the device: from here on its bytes do not tell it any more. */
static __always_inline int on_sealing(struct sk_buff *skb, u8 fn)
{
	struct pkt p;
	struct tracked *t = seen(skb, &p);

	if (!t)
		return 0;
	t->flags |= TRACKED_SEALED;
	return emit(t, &p, BPF_CORE_READ(skb, dev), KIND_ENCAP, fn, 0);
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
	t = enter(skb, network_header(skb), dev, &p, 1);
	return t ? emit(t, &p, dev, KIND_DECAP, fn, found != 0) : 0;
}

#endif
