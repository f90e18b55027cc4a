// SPDX-License-Identifier: Apache-2.0

package nft

// This file tells what a base chain would do with a packet, where the kernel
// could not be watched doing it. A match that cannot be evaluated leaves both
// ways open; both are followed, and what they agree on is still certain.
// Nothing is rounded: a walk that depends on what was not seen gives its
// alternatives.

import (
	"fmt"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
	"github.com/pathtrace/pathtrace/tracer/ruleset/xt"
)

// Limits of a walk.
const (
	maxForks     = 16
	maxWalkSteps = 1 << 18
	// maxJumps is NFT_JUMP_STACK_SIZE (include/net/netfilter/nf_tables.h).
	maxJumps = 16
)

// Step is a rule all of whose expressions hold for the packet.
type Step struct {
	Rule    *Rule
	Certain bool // false: it depends on something that was not seen
	// Element is the element of the map that the rule's verdict was taken from.
	Map     *Set
	Element *Element
}

// Outcome is one way a walk can end.
type Outcome struct {
	Steps   []Step // one way there; the last one decided unless Policy
	Policy  bool   // the base chain's policy decided
	Verdict string // accept, drop, reject, queue, stolen; "" where not known
	// Packet is the packet as it leaves the chain: with the marks set in it.
	// Marks on which the ways there do not agree are unknown.
	Packet packet.Packet
}

// Deciding is the step that decided; nil for a policy.
func (o *Outcome) Deciding() *Step {
	if o.Policy || len(o.Steps) == 0 {
		return nil
	}
	return &o.Steps[len(o.Steps)-1]
}

// Walk is what a base chain makes of a packet.
type Walk struct {
	Outcomes []Outcome // all ways it can end, one for each rule or element that decides
	Unknown  []string  // what could not be evaluated: "limit of inet filter forward rule 3"
	Complete bool      // false: there are more ways than were followed
}

// Certain is the outcome if there can be no other. Its last step is certain then,
// whatever the ones before.
func (w Walk) Certain() (Outcome, bool) {
	if !w.Complete || len(w.Outcomes) != 1 {
		return Outcome{}, false
	}
	o := w.Outcomes[0]
	o.Steps = slices.Clone(o.Steps)
	if d := o.Deciding(); d != nil {
		d.Certain = true
	}
	return o, true
}

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
	w := &walker{
		rs: rs, table: t, base: c, proto: hookFamily(family, p.Family),
		xt: xt.Context{Family: family, Sets: sets}, seen: map[string]bool{}, result: Walk{Complete: true},
	}
	w.todo = []state{{chain: c, p: *p, mark: number(p.Mark), ctMark: number(p.CT.Mark), certain: true}}
	for len(w.todo) > 0 {
		last := len(w.todo) - 1
		s := w.todo[last]
		w.todo = w.todo[:last]
		for s.run(w) {
		}
	}
	return w.result, nil
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

// walker follows the states still to be followed.
type walker struct {
	rs     *Ruleset
	table  *Table
	base   *Chain
	proto  uint8
	xt     xt.Context
	todo   []state
	seen   map[string]bool // states that forks went on in
	forks  int
	steps  int
	result Walk
}

// caller is where a jump returns to.
type caller struct {
	chain *Chain
	at    int
}

// state is a packet on its way.
type state struct {
	chain *Chain
	at    int // rule
	expr  int // expression within it
	stack []caller
	regs  registers
	p     packet.Packet
	// mark and ctMark are the packet's marks bit by bit: rules set some bits of
	// a mark that is not known, and ask for them later.
	mark, ctMark datum
	steps        []Step
	set          *Set
	elem         *Element
	// certain: what was not seen made no difference so far. unsure: it does only
	// to whether the rule at hand matches, which changes nothing.
	certain, unsure bool
}

// here is the rule at hand.
func (s *state) here() *Rule { return s.chain.Rules[s.at] }

// run evaluates one expression. It is false at the end of the walk.
func (s *state) run(w *walker) bool {
	if w.steps++; w.steps > maxWalkSteps {
		w.result.Complete = false
		return false
	}
	if s.at >= len(s.chain.Rules) {
		return s.leave(w)
	}
	r := s.here()
	if s.expr >= len(r.Exprs) {
		s.matched()
		s.skip()
		return true
	}
	e := r.Exprs[s.expr]
	s.expr++
	return w.eval(s, e)
}

// matched notes that all expressions of the rule hold.
func (s *state) matched() {
	s.steps = append(s.steps, Step{Rule: s.here(), Certain: s.certain && !s.unsure, Map: s.set, Element: s.elem})
}

// skip goes to the next rule.
func (s *state) skip() {
	s.at++
	s.expr, s.unsure, s.set, s.elem = 0, false, nil, nil
	s.regs = registers{}
}

// leave ends a chain: back to the caller, or to the policy.
func (s *state) leave(w *walker) bool {
	n := len(s.stack)
	if n == 0 {
		return w.end(s, w.base.Policy, true)
	}
	back := s.stack[n-1]
	s.stack = s.stack[:n-1]
	s.chain, s.at = back.chain, back.at
	s.expr, s.regs = 0, registers{}
	return true
}

// answer goes on, to the next rule, or both ways.
func (s *state) answer(w *walker, a packet.Answer, what string) bool {
	switch a {
	case packet.Yes:
	case packet.No:
		s.skip()
	default:
		return s.fork(w, what)
	}
	return true
}

// fork follows an expression that may or may not hold. Where the rest of the
// rule has no effect there is no second way.
func (s *state) fork(w *walker, what string) bool {
	w.note(s, what)
	if s.idle() {
		s.unsure = true
		return true
	}
	if !s.split(w) {
		return false
	}
	s.certain = false
	return true
}

// split lets a copy of the state go on with the next rule.
func (s *state) split(w *walker) bool {
	other := s.clone()
	other.skip()
	other.certain = false
	if key := other.key(); !w.seen[key] {
		w.seen[key] = true
		if !w.mayFork() {
			return false
		}
		w.todo = append(w.todo, other)
	}
	return true
}

func (s *state) clone() state {
	c := *s
	c.stack, c.steps = slices.Clone(s.stack), slices.Clone(s.steps)
	return c
}

// key names what the rest of a walk depends on, at the begin of a rule.
func (s *state) key() string {
	p := &s.p
	return fmt.Sprint(s.chain.Name, s.at, len(s.stack), s.stack, s.mark.value, s.mark.known, s.ctMark.value, s.ctMark.known, p.CT.State, p.TOS, p.TTL, p.Src, p.Dst, p.SrcPort, p.DstPort)
}

// mayFork counts a fork, and tells whether there may be another.
func (w *walker) mayFork() bool {
	if w.forks++; w.forks > maxForks {
		w.result.Complete = false
		return false
	}
	return true
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

// verdict does what a rule or an element decides. It is false at the end of the
// walk.
func (s *state) verdict(w *walker, v Verdict) bool {
	switch v.Code {
	case VerdictContinue:
		return true
	case VerdictBreak:
		s.skip()
		return true
	case VerdictJump, VerdictGoto:
		s.matched()
		next := w.table.Chain(v.Chain)
		if next == nil || v.Code == VerdictJump && len(s.stack) >= maxJumps {
			w.note(s, v.String())
			return w.end(s, "", false)
		}
		if v.Code == VerdictJump {
			s.stack = append(s.stack, caller{s.chain, s.at + 1})
		}
		s.skip()
		s.chain, s.at = next, 0
		return true
	case VerdictReturn:
		s.matched()
		s.skip()
		return s.leave(w)
	}
	s.matched()
	word := v.String()
	if v.Code&verdictMask > VerdictRepeat {
		word = ""
	}
	return w.end(s, word, false)
}

// end notes an outcome, once for each rule and element that decides. It is
// false, for run.
func (w *walker) end(s *state, verdict string, policy bool) bool {
	o := Outcome{Steps: slices.Clone(s.steps), Policy: policy, Verdict: verdict, Packet: s.p}
	i := slices.IndexFunc(w.result.Outcomes, func(other Outcome) bool { return other.same(&o) })
	if i < 0 {
		w.result.Outcomes = append(w.result.Outcomes, o)
		return false
	}
	p := &w.result.Outcomes[i].Packet
	p.Mark, p.CT.Mark = agreed(p.Mark, s.p.Mark), agreed(p.CT.Mark, s.p.CT.Mark)
	p.TOS, p.TTL = agreed(p.TOS, s.p.TOS), agreed(p.TTL, s.p.TTL)
	return false
}

// same tells whether two outcomes were decided by the same thing.
func (o *Outcome) same(other *Outcome) bool {
	a, b := o.Deciding(), other.Deciding()
	if o.Policy || other.Policy || a == nil || b == nil {
		return o.Policy == other.Policy && o.Verdict == other.Verdict && (a == nil) == (b == nil)
	}
	return a.Rule == b.Rule && a.Element == b.Element && o.Verdict == other.Verdict
}

// agreed is a fact on which two ways agree, else unknown.
func agreed[T comparable](a, b packet.Fact[T]) packet.Fact[T] {
	if a != b {
		return packet.Fact[T]{}
	}
	return a
}

// note adds to what could not be evaluated.
func (w *walker) note(s *state, what string) {
	r := s.here()
	text := fmt.Sprintf("%s of %s %s %s rule %d", what, r.Family, r.Table, r.Chain, r.Number)
	if !slices.Contains(w.result.Unknown, text) {
		w.result.Unknown = append(w.result.Unknown, text)
	}
}
