//go:build ignore

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * node.bpf.c - binds node.h to what the kernel does when somebody changes the
 * node. An object of its own, beside that of either backend: its tracepoints
 * serve both, its functions the fentry backend (tracer/attach/doers.go).
 */
#include "node.h"

char _license[] SEC("license") = "Dual BSD/GPL";

#define ARG(n, type) ((type)(unsigned long)ctx[n])

static __always_inline s64 returned(void *ctx)
{
	u64 ret = 0;

	bpf_get_func_ret(ctx, &ret);
	return ret;
}

/*
 * int __dev_change_flags(struct net_device *, unsigned int flags, struct
 * netlink_ext_ack *), net/core/dev.c: by netlink and by ioctl alike. Before the
 * change, since afterwards nobody knows what it was.
 */
SEC("fentry/__dev_change_flags")
int change_flags(u64 *ctx)
{
	return on_flags(ARG(0, struct net_device *), ctx[1]);
}

/* int f(struct net *, struct fib_table *, struct fib_config *, struct
 * netlink_ext_ack *), net/ipv4/fib_trie.c
 */
SEC("fexit/fib_table_insert")
int fib4_insert(u64 *ctx)
{
	if ((u32)returned(ctx))
		return 0;
	return on_route4(ARG(0, struct net *), ARG(2, struct fib_config *), 1);
}

SEC("fexit/fib_table_delete")
int fib4_delete(u64 *ctx)
{
	if ((u32)returned(ctx))
		return 0;
	return on_route4(ARG(0, struct net *), ARG(2, struct fib_config *), 0);
}

/*
 * int fib6_add(struct fib6_node *, struct fib6_info *, struct nl_info *, ...)
 * and int fib6_del(struct fib6_info *, struct nl_info *), net/ipv6/ip6_fib.c.
 * The route may be gone when they return; that they succeeded, netlink tells.
 */
SEC("fentry/fib6_add")
int fib6_insert(u64 *ctx)
{
	return on_route6(ARG(1, struct fib6_info *), ARG(2, struct nl_info *), 1);
}

SEC("fentry/fib6_del")
int fib6_delete(u64 *ctx)
{
	return on_route6(ARG(0, struct fib6_info *), ARG(1, struct nl_info *), 0);
}

/* struct xt_table_info *xt_replace_table(struct xt_table *, unsigned int,
 * struct xt_table_info *, int *), net/netfilter/x_tables.c: gives the old one
 */
SEC("fexit/xt_replace_table")
int replace_table(u64 *ctx)
{
	return on_table(ARG(0, struct xt_table *), ARG(2, struct xt_table_info *),
			(struct xt_table_info *)returned(ctx));
}

/* ssize_t proc_sys_call_handler(struct kiocb *, struct iov_iter *, int write),
 * fs/proc/proc_sysctl.c
 */
SEC("fexit/proc_sys_call_handler")
int write_sysctl(u64 *ctx)
{
	if (!(u32)ctx[2] || returned(ctx) <= 0)
		return 0;
	return on_sysctl(ARG(0, struct kiocb *));
}

/* include/trace/events/signal.h; result 0 is TRACE_SIGNAL_DELIVERED */
SEC("tp_btf/signal_generate")
int send_signal(u64 *ctx)
{
	if ((u32)ctx[4])
		return 0;
	return on_signal((u32)ctx[0], ctx[1], ARG(2, struct task_struct *));
}

/* include/trace/events/sched.h */
SEC("tp_btf/sched_process_exit")
int exit_process(u64 *ctx)
{
	return on_exit(ARG(0, struct task_struct *));
}
