// SPDX-License-Identifier: Apache-2.0

package tracer

// This file asks what rules a packet would have met where the kernel half could
// not see them: nft and nat on the tracepoint backend. What comes of it is
// labelled so (rule_source: inferred), with what could not be evaluated.

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/nfnetlink"
	"github.com/pathtrace/pathtrace/tracer/ruleset/infer"
	facts "github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// A packet is evaluated for every table that lets it go on, so only so many of
// them each second are; those that die always are.
const inferredPerSecond = 200

// budget is how many more passages may be evaluated in a second.
type budget struct {
	second int64
	left   int
}

func (b *budget) take(now time.Time) bool {
	if s := now.Unix(); s != b.second {
		b.second, b.left = s, inferredPerSecond
	}
	if b.left == 0 {
		return false
	}
	b.left--
	return true
}

// Infer tells what rules a packet would have met that a table let go on
// (accept) or not (drop).
func (b *ruleBook) Infer(p passage, verdict string) ruling {
	if verdict == "accept" && !b.budget.take(time.Now()) {
		return ruling{}
	}
	target := infer.Target{Backend: p.table.Backend, Family: p.table.Family, Table: p.table.Table, Chain: p.table.Chain, Hook: hookName(p.hook - 1), At: b.cfg.Wall(p.at.Ts)}
	got := b.infer.Infer(p.netns, target, packetOf(p), verdict)
	r := ruling{source: model.RuleInferred, rules: got.Rules, decided: got.Decided, unknown: got.Unknown, ends: got.Verdict, open: got.Unevaluated}
	if got.Verdict == "reject" {
		r.verdict = "reject"
	}
	if len(got.Alternatives) > 0 && r.decided == nil {
		var names []string
		for _, a := range got.Alternatives {
			names = append(names, ruleWords(a))
		}
		r.unknown = "one of " + strings.Join(names, ", ") + ": " + got.Unknown
	}
	if len(r.rules) == 0 && r.decided == nil && r.unknown == "" {
		return ruling{}
	}
	return r
}

// ruleWords names a rule briefly: filter/FORWARD rule 3.
func ruleWords(r model.Rule) string {
	if r.Number == 0 {
		return fmt.Sprintf("the policy of %s/%s", r.Table, r.Chain)
	}
	return fmt.Sprintf("%s/%s rule %d", r.Table, r.Chain, r.Number)
}

// packetOf is what is known of the packet for rules to be asked about.
func packetOf(p passage) *facts.Packet {
	e := &p.at
	ends := endpointsOf(&e.T)
	q := &facts.Packet{Family: nfnetlink.Family(p.pf), Hook: hookName(p.hook - 1), Src: ends.Src, Dst: ends.Dst, Proto: e.T.Proto,
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
func outer(p passage, q *facts.Packet) {
	outer := tunnelOf(&p.at.Tun)
	q.Src, q.Dst, q.Proto = outer.Src, outer.Dst, unix.IPPROTO_UDP
	q.SrcPort, q.DstPort = facts.Known(outer.SrcPort), facts.Known(outer.DstPort)
	q.Length, q.TTL, q.Fragment = facts.Fact[uint32]{}, facts.Fact[uint8]{}, facts.Known(false)
	interfaces(p, q)
	conntrack(p, q)
}

// interfaces: the hook's own device is the one it came by, or leaves by.
func interfaces(p passage, q *facts.Packet) {
	own := facts.Known(cString(p.at.Ifname[:]))
	none := facts.Known("")
	switch p.hook - 1 {
	case preRouting, localIn:
		q.In, q.Out = own, none
	case localOut:
		q.In, q.Out = none, own
	case postRouting:
		q.Out = own
	default: // FORWARD
		q.In = own
		if p.out != "" {
			q.Out = facts.Known(p.out)
		}
	}
}

func conntrack(p passage, q *facts.Packet) {
	state, reply := p.at.Ct, false
	if state == 0 {
		if p.invalid {
			q.CT.State = facts.Known(facts.StateInvalid)
		}
		return // not looked at yet, or not known to have been
	}
	name := conntrackState(state)
	name, reply = strings.CutSuffix(name, "-reply")
	q.CT.State, q.CT.Reply = facts.Known(name), facts.Known(reply)
	if p.ct == nil {
		return
	}
	q.CT.Original, q.CT.Answer = facts.Known(tupleFact(&p.ct.Orig)), facts.Known(tupleFact(&p.ct.Reply))
	q.CT.Status = facts.Known(uint32(p.ct.Status))
}

func tupleFact(t *bpf.Tuple) facts.Tuple {
	e := endpointsOf(t)
	return facts.Tuple{Src: e.Src, Dst: e.Dst, SrcPort: e.SrcPort, DstPort: e.DstPort}
}
