// SPDX-License-Identifier: Apache-2.0

// Package routing answers what the kernel would: by which rule of policy routing,
// from which table and by which route a packet goes, or with which error it is
// refused. It asks nobody: rules, routes and links are given, as they were read.
//
// The order of things is the kernel's: fib_rules_lookup and fib_rule_match
// (net/core/fib_rules.c), fib4_rule_* and fib_table_lookup (net/ipv4/fib_rules.c,
// fib_trie.c), fib6_rule_* and fib6_table_lookup (net/ipv6/fib6_rules.c, route.c),
// 6.1 to 6.18. What a rule asks and is not known of the packet is never guessed:
// then all answers that there may be are given, and what they depend on.
package routing

import (
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/node"
)

// FIB is what a namespace's look-ups depend on.
type FIB struct {
	Rules  []node.PolicyRule // of both families, in the kernel's order
	Routes []node.Route      // of both families and all tables, in the kernel's order
	Links  []node.Link
}

// Loopback is the index of the loopback interface, by which a namespace's own
// packets count as coming in (LOOPBACK_IFINDEX, include/net/flow.h).
const Loopback = 1

// Known is a value that may not be known.
type Known[T any] struct {
	Value T
	Known bool
}

// Of is a value that is known.
func Of[T any](value T) Known[T] { return Known[T]{value, true} }

// Question is a look-up.
type Question struct {
	Dst netip.Addr
	Src netip.Addr // invalid: not chosen yet
	IIF int        // index of the interface it comes in by; Loopback: the namespace's own
	OIF int        // it is bound to; 0: to none
	// Mark is the packet's; only rules that ask for one need it.
	Mark Known[uint32]
	TOS  Known[uint8] // the bits that look-ups see
	UID  Known[uint32]
	// Proto and ports are those of the first or only fragment; ports are 0 where the
	// protocol has none.
	Proto            Known[uint8]
	SrcPort, DstPort uint16
}

// Answer is one result of a look-up.
type Answer struct {
	Rule  *node.PolicyRule // that decided; nil: none did
	Table uint32           // the table that was asked, and answered; 0: none
	Route *node.Route      // nil: there is none, or the rule itself refuses
	Hops  []node.NextHop   // of the route, those that may be taken: of several one is, by a hash
	// Error is 0 for a packet that is sent or delivered; ENETUNREACH, EHOSTUNREACH,
	// EACCES or EINVAL for one that is refused.
	Error unix.Errno
}

// Same tells whether two answers are one.
func (a Answer) Same(b Answer) bool {
	return a.Rule == b.Rule && a.Route == b.Route && a.Error == b.Error
}

// Leads tells whether it sends a packet out of an interface, maybe of several.
func (a Answer) Leads(index int) bool {
	return a.Error == 0 && slices.ContainsFunc(a.Hops, func(h node.NextHop) bool { return h.LinkIndex == index })
}

// Result is all that a look-up may give.
type Result struct {
	Answers []Answer // at least one, each of them once
	Doubts  []string // what it depends on which of several it is
	// open: there may be another answer that is not among them.
	open bool
}

// Sure is the answer, if there can be only one.
func (r Result) Sure() (Answer, bool) {
	if len(r.Answers) != 1 || r.open {
		return Answer{}, false
	}
	return r.Answers[0], true
}

// Lookup looks a packet's way up.
func (f *FIB) Lookup(q Question) Result {
	l := &lookup{fib: f, q: q, family: unix.AF_INET, vrf: f.vrfOf(q)}
	if q.Dst.Is6() {
		l.family = unix.AF_INET6
	}
	for i := range f.Rules {
		if f.Rules[i].Family == l.family {
			l.rules = append(l.rules, &f.Rules[i])
		}
	}
	l.from(0, make(map[int]bool))
	l.unasked()
	return l.found
}

// unasked: without other rules than the first ones ever added, IPv6 asks no rules
// but local and main by itself, even if their rules are gone (fib6_rule_lookup,
// net/ipv6/fib6_rules.c). Whether some were added once does not show.
func (l *lookup) unasked() {
	if l.family != unix.AF_INET6 || len(l.rules) >= 2 {
		return
	}
	for _, r := range l.rules {
		if r.Priority != 0 && r.Priority != 32766 {
			return
		}
	}
	l.doubt("whether the kernel asks its policy rules at all: one of the first two is gone, and it does not miss it until another rule is added")
	for _, table := range []uint32{unix.RT_TABLE_LOCAL, unix.RT_TABLE_MAIN} {
		if a, ok := l.ask(table); ok && a.Error != unix.EAGAIN {
			l.give(a)
			return
		}
	}
}

// InTable looks a packet's way up in one table; ok is false if it has none.
func (f *FIB) InTable(q Question, table uint32) (a Answer, ok bool) {
	l := &lookup{fib: f, q: q, family: unix.AF_INET, vrf: f.vrfOf(q)}
	if q.Dst.Is6() {
		l.family = unix.AF_INET6
	}
	a, ok = l.ask(table)
	return a, ok && !l.found.open
}

// lookup is a look-up under way.
type lookup struct {
	fib    *FIB
	q      Question
	family int
	vrf    *node.Link // that the packet belongs to; nil: none
	rules  []*node.PolicyRule
	found  Result
}

func (l *lookup) doubt(format string, args ...any) {
	if says := fmt.Sprintf(format, args...); !slices.Contains(l.found.Doubts, says) {
		l.found.Doubts = append(l.found.Doubts, says)
	}
}

func (l *lookup) give(a Answer) {
	if !slices.ContainsFunc(l.found.Answers, a.Same) {
		l.found.Answers = append(l.found.Answers, a)
	}
}

// from goes through the rules from one on. Where it is not known whether a rule
// applies, both ways are gone; been are the rules that were come by.
func (l *lookup) from(at int, been map[int]bool) {
	for i := at; i < len(l.rules); i++ {
		if been[i] {
			return // what follows is known from the other way here
		}
		been[i] = true
		r := l.rules[i]
		applies, why := l.match(r)
		if applies == no {
			continue
		}
		if applies == maybe {
			l.doubt("whether rule %d applies: %s", r.Priority, why)
		}
		if r.Action == node.ActGoto && r.Flags&node.RuleUnresolved == 0 {
			if to := slices.IndexFunc(l.rules, func(t *node.PolicyRule) bool { return t.Priority == r.Goto }); to > i {
				l.from(to, been)
				if applies == yes {
					return
				}
			}
			continue
		}
		a, decided := l.apply(r)
		if !decided {
			continue
		}
		l.give(a)
		if applies == yes {
			return
		}
	}
	l.give(Answer{Error: unix.ENETUNREACH}) // no rule decided
}

// apply is what a rule that applies says; decided is false where the next one is
// asked.
func (l *lookup) apply(r *node.PolicyRule) (a Answer, decided bool) {
	switch r.Action {
	case node.ActTable:
	case node.ActGoto, node.ActNothing:
		return a, false
	case node.ActUnreachable:
		return Answer{Rule: r, Error: unix.ENETUNREACH}, true
	case node.ActProhibit:
		return Answer{Rule: r, Error: unix.EACCES}, true
	default:
		return Answer{Rule: r, Error: unix.EINVAL}, true
	}
	table := r.Table
	if r.L3MDev {
		table = l.vrf.VRFTable
	}
	a, ok := l.ask(table)
	if !ok || a.Error == unix.EAGAIN || l.suppressed(r, a) {
		return a, false
	}
	a.Rule = r
	return a, true
}

// suppressed tells an answer that its rule does not take.
func (l *lookup) suppressed(r *node.PolicyRule, a Answer) bool {
	if a.Error != 0 {
		return false
	}
	if a.Route.Dst.Bits() <= r.SuppressPrefixLength {
		return true
	}
	if r.SuppressGroup < 0 || len(a.Hops) == 0 {
		return false
	}
	dev := l.fib.Link(a.Hops[0].LinkIndex)
	return dev != nil && dev.Group == r.SuppressGroup
}

// Link finds an interface; nil if there is none.
func (f *FIB) Link(index int) *node.Link {
	for i := range f.Links {
		if f.Links[i].Index == index {
			return &f.Links[i]
		}
	}
	return nil
}

// vrfOf is the VRF that a packet belongs to, by the interface it is bound to, or
// that it came in by (l3mdev_update_flow, net/l3mdev/l3mdev.c).
func (f *FIB) vrfOf(q Question) *node.Link {
	for _, index := range []int{q.OIF, q.IIF} {
		l := f.Link(index)
		if l != nil && l.Master != 0 && l.VRFTable == 0 {
			l = f.Link(l.Master)
		}
		if l != nil && l.VRFTable != 0 {
			return l
		}
		if q.OIF != 0 {
			return nil
		}
	}
	return nil
}
