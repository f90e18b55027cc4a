/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * rules_find.h - the struct xt_table of a legacy table, by its name: it is the
 * private pointer of the hook entry whose function runs tables. Tables of nat hang
 * one floor below, at the entry of nf_nat (net/netfilter/nf_nat_core.c:
 * nf_nat_register_fn), whose private pointer leads to entries of its own.
 */
#ifndef PATHTRACE_RULES_FIND_H
#define PATHTRACE_RULES_FIND_H

#include "rules_legacy.h"

/* include/linux/nsproxy.h */
struct nsproxy {
	struct net *net_ns;
} CORE;

/* include/linux/sched.h: a flavour, since others read other members of it */
struct task_struct___ns {
	struct nsproxy *nsproxy;
} CORE;

/* Addresses of ipt_do_table, iptable_mangle_hook and their IPv6 twins; 0 where
 * the kernel hides its symbols: then no table is found.
 */
#define TABLE_FUNCTIONS 4
const volatile u64 table_functions[TABLE_FUNCTIONS] = {};

/* Those of nf_nat, net/netfilter/nf_nat_proto.c: four for each family. */
#define NAT_FUNCTIONS 10
const volatile u64 nat_functions[NAT_FUNCTIONS] = {};

#define MAX_HOOK_ENTRIES 32

struct find_table {
	u64 entries;
	u64 name; /* the first eight bytes: the known names differ in them */
	u64 found;
};

static __always_inline struct nf_hook_entry *entry_at(struct find_table *f, u32 i)
{
	return (void *)(f->entries + i * bpf_core_type_size(struct nf_hook_entry));
}

static long is_table(u32 i, struct find_table *f)
{
	struct nf_hook_entry *e = entry_at(f, i);
	u64 fn = (u64)BPF_CORE_READ(e, hook), name;
	struct xt_table *table;

	if (!fn || (fn != table_functions[0] && fn != table_functions[1] &&
		    fn != table_functions[2] && fn != table_functions[3]))
		return 0;
	table = (void *)BPF_CORE_READ(e, priv);
	if (bpf_probe_read_kernel(&name, sizeof(name), table->name) || name != f->name)
		return 0;
	f->found = (u64)table;
	return 1;
}

/* Finds nf_nat's own entries: struct nf_nat_lookup_hook_priv begins with the pointer. */
static long is_nat(u32 i, struct find_table *f)
{
	struct nf_hook_entry *e = entry_at(f, i);
	u64 fn = (u64)BPF_CORE_READ(e, hook);

	if (!fn)
		return 0;
	for (u32 k = 0; k < NAT_FUNCTIONS; k++)
		if (fn == nat_functions[k])
			return !bpf_probe_read_kernel(&f->found, sizeof(f->found),
						      (void *)BPF_CORE_READ(e, priv));
	return 0;
}

/* Begins to look through the entries of a hook; gives how many there are. */
static __always_inline u32 entries_in(struct find_table *f, u64 list)
{
	struct nf_hook_entries *e = (void *)list;
	u32 count;

	f->found = 0;
	if (!list)
		return 0;
	f->entries = list + bpf_core_field_offset(struct nf_hook_entries, hooks);
	count = BPF_CORE_READ(e, num_hook_entries);
	return count > MAX_HOOK_ENTRIES ? MAX_HOOK_ENTRIES : count;
}

static __always_inline u64 hook_list(struct net *of, u8 pf, u32 hook)
{
	struct net___hooks *net = (void *)of;
	u64 hooks, list = 0;

	hooks = (u64)net + (pf == PF_INET ?
		bpf_core_field_offset(struct net___hooks, nf.hooks_ipv4) :
		bpf_core_field_offset(struct net___hooks, nf.hooks_ipv6));
	bpf_probe_read_kernel(&list, sizeof(list), (void *)(hooks + 8 * hook));
	return list;
}

/* The table of a hook by the first eight bytes of its name; none of nat. */
static __always_inline struct xt_table *table_at(struct net *net, u8 pf, u32 hook, u64 name)
{
	struct find_table f = { .name = name };
	u32 count = entries_in(&f, hook_list(net, pf, hook));

	bpf_loop(count, is_table, &f, 0);
	return (void *)f.found;
}

/* The same of nat. */
static __always_inline struct xt_table *nat_table_at(struct net *net, u8 pf, u32 hook, u64 name)
{
	struct find_table f = { .name = name };
	u32 count = entries_in(&f, hook_list(net, pf, hook));
	u64 below;

	bpf_loop(count, is_nat, &f, 0);
	below = f.found;
	count = entries_in(&f, below);
	bpf_loop(count, is_table, &f, 0);
	return (void *)f.found;
}

struct looked seen_now = {};

/* The fingerprint of contents that stand. */
static __always_inline u64 print_now(u64 info, u8 ip6)
{
	struct layout *l = bpf_map_lookup_elem(&layouts, &info);

	if (!l || l->number != BPF_CORE_READ((struct xt_table_info *)info, number) ||
	    l->size != BPF_CORE_READ((struct xt_table_info *)info, size))
		l = new_layout(info, ip6);
	return l ? take_print(l, entries_of(info), seen_now.generation) : 0;
}

/*
 * Not attached: user space runs it (BPF_PROG_TEST_RUN) in a network namespace, to
 * learn what its rule sets are now. Arguments: the first eight bytes of a legacy
 * table's name, or 0; its family; the table's address, should it not be found by
 * name; the offset of xt_table.private, 0 where there are no such tables.
 */
SEC("raw_tp")
int look(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct___ns *task = (void *)bpf_get_current_task();
	struct net *net = BPF_CORE_READ(task, nsproxy, net_ns);
	u64 name = ctx->args[0], table = ctx->args[2], private = ctx->args[3], content = 0, found = 0;
	u8 pf = ctx->args[1];

	if (name && private && have_x_tables())
		for (u32 hook = 0; hook <= NF_INET_POST_ROUTING && !found; hook++) {
			found = (u64)table_at(net, pf, hook, name);
			if (!found)
				found = (u64)nat_table_at(net, pf, hook, name);
		}
	if (found)
		table = found;
	seen_now.nft = nft_stamp((u64)net);
	seen_now.routes = routes_stamp((u64)net, pf);
	seen_now.generation = generation_of(table);
	if (table && private)
		bpf_probe_read_kernel(&content, sizeof(content), (void *)(table + private));
	seen_now.print = content && have_x_tables() ? print_now(content, pf == PF_INET6) : 0;
	seen_now.content = content;
	return 0;
}

#endif
