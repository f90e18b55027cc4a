/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tunnel.h - a packet inside another one.
 *
 * A tunnel's packet is known by its inner packet, which is what the flow is made of;
 * .tun of struct pkt keeps the outer header. What WireGuard has encrypted shows no
 * inner packet: there the skb is believed that was followed into the device, as long
 * as its outer packet is one of WireGuard's.
 */
#ifndef PATHTRACE_TUNNEL_H
#define PATHTRACE_TUNNEL_H

#include "state.h"

/* Which tunnel a UDP destination port carries; 0: none. */
static __always_inline u8 carrier(u16 port)
{
	for (u32 i = 0; i < MAX_PORTS; i++) {
		if (i >= cfg.n_carriers)
			return 0;
		if (cfg.carriers[i].port == port)
			return cfg.carriers[i].kind;
	}
	return 0;
}

/* Is it a protocol that carries packets and nothing else? */
static __always_inline int carries(u8 proto)
{
	return proto == IPPROTO_IPIP || proto == IPPROTO_IPV6 || proto == IPPROTO_GRE;
}

/* The same, or one that may. */
static __always_inline int may_carry(u8 proto)
{
	return proto == IPPROTO_UDP ? cfg.n_carriers != 0 : carries(proto);
}

/* Where the IP header behind an Ethernet header is; 0: something else is there. */
static __always_inline u64 behind_ethernet(u64 at)
{
	u16 type;

	if (bpf_probe_read_kernel(&type, 2, (void *)(at + 12)))
		return 0;
	type = bpf_ntohs(type);
	return type == ETH_P_IP || type == ETH_P_IPV6 ? at + 14 : 0;
}

/*
 * Inside UDP: VXLAN (RFC 7348) or Geneve (RFC 8926) with Ethernet in it. Both have
 * the network number at the same place.
 */
static __always_inline u64 inside_udp(u64 l4, struct tunnel *tun)
{
	u8 b[16];
	u32 head = 8;

	if (bpf_probe_read_kernel(b, 16, (void *)l4))
		return 0;
	tun->sport = bpf_ntohs(*(u16 *)&b[0]);
	tun->dport = bpf_ntohs(*(u16 *)&b[2]);
	tun->kind = carrier(tun->dport);
	switch (tun->kind) {
	case TUNNEL_VXLAN:
		if (!(b[8] & 0x08))
			return 0;
		break;
	case TUNNEL_GENEVE:
		if (b[8] >> 6 || bpf_ntohs(*(u16 *)&b[10]) != ETH_P_TEB)
			return 0;
		head += (b[8] & 0x3f) * 4;
		break;
	default:
		return 0;
	}
	tun->vni = bpf_ntohl(*(u32 *)&b[12]) >> 8;
	return behind_ethernet(l4 + 8 + head);
}

/* Inside GRE (RFC 2784, 2890): IP, or Ethernet (gretap). */
static __always_inline u64 inside_gre(u64 l4, struct tunnel *tun)
{
	u8 b[12];
	u32 len = 4;
	u16 type;

	if (bpf_probe_read_kernel(b, 12, (void *)l4) || (b[0] & 0x4f) || (b[1] & 7))
		return 0;
	if (b[0] & 0x80) /* checksum */
		len += 4;
	if (b[0] & 0x20) { /* key */
		tun->vni = bpf_ntohl(b[0] & 0x80 ? *(u32 *)&b[8] : *(u32 *)&b[4]);
		len += 4;
	}
	if (b[0] & 0x10) /* sequence number */
		len += 4;
	tun->kind = TUNNEL_GRE;
	type = bpf_ntohs(*(u16 *)&b[2]);
	if (type == ETH_P_TEB)
		return behind_ethernet(l4 + len);
	return type == ETH_P_IP || type == ETH_P_IPV6 ? l4 + len : 0;
}

/*
 * Reads what is inside an outer packet whose transport header is at l4: p becomes the
 * inner packet with .tun the outer one. Leaves p alone if nothing is.
 */
SUBPROG int unwrap(u64 l4, struct pkt *p)
{
	struct tunnel tun = {};

	if (!p)
		return 0;
	switch (p->l3.t.proto) {
	case IPPROTO_UDP:
		l4 = inside_udp(l4, &tun);
		break;
	case IPPROTO_GRE:
		l4 = inside_gre(l4, &tun);
		break;
	case IPPROTO_IPIP:
		tun.kind = TUNNEL_IPV4;
		break;
	case IPPROTO_IPV6:
		tun.kind = TUNNEL_IPV6;
		break;
	default:
		return 0;
	}
	if (!l4)
		return 0;
	__builtin_memcpy(tun.saddr, p->l3.t.saddr, 16);
	__builtin_memcpy(tun.daddr, p->l3.t.daddr, 16);
	tun.family = p->l3.t.family;
	l4 = parse_l3(l4, &p->l3);
	if (!l4)
		return 0;
	p->tun = tun;
	p->encap = 1;
	parse_l4(l4, p);
	return 1;
}

/*
 * Is the packet at p->nh what WireGuard made of the one the entry is for? Then p is
 * that one, as far as it is known, with .tun the outer header. Data begins with the
 * type 4 and three zeros (drivers/net/wireguard/messages.h, 5.6 to 7.3).
 */
SUBPROG int sealed(const struct tracked *t, struct pkt *p)
{
	struct layer3 outer = {};
	struct tunnel tun = {};
	u8 b[12];
	u64 l4;

	if (!t || !p || !(t->flags & TRACKED_SEALED) || p->encap)
		return 0;
	l4 = parse_l3(p->nh, &outer);
	if (!l4 || outer.t.proto != IPPROTO_UDP || outer.frag ||
	    bpf_probe_read_kernel(b, 12, (void *)l4) || *(u32 *)&b[8] != bpf_htonl(0x04000000))
		return 0;
	__builtin_memcpy(tun.saddr, outer.t.saddr, 16);
	__builtin_memcpy(tun.daddr, outer.t.daddr, 16);
	tun.family = outer.t.family;
	tun.kind = TUNNEL_WIREGUARD;
	tun.sport = bpf_ntohs(*(u16 *)&b[0]);
	tun.dport = bpf_ntohs(*(u16 *)&b[2]);
	p->tun = tun;
	p->encap = 1;
	p->l3.t = t->t;
	p->l3.ipid = 0;
	p->sig = t->sig;
	p->seq = 0;
	p->ack = 0;
	p->tcp_flags = 0;
	p->icmp_type = 0;
	p->icmp_code = 0;
	p->icmp_error = 0;
	return 1;
}

/*
 * p is a packet of WireGuard's own: tells its header as that of a tunnel. What is
 * inside is not known, so the addresses stay those of the header.
 */
static __always_inline void wrap(struct pkt *p)
{
	__builtin_memset(&p->tun, 0, sizeof(p->tun));
	__builtin_memcpy(p->tun.saddr, p->l3.t.saddr, 16);
	__builtin_memcpy(p->tun.daddr, p->l3.t.daddr, 16);
	p->tun.family = p->l3.t.family;
	p->tun.kind = TUNNEL_WIREGUARD;
	p->tun.sport = p->l3.t.sport;
	p->tun.dport = p->l3.t.dport;
	p->encap = 1;
}

#endif
