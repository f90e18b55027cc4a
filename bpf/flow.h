/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * flow.h - which packets are traced, and which packet an skb is.
 *
 * Matching. Packets are compared with the two ends only where they may enter:
 * transmit, receive, drop, and for what this host sends OUTPUT and neighbour
 * resolution. Both directions are tried, in a tunnel on the inner
 * packet, for an ICMP error on the packet it quotes. What NAT made of a packet
 * of the flow is learned as an exact tuple (and its reverse), so that replies
 * are known by their first hop. A packet that has only the --src end (traffic
 * to a service address, say) is followed tentatively until an address rewrite
 * or its conntrack entry settles it; user space drops those never settled and
 * names them in `others`, so that they are not followed again.
 *
 * Gate. in_flight is the number of entries in `skbs` that are still under way,
 * exactly: every insert, every delivery and every successful delete counts, the
 * sweep of user space included. Hooks that are no entry points read it first and
 * do nothing more while it is 0. Entries of delivered packets, whose receivers
 * may free them late or without a word, are counted in `arrived` instead: only
 * the few hooks that can follow a delivery (a drop, a reset, an ICMP error) look
 * for these.
 *
 * Sealed. A packet that comes in by WireGuard is of the flow or not, and nobody can
 * tell before it is decrypted. Those of a device that packets of the flow may come by
 * are followed from where they come in until WireGuard has them, under ids of their
 * own, so many in a time; what is decrypted in the same skb bears the id of its own.
 *
 * Identity. skbs is keyed by the skb's address. An address is reused at once
 * after a free, and some frees are not told (__kfree_skb), so an entry is
 * believed only while the packet's signature (see parse.h) is the one it was
 * entered with. Clones share skb->head: `heads` gives a clone the id of its
 * original when it is first seen.
 */
#ifndef PATHTRACE_FLOW_H
#define PATHTRACE_FLOW_H

#include "state.h"
#include "match.h"
#include "track.h"

#endif
