/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * rules_nft.h - which rules of an nftables base chain matched, and of the
 * chains it leads to. iptables-nft's rules are nftables rules too.
 *
 * A rule is a row of expressions, evaluated until one of them breaks off or
 * sets a verdict. It matched if its last expression was evaluated and did not
 * break off, or if any set a verdict. Those expressions are the same few (the
 * statements), so their functions are listened to; the expression's address
 * lies in the blob of one chain, whose rule heads are walked to the handle.
 * Jumps and gotos are followed by a stack of chains; a return is noticed when
 * the next expression lies in a chain further down.
 *
 * A walk is keyed by the skb: nft_do_chain() may be preempted in a process's
 * OUTPUT. A packet that nft drops is freed inside nft_do_chain() (since 6.7):
 * on_drop() sends what was gathered.
 */
#ifndef PATHTRACE_RULES_NFT_H
#define PATHTRACE_RULES_NFT_H

#include "rules.h"

#define NFT_STACK 16 /* NFT_JUMP_STACK_SIZE, include/net/netfilter/nf_tables.h */

/* A chain under way. */
struct nft_level {
	u64 chain; /* struct nft_chain */
	u64 start; /* of its blob's rules, 0: not known yet */
	u64 end;
	u64 rule; /* head of the rule evaluated last */
};

struct nft_walk {
	u32 depth; /* levels below the one under way */
	u32 lost; /* an expression of no chain we know of */
	struct nft_level level[NFT_STACK];
	struct event_table ev;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, u64);
	__type(value, struct nft_walk);
} nft_walks SEC(".maps");

static const struct nft_walk zero_walk = {};

#define MAX_RULES_WALKED 65536

struct find_rule {
	u64 rule;
	u64 end;
	u64 expr;
	u64 head;
};

static long is_rule(u32 i, struct find_rule *f)
{
	u64 head;

	if (f->rule >= f->end || bpf_probe_read_kernel(&head, sizeof(head), (void *)f->rule))
		return 1;
	if (NFT_RULE_IS_LAST(head))
		return 1;
	if (f->expr < f->rule + 8 + NFT_RULE_DLEN(head)) {
		f->head = head;
		return 1;
	}
	f->rule += 8 + NFT_RULE_DLEN(head);
	return 0;
}

static __always_inline int in_blob(struct nft_level *l, struct nft_rule_blob *b, u64 expr)
{
	u64 start, end;

	if (!b)
		return 0;
	start = (u64)b + bpf_core_field_offset(struct nft_rule_blob, data);
	end = start + BPF_CORE_READ(b, size);
	if (expr < start || expr >= end)
		return 0;
	l->start = start;
	l->end = end;
	l->rule = start;
	return 1;
}

/* Does the expression belong to this level's chain? */
static __always_inline int in_level(struct nft_level *l, u64 expr)
{
	struct nft_chain *c;

	if (!l || !l->chain)
		return 0;
	if (l->start)
		return expr >= l->start && expr < l->end;
	c = (void *)l->chain;
	return in_blob(l, BPF_CORE_READ(c, blob_gen_0), expr) ||
	       in_blob(l, BPF_CORE_READ(c, blob_gen_1), expr);
}

/* The level an expression is evaluated at; chains above it have returned. */
static __always_inline struct nft_level *level_of(struct nft_walk *w, u64 expr)
{
	struct nft_level *l;

	for (u32 i = 0; i < NFT_STACK; i++) {
		l = &w->level[BELOW(w->depth, NFT_STACK)];
		if (in_level(l, expr))
			return l;
		if (!w->depth)
			break;
		w->depth--;
	}
	return 0;
}

/*
 * Notes a match, and with a verdict map what it was asked for. Some functions
 * call each other (nft_nat_inet_eval() nft_nat_eval()), so that a rule is seen
 * to match twice in a row: once is right, since it takes the match of another
 * rule, a jump or goto, to come by a rule again.
 */
static __always_inline void note_rule(struct nft_walk *w, u64 chain, u64 handle, u32 code,
				      u64 regs, int by_map)
{
	struct rule_match *m = &w->ev.m[BELOW(w->ev.matches, MAX_MATCHES)];
	struct map_key *k;

	if (w->ev.matches && w->ev.m[BELOW(w->ev.matches - 1, MAX_MATCHES)].rule == handle)
		return;
	m->chain = BPF_CORE_READ((struct nft_chain *)chain, handle);
	m->rule = handle;
	m->verdict = code;
	m->count = 1;
	if (by_map && w->ev.keys < MAX_KEYS) {
		k = &w->ev.key[BELOW(w->ev.keys, MAX_KEYS)];
		k->match = w->ev.matches;
		bpf_probe_read_kernel(k->reg, sizeof(k->reg), (void *)(regs + NFT_REG32_OFFSET));
		w->ev.keys++;
	}
	if (w->ev.matches <= MAX_MATCHES)
		w->ev.matches++;
}

static __always_inline void follow(struct nft_walk *w, u32 code, u64 chain)
{
	struct nft_level *l;

	if (code == NFT_JUMP) {
		if (w->depth >= NFT_STACK - 1) {
			w->lost = 1;
			return;
		}
		w->depth++;
	}
	l = &w->level[BELOW(w->depth, NFT_STACK)];
	l->chain = chain;
	l->start = 0;
	l->end = 0;
	l->rule = 0;
}

/* An expression that a rule may end with was evaluated for a traced packet. */
SUBPROG int nft_evaluated(struct nft_walk *w, u64 expr_addr, u64 regs_addr, u32 by_map)
{
	const struct nft_expr *expr = (void *)expr_addr;
	struct nft_regs *regs = (void *)regs_addr;
	struct find_rule f = {};
	struct nft_level *l;
	u64 chain, end;
	u32 code;

	if (!w)
		return 0;
	code = BPF_CORE_READ(regs, verdict.code);
	if (code == NFT_BREAK)
		return 0;
	l = level_of(w, expr_addr);
	if (!l) {
		w->lost = 1;
		return 0;
	}
	f.rule = expr_addr >= l->rule ? l->rule : l->start;
	f.end = l->end;
	f.expr = expr_addr;
	bpf_loop(MAX_RULES_WALKED, is_rule, &f, 0);
	if (!f.head) {
		w->lost = 1;
		return 0;
	}
	l->rule = f.rule;
	if (code == NFT_CONTINUE) {
		end = f.rule + 8 + NFT_RULE_DLEN(f.head);
		if (expr_addr + BPF_CORE_READ(expr, ops, size) < end)
			return 0; /* more of the rule to come */
	}
	note_rule(w, l->chain, NFT_RULE_HANDLE(f.head), code, regs_addr, by_map);
	if (code == NFT_JUMP || code == NFT_GOTO) {
		chain = (u64)BPF_CORE_READ(regs, verdict.chain);
		follow(w, code, chain);
	}
	return 0;
}

/* ctx: f(const struct nft_expr *, struct nft_regs *, const struct nft_pktinfo *) */
static __always_inline int on_eval(void *ctx, int by_map)
{
	u64 expr = 0, regs = 0, pkt = 0, key;
	struct nft_walk *w;

	/* asked for, they are plain numbers, which a global function takes */
	bpf_get_func_arg(ctx, 2, &pkt);
	key = (u64)BPF_CORE_READ((struct nft_pktinfo *)pkt, skb);
	w = bpf_map_lookup_elem(&nft_walks, &key);
	if (!w)
		return 0;
	bpf_get_func_arg(ctx, 0, &expr);
	bpf_get_func_arg(ctx, 1, &regs);
	return nft_evaluated(w, expr, regs, by_map);
}

static __always_inline void begin_walk(u64 skb, struct nft_chain *chain, u64 stamp)
{
	struct nft_walk *w;

	if (bpf_map_update_elem(&nft_walks, &skb, &zero_walk, BPF_ANY))
		return; /* no room: its table is told without rules */
	w = bpf_map_lookup_elem(&nft_walks, &skb);
	if (!w)
		return;
	w->level[0].chain = (u64)chain;
	w->ev.rules = RULES_SEEN;
	w->ev.generation = stamp;
	w->ev.address = BPF_CORE_READ(chain, table, handle);
	w->ev.chain_handle = BPF_CORE_READ(chain, handle);
	w->ev.family = BPF_CORE_READ(chain, table, family) & NFT_FAMILY_MASK;
	bpf_probe_read_kernel_str(w->ev.chain, sizeof(w->ev.chain), BPF_CORE_READ(chain, name));
	bpf_probe_read_kernel_str(w->ev.table, sizeof(w->ev.table), BPF_CORE_READ(chain, table, name));
}

/* What a walk gathered, ready to be described and sent; 0 without one. */
static __always_inline struct event_table *walked(u64 skb)
{
	struct nft_walk *w = bpf_map_lookup_elem(&nft_walks, &skb);

	if (!w)
		return 0;
	if (w->lost)
		w->ev.rules |= RULES_MIXED;
	return &w->ev;
}

static __always_inline void end_walk(u64 skb)
{
	bpf_map_delete_elem(&nft_walks, &skb);
}

#endif
