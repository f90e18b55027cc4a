/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * frame.h - the packet's bytes as they are at a hop, for captures.
 *
 * Bytes go up in a record of their own, struct frame, whose number the event
 * bears: linear part, page fragments and the list of further skbs, from the
 * link-layer header on where the skb has one, up to `snaplen`. User space puts
 * the two together (tracer/journey/frames.go). While snaplen is 0 the verifier knows
 * all of this for dead code.
 *
 * Helpers that read fragments are either not for these programs
 * (bpf_skb_load_bytes), only for some of them and only on newer kernels
 * (bpf_dynptr_from_skb: tp_btf since 6.12), or write to another buffer than
 * ours (bpf_skb_output). So fragments are read where the kernel has all memory
 * mapped: page_address() is computed from one page whose address is known
 * (find_memory). Where none is, what is captured ends with the linear part.
 */
#ifndef PATHTRACE_FRAME_H
#define PATHTRACE_FRAME_H

#include "flow.h"

/* include/linux/skbuff.h: since Linux 6.9; what it refers to may be no page */
struct skb_frag {
	unsigned long netmem;
	unsigned int len;
	unsigned int offset;
} CORE;

#define NET_IOV 1UL /* include/net/netmem.h: memory of a device */

/* include/linux/bvec.h: what a fragment was before */
struct bio_vec {
	struct page *bv_page;
	unsigned int bv_len;
	unsigned int bv_offset;
} CORE;

/* include/linux/skbuff.h */
struct skb_shared_info {
	u8 nr_frags;
	u16 gso_size;
	struct sk_buff *frag_list;
	struct skb_frag frags[0];
} CORE;

/* struct sk_buff before Linux 6.2: what vlan_proto alone says since */
struct sk_buff___before62 {
	u8 vlan_present : 1;
} CORE;

/* include/linux/mm_types.h: page tables had no type of their own before 6.6 */
struct mm_struct {
	void *pgd;
} CORE;

struct page {
	struct mm_struct *pt_mm;
} CORE;

struct ptdesc {
	struct mm_struct *pt_mm;
} CORE;

/* include/linux/sched.h */
struct task_struct {
	struct mm_struct *mm;
} CORE;

/* kernel/bpf/ringbuf.c */
struct bpf_ringbuf {
	struct page **pages;
	unsigned long consumer_pos;
} CORE;

struct bpf_ringbuf_map {
	struct bpf_ringbuf *rb;
} CORE;

#define SNAP_MAX 65535
#define PAGE_BYTES 4096 /* x86-64 */
#define MAX_LINK 64 /* bytes of link-layer header, tags included */
#define NO_HEADER 0xffff /* include/linux/skbuff.h: skb_mac_header_was_set() */

/* Set by the loader: bytes wanted of each packet at each hop, 0: none. */
const volatile u32 snaplen = 0;

u32 next_frame = 0;

/* A page and the address it is mapped at: see find_memory(). 0: not known. */
u64 known_page = 0;
u64 known_address = 0;

/* The record that holds a packet's bytes; they follow it. */
struct frame {
	u64 none; /* 0, where an event has its time */
	u32 number; /* event.frame */
	u32 length; /* of the whole, link-layer header included, bytes */
	u32 link; /* of that header; 0: there is none */
	u16 vlan_proto; /* network order: the tag that is not in the bytes; 0: none */
	u16 vlan_tci;
	u64 pad;
};

EXPORT(struct, frame);

#define CHUNK 4096 /* copied at once, at most */

/* Where a frame is put together, and how far that has come. */
struct frame_buffer {
	u32 busy;
	u32 got; /* bytes in .data */
	u32 want;
	u32 left; /* of the piece at hand */
	u64 address;
	u64 frag; /* address of the next fragment */
	u64 list; /* next skb of the list of fragments */
	u32 frags; /* left in the skb at hand */
	u32 pad;
	struct frame f;
	u8 data[SNAP_MAX + 1 + CHUNK];
};

/* Of each CPU: a softirq may come in the middle of a process's packet, and that
 * process may be preempted. The loader makes room for them, if bytes are wanted.
 */
#define FRAME_BUFFERS 3

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct frame_buffer);
} frame_buffers SEC(".maps");

/* Where a page is mapped; 0 where that cannot be told. */
static __always_inline u64 page_address(u64 page)
{
	u32 size = bpf_core_type_size(struct page);

	if (!known_page || (page & NET_IOV))
		return 0;
	if (page >= known_page)
		return known_address + (page - known_page) / size * PAGE_BYTES;
	return known_address - (known_page - page) / size * PAGE_BYTES;
}

static __always_inline struct skb_shared_info *shared_info(struct sk_buff *skb)
{
	return (void *)((u64)BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, end));
}

/* Bytes of a segment that it will be cut into, 0: it will not. */
static __always_inline u32 gso_size(struct sk_buff *skb)
{
	struct skb_shared_info *info = shared_info(skb);

	return BPF_CORE_READ(info, gso_size);
}

/* Notes what is to be copied of an skb: length linear bytes, then its fragments. */
static __always_inline struct skb_shared_info *begin_skb(struct frame_buffer *b, struct sk_buff *skb,
							 u64 start, u32 length)
{
	struct skb_shared_info *info = shared_info(skb);

	b->address = start;
	b->left = length;
	b->frags = BPF_CORE_READ(info, nr_frags);
	b->frag = (u64)info + bpf_core_field_offset(struct skb_shared_info, frags);
	return info;
}

static __always_inline int begin_fragment(struct frame_buffer *b)
{
	u32 offset;
	u64 page;

	if (bpf_core_field_exists(struct skb_frag, netmem)) {
		struct skb_frag *f = (void *)b->frag;

		page = BPF_CORE_READ(f, netmem);
		b->left = BPF_CORE_READ(f, len);
		offset = BPF_CORE_READ(f, offset);
		b->frag += bpf_core_type_size(struct skb_frag);
	} else {
		struct bio_vec *f = (void *)b->frag;

		page = (u64)BPF_CORE_READ(f, bv_page);
		b->left = BPF_CORE_READ(f, bv_len);
		offset = BPF_CORE_READ(f, bv_offset);
		b->frag += bpf_core_type_size(struct bio_vec);
	}
	b->frags--;
	b->address = page_address(page);
	if (!b->address)
		return 0;
	b->address += offset;
	return 1;
}

/* Goes to the next piece; 0 when there is none that can be read. */
static __always_inline int next_piece(struct frame_buffer *b)
{
	struct sk_buff *skb;
	u32 data_len;

	if (b->frags)
		return begin_fragment(b);
	if (!b->list)
		return 0;
	skb = (void *)b->list;
	data_len = BPF_CORE_READ(skb, data_len);
	begin_skb(b, skb, (u64)BPF_CORE_READ(skb, data), BPF_CORE_READ(skb, len) - data_len);
	b->list = (u64)BPF_CORE_READ(skb, next);
	return 1;
}

/* Copies what can be copied at once; 1 when nothing is left to do. */
SUBPROG int copy_some(u32 slot)
{
	struct frame_buffer *b = bpf_map_lookup_elem(&frame_buffers, &slot);
	u64 n, at;

	if (!b || b->got >= b->want)
		return 1;
	if (!b->left)
		return !next_piece(b);
	at = BELOW(b->got, SNAP_MAX + 1);
	n = b->left;
	if (n > b->want - b->got)
		n = b->want - b->got;
	if (n >= CHUNK)
		n = CHUNK - 1;
	n = BELOW(n, CHUNK);
	if (bpf_probe_read_kernel(b->data + at, n, (void *)b->address))
		return 1;
	b->address += n;
	b->left -= n;
	b->got += n;
	return 0;
}

/* Pieces and chunks of a frame: 64 KiB of fragments of 1460 bytes, twice. */
#define MAX_PIECES 128

static __always_inline void read_vlan(struct frame *f, struct sk_buff *skb)
{
	struct sk_buff___before62 *old = (void *)skb;
	int tagged = 1;

	if (bpf_core_field_exists(old->vlan_present))
		tagged = BPF_CORE_READ_BITFIELD_PROBED(old, vlan_present);
	f->vlan_proto = tagged ? BPF_CORE_READ(skb, vlan_proto) : 0;
	f->vlan_tci = BPF_CORE_READ(skb, vlan_tci);
}

static __always_inline struct frame_buffer *take_buffer(u32 *slot)
{
	struct frame_buffer *b;

	for (u32 i = 0; i < FRAME_BUFFERS; i++) {
		*slot = bpf_get_smp_processor_id() * FRAME_BUFFERS + i;
		b = bpf_map_lookup_elem(&frame_buffers, slot);
		if (b && !__sync_val_compare_and_swap(&b->busy, 0, 1))
			return b;
	}
	return 0;
}

/* Fills in and sends the frame of an skb whose IP header is at nh; 0: it is lost. */
static __always_inline u32 send_skb(struct frame_buffer *b, u32 slot, struct sk_buff *skb, u64 nh)
{
	u64 head = (u64)BPF_CORE_READ(skb, head), data = (u64)BPF_CORE_READ(skb, data);
	u32 len = BPF_CORE_READ(skb, len), linear = len - BPF_CORE_READ(skb, data_len);
	u32 mac = BPF_CORE_READ(skb, mac_header);
	u64 start = nh, size;

	/* a header from before encapsulation lies behind the outer IP header */
	if (mac != NO_HEADER && head + mac < nh && nh - (head + mac) <= MAX_LINK)
		start = head + mac;
	b->f.none = 0;
	b->f.pad = 0;
	b->f.number = __sync_fetch_and_add(&next_frame, 1) + 1;
	b->f.link = nh - start;
	/* .data may be before it or behind */
	b->f.length = len + (u32)(data - start);
	read_vlan(&b->f, skb);
	b->got = 0;
	b->want = b->f.length < snaplen ? b->f.length : snaplen;
	b->list = (u64)BPF_CORE_READ(begin_skb(b, skb, start, linear + (u32)(data - start)), frag_list);
	for (u32 i = 0; i < MAX_PIECES; i++) {
		if (copy_some(slot))
			break;
	}
	size = BELOW(b->got, SNAP_MAX + 1) + sizeof(b->f);
	return bpf_ringbuf_output(&events, &b->f, size, 0) ? 0 : b->f.number;
}

/*
 * Sends the bytes of an skb and gives their number, for event.frame; 0 where
 * none are wanted or, which is counted, they are lost.
 */
SUBPROG u32 send_frame(u64 skb, u64 nh)
{
	struct frame_buffer *b;
	u32 slot, number;

	if (!snaplen || !nh)
		return 0;
	b = take_buffer(&slot);
	if (!b) {
		__sync_fetch_and_add(&stats.lost_frames, 1);
		return 0;
	}
	number = send_skb(b, slot, (void *)skb, nh);
	b->busy = 0;
	if (!number)
		__sync_fetch_and_add(&stats.lost_frames, 1);
	return number;
}

/* Is this page the top page table of that address space? */
SUBPROG int is_pgd_of(u64 page, u64 mm)
{
	u64 owner = 0;

	if (bpf_core_field_exists(struct ptdesc, pt_mm))
		owner = (u64)BPF_CORE_READ((struct ptdesc *)page, pt_mm);
	else if (bpf_core_field_exists(struct page, pt_mm))
		owner = (u64)BPF_CORE_READ((struct page *)page, pt_mm);
	return owner == mm;
}

/*
 * Not attached: user space runs it with the number (pfn) of the page that the
 * ring buffer's consumer position is in. Its struct page is known to the ring
 * buffer, and gives where the array of all struct page begins. The caller's top
 * page table is known by its address; all memory is mapped from a multiple of
 * 1 GiB on (arch/x86/mm/kaslr.c), so its page is one of few in that array, and
 * says itself whose it is. The second argument is the GiB of memory to begin at.
 */
#define LARGEST_MAPPING (1ULL << 30)
#define SEARCH_GIB 64 /* a run */

SEC("raw_tp")
int find_memory(struct bpf_raw_tracepoint_args *ctx)
{
	u64 size = bpf_core_type_size(struct page), pfn = ctx->args[0];
	struct task_struct *task = (void *)bpf_get_current_task();
	u64 mm = (u64)BPF_CORE_READ(task, mm), pgd = (u64)BPF_CORE_READ(task, mm, pgd);
	void *map = &events;
	struct bpf_ringbuf *rb;
	u64 pages, page = 0, at;

	/* the address as a number: arithmetic on a map's pointer is refused */
	bpf_probe_read_kernel(&at, sizeof(at), &map);
	rb = BPF_CORE_READ((struct bpf_ringbuf_map *)at, rb);
	pages = (u64)BPF_CORE_READ(rb, pages);
	bpf_probe_read_kernel(&page, sizeof(page),
			      (void *)(pages + bpf_core_field_offset(struct bpf_ringbuf, consumer_pos) / PAGE_BYTES * 8));
	if (!page || !pfn || !mm || !pgd)
		return 0;
	page -= pfn * size;
	page += (pgd & (LARGEST_MAPPING - 1)) / PAGE_BYTES * size;
	page += ctx->args[1] * (LARGEST_MAPPING / PAGE_BYTES * size);
	for (u32 i = 0; i < SEARCH_GIB; i++) {
		if (is_pgd_of(page, mm)) {
			known_address = pgd;
			known_page = page;
			break;
		}
		page += LARGEST_MAPPING / PAGE_BYTES * size;
	}
	return 0;
}

#endif
