// SPDX-License-Identifier: Apache-2.0

package infer

// This file tells whether the way back to a packet's source leads out of the
// interface it came in by: rpfilter_mt(), net/ipv4/netfilter/ipt_rpfilter.c and
// net/ipv6/netfilter/ip6t_rpfilter.c, and nft's "fib saddr . iif oif",
// net/ipv4/netfilter/nft_fib_ipv4.c and net/ipv6/netfilter/nft_fib_ipv6.c. Who
// of them asks is not told here: where they differ, the answer is Unknown.

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// tosBits are the bits of the type of service that routes look at (IPTOS_RT_MASK,
// include/net/route.h).
const tosBits = 0x1c

// ReversePath tells whether the way back leads out where the packet came in. See
// packet.World. A source that is an own address has none: No.
func (w *World) ReversePath(p *packet.Packet, loose, useMark bool) packet.Answer {
	if !p.In.Known || p.In.Value == "" || !p.Src.IsValid() || useMark && !p.Mark.Known {
		return packet.Unknown
	}
	dev, err := w.device(p.In.Value)
	switch {
	case err != nil || dev.routed:
		return packet.Unknown
	case dev.loopback && p.Hook == "PREROUTING":
		return packet.Yes
	case dev.loopback:
		return packet.Unknown
	}
	b := back{w: w, p: p, dev: dev.index, loose: loose, q: question{dst: p.Src.Unmap()}}
	if useMark {
		b.q.mark = p.Mark.Value
	}
	ask := b.v6
	if b.q.dst.Is4() {
		ask = b.v4
	}
	answer, err := ask()
	if err != nil {
		return packet.Unknown
	}
	return answer
}

// back is a question for the way back.
type back struct {
	w     *World
	p     *packet.Packet
	q     question
	dev   int // where the packet came in
	loose bool
}

// v4 asks without the packet's destination as source, which netlink does not
// take: no policy rule may look at it.
func (b *back) v4() (packet.Answer, error) {
	dst := b.p.Dst.Unmap()
	switch {
	case b.q.dst.IsUnspecified() && (dst == broadcast4() || dst.IsLinkLocalMulticast()):
		return packet.Yes, nil // a host without address yet
	case b.q.dst.IsUnspecified(), b.q.dst.IsMulticast(), b.q.dst == broadcast4():
		return packet.Unknown, nil // netlink does not look these up as netfilter does
	}
	b.q.tos = b.p.TOS.Value & tosBits
	if err := b.faithful(unix.AF_INET, false); err != nil {
		return packet.Unknown, err
	}
	r, err := b.w.route(b.q)
	switch passes := b.loose || r.leads(b.dev); {
	case err != nil:
		return packet.Unknown, err
	case r.refusal != 0, r.kind == unix.RTN_LOCAL, !passes:
		return packet.No, nil
	case r.kind != unix.RTN_UNICAST: // a broadcast address: rpfilter refuses it, nft does not
		return packet.Unknown, nil
	}
	return packet.Yes, nil
}

// v6 asks twice: rpfilter prefers a route that leads where the packet came in,
// nft takes any.
func (b *back) v6() (packet.Answer, error) {
	src, dst := b.q.dst, b.p.Dst
	switch {
	case src.IsUnspecified() && b.p.Proto == unix.IPPROTO_ICMPV6 && (dst.IsLinkLocalUnicast() || dst.IsLinkLocalMulticast()):
		return packet.Yes, nil // a host that makes sure of its address
	case src.IsUnspecified(), src.IsMulticast():
		return packet.Unknown, nil
	}
	if dst.IsValid() && !dst.IsMulticast() && !dst.IsUnspecified() {
		b.q.src = dst
	}
	if err := b.faithful(unix.AF_INET6, b.q.src.IsValid()); err != nil {
		return packet.Unknown, err
	}
	if src.IsLinkLocalUnicast() { // always a matter of the interface
		b.q.src, b.q.oif, b.loose = netip.Addr{}, b.dev, false
	}
	free, err := b.w.route(b.q)
	if err != nil {
		return packet.Unknown, err
	}
	if b.loose || b.q.oif != 0 {
		return packet.Of(back6(free) && (b.loose || free.leads(b.dev))), nil
	}
	if !b.q.src.IsValid() { // then netlink would take no other route
		return b.both(free, free), nil
	}
	b.q.oif = b.dev
	preferred, err := b.w.route(b.q)
	if err != nil {
		return packet.Unknown, err
	}
	return b.both(free, preferred), nil
}

// both is the answer if rpfilter's route and nft's say the same. Without a source
// netlink was not asked for rpfilter's: that it refuses is then known only where
// there is no way back at all.
func (b *back) both(free, preferred route) packet.Answer {
	yes := back6(free) && free.only(b.dev) && back6(preferred) && preferred.leads(b.dev)
	no := !(back6(free) && free.leads(b.dev)) && !(back6(preferred) && preferred.leads(b.dev))
	switch {
	case yes:
		return packet.Yes
	case no && (b.q.src.IsValid() || !back6(free)):
		return packet.No
	}
	return packet.Unknown
}

// back6 tells whether a route may be one back to a source.
func back6(r route) bool {
	return r.refusal == 0 && r.kind != unix.RTN_LOCAL && (r.kind != unix.RTN_ANYCAST || r.origin != unix.RTPROT_KERNEL)
}

// faithful fails if policy rules look at what our question does not carry.
func (b *back) faithful(family int, source bool) error {
	rules, err := b.w.policy(family)
	if err != nil {
		return err
	}
	if !rules.same || rules.source && !source {
		return fmt.Errorf("way back to %s: policy rules look at more than can be asked", b.q.dst)
	}
	return nil
}
