/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * rules_layout.h - where an iptables or ip6tables table has its rules and their
 * counters, and how often it was replaced.
 */
#ifndef PATHTRACE_RULES_LAYOUT_H
#define PATHTRACE_RULES_LAYOUT_H

#include "rules.h"
#include "versions.h"

#define BLOCK_RULES 256
#define MAX_BLOCKS 64 /* 16384 rules */

/* How often each table was replaced since we are here. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u64); /* struct xt_table */
	__type(value, u64);
} replaced SEC(".maps");

static __always_inline u64 generation_of(u64 table)
{
	u64 *times = bpf_map_lookup_elem(&replaced, &table);

	return (rules_generation << 32) + (times ? *times : 0);
}

/* A table gets new contents: from here on it is of another generation. */
static __always_inline int on_replace(u64 table)
{
	u64 *times = bpf_map_lookup_elem(&replaced, &table), one = 1;

	if (times)
		__sync_fetch_and_add(times, 1);
	else if (bpf_map_update_elem(&replaced, &table, &one, BPF_NOEXIST))
		__sync_fetch_and_add(&rules_generation, 1);
	return 0;
}

/* Where a table's counters are. */
struct layout {
	u32 number;
	u32 size;
	u32 blocks; /* more than MAX_BLOCKS: not covered */
	u32 pad;
	u64 print; /* fingerprint of the rules as they were at a generation; 0: not taken */
	u64 generation;
	u32 offset[MAX_BLOCKS]; /* of the first rule of each block */
	u64 block[MAX_BLOCKS]; /* per-CPU pointer */
};

/* By address of the xt_table_info. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, u64);
	__type(value, struct layout);
} layouts SEC(".maps");

static const struct layout zero_layout = {};

/*
 * False on a kernel that has not loaded x_tables: what reads its structures is
 * dead code then, which a program that runs everywhere may hold.
 */
static __always_inline int have_x_tables(void)
{
	return bpf_core_type_exists(struct xt_table) &&
	       bpf_core_type_exists(struct xt_table_info);
}

/* The part of a rule's head that is walked by. */
struct rule_head {
	u16 target_offset;
	u16 next_offset;
	u32 comefrom;
	u64 w[2]; /* ipt: packets, bytes; ip6t: the same four bytes later */
} __attribute__((packed));

static __always_inline int read_rule(struct rule_head *h, u64 *packets, u64 entry, u8 ip6)
{
	u32 at = ip6 ? IP6T_TARGET_OFFSET : IPT_TARGET_OFFSET;

	if (bpf_probe_read_kernel(h, sizeof(*h), (void *)(entry + at)))
		return -1;
	if (!ip6) {
		*packets = h->w[0];
		return 0;
	}
	return bpf_probe_read_kernel(packets, sizeof(*packets), (void *)(entry + IP6T_COUNTERS));
}

struct walk_layout {
	struct layout *l;
	u64 entries;
	u32 offset;
	u32 rule;
	u8 ip6;
};

static long walk_rule(u32 i, struct walk_layout *w)
{
	struct rule_head h;
	u64 packets;

	if (w->offset >= w->l->size ||
	    read_rule(&h, &packets, w->entries + w->offset, w->ip6))
		return 1;
	if (!(w->rule & (BLOCK_RULES - 1))) {
		u64 k = BELOW(w->rule / BLOCK_RULES, MAX_BLOCKS);

		w->l->offset[k] = w->offset;
		w->l->block[k] = packets;
		w->l->blocks = w->rule / BLOCK_RULES + 1;
	}
	w->rule++;
	w->offset += h.next_offset;
	return !h.next_offset;
}

static __always_inline u64 entries_of(u64 info)
{
	return info + bpf_core_field_offset(struct xt_table_info, entries);
}

/* Walks a table once for where its counters are. */
static __always_inline struct layout *new_layout(u64 info, u8 ip6)
{
	struct xt_table_info *ti = (void *)info;
	struct walk_layout w = {};
	struct layout *l;

	bpf_map_update_elem(&layouts, &info, &zero_layout, BPF_ANY);
	l = bpf_map_lookup_elem(&layouts, &info);
	if (!l)
		return 0;
	l->size = BPF_CORE_READ(ti, size);
	l->number = BPF_CORE_READ(ti, number);
	w.l = l;
	w.entries = entries_of(info);
	w.ip6 = ip6;
	if (l->number > MAX_BLOCKS * BLOCK_RULES) {
		l->blocks = MAX_BLOCKS + 1;
		return l;
	}
	bpf_loop(MAX_BLOCKS * BLOCK_RULES, walk_rule, &w, 0);
	if (w.rule != l->number)
		l->blocks = MAX_BLOCKS + 1; /* not what we take it for: leave it alone */
	return l;
}

#endif
