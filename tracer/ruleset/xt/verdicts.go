// SPDX-License-Identifier: Apache-2.0

package xt

// Targets that end a packet's walk: REJECT, NFQUEUE, TPROXY, SYNPROXY, and
// CLUSTERIP, which drops what belongs to another node.

import (
	"fmt"
	"strings"
)

// decodeREJECT reads struct ipt_reject_info (ipt_REJECT.h).
func decodeREJECT(e ext) (targetBody, bool) {
	return reject(e, []string{"icmp-net-unreachable", "icmp-host-unreachable", "icmp-proto-unreachable",
		"icmp-port-unreachable", "echo-reply", "icmp-net-prohibited", "icmp-host-prohibited",
		"tcp-reset", "icmp-admin-prohibited"})
}

// decodeREJECT6 reads struct ip6t_reject_info (ip6t_REJECT.h). The kernel refuses
// the fifth, an echo reply.
func decodeREJECT6(e ext) (targetBody, bool) {
	return reject(e, []string{"icmp6-no-route", "icmp6-adm-prohibited", "icmp6-not-neighbor",
		"icmp6-addr-unreachable", "icmp6-port-unreachable", "", "tcp-reset",
		"icmp6-policy-fail", "icmp6-reject-route"})
}

func reject(e ext, kinds []string) (targetBody, bool) {
	with, ok := nameOf(e.u32(0), kinds)
	return targetBody{opts: " --reject-with " + with, kind: Reject, with: with}, ok
}

// decodeNFQUEUE reads struct xt_NFQ_info to _v3 (xt_NFQUEUE.h): first queue,
// number of queues, flags.
func decodeNFQUEUE(e ext) (targetBody, bool) {
	var o options
	queue, total := e.u16(0), uint32(1)
	if e.rev >= 1 {
		total = uint32(e.u16(2))
	}
	if total > 1 {
		o.add("--queue-balance %d:%d", queue, total+uint32(queue)-1)
	} else {
		o.add("--queue-num %d", queue)
	}
	if e.rev >= 2 {
		flags := e.u16(4)
		o.flag(flags&1 != 0, "--queue-bypass")
		o.flag(e.rev >= 3 && flags&2 != 0, "--queue-cpu-fanout")
	}
	return targetBody{opts: o.String(), kind: Queue}, true
}

// decodeTPROXY reads struct xt_tproxy_target_info and _v1 (xt_TPROXY.h): mask and
// value of the mark, address, port. With a socket to take it the packet is
// accepted and marked, else it is dropped (net/netfilter/xt_TPROXY.c).
func decodeTPROXY(e ext) (targetBody, bool) {
	if !e.addressed() {
		return targetBody{}, false
	}
	port := 24
	if e.rev == 0 {
		port = 12
	}
	return targetBody{
		opts: fmt.Sprintf(" --on-port %d --on-ip %s --tproxy-mark 0x%x/0x%x",
			e.be16(port), addrText(e.addr(8)), e.u32(4), e.u32(0)),
		kind:  Undecided,
		apply: forgetMark,
	}, true
}

// decodeSYNPROXY reads struct nf_synproxy_info (nf_synproxy.h): options, window
// scale, maximum segment size.
func decodeSYNPROXY(e ext) (targetBody, bool) {
	const (
		mss = 1 << iota
		wscale
		sackPerm
		timestamp
		ecn
	)
	flags := e.u8(0)
	var o options
	o.flag(flags&sackPerm != 0, "--sack-perm")
	o.flag(flags&timestamp != 0, "--timestamp")
	o.flag(flags&wscale != 0, fmt.Sprintf("--wscale %d", e.u8(1)))
	o.flag(flags&mss != 0, fmt.Sprintf("--mss %d", e.u16(2)))
	o.flag(flags&ecn != 0, "--ecn")
	return targetBody{opts: o.String(), kind: Undecided}, true
}

// decodeCLUSTERIP reads struct ipt_clusterip_tgt_info (ipt_CLUSTERIP.h), which
// Linux 6.8 and later have not. Only the rule that made the cluster tells its
// values.
func decodeCLUSTERIP(e ext) (targetBody, bool) {
	body := targetBody{kind: Undecided}
	if e.u32(0)&1 == 0 {
		return body, true
	}
	mode, ok := nameOf(e.u32(48), []string{"sourceip", "sourceip-sourceport", "sourceip-sourceport-destport"})
	if !ok {
		mode = "unknown-error"
	}
	var mac []string
	for _, b := range e.data[4:10] {
		mac = append(mac, fmt.Sprintf("%02X", b))
	}
	body.opts = fmt.Sprintf(" --new --hashmode %s --clustermac %s --total-nodes %d --local-node %d --hash-init %d",
		mode, strings.Join(mac, ":"), e.u16(10), e.u16(14), e.u32(52))
	return body, true
}
