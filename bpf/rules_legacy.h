/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * rules_legacy.h - which rules of an iptables or ip6tables table matched.
 *
 * Every rule has a packet counter for each CPU. They are allocated in blocks
 * of 256 (net/netfilter/x_tables.c: xt_percpu_counter_alloc, 4096 bytes), in
 * the order of the rules: this CPU's blocks are copied when a packet of the
 * flow enters the table and compared when it leaves. Every counter that rose is
 * a rule that matched; on a machine with one possible CPU the counters stand in
 * the rules themselves and are read one by one.
 *
 * While the segment between copy and comparison is open nothing else may
 * traverse the table on this CPU. What does so nested in it (the packet that a
 * REJECT sends, a softirq in the middle of a process's OUTPUT) closes the
 * segment and opens it again; what cannot be nested properly (preemption) marks
 * both as RULES_MIXED.
 */
#ifndef PATHTRACE_RULES_LEGACY_H
#define PATHTRACE_RULES_LEGACY_H

#include "rules_print.h"

#define MAX_NESTING 4
/*
 * A traversal that is this old has left without being seen. It lasts microseconds, but
 * in a VM whose CPU is taken away (steal) 50 ms were not enough for a REJECT, whose
 * answer goes through the table while the packet is in it.
 */
#define STALE_TRAVERSAL_NS 1000000000ULL

/* Set by the loader. */
const volatile u32 blocks_per_cpu = 0; /* room in `snapshots` */
const volatile u8 links_tell_rules = 0; /* segments lie between netfilter links: rules_bracket.h */

/* Sizes set by the loader: possible CPUs times blocks_per_cpu. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct counter_block);
} snapshots SEC(".maps");

/* One traversal under way. */
struct traversal {
	u64 skb;
	u64 table;
	u64 since;
	u8 traced;
	u8 open; /* a segment is */
	u8 ip6;
	u8 pad[5];
	struct event_table ev;
};

/* MAX_NESTING for each CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct traversal);
} traversals SEC(".maps");

struct rules_cpu {
	u32 depth;
	u32 busy; /* in the middle of copying: what interrupts that cannot */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct rules_cpu);
} rules_cpus SEC(".maps");

/* Only its address counts: see cpu_offset(). */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} anchor SEC(".maps");

/*
 * What to add to a per-CPU pointer on this CPU: the address of our own slot in
 * a per-CPU map less the map's per-CPU pointer. Both go through the stack to
 * become plain numbers.
 */
static __always_inline u64 cpu_offset(void)
{
	u64 slot = 0, array = 0, base = 0;
	u32 zero = 0;
	void *p = bpf_map_lookup_elem(&anchor, &zero), *m = &anchor;

	if (!p)
		return 0;
	bpf_probe_read_kernel(&slot, sizeof(slot), &p);
	bpf_probe_read_kernel(&array, sizeof(array), &m);
	bpf_probe_read_kernel(&base, sizeof(base),
			      (void *)(array + bpf_core_field_offset(struct bpf_array, pptrs)));
	return slot - base;
}

struct take {
	struct layout *l;
	struct traversal *v;
	u64 entries;
	u64 cpu_offset;
	u32 cpu;
	u32 offset;
	u32 failed;
	u8 ip6;
};

static __always_inline struct counter_block *snapshot(u32 cpu, u32 block)
{
	u32 k = cpu * blocks_per_cpu + block;

	return bpf_map_lookup_elem(&snapshots, &k);
}

/*
 * Copies one block, if it is still where the layout has it: an address is used
 * again for the next table.
 */
static long copy_block(u32 i, struct take *c)
{
	u64 k = BELOW(i, MAX_BLOCKS), block = c->l->block[k], is = 0;
	u32 counters = c->ip6 ? IP6T_COUNTERS : IPT_COUNTERS;
	struct counter_block *to = snapshot(c->cpu, i);

	bpf_probe_read_kernel(&is, sizeof(is), (void *)(c->entries + c->l->offset[k] + counters));
	if (!to || is != block ||
	    bpf_probe_read_kernel(to, sizeof(*to), (void *)(block + c->cpu_offset))) {
		c->failed = 1;
		return 1;
	}
	return 0;
}

/* 1 if d is not 0, without a branch: 256 of them would be as many paths. */
static __always_inline u64 not_zero(u64 d)
{
	u64 n = -d;

	asm volatile("" : "+r"(n));
	return (d | n) >> 63;
}

static __always_inline u64 note(struct traversal *v, u64 n, u32 rule, u64 d)
{
	u64 at = BELOW(n, MAX_MATCHES);

	v->ev.m[at].rule = rule;
	v->ev.m[at].count = d;
	return n + not_zero(d);
}

static long compare_block(u32 i, struct take *c)
{
	u32 cpu = c->cpu;
	struct counter_block *was = snapshot(cpu, i);
	struct counter_block *is = bpf_map_lookup_elem(&counters_now, &cpu);
	struct traversal *v = c->v;
	u64 n, k = BELOW(i, MAX_BLOCKS);

	if (!was || !is ||
	    bpf_probe_read_kernel(is, sizeof(*is), (void *)(c->l->block[k] + c->cpu_offset))) {
		c->failed = 1;
		return 1;
	}
	n = v->ev.matches;
	for (u32 r = 0; r < BLOCK_RULES; r++)
		n = note(v, n, i * BLOCK_RULES + r, is->c[2 * r] - was->c[2 * r]);
	v->ev.matches = n;
	return 0;
}

/* The same on a machine with one CPU, rule by rule. */
static __always_inline long inline_rule(u32 i, struct take *c, int compare)
{
	struct counter_block *to = snapshot(0, i / BLOCK_RULES);
	u64 at = BELOW(2 * i, 2 * BLOCK_RULES), packets;
	struct rule_head h;

	if (!to || read_rule(&h, &packets, c->entries + c->offset, c->ip6) || !h.next_offset) {
		c->failed = 1;
		return 1;
	}
	if (compare)
		c->v->ev.matches = note(c->v, c->v->ev.matches, i, packets - to->c[at]);
	else
		to->c[at] = packets;
	c->offset += h.next_offset;
	return 0;
}

static long copy_rule(u32 i, struct take *c)
{
	return inline_rule(i, c, 0);
}

static long compare_rule(u32 i, struct take *c)
{
	return inline_rule(i, c, 1);
}

static __always_inline int copy_counters(struct take *c)
{
	c->failed = 0;
	if (inline_counters)
		bpf_loop(c->l->number, copy_rule, c, 0);
	else
		bpf_loop(c->l->blocks, copy_block, c, 0);
	return c->failed;
}

/* Begins a segment: from here on what rises is v's. */
SUBPROG int open_segment(struct traversal *v, u32 cpu)
{
	struct layout *l;
	struct take c = {};
	u64 info;

	if (!v || !have_x_tables())
		return 0;
	info = v->ev.content;
	c.v = v;
	c.cpu = cpu;
	c.ip6 = v->ip6;
	c.entries = entries_of(info);
	c.cpu_offset = cpu_offset();
	v->open = 0;
	l = bpf_map_lookup_elem(&layouts, &info);
	if (l && l->number == v->ev.number && l->size == v->ev.size && l->blocks <= blocks_per_cpu) {
		v->ev.print = take_print(l, c.entries, v->ev.generation);
		c.l = l;
		if (!copy_counters(&c)) {
			v->open = 1;
			return 1;
		}
	}
	l = new_layout(info, v->ip6);
	if (!l) {
		v->ev.rules |= RULES_MIXED;
		return 0;
	}
	v->ev.print = take_print(l, entries_of(info), v->ev.generation);
	c.l = l;
	c.offset = 0;
	if (l->blocks > blocks_per_cpu)
		v->ev.rules |= RULES_TOO_LARGE;
	else if (copy_counters(&c))
		v->ev.rules |= RULES_REPLACED;
	else
		v->open = 1;
	return v->open;
}

/* Ends a segment: adds what rose since to v's matches. */
SUBPROG int close_segment(struct traversal *v, u32 cpu)
{
	struct take c = {};
	u64 info;

	if (!v || !v->open || !have_x_tables())
		return 0;
	v->open = 0;
	info = v->ev.content;
	c.l = bpf_map_lookup_elem(&layouts, &info);
	if (!c.l) {
		v->ev.rules |= RULES_MIXED;
		return 0;
	}
	c.v = v;
	c.cpu = cpu;
	c.ip6 = v->ip6;
	c.entries = entries_of(info);
	c.cpu_offset = cpu_offset();
	if (inline_counters)
		bpf_loop(c.l->number, compare_rule, &c, 0);
	else
		bpf_loop(c.l->blocks, compare_block, &c, 0);
	if (c.failed)
		v->ev.rules |= RULES_REPLACED;
	return 0;
}

static __always_inline struct traversal *traversal_at(u32 cpu, u32 level)
{
	u32 k = cpu * MAX_NESTING + level;

	return level < MAX_NESTING ? bpf_map_lookup_elem(&traversals, &k) : 0;
}

static __always_inline void begin_traversal(struct traversal *v, u64 skb, struct xt_table *table,
					    u8 ip6, u8 traced)
{
	struct xt_table_info *info = BPF_CORE_READ(table, private);

	v->skb = skb;
	v->table = (u64)table;
	v->since = bpf_ktime_get_ns();
	v->traced = traced;
	v->open = 0;
	v->ip6 = ip6;
	v->ev.address = (u64)table;
	v->ev.content = (u64)info;
	v->ev.generation = generation_of((u64)table);
	v->ev.print = 0;
	v->ev.number = BPF_CORE_READ(info, number);
	v->ev.size = BPF_CORE_READ(info, size);
	v->ev.matches = 0;
	v->ev.rules = RULES_SEEN;
}

/*
 * A packet enters a legacy table. Also for packets of others, while a
 * traversal of ours is under way on this CPU.
 */
static __always_inline int on_rules_enter(struct sk_buff *skb, struct xt_table *table, u8 ip6)
{
	u32 cpu = bpf_get_smp_processor_id();
	struct rules_cpu *c = bpf_map_lookup_elem(&rules_cpus, &cpu);
	u64 key = (u64)skb;
	struct traversal *top = 0, *v;
	int traced;

	if (!c)
		return 0;
	traced = bpf_map_lookup_elem(&skbs, &key) != 0;
	if (!traced && !c->depth)
		return 0;
	if (c->depth) {
		top = traversal_at(cpu, c->depth - 1);
		if (!top || bpf_ktime_get_ns() - top->since > STALE_TRAVERSAL_NS) {
			c->depth = 0;
			top = 0;
		}
	}
	if (!traced && (!top || top->table != (u64)table))
		return 0;
	if (c->busy || c->depth >= MAX_NESTING) {
		if (top)
			top->ev.rules |= RULES_MIXED;
		return 0;
	}
	v = traversal_at(cpu, c->depth);
	if (!v)
		return 0;
	c->busy = 1;
	if (top && top->open)
		close_segment(top, cpu);
	begin_traversal(v, key, table, ip6, traced);
	if (traced)
		open_segment(v, cpu);
	c->depth++;
	c->busy = 0;
	return 0;
}

/*
 * A packet leaves a legacy table. Gives what is known of its way through, 0 if
 * it was not followed.
 */
static __always_inline struct traversal *on_rules_exit(struct sk_buff *skb, struct xt_table *table)
{
	u32 cpu = bpf_get_smp_processor_id();
	struct rules_cpu *c = bpf_map_lookup_elem(&rules_cpus, &cpu);
	struct traversal *v = 0, *below;
	u32 depth;

	if (!c || !c->depth)
		return 0;
	depth = c->depth;
	for (u32 i = 0; i < MAX_NESTING && depth; i++) {
		depth--;
		v = traversal_at(cpu, depth);
		if (!v || (v->skb == (u64)skb && v->table == (u64)table))
			break;
		v->ev.rules |= RULES_MIXED; /* began after, and is not through yet */
		v = 0;
	}
	if (!v)
		return 0;
	if (c->busy || depth + 1 != c->depth)
		v->ev.rules |= RULES_MIXED;
	else if (v->traced) {
		c->busy = 1;
		close_segment(v, cpu);
		c->busy = 0;
	}
	if ((u64)BPF_CORE_READ(table, private) != v->ev.content ||
	    generation_of((u64)table) != v->ev.generation)
		v->ev.rules |= RULES_REPLACED;
	c->depth = depth;
	if (depth && !c->busy) {
		below = traversal_at(cpu, depth - 1);
		if (below && below->traced && !(below->ev.rules & ~RULES_SEEN)) {
			c->busy = 1;
			open_segment(below, cpu);
			c->busy = 0;
		}
	}
	return v->traced ? v : 0;
}

#endif
