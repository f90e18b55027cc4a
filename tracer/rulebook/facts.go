// SPDX-License-Identifier: Apache-2.0

package rulebook

// This file says what is known of a packet at a hook, for rules to be asked about.

import (
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/journey"
	"github.com/pathtrace/pathtrace/tracer/nfnetlink"
	facts "github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// factsOf is what is known of the packet for rules to be asked about.
func factsOf(p journey.Passage) *facts.Packet {
	q := shown(p)
	if p.After {
		unchanged(p, q)
	}
	return q
}

// shown is the packet as the sighting shows it.
func shown(p journey.Passage) *facts.Packet {
	e := &p.At
	ends := journey.EndpointsOf(&e.T)
	q := &facts.Packet{Family: nfnetlink.Family(p.PF), Hook: p.HookName(), Src: ends.Src, Dst: ends.Dst, Proto: e.T.Proto,
		Length: facts.Known(e.L3len), TTL: facts.Known(e.Ttl), Mark: facts.Known(e.Mark),
		Fragment: facts.Known(e.Flags&bpf.FlagFragment != 0)}
	if e.Flags&bpf.FlagEncap != 0 {
		outer(p, q)
		return q
	}
	switch e.T.Proto {
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP:
		if e.Flags&bpf.FlagFragment == 0 {
			q.SrcPort, q.DstPort = facts.Known(e.T.Sport), facts.Known(e.T.Dport)
		}
		if e.T.Proto == unix.IPPROTO_TCP {
			q.TCPFlags = facts.Known(e.TcpFlags)
		}
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		q.ICMPType, q.ICMPCode = facts.Known(e.IcmpType), facts.Known(e.IcmpCode)
	}
	interfaces(p, q)
	conntrack(p, q)
	return q
}

// outer makes the packet the one that the rules of a tunnel's hooks see: the
// outer header's. Of that only the addresses and ports are known.
func outer(p journey.Passage, q *facts.Packet) {
	outer := journey.TunnelOf(&p.At.Tun)
	q.Src, q.Dst, q.Proto = outer.Src, outer.Dst, carriedBy(&p.At.Tun)
	if q.Proto == unix.IPPROTO_UDP {
		q.SrcPort, q.DstPort = facts.Known(outer.SrcPort), facts.Known(outer.DstPort)
	}
	q.Length, q.TTL, q.Fragment = facts.Fact[uint32]{}, facts.Fact[uint8]{}, facts.Known(false)
	interfaces(p, q)
	conntrack(p, q)
}

// carriedBy is the protocol of an outer header.
func carriedBy(t *bpf.Tunnel) uint8 {
	switch t.Kind {
	case bpf.TunnelIPv4:
		return unix.IPPROTO_IPIP
	case bpf.TunnelIPv6:
		return unix.IPPROTO_IPV6
	case bpf.TunnelGRE:
		return unix.IPPROTO_GRE
	}
	return unix.IPPROTO_UDP
}

// interfaces: the hook's own device is the one it came by, or leaves by.
func interfaces(p journey.Passage, q *facts.Packet) {
	if p.Site != nil {
		besideDevices(p, q)
		return
	}
	own, index := facts.Known(journey.CString(p.At.Ifname[:])), facts.Known(p.At.Ifindex)
	none := facts.Known("")
	switch p.Hook - 1 {
	case journey.PreRouting, journey.LocalIn:
		q.In, q.InIndex, q.Out = own, index, none
	case journey.LocalOut:
		q.In, q.Out, q.OutIndex = none, own, index
	case journey.PostRouting:
		q.Out, q.OutIndex = own, index
	default: // FORWARD
		q.In, q.InIndex = own, index
		if p.Out != "" {
			q.Out = facts.Known(p.Out)
			q.OutIndex = facts.Fact[uint32]{Value: p.OutIndex, Known: p.OutIndex != 0}
		}
	}
}

func conntrack(p journey.Passage, q *facts.Packet) {
	state, reply := p.At.Ct, false
	if state == 0 {
		if p.Invalid {
			q.CT.State = facts.Known(facts.StateInvalid)
		}
		return // not looked at yet, or not known to have been
	}
	name := journey.ConntrackState(state)
	name, reply = strings.CutSuffix(name, "-reply")
	q.CT.State, q.CT.Reply = facts.Known(name), facts.Known(reply)
	if p.CT == nil {
		return
	}
	q.CT.Original, q.CT.Answer = facts.Known(tupleFact(&p.CT.Orig)), facts.Known(tupleFact(&p.CT.Reply))
	q.CT.Status = facts.Known(uint32(p.CT.Status))
}

func tupleFact(t *bpf.Tuple) facts.Tuple {
	e := journey.EndpointsOf(t)
	return facts.Tuple{Src: e.Src, Dst: e.Dst, SrcPort: e.SrcPort, DstPort: e.DstPort}
}

// unchanged leaves of the packet what the table surely saw so: what is the same
// before and behind it. Of one that was not seen before, the table may have set
// the mark.
func unchanged(p journey.Passage, q *facts.Packet) {
	first := p.Before.Id == 0
	if first || p.Before.Mark != p.At.Mark {
		q.Mark = facts.Fact[uint32]{}
	}
	if first {
		return
	}
	if p.Before.Ttl != p.At.Ttl {
		q.TTL = facts.Fact[uint8]{}
	}
	if p.Before.T != p.At.T || p.At.Flags&bpf.FlagEncap != 0 && p.Before.Tun != p.At.Tun {
		q.Src, q.Dst = netip.Addr{}, netip.Addr{}
		q.SrcPort, q.DstPort = facts.Fact[uint16]{}, facts.Fact[uint16]{}
	}
}

// besideDevices are the devices that a hook of a device or bridge shows (net/core/
// dev.c, net/bridge/br_{input,forward}.c).
func besideDevices(p journey.Passage, q *facts.Packet) {
	own, none := facts.Known(journey.CString(p.At.Ifname[:])), facts.Known("")
	came := facts.Fact[string]{Value: p.Came, Known: p.Came != ""}
	switch {
	case p.Site.PF == unix.NFPROTO_NETDEV && p.Site.Hook == journey.NetdevIngress, p.Site.PF == unix.NFPROTO_BRIDGE && p.Site.Hook == journey.PreRouting:
		q.In, q.Out = own, none
	case p.Site.PF == unix.NFPROTO_BRIDGE && p.Site.Hook == journey.LocalIn:
		q.In, q.Out = came, none
	case p.Site.PF == unix.NFPROTO_BRIDGE && p.Site.Hook == journey.BridgeForward:
		q.In, q.Out = came, own
	default:
		q.In, q.Out = none, own
	}
}
