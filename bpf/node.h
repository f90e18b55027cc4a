/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * node.h - who changed the node: what goes up when a process sets a link up or
 * down, adds or deletes a route, replaces a legacy table, writes a sysctl of
 * the network, or ends one of the programs that keep the node's network.
 *
 * None of this is on the way of a packet. Only changes in the network namespaces
 * of the node count (namespaces); which programs are watched user space says
 * (agents). Change and doer are put together in user space (tracer/watch).
 */
#ifndef PATHTRACE_NODE_H
#define PATHTRACE_NODE_H

#include "kernel.h"

enum change_kind {
	CHANGE_LINK = 1, /* index: interface; set: it goes up; name[0] */
	CHANGE_ROUTE, /* index: routing table; set: added; addr and bits */
	CHANGE_TABLE, /* a legacy table: name[0]; before, after: rules, policies and chain heads */
	CHANGE_SYSCTL, /* name: parts of its path, the last first */
	CHANGE_SIGNAL, /* to an agent: value is the signal; set: the kernel sent it by itself */
	CHANGE_EXIT, /* of an agent: value is its wait status */
};

#define CGROUP_NAME 96 /* "cri-containerd-", 64 digits, ".scope" */
#define NAME_PARTS 6 /* sys net ipv4 conf cali1a2b3c4d rp_filter */
#define NAME_PART 40

/* A process. */
struct actor {
	u32 pid; /* in the first pid namespace, as ps on the node shows it */
	u32 ppid;
	char comm[16];
	char pcomm[16]; /* of the process that started it */
	char cgroup[CGROUP_NAME]; /* last part of its cgroup (v2); empty: the root, or v1 */
};

struct change {
	u64 time; /* CLOCK_MONOTONIC, ns */
	u32 netns; /* inode number */
	u8 kind;
	u8 set;
	u8 family; /* 2 or 10; of a legacy table as well */
	u8 bits; /* of a route's prefix */
	u32 index;
	u32 value;
	u32 before;
	u32 after;
	u32 addr[4];
	u32 victim; /* process that a signal is for */
	char victim_comm[16];
	u32 age; /* of a process that ends: how long it ran, seconds */
	struct actor by;
	char name[NAME_PARTS][NAME_PART];
};

struct node_counters {
	u64 lost; /* changes the ring buffer had no room for */
};

struct node_counters node_stats = {};

/* No code refers to these types by name where BTF sees it: see event.h. */
const struct change *export_change __attribute__((unused));
const enum change_kind *export_change_kind __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} changes SEC(".maps");

/* Network namespaces of the node, by inode number. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, u8);
} namespaces SEC(".maps");

struct agent_name {
	char comm[16];
};

/* Names of the programs whose end matters. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct agent_name);
	__type(value, u8);
} agents SEC(".maps");

/* include/linux/nsproxy.h */
struct nsproxy {
	struct net *net_ns;
} CORE;

/* include/linux/types.h */
typedef struct {
	int counter;
} atomic_t;

/* include/linux/sched/signal.h */
struct signal_struct {
	atomic_t live;
} CORE;

/* include/linux/kernfs.h */
struct kernfs_node {
	const char *name;
} CORE;

/* include/linux/cgroup-defs.h */
struct cgroup {
	struct kernfs_node *kn;
} CORE;

struct css_set {
	struct cgroup *dfl_cgrp;
} CORE;

/* include/linux/sched.h */
struct task_struct {
	int tgid;
	int exit_code;
	u64 start_time; /* CLOCK_MONOTONIC, ns */
	char comm[16];
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
	struct css_set *cgroups;
} CORE;

/* include/linux/netdevice.h: a flavour, since only changes ask for flags */
struct net_device___flags {
	unsigned int flags;
} CORE;

#define IFF_UP 1 /* include/uapi/linux/if.h */

/* include/net/netlink.h */
struct nl_info {
	struct net *nl_net;
} CORE;

/* include/net/ip_fib.h */
struct fib_config {
	u8 fc_dst_len;
	u32 fc_table;
	u32 fc_dst;
} CORE;

/* include/net/ip6_fib.h */
struct rt6key {
	struct in6_addr addr;
	int plen;
} CORE;

struct fib6_table {
	u32 tb6_id;
} CORE;

struct fib6_info {
	struct fib6_table *fib6_table;
	struct rt6key fib6_dst;
} CORE;

/* include/linux/netfilter/x_tables.h: a flavour with the family */
struct xt_table___af {
	u8 af;
} CORE;

/* include/linux/dcache.h */
struct qstr {
	const unsigned char *name;
} CORE;

struct dentry {
	struct qstr d_name;
	struct dentry *d_parent;
} CORE;

/* include/linux/fs.h */
struct path {
	struct dentry *dentry;
} CORE;

struct file {
	struct path f_path;
} CORE;

struct kiocb {
	struct file *ki_filp;
} CORE;

static __always_inline struct task_struct *self(void)
{
	return (struct task_struct *)bpf_get_current_task();
}

static __always_inline u32 netns_of(struct task_struct *task)
{
	return BPF_CORE_READ(task, nsproxy, net_ns, ns.inum);
}

static __always_inline int is_agent(struct task_struct *task)
{
	struct agent_name name = {};

	BPF_CORE_READ_STR_INTO(&name.comm, task, group_leader, comm);
	return bpf_map_lookup_elem(&agents, &name) != 0;
}

/*
 * Begins a record of a change in a namespace of the node by the running
 * process; 0 if the namespace is not the node's, or there is no room.
 */
static __always_inline struct change *begin(u8 kind, u32 netns)
{
	struct task_struct *task = self(), *parent;
	struct change *c;

	if (!bpf_map_lookup_elem(&namespaces, &netns))
		return 0;
	c = bpf_ringbuf_reserve(&changes, sizeof(*c), 0);
	if (!c) {
		__sync_fetch_and_add(&node_stats.lost, 1);
		return 0;
	}
	__builtin_memset(c, 0, sizeof(*c));
	c->time = bpf_ktime_get_ns();
	c->kind = kind;
	c->netns = netns;
	c->by.pid = BPF_CORE_READ(task, tgid);
	BPF_CORE_READ_STR_INTO(&c->by.comm, task, group_leader, comm);
	parent = BPF_CORE_READ(task, real_parent);
	c->by.ppid = BPF_CORE_READ(parent, tgid);
	BPF_CORE_READ_STR_INTO(&c->by.pcomm, parent, group_leader, comm);
	bpf_probe_read_kernel_str(c->by.cgroup, sizeof(c->by.cgroup),
				  BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, name));
	return c;
}

static __always_inline void send(struct change *c)
{
	bpf_ringbuf_submit(c, 0);
}

/* flags is what dev->flags shall become. */
static __always_inline int on_flags(struct net_device *dev, u32 flags)
{
	struct net_device___flags *now = (void *)dev;
	struct change *c;

	if (!((BPF_CORE_READ(now, flags) ^ flags) & IFF_UP))
		return 0;
	c = begin(CHANGE_LINK, BPF_CORE_READ(dev, nd_net.net, ns.inum));
	if (!c)
		return 0;
	c->set = flags & IFF_UP;
	c->index = BPF_CORE_READ(dev, ifindex);
	bpf_probe_read_kernel_str(c->name[0], sizeof(c->name[0]), dev->name);
	send(c);
	return 0;
}

static __always_inline int on_route4(struct net *net, struct fib_config *cfg, int added)
{
	struct change *c = begin(CHANGE_ROUTE, BPF_CORE_READ(net, ns.inum));

	if (!c)
		return 0;
	c->set = added;
	c->family = PF_INET;
	c->index = BPF_CORE_READ(cfg, fc_table);
	c->bits = BPF_CORE_READ(cfg, fc_dst_len);
	c->addr[0] = BPF_CORE_READ(cfg, fc_dst);
	send(c);
	return 0;
}

static __always_inline int on_route6(struct fib6_info *rt, struct nl_info *info, int added)
{
	struct change *c = begin(CHANGE_ROUTE, BPF_CORE_READ(info, nl_net, ns.inum));

	if (!c)
		return 0;
	c->set = added;
	c->family = PF_INET6;
	c->index = BPF_CORE_READ(rt, fib6_table, tb6_id);
	c->bits = BPF_CORE_READ(rt, fib6_dst.plen);
	BPF_CORE_READ_INTO(&c->addr, rt, fib6_dst.addr.in6_u.u6_addr32);
	send(c);
	return 0;
}

/* old is what the table held before. */
static __always_inline int on_table(struct xt_table *table, struct xt_table_info *new, struct xt_table_info *old)
{
	struct change *c;

	if (!old)
		return 0;
	c = begin(CHANGE_TABLE, netns_of(self()));
	if (!c)
		return 0;
	c->family = BPF_CORE_READ((struct xt_table___af *)table, af);
	c->before = BPF_CORE_READ(old, number);
	c->after = BPF_CORE_READ(new, number);
	bpf_probe_read_kernel_str(c->name[0], sizeof(table->name), table->name);
	send(c);
	return 0;
}

static __always_inline int on_sysctl(struct kiocb *iocb)
{
	struct dentry *d = BPF_CORE_READ(iocb, ki_filp, f_path.dentry), *parent;
	struct change *c = begin(CHANGE_SYSCTL, netns_of(self()));

	if (!c)
		return 0;
#pragma unroll
	for (int i = 0; i < NAME_PARTS; i++) {
		bpf_probe_read_kernel_str(c->name[i], NAME_PART, BPF_CORE_READ(d, d_name.name));
		parent = BPF_CORE_READ(d, d_parent);
		if (parent == d)
			break;
		d = parent;
	}
	send(c);
	return 0;
}

#define SEND_SIG_PRIV 1 /* include/linux/sched/signal.h: the kernel's own */

static __always_inline int on_signal(int sig, u64 info, struct task_struct *to)
{
	struct change *c;

	if (!is_agent(to))
		return 0;
	c = begin(CHANGE_SIGNAL, netns_of(to));
	if (!c)
		return 0;
	c->value = sig;
	c->set = info == SEND_SIG_PRIV;
	c->victim = BPF_CORE_READ(to, tgid);
	BPF_CORE_READ_STR_INTO(&c->victim_comm, to, group_leader, comm);
	send(c);
	return 0;
}

/* A thread ends; the process does with the last one. */
static __always_inline int on_exit(struct task_struct *task)
{
	struct change *c;

	if (BPF_CORE_READ(task, signal, live.counter) || !is_agent(task))
		return 0;
	c = begin(CHANGE_EXIT, netns_of(task));
	if (!c)
		return 0;
	c->value = BPF_CORE_READ(task, exit_code);
	c->age = (c->time - BPF_CORE_READ(task, start_time)) / 1000000000;
	send(c);
	return 0;
}

#endif
