// SPDX-License-Identifier: Apache-2.0

package journey

// Rewrites that are IPVS' and not conntrack's: told by the way that packets take, since
// IPVS hangs in hooks of its own (ip_vs_ops4, net/netfilter/ipvs/ip_vs_core.c, 5.17 to
// 7.3). It takes a request in INPUT, and sends it by OUTPUT to the real server that it
// chose, with that one's address (ip_vs_nat_send_or_cont, ip_vs_xmit.c); where the real
// server is the node itself, INPUT goes on with it. NAT rewrites destinations in
// PREROUTING and OUTPUT only (HOOK2MANIP, include/net/netfilter/nf_nat.h), and nothing
// else goes from INPUT to OUTPUT. Of a request of the node's own, all of which is in
// OUTPUT, it cannot be told. Where IPVS has no service, it was another: an nft rule in INPUT
// may set an address, too.

import (
	"net/netip"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// balance is a service and the real server that IPVS was seen to send its packets to.
type balance struct {
	proto         uint8
	virtual, real netip.AddrPort
}

// balances are those seen.
type balances map[balance]bool

// maxBalances bounds them. Past it all are forgotten: the next request tells them again.
const maxBalances = 4096

// made tells whether IPVS made a rewrite: of a request by its way, of an answer by what
// was seen of requests.
func (b balances) made(w *world, c *copyState, e *Record, h model.Hop) bool {
	before, after := h.Before, h.After
	src, srcNow := netip.AddrPortFrom(before.Src, before.SrcPort), netip.AddrPortFrom(after.Src, after.SrcPort)
	dst, dstNow := netip.AddrPortFrom(before.Dst, before.DstPort), netip.AddrPortFrom(after.Dst, after.DstPort)
	if src != srcNow && b[balance{e.T.Proto, srcNow, src}] {
		return true
	}
	if dst == dstNow || c.last.Hook != LocalIn+1 || e.Hook != LocalIn+1 && e.Hook != LocalOut+1 || c.last.Netns != e.Netns ||
		c.last.Pf != e.Pf || strings.HasSuffix(h.CTState, "-reply") {
		return false
	}
	if b[balance{e.T.Proto, dst, dstNow}] {
		return true
	}
	if !w.Balances(e.Netns) {
		return false
	}
	if len(b) >= maxBalances {
		clear(b)
	}
	b[balance{e.T.Proto, dst, dstNow}] = true
	return true
}
