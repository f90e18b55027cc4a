/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * parse.h - from bytes to tuple.
 *
 * Headers are read with bpf_probe_read_kernel from addresses, never through
 * the skb's linear length: reading past it is harmless (the bytes are the
 * skb's own tail or its shared info), believing what was read is not, so every
 * header is checked for its version and length.
 */
#ifndef PATHTRACE_PARSE_H
#define PATHTRACE_PARSE_H

#include "event.h"

/*
 * A function called from many programs. Global functions are verified once
 * and not again for each call, which makes loading several times faster. They
 * take pointers since Linux 5.12.
 */
#define SUBPROG __noinline

/*
 * What is done for a packet of ours, apart from the look whether it may be one:
 * so the program that all packets meet needs no stack and saves no registers.
 */
#define OURS static __noinline

/* What the IP header tells. */
struct layer3 {
	struct tuple t; /* without ports */
	u32 len; /* of the datagram */
	u16 ipid;
	u8 frag; /* 1: not the first fragment */
	u8 ttl;
};

/* What one look at a packet's headers tells. */
struct pkt {
	struct layer3 l3;
	struct tunnel tun;
	u64 nh; /* where the (outer) IP header is; 0: not looked at */
	u64 sig; /* equal for two sightings of one packet, whatever NAT did */
	u32 seq;
	u32 ack;
	u8 tcp_flags;
	u8 icmp_type;
	u8 icmp_code;
	u8 encap; /* .tun is valid, .l3 is the inner packet's */
	u8 icmp_error;
	u8 outer; /* a tunnel's packet that is of the flow itself, whatever is inside */
	u8 pad[2];
};

static __always_inline u64 mix(u64 h, u64 v)
{
	h ^= v;
	h *= 0x9E3779B97F4A7C15ULL;
	return h ^ (h >> 29);
}

/*
 * Reads the IP header at nh and gives the address of the transport
 * header, 0 if this is no IP packet that can be read.
 */
SUBPROG u64 parse_l3(u64 nh, struct layer3 *ip)
{
	u8 b[40];

	if (!ip || bpf_probe_read_kernel(b, 20, (void *)nh))
		return 0;
	if ((b[0] >> 4) == 4) {
		u32 ihl = (b[0] & 15) * 4;

		if (ihl < 20)
			return 0;
		ip->t.family = 4;
		ip->t.proto = b[9];
		__builtin_memset(ip->t.saddr, 0, 32);
		ip->t.saddr[0] = *(u32 *)&b[12];
		ip->t.daddr[0] = *(u32 *)&b[16];
		ip->len = bpf_ntohs(*(u16 *)&b[2]);
		ip->ipid = bpf_ntohs(*(u16 *)&b[4]);
		ip->frag = (bpf_ntohs(*(u16 *)&b[6]) & 0x1fff) != 0;
		ip->ttl = b[8];
		return nh + ihl;
	}
	if ((b[0] >> 4) != 6 || bpf_probe_read_kernel(b, 40, (void *)nh))
		return 0;
	ip->t.family = 6;
	ip->t.proto = b[6];
	__builtin_memcpy(ip->t.saddr, &b[8], 16);
	__builtin_memcpy(ip->t.daddr, &b[24], 16);
	ip->len = bpf_ntohs(*(u16 *)&b[4]) + 40;
	ip->ipid = 0;
	ip->frag = 0;
	ip->ttl = b[7];
	nh += 40;
	/* up to four extension headers: more are not what pods send */
	for (int i = 0; i < 4; i++) {
		u8 x[8];
		u8 nexthdr = ip->t.proto;

		if (nexthdr != IPPROTO_HOPOPTS && nexthdr != IPPROTO_ROUTING &&
		    nexthdr != IPPROTO_DSTOPTS && nexthdr != IPPROTO_FRAGMENT)
			break;
		if (bpf_probe_read_kernel(x, 8, (void *)nh))
			return 0;
		ip->t.proto = x[0];
		if (nexthdr == IPPROTO_FRAGMENT) {
			ip->frag = (bpf_ntohs(*(u16 *)&x[2]) & 0xfff8) != 0;
			ip->ipid = bpf_ntohs(*(u16 *)&x[6]);
			nh += 8;
		} else {
			nh += (x[1] + 1) * 8;
		}
	}
	return nh;
}

/* The signature of a later fragment: all that it shares with its packet. */
static __always_inline u64 fragment_sig(const struct layer3 *ip)
{
	return mix(ip->t.proto, ip->ipid);
}

/*
 * Reads the transport header at l4: ports, flags and the signature that tells
 * this packet from the next one of its flow. Addresses and ports stay out of
 * the signature, since NAT changes them; so do TTL and checksums.
 */
SUBPROG int parse_l4(u64 l4, struct pkt *p)
{
	u8 b[20];
	u64 h;

	if (!p)
		return 0;
	/* no length: a fragment stays the same packet when it is reassembled */
	h = fragment_sig(&p->l3);
	p->sig = h;
	p->l3.t.sport = 0;
	p->l3.t.dport = 0;
	if (p->l3.frag)
		return 0;
	switch (p->l3.t.proto) {
	case IPPROTO_TCP:
		if (bpf_probe_read_kernel(b, 20, (void *)l4))
			return 0;
		p->l3.t.sport = bpf_ntohs(*(u16 *)&b[0]);
		p->l3.t.dport = bpf_ntohs(*(u16 *)&b[2]);
		p->seq = bpf_ntohl(*(u32 *)&b[4]);
		p->ack = bpf_ntohl(*(u32 *)&b[8]);
		p->tcp_flags = b[13];
		h = mix(h, ((u64)p->seq << 32) | p->ack);
		/* ECN marks (CWR, ECE) may be changed on the way */
		h = mix(h, b[13] & 0x3f);
		break;
	case IPPROTO_UDP:
		/* eight bytes of payload: many senders use no IP id */
		if (bpf_probe_read_kernel(b, 16, (void *)l4))
			return 0;
		p->l3.t.sport = bpf_ntohs(*(u16 *)&b[0]);
		p->l3.t.dport = bpf_ntohs(*(u16 *)&b[2]);
		h = mix(h, *(u16 *)&b[4]);
		if (bpf_ntohs(*(u16 *)&b[4]) >= 16)
			h = mix(h, *(u64 *)&b[8]);
		break;
	case IPPROTO_SCTP:
		if (bpf_probe_read_kernel(b, 20, (void *)l4))
			return 0;
		p->l3.t.sport = bpf_ntohs(*(u16 *)&b[0]);
		p->l3.t.dport = bpf_ntohs(*(u16 *)&b[2]);
		h = mix(h, *(u64 *)&b[12]);
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if (bpf_probe_read_kernel(b, 8, (void *)l4))
			return 0;
		p->icmp_type = b[0];
		p->icmp_code = b[1];
		h = mix(h, ((u64)b[0] << 8) | b[1]);
		if (p->l3.t.proto == IPPROTO_ICMP ?
			    (b[0] == 8 || b[0] == 0) :
			    (b[0] == 128 || b[0] == 129)) {
			p->l3.t.sport = bpf_ntohs(*(u16 *)&b[4]);
			p->l3.t.dport = p->l3.t.sport;
			p->seq = bpf_ntohs(*(u16 *)&b[6]);
			h = mix(h, p->seq); /* the id may be changed by NAT */
		} else if (p->l3.t.proto == IPPROTO_ICMP ?
				   (b[0] == 3 || b[0] == 11 || b[0] == 12) :
				   (b[0] >= 1 && b[0] <= 4)) {
			p->icmp_error = 1;
		}
		break;
	}
	p->sig = h;
	return 0;
}

#endif
