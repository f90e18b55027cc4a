/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * rules.h - which rules matched, without touching them: what both kinds of
 * rule sets share.
 *
 * rules_legacy.h compares the counters of a table before and after a packet
 * went through it, rules_nft.h listens to the expressions that a rule evaluates
 * last. Both gather into a struct event_table, which goes up when the table or
 * base chain is through with the packet. Neither names a rule unless it is
 * sure: whatever may have mixed two traversals up sets a flag of enum
 * rules_flag instead, and user space checks that what matched is one walk
 * through the table.
 */
#ifndef PATHTRACE_RULES_H
#define PATHTRACE_RULES_H

#include "flow.h"

#define TABLE_HEAD __builtin_offsetof(struct event_table, m)

/* Sends as much of ev as it holds. */
SUBPROG int send_table(struct event_table *ev, struct tracked *t)
{
	u64 n;

	if (!ev || !t)
		return 0;
	n = ev->matches;
	if (n > MAX_MATCHES) {
		ev->rules |= RULES_TOO_MANY;
		n = 0;
	}
	if (bpf_ringbuf_output(&events, ev, TABLE_HEAD + n * sizeof(ev->m[0]), 0)) {
		__sync_fetch_and_add(&stats.lost_events, 1);
		t->flags |= TRACKED_LOST;
	}
	return 0;
}

#endif
