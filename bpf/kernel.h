/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kernel.h - the few kernel structures that pathtrace reads.
 *
 * Only the members that are used are declared; CO-RE moves every access to
 * where the running kernel keeps the member, so order and padding here mean
 * nothing. The source of each structure is named so that a reader can check
 * it. Constants that are part of no uapi header carry their source as well.
 */
#ifndef PATHTRACE_KERNEL_H
#define PATHTRACE_KERNEL_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;

#define CORE __attribute__((preserve_access_index))

/* include/linux/ns_common.h */
struct ns_common {
	unsigned int inum;
} CORE;

/* include/net/net_namespace.h */
struct net {
	struct ns_common ns;
} CORE;

typedef struct {
	struct net *net;
} possible_net_t;

/* include/linux/netdevice.h */
struct net_device {
	char name[16];
	int ifindex;
	possible_net_t nd_net;
} CORE;

/* include/linux/skbuff.h */
struct sk_buff {
	struct net_device *dev;
	unsigned long _skb_refdst;
	unsigned long _nfct;
	struct sk_buff *next;
	unsigned int len;
	unsigned int data_len;
	int skb_iif;
	u32 mark;
	u16 protocol;
	u16 vlan_proto;
	u16 vlan_tci;
	u16 network_header;
	u16 mac_header;
	unsigned int end;
	unsigned char *head;
	unsigned char *data;
} CORE;

#define SKB_DST_NOREF 1UL /* include/linux/skbuff.h */

/* include/linux/skbuff.h: low bits of _nfct are the ctinfo */
#define NFCT_INFOMASK 7UL
#define NFCT_PTRMASK ~(NFCT_INFOMASK)

/* include/net/dst.h */
struct dst_entry {
	struct net_device *dev;
	short error;
} CORE;

/* include/net/route.h */
struct rtable {
	struct dst_entry dst;
	u16 rt_type;
	u8 rt_gw_family;
	u32 rt_gw4;
} CORE;

/* include/net/ip6_fib.h */
struct in6_addr {
	union {
		u32 u6_addr32[4];
	} in6_u;
} CORE;

struct rt6_info {
	struct dst_entry dst;
	struct in6_addr rt6i_gateway;
	u32 rt6i_flags;
} CORE;

#define RTF_GATEWAY 0x0002 /* include/uapi/linux/route.h */
#define RTF_LOCAL 0x80000000 /* include/uapi/linux/ipv6_route.h */

/* include/net/flow.h */
struct flowi_common {
	int flowic_iif;
} CORE;

struct flowi4 {
	struct flowi_common __fl_common;
	u32 saddr;
	u32 daddr;
} CORE;

/* include/net/ip_fib.h */
struct fib_nh_common {
	struct net_device *nhc_dev;
	u8 nhc_gw_family;
	union {
		u32 ipv4;
	} nhc_gw;
} CORE;

/* include/net/neighbour.h */
struct neighbour {
	u8 nud_state;
	unsigned char ha[32];
	struct net_device *dev;
	u8 primary_key[0];
} CORE;

/* net/bridge/br_private.h */
struct net_bridge_port {
	struct net_device *dev;
} CORE;

/* include/linux/netfilter.h */
struct nf_hook_entry {
	void *hook;
	void *priv;
} CORE;

struct nf_hook_entries {
	u16 num_hook_entries;
	struct nf_hook_entry hooks[0];
} CORE;

/* include/net/netns/netfilter.h; NF_INET_NUMHOOKS */
struct netns_nf {
	struct nf_hook_entries *hooks_ipv4[5];
	struct nf_hook_entries *hooks_ipv6[5];
} CORE;

/* include/linux/netfilter.h */
struct nf_hook_state {
	u8 hook;
	u8 pf;
	struct net_device *in;
	struct net_device *out;
	struct net *net;
} CORE;

/* include/net/netns/nftables.h; base_seq is here since 6.17 */
struct netns_nftables {
	unsigned int base_seq;
	u8 gencursor;
} CORE;

/* include/net/netns/ipv4.h */
struct netns_ipv4 {
	struct {
		int counter;
	} rt_genid; /* atomic_t */
} CORE;

/* include/net/netns/ipv6.h */
struct netns_ipv6 {
	struct {
		int counter;
	} fib6_sernum; /* atomic_t */
} CORE;

/* include/net/netfilter/nf_tables.h; base_seq is here before 6.17 */
struct nftables_pernet {
	unsigned int base_seq;
} CORE;

/*
 * struct net, for its hooks: a flavour, since they are declared only here. gen
 * leads to an array of pointers, from its first byte on (include/net/netns/
 * generic.h): slot N is that of the subsystem with the number N.
 */
struct net___hooks {
	struct netns_nf nf;
	struct netns_nftables nft;
	struct netns_ipv4 ipv4;
	struct netns_ipv6 ipv6;
	void *gen;
} CORE;

struct bpf_nf_ctx {
	const struct nf_hook_state *state;
	struct sk_buff *skb;
} CORE;

/* include/uapi/linux/netfilter.h */
#define NF_ACCEPT 1

#define PF_INET 2
#define PF_BRIDGE 7
#define PF_INET6 10

/* include/uapi/linux/netfilter.h: enum nf_inet_hooks */
#define NF_INET_PRE_ROUTING 0
#define NF_INET_LOCAL_IN 1
#define NF_INET_FORWARD 2
#define NF_INET_LOCAL_OUT 3
#define NF_INET_POST_ROUTING 4

/* include/linux/netfilter/x_tables.h */
struct xt_table_info {
	unsigned int size;
	unsigned int number;
	unsigned char entries[0];
} CORE;

struct xt_table {
	struct xt_table_info *private;
	char name[32];
} CORE;

/*
 * Offsets in struct ipt_entry and struct ip6t_entry, part of the uapi
 * (include/uapi/linux/netfilter_ipv4/ip_tables.h, .../ip6_tables.h).
 */
#define IPT_TARGET_OFFSET 88
#define IPT_COUNTERS 96
#define IP6T_TARGET_OFFSET 140
#define IP6T_COUNTERS 152

/* kernel/bpf: include/linux/bpf.h */
struct bpf_array {
	void *pptrs[0];
} CORE;

/* include/net/netfilter/nf_tables.h; blobs since 5.17 */
struct nft_table {
	char *name;
	u64 handle;
	u16 family; /* 6 bits, with flags above them */
} CORE;

#define NFT_FAMILY_MASK 0x3f

struct nft_rule_blob {
	unsigned long size;
	unsigned char data[0];
} CORE;

struct nft_chain {
	struct nft_rule_blob *blob_gen_0;
	struct nft_rule_blob *blob_gen_1;
	struct nft_table *table;
	u64 handle;
	char *name;
} CORE;

struct nft_verdict {
	u32 code;
	struct nft_chain *chain;
} CORE;

struct nft_regs {
	struct nft_verdict verdict;
} CORE;

struct nft_expr_ops {
	unsigned int size;
} CORE;

struct nft_expr {
	const struct nft_expr_ops *ops;
} CORE;

/*
 * struct nft_rule_dp, the head of each rule in a blob: is_last:1, dlen:12,
 * handle:42, then dlen bytes of expressions (5.17 to 7.x).
 */
#define NFT_RULE_IS_LAST(h) ((h) & 1)
#define NFT_RULE_DLEN(h) (((h) >> 1) & 0xfff)
#define NFT_RULE_HANDLE(h) (((h) >> 13) & ((1ULL << 42) - 1))

/* include/uapi/linux/netfilter/nf_tables.h: enum nft_verdicts */
#define NFT_CONTINUE ((u32)-1)
#define NFT_BREAK ((u32)-2)
#define NFT_JUMP ((u32)-3)
#define NFT_GOTO ((u32)-4)

/* struct nft_regs: the data registers follow the verdict (NFT_REG32_00 is 4) */
#define NFT_REG32_OFFSET 16

struct nft_pktinfo {
	struct sk_buff *skb;
	const struct nf_hook_state *state;
} CORE;

/* include/net/netfilter/nf_conntrack_tuple.h; the layout of a tuple is flat
 * and the same on 5.10 to 7.3: source address, port, l3num, destination
 * address, port, protocol, direction.
 */
struct nf_conntrack_tuple {
	u32 src_u3[4];
	u16 src_u;
	u16 src_l3num;
	u32 dst_u3[4];
	u16 dst_u;
	u8 dst_protonum;
	u8 dst_dir;
};

struct nf_conntrack_tuple_hash {
	struct nf_conntrack_tuple tuple;
} CORE;

/* include/net/netfilter/nf_conntrack.h */
struct nf_conn {
	struct nf_conntrack_tuple_hash tuplehash[2];
	unsigned long status;
} CORE;

/* include/linux/module.h */
struct module {
	char name[56];
} CORE;

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86DD
#define ETH_P_8021Q 0x8100
#define ETH_P_8021AD 0x88A8

#define ETH_P_TEB 0x6558

#define IPPROTO_HOPOPTS 0
#define IPPROTO_ICMP 1
#define IPPROTO_IPIP 4
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_IPV6 41
#define IPPROTO_ROUTING 43
#define IPPROTO_FRAGMENT 44
#define IPPROTO_GRE 47
#define IPPROTO_ICMPV6 58
#define IPPROTO_DSTOPTS 60
#define IPPROTO_SCTP 132

#endif
