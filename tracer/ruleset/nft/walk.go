// SPDX-License-Identifier: Apache-2.0

package nft

// This file tells what a base chain would do with a packet, where the kernel
// could not be watched doing it: it evaluates one expression; package walk
// follows the ways.

import (
	"fmt"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
	"github.com/pathtrace/pathtrace/tracer/ruleset/walk"
	"github.com/pathtrace/pathtrace/tracer/ruleset/xt"
)

// maxJumps is NFT_JUMP_STACK_SIZE (include/net/netfilter/nf_tables.h).
const maxJumps = 16

// Matched is a rule all of whose expressions hold for the packet, or, without
// rule, the policy of the base chain.
type Matched struct {
	Rule *Rule
	// Element is the element of the map that the rule's verdict was taken from.
	Map     *Set
	Element *Element
}

// A walk through a base chain.
type (
	Walk    = walk.Walk[Matched]
	Outcome = walk.Outcome[Matched]
	Step    = walk.Step[Matched]
	next    = walk.Next[state]
)

// Walk evaluates a packet in a base chain. The packet is not changed; what rules
// do to its marks and header is carried on within the walk. sets names the
// ipsets that matches of xtables refer to; nil: they cannot be evaluated. It
// fails with ErrNotFound, or when the chain has no hook.
func (rs *Ruleset) Walk(p *packet.Packet, sets xt.SetNames, family, table, chain string) (Walk, error) {
	t := rs.Table(family, table)
	if t == nil {
		return Walk{}, fmt.Errorf("table %s %s: %w", family, table, ErrNotFound)
	}
	c := t.Chain(chain)
	switch {
	case c == nil:
		return Walk{}, fmt.Errorf("chain %s of table %s %s: %w", chain, family, table, ErrNotFound)
	case !c.Base():
		return Walk{}, fmt.Errorf("chain %s of table %s %s has no hook: packets come there from other chains only", chain, family, table)
	}
	return rs.walk(p, sets, t, c), nil
}

// Matches tells whether all expressions of one rule of a table hold for a packet,
// whatever comes before it.
func (rs *Ruleset) Matches(p *packet.Packet, t *Table, r *Rule) packet.Answer {
	alone := &Chain{Family: r.Family, Table: r.Table, Name: r.Chain, Rules: []*Rule{r}}
	w := rs.walk(p, nil, t, alone)
	if !w.Complete || len(w.Outcomes) != 1 {
		return packet.Unknown
	}
	for _, s := range w.Outcomes[0].Steps {
		switch {
		case s.Match.Rule != r:
		case s.Certain:
			return packet.Yes
		default:
			return packet.Unknown
		}
	}
	return packet.No
}

// walk follows a packet through a chain.
func (rs *Ruleset) walk(p *packet.Packet, sets xt.SetNames, t *Table, c *Chain) Walk {
	w := &walker{
		rs: rs, table: t, base: c, proto: hookFamily(t.Family, p.Family), xt: xt.Context{Family: t.Family, Sets: sets},
	}
	first := state{Way: walk.From[Matched](p), chain: c, mark: number(p.Mark), ctMark: number(p.CT.Mark)}
	return w.Follow(first, w.step, (*state).key)
}

// hookFamily is the family of the hook a packet passes (nft_pf): that of the
// packet in ip, ip6 and inet tables, that of the table in others.
func hookFamily(table, packet string) uint8 {
	switch table {
	case FamilyBridge:
		return protoBridge
	case FamilyNetdev:
		return protoNetdev
	}
	if packet == FamilyIP6 {
		return protoIPv6
	}
	return protoIPv4
}

// walker does the steps of a walk.
type walker struct {
	walk.Walker[state, Matched]
	rs    *Ruleset
	table *Table
	base  *Chain
	proto uint8
	xt    xt.Context
}

// caller is where a jump returns to.
type caller struct {
	chain *Chain
	at    int
}

// state is a packet on its way.
type state struct {
	walk.Way[Matched]
	chain *Chain
	at    int // rule
	expr  int // expression within it
	stack []caller
	regs  registers
	// mark and ctMark are the packet's marks bit by bit: rules set some bits of
	// a mark that is not known, and ask for them later.
	mark, ctMark datum
	set          *Set
	elem         *Element
	find         *Element // what the look-up at hand finds on this way
	// unsure: what was not seen makes a difference to whether the rule at hand
	// matches, but that changes nothing.
	unsure bool
}

// here is the rule at hand.
func (s *state) here() *Rule { return s.chain.Rules[s.at] }

// step does one expression.
func (w *walker) step(s *state) next {
	if s.at >= len(s.chain.Rules) {
		return w.leave(s)
	}
	r := s.here()
	if s.expr >= len(r.Exprs) {
		s.matched()
		s.skip()
		return next{}
	}
	e := r.Exprs[s.expr]
	s.expr++
	return w.eval(s, e)
}

// matched notes that all expressions of the rule hold.
func (s *state) matched() { s.Match(Matched{s.here(), s.set, s.elem}, !s.unsure) }

// skip goes to the next rule.
func (s *state) skip() {
	s.at++
	s.expr, s.unsure, s.set, s.elem = 0, false, nil, nil
	s.regs = registers{}
}

// leave ends a chain: back to the caller, or to the policy.
func (w *walker) leave(s *state) next {
	n := len(s.stack)
	if n == 0 {
		s.Match(Matched{}, true)
		return w.End(&s.Way, w.base.Policy)
	}
	back := s.stack[n-1]
	s.stack = s.stack[:n-1]
	s.chain, s.at = back.chain, back.at
	s.expr, s.regs = 0, registers{}
	return next{}
}

// answer goes on, to the next rule, or both ways.
func (w *walker) answer(s *state, a packet.Answer, what string) next {
	switch a {
	case packet.Yes:
	case packet.No:
		s.skip()
	default:
		return w.fork(s, what)
	}
	return next{}
}

// fork follows an expression that may or may not hold. Where the rest of the
// rule has no effect there is no second way.
func (w *walker) fork(s *state, what string) next {
	w.note(s, what)
	if s.idle() {
		s.unsure = true
		return next{}
	}
	s.Certain = false
	return walk.Fork(s.skipped())
}

// skipped is the way on which the rule does not match.
func (s *state) skipped() state {
	other := s.clone()
	other.skip()
	return other
}

func (s *state) clone() state {
	c := *s
	c.Way, c.stack = s.Clone(), slices.Clone(s.stack)
	return c
}

// key names what the rest of a way depends on at the begin of a rule; within
// one there is more.
func (s *state) key() string {
	if s.expr > 0 || s.find != nil {
		return ""
	}
	return s.Key(caller{s.chain, s.at}, s.stack, s.mark.value, s.mark.known, s.ctMark.value, s.ctMark.known)
}

// idle tells whether what is left of the rule changes nothing that counts.
func (s *state) idle() bool {
	for _, e := range s.here().Exprs[s.expr:] {
		switch e := e.(type) {
		case Counter, Last, Log, Cmp, Range, Limit, Quota, Connlimit, Bitwise, Byteorder, FIB, RT, Socket, Numgen, Hash, OSF, XFRM:
		case Lookup:
			if e.Dst == RegVerdict {
				return false
			}
		case Immediate:
			if e.Dst == RegVerdict && e.Verdict.Code != VerdictContinue {
				return false
			}
		case Payload:
			if e.Src != RegNone {
				return false
			}
		case Meta:
			if e.Src != RegNone {
				return false
			}
		case CT:
			if e.Src != RegNone {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// verdict does what a rule or an element decides.
func (w *walker) verdict(s *state, v Verdict) next {
	switch v.Code {
	case VerdictContinue:
		return next{}
	case VerdictBreak:
		s.skip()
		return next{}
	case VerdictJump, VerdictGoto:
		to := w.table.Chain(v.Chain)
		if to == nil || v.Code == VerdictJump && len(s.stack) >= maxJumps {
			w.note(s, v.String())
			return w.ends(s, "")
		}
		s.matched()
		if v.Code == VerdictJump {
			s.stack = append(s.stack, caller{s.chain, s.at + 1})
		}
		s.skip()
		s.chain, s.at = to, 0
		return next{}
	case VerdictReturn:
		s.matched()
		s.skip()
		return w.leave(s)
	}
	if v.Code&verdictMask > VerdictRepeat {
		return w.ends(s, "")
	}
	return w.ends(s, v.String())
}

// ends lets the rule at hand decide.
func (w *walker) ends(s *state, verdict string) next {
	s.matched()
	return w.End(&s.Way, verdict)
}

// note adds to what could not be evaluated.
func (w *walker) note(s *state, what string) {
	r := s.here()
	w.Note(fmt.Sprintf("%s of %s %s %s rule %d", what, r.Family, r.Table, r.Chain, r.Number))
}
