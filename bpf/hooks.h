/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * hooks.h - what each hook does, written once for every backend.
 *
 * on_*() is the body of a hook; fentry.bpf.c and tracepoint.bpf.c bind bodies
 * to attach points. Entry points (transmit, receive, drop; for what this host
 * sends also OUTPUT and neighbour resolution) match every packet;
 * all other bodies return at once while nothing of the flow is in flight.
 */
#ifndef PATHTRACE_HOOKS_H
#define PATHTRACE_HOOKS_H

#include "frame.h"
#include "rules_legacy.h"
#include "rules_nft.h"

static __always_inline u32 netns_of(struct net_device *dev)
{
	return dev ? BPF_CORE_READ(dev, nd_net.net, ns.inum) : 0;
}

/* A failed reserve is counted, and the packet bears the mark from then on. */
static __always_inline void lost(struct tracked *t)
{
	__sync_fetch_and_add(&stats.lost_events, 1);
	t->flags |= TRACKED_LOST;
}

/*
 * Fills what all events share, but for kind and function. dev is an address,
 * since a global function takes no kernel pointers.
 */
SUBPROG int describe(struct event *e, struct tracked *t, const struct pkt *p,
		     u64 dev_addr)
{
	struct sk_buff *skb;
	struct net_device *dev = (void *)dev_addr;
	u64 nfct;

	if (!e || !t || !p)
		return 0;
	skb = (void *)t->skb;
	e->ts = bpf_ktime_get_ns();
	e->id = t->id;
	e->skb = t->skb;
	e->netns = netns_of(dev);
	e->ifindex = dev ? BPF_CORE_READ(dev, ifindex) : 0;
	__builtin_memset(e->ifname, 0, sizeof(e->ifname));
	if (dev)
		bpf_probe_read_kernel_str(e->ifname, sizeof(e->ifname), dev->name);
	e->len = BPF_CORE_READ(skb, len);
	e->mark = BPF_CORE_READ(skb, mark);
	e->seq = p->seq;
	e->ack = p->ack;
	e->l3len = p->l3.len;
	e->result = 0;
	e->cpu = bpf_get_smp_processor_id();
	e->ipid = p->l3.ipid;
	e->dir = t->dir;
	e->flags = (t->flags & TRACKED_TENTATIVE ? FLAG_TENTATIVE : 0) |
		   (p->encap ? FLAG_ENCAP : 0) | (p->l3.frag ? FLAG_FRAGMENT : 0) |
		   (p->icmp_error ? FLAG_ICMP_ERROR : 0) |
		   (t->flags & TRACKED_LOST ? FLAG_LOST : 0);
	if (!t->started) {
		e->flags |= t->flags & TRACKED_COPY ? FLAG_COPY : FLAG_NEW;
		if (t->flags & TRACKED_ORIGIN)
			e->flags |= FLAG_ORIGIN;
		t->started = 1;
	}
	e->hook = t->hook;
	e->pf = t->pf;
	nfct = BPF_CORE_READ(skb, _nfct);
	e->ct = nfct ? (nfct & NFCT_INFOMASK) + 1 : 0;
	e->index = t->index;
	e->ttl = p->l3.ttl;
	e->tcp_flags = p->tcp_flags;
	e->icmp_type = p->icmp_type;
	e->icmp_code = p->icmp_code;
	__builtin_memset(e->pad, 0, sizeof(e->pad));
	e->frame = snaplen ? send_frame(t->skb, p->nh) : 0;
	e->t = t->t;
	e->tun = p->tun;
	return 0;
}

static __always_inline void fill(struct event *e, struct tracked *t,
				 const struct pkt *p, struct net_device *dev,
				 u8 kind, u8 fn)
{
	describe(e, t, p, (u64)dev);
	e->kind = kind;
	e->fn = fn;
}

/* An event that says no more than struct event does. */
static __always_inline int emit(struct tracked *t, const struct pkt *p,
				struct net_device *dev, u8 kind, u8 fn,
				s32 result)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		lost(t);
		return 0;
	}
	fill(e, t, p, dev, kind, fn);
	e->result = result;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

static __always_inline void set_current(struct sk_buff *skb, struct tracked *t)
{
	u32 zero = 0;
	struct current *c = bpf_map_lookup_elem(&currents, &zero);

	if (!c || t->t.family != 4)
		return;
	c->skb = (u64)skb;
	c->saddr = t->t.saddr[0];
	c->daddr = t->t.daddr[0];
}

/* Does a packet that enters here come from outside what we can see? */
static __always_inline int from_outside(struct net_device *dev)
{
	u32 ifindex = BPF_CORE_READ(dev, ifindex);

	for (u32 i = 0; i < MAX_UPLINKS; i++) {
		if (i >= cfg.n_uplinks)
			return 0;
		if (cfg.uplinks[i] == ifindex)
			return netns_of(dev) == cfg.node_netns;
	}
	return 0;
}

static __always_inline void tuple_of_ct(struct tuple *t,
					const struct nf_conntrack_tuple *c)
{
	__builtin_memset(t, 0, sizeof(*t));
	t->family = c->src_l3num == PF_INET ? 4 : 6;
	t->proto = c->dst_protonum;
	__builtin_memcpy(t->saddr, c->src_u3, 16);
	__builtin_memcpy(t->daddr, c->dst_u3, 16);
	if (has_ports(t->proto)) {
		t->sport = bpf_ntohs(c->src_u);
		t->dport = bpf_ntohs(c->dst_u);
	} else {
		t->sport = bpf_ntohs(c->src_u);
		t->dport = t->sport;
	}
}

/*
 * The direction of a packet by its conntrack entry: either of the entry's
 * address pairs, or client and real backend, being the two ends.
 */
SUBPROG int dir_of_ct(const struct tuple *orig, const struct tuple *reply,
		      u32 ctinfo)
{
	struct tuple real;
	int dir;

	if (!orig || !reply)
		return DIR_NONE;
	dir = dir_of(orig, ends_of(orig), 0);
	if (!dir) {
		reverse(&real, reply);
		dir = dir_of(&real, ends_of(&real), 0);
	}
	if (!dir) {
		/* the client as it is, the backend as it is */
		real = *orig;
		__builtin_memcpy(real.daddr, reply->saddr, 16);
		real.dport = reply->sport;
		dir = dir_of(&real, ends_of(&real), 0);
	}
	if (!dir)
		return DIR_NONE;
	if (ctinfo >= 3) /* IP_CT_IS_REPLY */
		dir = dir == DIR_FORWARD ? DIR_RETURN : DIR_FORWARD;
	return dir;
}

/* The same from skb->_nfct; DIR_NONE without an entry. */
SUBPROG int dir_of_nfct(u64 nfct)
{
	struct nf_conntrack_tuple c = {};
	struct tuple orig, reply;
	struct nf_conn *ct = (void *)(nfct & NFCT_PTRMASK);

	if (!ct)
		return DIR_NONE;
	bpf_probe_read_kernel(&c, sizeof(c), &ct->tuplehash[0].tuple);
	tuple_of_ct(&orig, &c);
	bpf_probe_read_kernel(&c, sizeof(c), &ct->tuplehash[1].tuple);
	tuple_of_ct(&reply, &c);
	return dir_of_ct(&orig, &reply, nfct & NFCT_INFOMASK);
}

/*
 * Entry point: matches the packet at nh and gives its entry, new or known.
 * origin: 1 packets begin here, 0 they may have been seen before.
 */
static __always_inline struct tracked *enter(struct sk_buff *skb, u64 nh,
					     struct net_device *dev,
					     struct pkt *p, int origin)
{
	u32 tentative = 0;
	u64 key = (u64)skb, head = (u64)BPF_CORE_READ(skb, head);
	struct tracked *t = 0;
	int dir;

	if (!armed)
		return 0;
	dir = match(nh, p, &tentative);
	if (in_flight)
		t = bpf_map_lookup_elem(&skbs, &key);
	if (t) {
		/* equal bytes again where packets begin: sent again */
		int again = origin && ((t->flags & TRACKED_DELIVERED) ||
				       (t->sent && t->first_netns == netns_of(dev) &&
					t->first_ifindex == BPF_CORE_READ(dev, ifindex)));
		int known = same_packet(t, p) && !again;

		if (known && (dir || !same_tuple(&t->t, &p->l3.t))) {
			/* NAT may have taken it out of what matches by itself */
			refresh(t, p);
			if (dir && !tentative &&
			    (t->flags & (TRACKED_TENTATIVE | TRACKED_LEARNED)))
				settle(t, dir);
			if (t->head != head) {
				t->head = head;
				remember_head(t, t->last);
			}
			return t;
		}
		if (!known)
			__sync_fetch_and_add(&stats.stale, 1);
		forget(key, t);
	}
	if (!dir)
		return 0;
	/*
	 * Known only by what NAT made of the flow once, and not seen before: where
	 * packets begin that is good; midway it came by without matching, so
	 * only its conntrack entry can say that it is ours.
	 */
	if (tentative == MATCH_LEARNED && !origin) {
		dir = dir_of_nfct(BPF_CORE_READ(skb, _nfct));
		if (!dir)
			return 0;
		tentative = 0;
	}
	return track(key, head, p, dir, tentative, origin, netns_of(dev),
		     dev ? BPF_CORE_READ(dev, ifindex) : 0);
}

/* skb->protocol is one that may carry IP */
static __always_inline int may_be_ip(u16 proto)
{
	return proto == bpf_htons(ETH_P_IP) || proto == bpf_htons(ETH_P_IPV6) ||
	       proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD);
}

/*
 * Lets traffic of others go after one look at its header. A packet that is known
 * is none of them, whatever NAT has made of it.
 */
static __always_inline int foreign(struct sk_buff *skb, u64 nh)
{
	struct glance g;
	u64 key = (u64)skb;

	if (skb->protocol != bpf_htons(ETH_P_IP) ||
	    bpf_probe_read_kernel(&g, sizeof(g), (void *)nh) || !of_others(&g))
		return 0;
	return !in_flight || !bpf_map_lookup_elem(&skbs, &key);
}

static __always_inline int on_transmit(struct sk_buff *skb,
				       struct net_device *dev, u8 fn)
{
	u64 nh = network_header(skb);
	struct tracked *t;
	struct pkt p;
	int origin;

	if (!may_be_ip(skb->protocol) || foreign(skb, nh))
		return 0;
	__builtin_memset(&p, 0, sizeof(p));
	origin = BPF_CORE_READ(skb, skb_iif) == 0;
	t = enter(skb, nh, dev, &p, origin && !p.encap);
	if (!t)
		return 0;
	t->hook = 0;
	t->index = 0;
	t->chain = 0;
	t->sent = 1;
	return emit(t, &p, BPF_CORE_READ(skb, dev), KIND_TRANSMIT, fn, 0);
}

static __always_inline int on_receive(struct sk_buff *skb, u8 fn)
{
	/* as plain numbers, which global functions take */
	struct net_device *dev = BPF_CORE_READ(skb, dev);
	u64 nh = (u64)BPF_CORE_READ(skb, data);
	u16 proto = skb->protocol;
	struct tracked *t;
	struct pkt p;

	if (!may_be_ip(proto) || foreign(skb, nh))
		return 0;
	__builtin_memset(&p, 0, sizeof(p));
	if (proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD))
		nh += 4; /* tag still in the data */
	t = enter(skb, nh, dev, &p, from_outside(dev));
	if (!t)
		return 0;
	t->hook = 0;
	t->index = 0;
	t->chain = 0;
	set_current(skb, t);
	return emit(t, &p, dev, KIND_RECEIVE, fn, 0);
}

/* What the route decided so far says, from the skb's dst. */
static __always_inline void read_dst(struct sk_buff *skb, u8 family, u32 *oif,
				     s32 *error, u8 *type,
				     struct net_device **dev)
{
	struct dst_entry *dst =
		(void *)(BPF_CORE_READ(skb, _skb_refdst) & ~SKB_DST_NOREF);

	*oif = 0;
	*error = 0;
	*type = 0;
	*dev = 0;
	if (!dst)
		return;
	*dev = BPF_CORE_READ(dst, dev);
	*error = BPF_CORE_READ(dst, error);
	if (*dev)
		*oif = BPF_CORE_READ(*dev, ifindex);
	if (family == 4)
		*type = BPF_CORE_READ((struct rtable *)dst, rt_type);
	else if (BPF_CORE_READ((struct rt6_info *)dst, rt6i_flags) & RTF_LOCAL)
		*type = 2; /* RTN_LOCAL */
	else
		*type = 1; /* RTN_UNICAST */
}

/* nft_do_chain() is freeing a packet: the rules that brought it there. */
static __always_inline void tell_walk(struct tracked *t, const struct pkt *p,
				      struct net_device *dev)
{
	struct event_table *ev = walked(t->skb);

	if (!ev)
		return;
	fill(&ev->e, t, p, dev, KIND_TABLE, FN_nft_do_chain);
	if (!ev->e.netns)
		ev->e.netns = t->nf_netns;
	ev->e.result = 0; /* NF_DROP */
	send_table(ev, t);
}

/*
 * A packet is through with the table it was in, or died there: where there is no
 * fexit to tell (rules_bracket.h).
 */
static __always_inline void end_rules(struct tracked *t, const struct pkt *p,
				      struct net_device *dev, u32 verdict)
{
	u32 cpu = bpf_get_smp_processor_id();
	struct rules_cpu *c = bpf_map_lookup_elem(&rules_cpus, &cpu);
	struct traversal *v = 0, *below;
	struct xt_table *table;
	u32 depth;

	if (!c || !c->depth || c->busy)
		return;
	depth = c->depth;
	for (u32 i = 0; i < MAX_NESTING && depth; i++) {
		depth--;
		v = traversal_at(cpu, depth);
		if (!v || v->skb == t->skb)
			break;
		v = 0;
	}
	if (!v)
		return;
	c->busy = 1;
	if (depth + 1 != c->depth)
		v->ev.rules |= RULES_MIXED; /* what ran in between has no end */
	close_segment(v, cpu);
	table = (void *)v->table;
	if (generation_of((u64)table) != v->ev.generation ||
	    (have_x_tables() && (u64)BPF_CORE_READ(table, private) != v->ev.content))
		v->ev.rules |= RULES_REPLACED;
	c->depth = depth;
	if (depth) {
		below = traversal_at(cpu, depth - 1);
		if (below && !(below->ev.rules & ~RULES_SEEN))
			open_segment(below, cpu);
	}
	c->busy = 0;
	fill(&v->ev.e, t, p, dev, KIND_TABLE, FN_nf_hook_run_bpf);
	if (!v->ev.e.netns)
		v->ev.e.netns = t->nf_netns;
	v->ev.e.result = verdict;
	send_table(&v->ev, t);
}

static __always_inline int on_drop(void *ctx, struct sk_buff *skb, u64 location,
				   u32 reason, u8 fn)
{
	struct net_device *dev, *out;
	struct event_drop *e;
	struct pkt p = {};
	struct tracked *t;
	u64 key = (u64)skb;

	if (!may_be_ip(skb->protocol))
		return 0;
	/* in a UDP socket's queue the member holds something else (dev_scratch) */
	dev = BPF_CORE_READ(skb, dev);
	if (dev && !netns_of(dev))
		dev = 0;
	t = 0;
	if (in_flight)
		t = bpf_map_lookup_elem(&skbs, &key);
	/*
	 * While headers are pushed or pulled the network header may be off:
	 * a known skb is believed then, an unknown one is not ours.
	 */
	if (t && !parse_l3(network_header(skb), &p.l3)) {
		p.l3.t = t->t;
		p.sig = t->sig;
	} else {
		t = enter(skb, network_header(skb), dev, &p, 0);
		if (!t)
			return 0;
	}
	if (t->chain)
		tell_walk(t, &p, dev);
	if (links_tell_rules)
		end_rules(t, &p, dev, 0);
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		lost(t);
		if (t->chain)
			end_walk(key);
		forget(key, t);
		return 0;
	}
	read_dst(skb, t->t.family, &e->dst_oif, &e->dst_error, &e->dst_type, &out);
	/* the device is often cleared by now: the route knows it */
	fill(&e->e, t, &p, dev ? dev : out, KIND_DROP, fn);
	e->location = location;
	e->reason = reason;
	__builtin_memset(e->stack, 0, sizeof(e->stack));
	bpf_get_stack(ctx, e->stack, sizeof(e->stack), 0);
	__builtin_memset(e->table, 0, sizeof(e->table));
	__builtin_memset(e->chain, 0, sizeof(e->chain));
	e->family = 0;
	/*
	 * No type of nf_tables here: this runs on kernels without that module,
	 * where a relocation to it would keep every backend from loading.
	 */
	if (t->chain) {
		bpf_probe_read_kernel_str(e->chain, sizeof(e->chain), (void *)t->chain);
		bpf_probe_read_kernel_str(e->table, sizeof(e->table), (void *)t->chain_table);
		e->family = t->chain_family;
	}
	if (!e->e.netns && t->hook)
		e->e.netns = t->nf_netns;
	__builtin_memset(e->pad, 0, sizeof(e->pad));
	bpf_ringbuf_submit(e, 0);
	if (t->chain)
		end_walk(key);
	forget(key, t);
	return 0;
}

static __always_inline int on_end(struct sk_buff *skb, u8 fn)
{
	struct tracked *t;
	struct pkt p = {};
	u64 key = (u64)skb;

	if (!in_flight)
		return 0;
	t = bpf_map_lookup_elem(&skbs, &key);
	if (!t)
		return 0;
	/*
	 * Freed unseen before, and another packet's now? The allocator hands out
	 * the same skb with the same buffer again, so neither address tells.
	 */
	if (!may_be_ip(skb->protocol) ||
	    !recheck(t, &p, network_header(skb))) {
		__sync_fetch_and_add(&stats.stale, 1);
		forget(key, t);
		return 0;
	}
	p.l3.t = t->t; /* the headers may be gone: the entry knows */
	p.nh = 0;
	emit(t, &p, BPF_CORE_READ(skb, dev), KIND_END, fn, 0);
	if (t->chain)
		end_walk(key);
	forget(key, t);
	return 0;
}

/* Hooks that only say "it was here". */
static __always_inline int on_sight(struct sk_buff *skb, struct net_device *dev,
				    u8 kind, u8 fn, s32 result)
{
	struct pkt p = {};
	struct tracked *t = seen(skb, &p);

	if (!t)
		return 0;
	return emit(t, &p, dev ? dev : BPF_CORE_READ(skb, dev), kind, fn,
		    result);
}

static __always_inline void delivered(struct tracked *t)
{
	t->flags |= TRACKED_DELIVERED;
	end_head(t->head, t->id);
}

/* The skb reached its receiver; deliveries of a tunnel's outer packet do not count. */
static __always_inline int on_deliver(struct sk_buff *skb,
				      struct net_device *dev, u8 fn)
{
	struct pkt p = {};
	struct tracked *t = seen(skb, &p);

	if (!t || p.encap)
		return 0;
	delivered(t);
	return emit(t, &p, dev ? dev : BPF_CORE_READ(skb, dev),
		    KIND_DELIVER, fn, 0);
}

/* The receive function has returned and kept the skb: nothing more will be said. */
static __always_inline int on_delivered(struct sk_buff *skb)
{
	struct tracked *t;
	u64 key = (u64)skb;

	if (!in_flight)
		return 0;
	t = bpf_map_lookup_elem(&skbs, &key);
	if (t && (t->flags & TRACKED_DELIVERED))
		forget(key, t);
	return 0;
}

static __always_inline struct net_device *hook_dev(const struct nf_hook_state *st)
{
	struct net_device *in = BPF_CORE_READ(st, in);
	struct net_device *out = BPF_CORE_READ(st, out);
	u8 hook = BPF_CORE_READ(st, hook);

	if (hook == NF_INET_POST_ROUTING || hook == NF_INET_LOCAL_OUT)
		return out ? out : in;
	return in ? in : out;
}

/* Notes in the entry which hook the packet is in. */
static __always_inline void enter_hook(struct tracked *t,
				       const struct nf_hook_state *st)
{
	t->hook = BPF_CORE_READ(st, hook) + 1;
	t->pf = BPF_CORE_READ(st, pf);
	t->nf_netns = BPF_CORE_READ(st, net, ns.inum);
}

/*
 * local_out: local output begins here, which makes this hook an entry point
 * (transmit comes after OUTPUT's rules).
 */
static __always_inline int on_hook_enter(struct sk_buff *skb,
					 const struct nf_hook_state *st,
					 int local_out)
{
	struct tracked *t;
	struct pkt p = {};

	if (local_out)
		t = enter(skb, network_header(skb), hook_dev(st), &p, 1);
	else
		t = seen(skb, &p);
	if (t)
		enter_hook(t, st);
	return 0;
}

/* nf_hook_slow() returned: 1 goes on, 0 taken by a target, negative dropped. */
static __always_inline int on_hook_exit(struct sk_buff *skb,
					const struct nf_hook_state *st, s32 ret,
					u8 fn)
{
	struct pkt p = {};
	struct tracked *t = seen(skb, &p);
	int r;

	if (!t)
		return 0;
	enter_hook(t, st);
	r = emit(t, &p, hook_dev(st), KIND_HOOK, fn, ret);
	t->hook = 0;
	t->index = 0;
	return r;
}

/* Tells a table's verdict, with the rules that matched where they were seen. */
static __always_inline int tell_table(struct tracked *t, const struct pkt *p,
				      struct net_device *dev, struct event_table *ev,
				      u32 verdict, u8 fn)
{
	fill(&ev->e, t, p, dev, KIND_TABLE, fn);
	ev->e.result = verdict;
	return send_table(ev, t);
}

/* The same without rules. */
static __always_inline int tell_table_only(struct tracked *t, const struct pkt *p,
					   struct net_device *dev, u64 table, u64 chain,
					   u8 family, u32 verdict, u8 fn)
{
	struct event_table *e = bpf_ringbuf_reserve(&events, TABLE_HEAD, 0);

	if (!e) {
		lost(t);
		return 0;
	}
	__builtin_memset(&e->table, 0, TABLE_HEAD - sizeof(e->e));
	fill(&e->e, t, p, dev, KIND_TABLE, fn);
	e->e.result = verdict;
	bpf_probe_read_kernel_str(e->table, sizeof(e->table), (void *)table);
	if (chain)
		bpf_probe_read_kernel_str(e->chain, sizeof(e->chain), (void *)chain);
	e->family = family;
	e->rules = RULES_LATE;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

static __always_inline int on_table(struct sk_buff *skb, struct xt_table *table,
				    const struct nf_hook_state *st, u32 verdict,
				    u8 fn)
{
	struct traversal *v = on_rules_exit(skb, table);
	struct pkt p = {};
	struct tracked *t = seen(skb, &p);

	if (!t)
		return 0;
	enter_hook(t, st);
	if (!v)
		return tell_table_only(t, &p, hook_dev(st), (u64)table->name, 0, 0, verdict, fn);
	bpf_probe_read_kernel_str(v->ev.table, sizeof(v->ev.table), table->name);
	return tell_table(t, &p, hook_dev(st), &v->ev, verdict, fn);
}

/* nft frees what it drops inside nft_do_chain(): on_drop reads .chain. */
static __always_inline int on_chain_enter(struct nft_pktinfo *pkt,
					  struct nft_chain *chain)
{
	struct tracked *t;
	struct pkt p = {};

	if (!in_flight)
		return 0;
	t = seen(BPF_CORE_READ(pkt, skb), &p);
	if (!t)
		return 0;
	t->chain = (u64)BPF_CORE_READ(chain, name);
	t->chain_table = (u64)BPF_CORE_READ(chain, table, name);
	t->chain_family = BPF_CORE_READ(chain, table, family) & NFT_FAMILY_MASK;
	enter_hook(t, BPF_CORE_READ(pkt, state));
	begin_walk(t->skb, chain);
	return 0;
}

static __always_inline int on_chain_exit(struct nft_pktinfo *pkt,
					 struct nft_chain *chain, u32 verdict,
					 u8 fn)
{
	struct net_device *dev;
	struct event_table *ev;
	struct sk_buff *skb;
	struct pkt p = {};
	struct tracked *t;

	if (!in_flight)
		return 0;
	skb = BPF_CORE_READ(pkt, skb);
	t = seen(skb, &p);
	if (!t)
		return 0; /* dropped by it: the walk has ended with the packet */
	t->chain = 0;
	dev = hook_dev(BPF_CORE_READ(pkt, state));
	ev = walked((u64)skb);
	if (!ev)
		return tell_table_only(t, &p, dev, (u64)BPF_CORE_READ(chain, table, name),
				       (u64)BPF_CORE_READ(chain, name),
				       BPF_CORE_READ(chain, table, family) & NFT_FAMILY_MASK,
				       verdict, fn);
	tell_table(t, &p, dev, ev, verdict, fn);
	end_walk((u64)skb);
	return 0;
}

/* Settles a packet by its conntrack entry. */
static __always_inline void settle_by_ct(struct tracked *t, u32 ctinfo,
					 const struct tuple *orig,
					 const struct tuple *reply)
{
	int dir = dir_of_ct(orig, reply, ctinfo);

	if (dir)
		settle(t, dir);
}

/* Tells the conntrack entry of a packet at hand. */
static __always_inline int tell_conntrack(struct tracked *t, struct pkt *p,
					  struct sk_buff *skb,
					  const struct nf_hook_state *st, u8 fn)
{
	struct nf_conntrack_tuple c = {};
	struct event_ct *e;
	struct nf_conn *ct;
	u64 nfct;

	if (st)
		enter_hook(t, st);
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		lost(t);
		return 0;
	}
	__builtin_memset(&e->orig, 0, sizeof(e->orig));
	__builtin_memset(&e->reply, 0, sizeof(e->reply));
	e->status = 0;
	nfct = BPF_CORE_READ(skb, _nfct);
	ct = (void *)(nfct & NFCT_PTRMASK);
	if (ct) {
		bpf_probe_read_kernel(&c, sizeof(c), &ct->tuplehash[0].tuple);
		tuple_of_ct(&e->orig, &c);
		bpf_probe_read_kernel(&c, sizeof(c), &ct->tuplehash[1].tuple);
		tuple_of_ct(&e->reply, &c);
		e->status = BPF_CORE_READ(ct, status);
		if (t->flags & (TRACKED_TENTATIVE | TRACKED_LEARNED))
			settle_by_ct(t, nfct & NFCT_INFOMASK, &e->orig, &e->reply);
	}
	fill(&e->e, t, p, st ? hook_dev(st) : BPF_CORE_READ(skb, dev),
	     KIND_CONNTRACK, fn);
	bpf_ringbuf_submit(e, 0);
	return 0;
}

static __always_inline int on_conntrack(struct sk_buff *skb,
					const struct nf_hook_state *st, u8 fn)
{
	struct pkt p = {};
	struct tracked *t = seen(skb, &p);

	return t ? tell_conntrack(t, &p, skb, st, fn) : 0;
}

/* Tells the route that a packet at hand was given. */
static __always_inline int tell_route(struct tracked *t, struct pkt *p,
				      struct sk_buff *skb, s32 ret, u8 fn)
{
	struct event_route *e;
	struct net_device *out;
	struct dst_entry *dst;

	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		lost(t);
		return 0;
	}
	fill(&e->e, t, p, BPF_CORE_READ(skb, dev), KIND_ROUTE, fn);
	e->e.result = ret;
	e->table = 0;
	e->gw_family = 0;
	__builtin_memset(e->gw, 0, sizeof(e->gw));
	__builtin_memset(e->oifname, 0, sizeof(e->oifname));
	__builtin_memset(e->pad, 0, sizeof(e->pad));
	read_dst(skb, t->t.family, &e->oif, &e->error, &e->type, &out);
	if (out)
		bpf_probe_read_kernel_str(e->oifname, sizeof(e->oifname), out->name);
	dst = (void *)(BPF_CORE_READ(skb, _skb_refdst) & ~SKB_DST_NOREF);
	if (dst && t->t.family == 4) {
		e->gw_family = BPF_CORE_READ((struct rtable *)dst, rt_gw_family);
		if (e->gw_family == PF_INET)
			e->gw[0] = BPF_CORE_READ((struct rtable *)dst, rt_gw4);
		else
			e->gw_family = 0;
	} else if (dst) {
		struct rt6_info *rt = (void *)dst;

		if (BPF_CORE_READ(rt, rt6i_flags) & RTF_GATEWAY) {
			e->gw_family = PF_INET6;
			BPF_CORE_READ_INTO(&e->gw, rt, rt6i_gateway.in6_u.u6_addr32);
		}
	}
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/* An input route was looked up: ret is the function's own result. */
static __always_inline int on_route(struct sk_buff *skb, s32 ret, u8 fn)
{
	struct pkt p = {};
	struct tracked *t = seen(skb, &p);

	return t ? tell_route(t, &p, skb, ret, fn) : 0;
}

/*
 * One routing table was asked. No skb is at hand: it is the one this CPU
 * received last if the addresses asked for are its own.
 */
static __always_inline int on_fib_lookup(u32 table, const struct flowi4 *flp,
					 const struct fib_nh_common *nhc,
					 s32 err, u8 fn)
{
	struct event_route *e;
	struct net_device *out;
	struct current *c;
	struct tracked *t;
	struct pkt p = {};
	u32 zero = 0;
	u64 key;

	if (!in_flight)
		return 0;
	c = bpf_map_lookup_elem(&currents, &zero);
	if (!c || !c->skb || BPF_CORE_READ(flp, daddr) != c->daddr ||
	    BPF_CORE_READ(flp, saddr) != c->saddr)
		return 0;
	key = c->skb;
	t = bpf_map_lookup_elem(&skbs, &key);
	if (!t || t->t.family != 4 || t->t.saddr[0] != c->saddr)
		return 0;
	/* rewritten since (DNAT): the lookup is for what it is now */
	if (!BPF_CORE_READ(flp, __fl_common.flowic_iif))
		return 0;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		lost(t);
		return 0;
	}
	p.l3.t = t->t;
	fill(&e->e, t, &p, BPF_CORE_READ((struct sk_buff *)key, dev),
	     KIND_FIB, fn);
	e->table = table;
	e->error = err;
	e->type = 0;
	e->gw_family = 0;
	e->oif = 0;
	__builtin_memset(e->gw, 0, sizeof(e->gw));
	__builtin_memset(e->oifname, 0, sizeof(e->oifname));
	__builtin_memset(e->pad, 0, sizeof(e->pad));
	if (nhc) {
		out = BPF_CORE_READ(nhc, nhc_dev);
		if (out) {
			e->oif = BPF_CORE_READ(out, ifindex);
			bpf_probe_read_kernel_str(e->oifname, sizeof(e->oifname),
						  out->name);
		}
		if (BPF_CORE_READ(nhc, nhc_gw_family) == PF_INET) {
			e->gw_family = PF_INET;
			e->gw[0] = BPF_CORE_READ(nhc, nhc_gw.ipv4);
		}
	}
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/*
 * The next hop's address has to be asked for, or checked. What this host sends
 * itself may be seen here first, and wait here for seconds: an entry point.
 */
static __always_inline int on_neigh(struct sk_buff *skb, struct neighbour *n,
				    u8 fn)
{
	int origin = skb->skb_iif == 0;
	struct event_neigh *e;
	struct pkt p = {};
	struct tracked *t;

	if (!in_flight && (!origin || !may_enter_by(n->dev)))
		return 0;
	if (origin)
		t = enter(skb, network_header(skb), BPF_CORE_READ(n, dev), &p, 1);
	else
		t = seen(skb, &p);
	if (!t)
		return 0;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		lost(t);
		return 0;
	}
	fill(&e->e, t, &p, BPF_CORE_READ(n, dev), KIND_NEIGH, fn);
	e->state = BPF_CORE_READ(n, nud_state);
	e->family = t->t.family;
	bpf_probe_read_kernel(e->ha, sizeof(e->ha), n->ha);
	__builtin_memset(e->addr, 0, sizeof(e->addr));
	if (e->family == 4)
		bpf_probe_read_kernel(e->addr, 4, n->primary_key);
	else
		bpf_probe_read_kernel(e->addr, 16, n->primary_key);
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/* A kernel module arrived: hooks in it may now be attached. */
static __always_inline int on_module(struct module *m)
{
	struct event_module *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		__sync_fetch_and_add(&stats.lost_events, 1);
		return 0;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->e.kind = KIND_MODULE;
	e->e.ts = bpf_ktime_get_ns();
	bpf_probe_read_kernel_str(e->name, sizeof(e->name), m->name);
	bpf_ringbuf_submit(e, 0);
	return 0;
}

#endif
