/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * versions.h - which version of its rule sets a packet met: what the kernel itself
 * calls them, so that user space need not guess it from the time.
 *
 * nft: every commit to a namespace's rule set counts base_seq up, and then turns
 * gencursor, by which packets tell current rules from others (nf_tables_commit,
 * net/netfilter/nf_tables_api.c). In between, for less than a microsecond, base_seq
 * is the new one and packets still meet the old rules: so both are told. base_seq
 * is what netlink calls the generation (NFTA_GEN_ID).
 *
 * Legacy: a table's contents (xt_table_info) are never changed in place. Their
 * address and how many were made so far name them: rules_legacy.h.
 */
#ifndef PATHTRACE_VERSIONS_H
#define PATHTRACE_VERSIONS_H

#include "kernel.h"

/* Where the number of nf_tables among the subsystems of a namespace stands; 0
 * where the kernel does not tell. Needed before 6.17 only.
 */
const volatile u64 nf_tables_number_at = 0;

/*
 * Counts, without fentry, allocations for new legacy tables, wherever on the
 * machine; with it, replacements that the map `replaced` had no room for.
 */
u64 rules_generation = 0;

#define NFT_STAMP_KNOWN (1ULL << 40)

/*
 * The name of the version that stands in a namespace: base_seq in the low 32 bits,
 * gencursor above. 0: not to be had.
 */
static __always_inline u64 nft_stamp(u64 net_addr)
{
	struct net___hooks *net = (void *)net_addr;
	u32 seq = 0, number = 0;
	u64 gen, own = 0;

	if (!net || !bpf_core_field_exists(net->nft))
		return 0;
	if (bpf_core_field_exists(struct netns_nftables, base_seq)) {
		seq = BPF_CORE_READ(net, nft.base_seq);
	} else if (nf_tables_number_at && bpf_core_field_exists(struct nftables_pernet, base_seq)) {
		gen = (u64)BPF_CORE_READ(net, gen);
		if (bpf_probe_read_kernel(&number, sizeof(number), (void *)nf_tables_number_at) ||
		    bpf_probe_read_kernel(&own, sizeof(own), (void *)(gen + 8ULL * number)) || !own)
			return 0;
		seq = BPF_CORE_READ((struct nftables_pernet *)own, base_seq);
	} else {
		return 0;
	}
	return NFT_STAMP_KNOWN | (u64)BPF_CORE_READ(net, nft.gencursor) << 32 | seq;
}

#define ROUTES_STAMP_KNOWN (1ULL << 40)

/*
 * The name of the routes that stand in a namespace: what addresses, routes, devices
 * and policy rules count up when they change (rt_genid_bump_ipv4 by rt_cache_flush,
 * net/ipv4/route.c; fib6_new_sernum, net/ipv6/ip6_fib.c). 0: not to be had.
 */
static __always_inline u64 routes_stamp(u64 net_addr, u8 pf)
{
	struct net___hooks *net = (void *)net_addr;

	if (!net)
		return 0;
	if (pf != PF_INET6)
		return ROUTES_STAMP_KNOWN | (u32)BPF_CORE_READ(net, ipv4.rt_genid.counter);
	if (!bpf_core_field_exists(net->ipv6))
		return 0;
	return ROUTES_STAMP_KNOWN | (u32)BPF_CORE_READ(net, ipv6.fib6_sernum.counter);
}

#endif
