/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * rules_print.h - the fingerprint of a legacy table's contents: two with the same
 * hold the same rules.
 *
 * Contents are never changed in place but for counters, which stand elsewhere on a
 * machine with more than one CPU; so it is taken once, and again when a generation
 * has passed in which the memory may have been given to others.
 */
#ifndef PATHTRACE_RULES_PRINT_H
#define PATHTRACE_RULES_PRINT_H

#include "rules_layout.h"

/* One possible CPU. No constant: 6.1 refuses a program whose loop over blocks
 * it knows to be dead (EFAULT).
 */
u8 inline_counters = 0;

struct counter_block {
	u64 c[2 * BLOCK_RULES]; /* struct xt_counters: packets, bytes */
};

/* The counters as they are at the comparison, for each CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct counter_block);
} counters_now SEC(".maps");

#define PRINT_PIECE 8 /* words */
#define PRINT_CHUNK (sizeof(struct counter_block) / 8 / PRINT_PIECE) /* pieces */

struct printing {
	u64 entries;
	u64 print;
	u32 size;
	u32 cpu;
	u32 failed;
};

static long print_piece(u32 i, struct printing *p)
{
	u32 cpu = p->cpu, chunk = i / PRINT_CHUNK * sizeof(struct counter_block), left;
	struct counter_block *b = bpf_map_lookup_elem(&counters_now, &cpu);
	u64 at = BELOW(i, PRINT_CHUNK) * PRINT_PIECE;

	if (!b || chunk >= p->size)
		return 1;
	left = p->size - chunk;
	if (left > sizeof(*b))
		left = sizeof(*b);
	if (!(i & (PRINT_CHUNK - 1)) && bpf_probe_read_kernel(b, left, (void *)(p->entries + chunk))) {
		p->failed = 1;
		return 1;
	}
	for (u32 k = 0; k < PRINT_PIECE; k++) {
		u64 word = b->c[BELOW(at + k, 2 * BLOCK_RULES)];

		if ((at + k) * 8 >= left)
			word = 0;
		/* splitmix64's step: every bit of a word reaches all of the print */
		p->print = (p->print ^ word) * 0xbf58476d1ce4e5b9ULL;
		p->print ^= p->print >> 29;
	}
	return 0;
}

SUBPROG u64 take_print(struct layout *l, u64 entries, u64 generation)
{
	struct printing p = {};

	if (!l)
		return 0;
	if (l->print && l->generation == generation)
		return l->print;
	if (inline_counters || l->blocks > MAX_BLOCKS)
		return 0;
	p.entries = entries;
	p.size = l->size;
	p.print = l->size;
	p.cpu = bpf_get_smp_processor_id();
	bpf_loop(l->size / (8 * PRINT_PIECE) + 1, print_piece, &p, 0);
	l->print = p.failed ? 0 : p.print;
	l->generation = generation;
	return l->print;
}

#endif
