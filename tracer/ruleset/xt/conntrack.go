// SPDX-License-Identifier: Apache-2.0

package xt

// Matches on the state of the packet's connection: state and conntrack
// (net/netfilter/xt_state.c, xt_conntrack.c).

import (
	"strings"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// Bits of xt_conntrack_mtinfo's state_mask. IP_CT_NUMBER is 5
// (nf_conntrack_common.h).
const (
	ctInvalid     = 1 << 0
	ctEstablished = 1 << 1 // IP_CT_ESTABLISHED is 0
	ctRelated     = 1 << 2
	ctNew         = 1 << 3
	ctSNAT        = 1 << 6
	ctDNAT        = 1 << 7
	ctUntracked   = 1 << 8

	// xt_state.h counts differently.
	stateUntracked = 1 << 6
)

// Bits of the connection's status (nf_conntrack_common.h).
const (
	ipsExpected  = 1 << 0
	ipsSeenReply = 1 << 1
	ipsAssured   = 1 << 2
	ipsConfirmed = 1 << 3
	ipsSrcNAT    = 1 << 4
	ipsDstNAT    = 1 << 5
)

// decodeState reads struct xt_state_info (xt_state.h). iptables 1.8 writes
// conntrack's bit for UNTRACKED, which this match never looks at; it prints as
// written, and matches as the kernel does.
func decodeState(e ext) (matchBody, bool) {
	mask := e.u32(0)
	asked := mask & (ctInvalid | ctEstablished | ctRelated | ctNew)
	shown := asked | mask&ctUntracked
	if mask&stateUntracked != 0 {
		asked |= ctUntracked
		shown |= ctUntracked
	}
	return matchBody{
		opts: " --state " + stateNames(shown, []state{
			{ctInvalid, "INVALID"}, {ctNew, "NEW"}, {ctRelated, "RELATED"},
			{ctEstablished, "ESTABLISHED"}, {ctUntracked, "UNTRACKED"}}),
		eval: func(p *packet.Packet) packet.Answer { return inState(p, asked) },
	}, true
}

type state struct {
	bit  uint32
	name string
}

func stateNames(mask uint32, table []state) string {
	var out []string
	for _, s := range table {
		if mask&s.bit != 0 {
			out = append(out, s.name)
		}
	}
	return strings.Join(out, ",")
}

// inState asks whether the packet's state is one of a mask.
func inState(p *packet.Packet, mask uint32) packet.Answer {
	a := p.CT.State.Holds(func(s string) bool {
		return mask&map[string]uint32{
			packet.StateInvalid: ctInvalid, packet.StateEstablished: ctEstablished,
			packet.StateRelated: ctRelated, packet.StateNew: ctNew,
			packet.StateUntracked: ctUntracked,
		}[s] != 0
	})
	nat := uint32(0)
	if mask&ctSNAT != 0 {
		nat |= ipsSrcNAT
	}
	if mask&ctDNAT != 0 {
		nat |= ipsDstNAT
	}
	if nat == 0 {
		return a
	}
	translated := p.CT.Status.Holds(func(s uint32) bool { return s&nat != 0 })
	return or(a, tracked(p).And(translated))
}

// Bits of match_flags and invert_flags (xt_conntrack.h).
const (
	ctHasState = 1 << iota
	ctHasProto
	ctHasOrigSrc
	ctHasOrigDst
	ctHasReplSrc
	ctHasReplDst
	ctHasStatus
	ctHasExpires
	ctHasOrigSrcPort
	ctHasOrigDstPort
	ctHasReplSrcPort
	ctHasReplDstPort
	ctHasDirection
	ctStateAlias // made with -m state
)

// decodeConntrack reads struct xt_conntrack_mtinfo1, 2 and 3 (xt_conntrack.h):
// they differ in the masks' width and in ports being ranges.
func decodeConntrack(e ext) (matchBody, bool) {
	c := conntrack{ext: e, flags: e.u16(146), inv: e.u16(148)}
	if e.rev == 1 {
		c.states, c.status = uint32(e.u8(150)), uint32(e.u8(151))
	} else {
		c.states, c.status = uint32(e.u16(150)), uint32(e.u16(152))
	}
	if c.flags&(ctHasOrigSrc|ctHasOrigDst|ctHasReplSrc|ctHasReplDst) != 0 && !e.addressed() {
		return matchBody{}, false
	}
	body := matchBody{opts: c.text(), eval: c.eval}
	if c.flags&ctStateAlias != 0 {
		body.alias = "state"
	}
	return body, true
}

// conntrack is a conntrack match.
type conntrack struct {
	ext
	flags, inv     uint16
	states, status uint32
}

func (c conntrack) has(bit uint16) bool      { return c.flags&bit != 0 }
func (c conntrack) inverted(bit uint16) bool { return c.inv&bit != 0 }

// ctSide is one address or port of the connection's two tuples.
type ctSide struct {
	bit    uint16
	option string
	off    int // of the address, its mask follows at +16; or of the port
	high   int // of a port range's end, revision 3
	reply  bool
	dst    bool
}

func ctAddresses() []ctSide {
	return []ctSide{
		{bit: ctHasOrigSrc, option: "--ctorigsrc", off: 0},
		{bit: ctHasOrigDst, option: "--ctorigdst", off: 32, dst: true},
		{bit: ctHasReplSrc, option: "--ctreplsrc", off: 64, reply: true},
		{bit: ctHasReplDst, option: "--ctrepldst", off: 96, reply: true, dst: true},
	}
}

func ctPorts() []ctSide {
	return []ctSide{
		{bit: ctHasOrigSrcPort, option: "--ctorigsrcport", off: 138, high: 154},
		{bit: ctHasOrigDstPort, option: "--ctorigdstport", off: 140, high: 156, dst: true},
		{bit: ctHasReplSrcPort, option: "--ctreplsrcport", off: 142, high: 158, reply: true},
		{bit: ctHasReplDstPort, option: "--ctrepldstport", off: 144, high: 160, reply: true, dst: true},
	}
}

// ports is a range; revisions 1 and 2 have a single port in network order.
func (c conntrack) ports(s ctSide) (lo, hi uint16) {
	if c.rev < 3 {
		return c.be16(s.off), c.be16(s.off)
	}
	return c.u16(s.off), c.u16(s.high)
}

func (c conntrack) text() string {
	var o options
	if c.has(ctHasState) {
		option := "--ctstate"
		if c.has(ctStateAlias) {
			option = "--state"
		}
		o.neg(c.inverted(ctHasState), "%s %s", option, stateNames(c.states, []state{
			{ctInvalid, "INVALID"}, {ctNew, "NEW"}, {ctRelated, "RELATED"}, {ctEstablished, "ESTABLISHED"},
			{ctUntracked, "UNTRACKED"}, {ctSNAT, "SNAT"}, {ctDNAT, "DNAT"}}))
	}
	if c.has(ctHasProto) {
		o.neg(c.inverted(ctHasProto), "--ctproto %d", c.u16(136))
	}
	for _, s := range ctAddresses() {
		if c.has(s.bit) {
			o.neg(c.inverted(s.bit), "%s %s", s.option, addrMask(c.addr(s.off), c.addr(s.off+16)))
		}
	}
	for _, s := range ctPorts() {
		if !c.has(s.bit) {
			continue
		}
		lo, hi := c.ports(s)
		if hi == 0 {
			hi = lo
		}
		o.neg(c.inverted(s.bit), "%s %s", s.option, span(lo, hi))
	}
	c.textTail(&o)
	return o.String()
}

func (c conntrack) textTail(o *options) {
	if c.has(ctHasStatus) {
		status := stateNames(c.status, []state{{ipsExpected, "EXPECTED"}, {ipsSeenReply, "SEEN_REPLY"},
			{ipsAssured, "ASSURED"}, {ipsConfirmed, "CONFIRMED"}})
		if c.status == 0 {
			status = "NONE"
		}
		o.neg(c.inverted(ctHasStatus), "--ctstatus %s", status)
	}
	if c.has(ctHasExpires) {
		o.neg(c.inverted(ctHasExpires), "--ctexpire %s", span(c.u32(128), c.u32(132)))
	}
	if c.has(ctHasDirection) {
		side := "ORIGINAL"
		if c.inverted(ctHasDirection) {
			side = "REPLY"
		}
		o.add("--ctdir %s", side)
	}
}

// eval follows conntrack_mt (net/netfilter/xt_conntrack.c, Linux 6.18): a packet
// without a connection is asked for its state only, and does not match at all if
// the rule asks for none.
func (c conntrack) eval(p *packet.Packet) packet.Answer {
	a := packet.Yes
	if c.has(ctHasState) {
		a = flip(inState(p, c.states), c.inverted(ctHasState))
	}
	switch tracked(p) {
	case packet.No:
		return a.And(packet.Of(c.has(ctHasState)))
	case packet.Unknown: // so the state is not known either
		if c.has(ctHasState) {
			return packet.Unknown
		}
		return c.evalConnection(p).And(packet.Unknown)
	}
	return a.And(c.evalConnection(p))
}

// evalConnection asks what only a connection can answer.
func (c conntrack) evalConnection(p *packet.Packet) packet.Answer {
	a := packet.Yes
	if c.has(ctHasDirection) {
		a = a.And(p.CT.Reply.Is(c.inverted(ctHasDirection)))
	}
	for _, s := range ctAddresses() {
		if c.has(s.bit) {
			a = a.And(flip(c.evalAddress(p, s), c.inverted(s.bit)))
		}
	}
	if c.has(ctHasProto) {
		a = a.And(flip(ctProto(p, c.u16(136)), c.inverted(ctHasProto)))
	}
	for _, s := range ctPorts() {
		if c.has(s.bit) {
			lo, hi := c.ports(s)
			a = a.And(flip(portOf(p, s).Holds(func(v uint16) bool { return v >= lo && v <= hi }), c.inverted(s.bit)))
		}
	}
	if c.has(ctHasStatus) {
		status := p.CT.Status.Holds(func(v uint32) bool { return v&c.status != 0 })
		a = a.And(flip(status, c.inverted(ctHasStatus)))
	}
	if c.has(ctHasExpires) { // the timer is not seen
		a = a.And(packet.Unknown)
	}
	return a
}

func tupleOf(p *packet.Packet, reply bool) packet.Fact[packet.Tuple] {
	if reply {
		return p.CT.Answer
	}
	return p.CT.Original
}

func (c conntrack) evalAddress(p *packet.Packet, s ctSide) packet.Answer {
	t := tupleOf(p, s.reply)
	if !t.Known {
		return packet.Unknown
	}
	a := t.Value.Src
	if s.dst {
		a = t.Value.Dst
	}
	return masked(a, c.addr(s.off), c.addr(s.off+16))
}

func portOf(p *packet.Packet, s ctSide) packet.Fact[uint16] {
	t := tupleOf(p, s.reply)
	if s.dst {
		return packet.Fact[uint16]{Value: t.Value.DstPort, Known: t.Known}
	}
	return packet.Fact[uint16]{Value: t.Value.SrcPort, Known: t.Known}
}

// ctProto asks for the connection's protocol, which is the packet's own unless
// the packet is an ICMP error about it.
func ctProto(p *packet.Packet, proto uint16) packet.Answer {
	if p.CT.State.Is(packet.StateRelated) != packet.No {
		return packet.Unknown
	}
	return packet.Of(uint16(p.Proto) == proto)
}
