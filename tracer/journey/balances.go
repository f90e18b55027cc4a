// SPDX-License-Identifier: Apache-2.0

package journey

// Rewrites that are IPVS' and not conntrack's: told by the way that packets take, since
// IPVS hangs in hooks of its own (ip_vs_ops4, net/netfilter/ipvs/ip_vs_core.c, 5.17 to
// 7.3). It takes a request in INPUT, and sends it by OUTPUT to the real server that it
// chose, with that one's address (ip_vs_nat_send_or_cont, ip_vs_xmit.c); where the real
// server is the node itself, INPUT goes on with it. NAT rewrites destinations in
// PREROUTING and OUTPUT only (HOOK2MANIP, include/net/netfilter/nf_nat.h), and nothing
// else goes from INPUT to OUTPUT. Where IPVS has no service, it was another: an nft rule in
// INPUT may set an address, too.
//
// A request of the node's own is in OUTPUT all the while, and conntrack's NAT may have
// rewritten it there. It runs first, so that IPVS gets what it made of it: an entry of IPVS
// from the very client to the address that was asked for, and on to the one that it has
// now, says who did it.

import (
	"net/netip"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// balance is a service and the real server that IPVS was seen to send its packets to.
type balance struct {
	proto         uint8
	virtual, real netip.AddrPort
	own           bool // what the node itself sends
}

// balances are those seen.
type balances map[balance]bool

// maxBalances bounds them. Past it all are forgotten: the next request tells them again.
const maxBalances = 4096

// made tells whether IPVS made a rewrite: of a request by its way, or by IPVS's entry of
// its connection, of an answer by what was seen of requests.
func (b balances) made(w *world, c *copyState, e *Record, h model.Hop) bool {
	before, after := h.Before, h.After
	src, srcNow := netip.AddrPortFrom(before.Src, before.SrcPort), netip.AddrPortFrom(after.Src, after.SrcPort)
	dst, dstNow := netip.AddrPortFrom(before.Dst, before.DstPort), netip.AddrPortFrom(after.Dst, after.DstPort)
	if src != srcNow && b[balance{e.T.Proto, srcNow, src, false}] {
		return true
	}
	if dst == dstNow || c.last.Netns != e.Netns || c.last.Pf != e.Pf || strings.HasSuffix(h.CTState, "-reply") {
		return false
	}
	is := balance{e.T.Proto, dst, dstNow, c.last.Hook == LocalOut+1}
	if elsewhere(c, e) {
		return false
	}
	if b[is] {
		return true
	}
	if !w.Balances(e.Netns) || is.own && !w.BalancedTo(e.Netns, e.T.Proto, src, dst, dstNow) {
		return false
	}
	if len(b) >= maxBalances-1 {
		clear(b)
	}
	b[is] = true
	is.own = false // answers are looked for so
	b[is] = true
	return true
}

// elsewhere tells that a rewrite was not where IPVS makes them: from INPUT on to INPUT or
// OUTPUT, or in OUTPUT.
func elsewhere(c *copyState, e *Record) bool {
	switch c.last.Hook {
	case LocalIn + 1:
		return e.Hook != LocalIn+1 && e.Hook != LocalOut+1
	case LocalOut + 1:
		return e.Hook != LocalOut+1 && e.Hook != PostRouting+1
	}
	return true
}
