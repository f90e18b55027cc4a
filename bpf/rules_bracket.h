/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * rules_bracket.h - legacy rules without fentry: the counters of a table that
 * stands between two netfilter links (rules_legacy.h says how they are read).
 *
 * User space names the table behind a link; its struct xt_table is found among
 * the hook's entries by the function that runs it. The segment is closed by the
 * next link, or by the packet's death. What else goes through the table on this
 * CPU meanwhile passes the same link: then the segment is no good.
 */
#ifndef PATHTRACE_RULES_BRACKET_H
#define PATHTRACE_RULES_BRACKET_H

#include "hooks.h"
#include "rules_find.h"

/* Something tells that tables are replaced: else no counters are compared. */
const volatile u8 counts_tell_rules = 0;

struct bracket_key {
	u32 netns;
	u8 pf;
	u8 hook;
	u8 index;
	u8 pad;
};

struct bracket_table {
	char name[32];
};

/* What stands right behind a link, if it is a legacy table alone. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct bracket_key);
	__type(value, struct bracket_table);
} bracket_tables SEC(".maps");

EXPORT(struct, bracket_key);
EXPORT(struct, bracket_table);

static __always_inline struct bracket_table *behind(const struct nf_hook_state *st, u8 index)
{
	struct bracket_key k = {};

	k.netns = BPF_CORE_READ(st, net, ns.inum);
	k.pf = BPF_CORE_READ(st, pf);
	k.hook = BPF_CORE_READ(st, hook);
	k.index = index;
	return bpf_map_lookup_elem(&bracket_tables, &k);
}

/* The traversal under way on this CPU, if there is one: the innermost. */
static __always_inline struct traversal *under_way(void)
{
	u32 cpu = bpf_get_smp_processor_id();
	struct rules_cpu *c = bpf_map_lookup_elem(&rules_cpus, &cpu);

	return c && c->depth ? traversal_at(cpu, c->depth - 1) : 0;
}

/* A packet of others passes a link while one of ours is in a table here. */
static __always_inline void passed_by(const struct nf_hook_state *st, u8 index)
{
	struct traversal *v = under_way();
	struct bracket_table *b;

	if (!v)
		return;
	b = behind(st, index);
	if (b && *(u64 *)b->name == *(u64 *)v->ev.table)
		v->ev.rules |= RULES_MIXED;
}

/*
 * A packet of ours is about to enter what stands behind a link. It may do so in
 * the middle of another's traversal: the answer that a REJECT sends, a softirq.
 */
static __always_inline void begin_rules(struct tracked *t, const struct nf_hook_state *st, u8 index)
{
	u32 cpu = bpf_get_smp_processor_id();
	struct rules_cpu *c = bpf_map_lookup_elem(&rules_cpus, &cpu);
	struct bracket_table *b = behind(st, index);
	struct traversal *top = 0, *v;
	struct xt_table *table;

	if (!counts_tell_rules || !b || !c || !have_x_tables())
		return;
	if (c->depth) {
		top = traversal_at(cpu, c->depth - 1);
		if (!top || bpf_ktime_get_ns() - top->since > STALE_TRAVERSAL_NS) {
			c->depth = 0;
			top = 0;
		}
	}
	table = table_at(BPF_CORE_READ(st, net), BPF_CORE_READ(st, pf), BPF_CORE_READ(st, hook),
			 *(u64 *)b->name);
	v = traversal_at(cpu, c->depth);
	if (c->busy || !table || !v) {
		if (top)
			top->ev.rules |= RULES_MIXED;
		return;
	}
	c->busy = 1;
	if (top && top->open)
		close_segment(top, cpu);
	begin_traversal(v, t->skb, table, BPF_CORE_READ(st, pf) == PF_INET6, 1);
	__builtin_memcpy(v->ev.table, b->name, sizeof(v->ev.table));
	open_segment(v, cpu);
	c->depth++;
	c->busy = 0;
}

#endif
