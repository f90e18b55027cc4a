// SPDX-License-Identifier: Apache-2.0

package infer

// This file tells the type of an address as the addrtype match and nft's fib
// expression ask for it. IPv4: __inet_dev_addr_type(), net/ipv4/fib_frontend.c;
// IPv6: match_lookup_rt6(), net/netfilter/xt_addrtype.c, and
// __nft_fib6_eval_type(), net/ipv6/netfilter/nft_fib_ipv6.c.

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// Names of address types.
const (
	typeUnicast     = "unicast"
	typeLocal       = "local"
	typeBroadcast   = "broadcast"
	typeAnycast     = "anycast"
	typeMulticast   = "multicast"
	typeBlackhole   = "blackhole"
	typeUnreachable = "unreachable"
	typeProhibit    = "prohibit"
	typeThrow       = "throw"
)

// types is what an address is, and what it is in the eyes of one of the matches
// only.
type types struct {
	yes, disputed []string
}

// AddrType tells whether an address is of a type. See packet.World.
func (w *World) AddrType(addr netip.Addr, kind, dev string) packet.Answer {
	if !addr.IsValid() {
		return packet.Unknown
	}
	addr = addr.Unmap()
	find := w.types6
	if addr.Is4() {
		find = w.types4
	}
	t, err := find(addr, dev)
	switch {
	case err != nil || slices.Contains(t.disputed, kind):
		return packet.Unknown
	default:
		return packet.Of(slices.Contains(t.yes, kind))
	}
}

// types4 asks what the kernel does: the local table alone, in which what is not
// found is unicast. Our question goes by the policy rules, so they have to lead
// there first. A kernel without other rules keeps the main table within the
// local one (fib_trie_table(), net/ipv4/fib_trie.c): then both are asked by both.
func (w *World) types4(addr netip.Addr, dev string) (types, error) {
	switch {
	case addr.IsUnspecified(), addr == broadcast4():
		return types{yes: []string{typeBroadcast}}, nil
	case addr.IsMulticast():
		return types{yes: []string{typeMulticast}}, nil
	}
	rules, err := w.policy(unix.AF_INET)
	if err != nil {
		return types{}, err
	}
	if !rules.localFirst {
		return types{}, fmt.Errorf("type of %s: policy rules before the local table", addr)
	}
	r, err := w.route(question{dst: addr})
	if err != nil {
		return types{}, err
	}
	kind := map[uint8]string{
		unix.RTN_LOCAL: typeLocal, unix.RTN_BROADCAST: typeBroadcast, unix.RTN_ANYCAST: typeAnycast, unix.RTN_MULTICAST: typeMulticast,
	}[r.kind]
	if kind == "" || r.refusal != 0 || r.table != unix.RT_TABLE_LOCAL && !rules.plain {
		return types{yes: []string{typeUnicast}}, nil
	}
	if dev == "" {
		return types{yes: []string{kind}}, nil
	}
	d, err := w.device(dev)
	switch {
	case err != nil:
		return types{}, err
	case d.routed:
		return types{}, fmt.Errorf("type of %s: interface %s belongs to a VRF", addr, dev)
	case !r.leads(d.index):
		kind = typeUnicast
	}
	return types{yes: []string{kind}}, nil
}

// types6 makes the look-up the kernel makes, but for the source, which nft gives
// and the addrtype match does not: rules that ask for one make it doubtful.
func (w *World) types6(addr netip.Addr, dev string) (types, error) {
	rules, err := w.policy(unix.AF_INET6)
	if err != nil {
		return types{}, err
	}
	if !rules.same || rules.source || addr.IsUnspecified() {
		return types{}, fmt.Errorf("type of %s: policy rules look at more than the address", addr)
	}
	if dev == "" {
		r, err := w.route(question{dst: addr})
		return typesOf(addr, r, r.kind == unix.RTN_LOCAL), err
	}
	d, err := w.device(dev)
	if err != nil {
		return types{}, err
	}
	if d.routed {
		return types{}, fmt.Errorf("type of %s: interface %s belongs to a VRF", addr, dev)
	}
	own, err := w.holds(dev, addr)
	if err != nil {
		return types{}, err
	}
	q := question{dst: addr}
	if addr.IsLinkLocalUnicast() || addr.IsLinkLocalMulticast() {
		q.oif = d.index
	}
	r, err := w.route(q)
	t := typesOf(addr, r, own)
	if r.refusal == 0 && !r.leads(d.index) {
		// The addrtype match wants a route by that interface, nft does not.
		t.disputed = append(t.disputed, typeAnycast, typeUnreachable)
	}
	return t, err
}

// typesOf is the type of an address by its route.
func typesOf(addr netip.Addr, r route, local bool) types {
	if r.refusal != 0 {
		return refused6(r.refusal)
	}
	return routed6(addr, r, local)
}

// refused6 is the type of an address whose route refuses: nft tells how, the
// addrtype match calls all of it unreachable.
func refused6(errno unix.Errno) types {
	switch errno {
	case unix.EINVAL:
		return types{yes: []string{typeBlackhole}, disputed: []string{typeUnreachable}}
	case unix.EACCES:
		return types{yes: []string{typeProhibit}, disputed: []string{typeUnreachable}}
	case unix.EAGAIN:
		return types{yes: []string{typeThrow}, disputed: []string{typeUnreachable}}
	}
	return types{yes: []string{typeUnreachable}}
}

// routed6 is the type of an address that a route leads to. The address of a
// connected network itself is anycast (ipv6_anycast_destination(),
// include/net/ip6_route.h); one that is anycast and local is only the first
// for nft. A route of type anycast that the kernel did not make itself has not
// the flag that counts (rtm_to_fib6_config(), net/ipv6/route.c).
func routed6(addr netip.Addr, r route, local bool) types {
	const pointToPoint = 127 // RFC 6164: no subnet-router anycast address
	network := netip.PrefixFrom(addr, r.bits).Masked().Addr() == addr && r.bits < pointToPoint && !r.gateway && len(r.devs) > 0
	switch anycast := r.kind == unix.RTN_ANYCAST && r.origin == unix.RTPROT_KERNEL || network; {
	case anycast && local:
		return types{yes: []string{typeAnycast}, disputed: []string{typeLocal}}
	case anycast:
		return types{yes: []string{typeAnycast}}
	case local:
		return types{yes: []string{typeLocal}}
	case addr.IsMulticast():
		return types{yes: []string{typeMulticast}}
	}
	return types{yes: []string{typeUnicast}}
}

// broadcast4 is 255.255.255.255.
func broadcast4() netip.Addr { return netip.AddrFrom4([4]byte{255, 255, 255, 255}) }

type holdsKey struct {
	dev  string
	addr netip.Addr
}

// holds tells whether an interface has an IPv6 address that is ready for use
// (nf_ipv6_chk_addr(): not a tentative one).
func (w *World) holds(dev string, addr netip.Addr) (bool, error) {
	return ask(w, holdsKey{dev, addr}, func() (bool, error) {
		l, err := netlink.LinkByName(dev)
		if err != nil {
			return false, fmt.Errorf("interface %s: %w", dev, err)
		}
		list, err := netlink.AddrList(l, netlink.FAMILY_V6)
		if err != nil {
			return false, fmt.Errorf("addresses of interface %s: %w", dev, err)
		}
		for _, a := range list {
			if got, ok := netip.AddrFromSlice(a.IP); ok && got == addr {
				return a.Flags&unix.IFA_F_TENTATIVE == 0 || a.Flags&unix.IFA_F_OPTIMISTIC != 0, nil
			}
		}
		return false, nil
	})
}
