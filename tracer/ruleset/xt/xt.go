// SPDX-License-Identifier: Apache-2.0

// Package xt understands xtables matches and targets: the private structs that
// legacy iptables rules and iptables-nft rules (through nft_compat) carry. It
// prints them as iptables-save 1.8 does, asks them about a packet, and says
// what a target does to one. It needs no iptables on the node.
//
// The way in is DecodeMatch, DecodeTarget and DecodeEntry. A decoder is one row
// in tables.go and one function in a file named for its theme.
//
// Layouts are those of the kernel's uapi headers on 64-bit machines
// (include/uapi/linux/netfilter/xt_NAME.h, netfilter_ipv4/ipt_NAME.h and
// netfilter_ipv6/ip6t_NAME.h, Linux 5.10 to 6.18); semantics those of
// net/netfilter/xt_NAME.c, net/ipv4/netfilter and net/ipv6/netfilter. The tails
// that the kernel keeps pointers in are ignored.
package xt

import (
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// Families of rules, as nft and this package name them.
const (
	FamilyIPv4   = "ip"
	FamilyIPv6   = "ip6"
	FamilyInet   = "inet"
	FamilyBridge = "bridge"
)

// SetNames gives an ipset's name by its index in the rule's network namespace.
// Matches and targets keep only the index.
type SetNames interface {
	// SetName tells the name; false: there is no such set, or it is not known.
	SetName(index uint16) (string, bool)
}

// Context is what a blob means nothing without.
type Context struct {
	// Family is the rule's: ip, ip6, inet or bridge. What holds addresses can
	// only be read in a rule of ip or ip6.
	Family string
	// Sets names ipsets; nil: they print as <set INDEX> and cannot be evaluated.
	Sets SetNames
}

// Match is a decoded match.
type Match struct {
	Name     string // of the extension, as the kernel has it
	Revision uint8
	Opaque   bool // the extension, its revision or the blob's size is not known here

	text    string
	comment string
	eval    func(*packet.Packet) packet.Answer
	set     SetUse
}

// Text is the match as iptables-save prints it: "-m tcp --dport 80", or
// "-m NAME <n bytes>" if it is opaque.
func (m Match) Text() string { return m.text }

// Comment is the text of a comment match, "" of any other.
func (m Match) Comment() string { return m.comment }

// Eval asks whether the match holds for a packet. Matches that look at what a
// packet.Packet does not hold, or that have a memory, answer Unknown.
func (m Match) Eval(p *packet.Packet) packet.Answer {
	if m.eval == nil {
		return packet.Unknown
	}
	return m.eval(p)
}

// Kind is what a target makes of a packet that reaches it.
type Kind uint8

// Kinds.
const (
	// Continue goes on with the next rule; the target may have changed the packet.
	Continue Kind = iota
	// Accept ends the table with the packet going on: the NAT targets.
	Accept
	// Reject drops the packet and tells its sender.
	Reject
	// Queue hands the packet to a program, which decides.
	Queue
	// Undecided ends the table one way or the other, which the rule does not
	// tell (TPROXY, SYNPROXY), or belongs to a target not known here.
	Undecided
)

func (k Kind) String() string {
	return [...]string{"continue", "accept", "reject", "queue", "undecided"}[k]
}

// Target is a decoded target. The standard verdicts (ACCEPT, DROP, RETURN, jumps)
// are not extensions and not in here.
type Target struct {
	Name     string // of the extension, as the kernel has it
	Revision uint8
	Opaque   bool // the extension, its revision or the blob's size is not known here
	Kind     Kind
	With     string // of Reject: what the sender is told, as --reject-with names it

	text  string
	apply func(*packet.Packet)
	fills []string
}

// Text is the target as iptables-save prints it: "-j MARK --set-xmark 0x1/0x1",
// or "-j NAME <n bytes>" if it is opaque.
func (t Target) Text() string { return t.text }

// Apply changes a packet as the target does, as far as later rules of the same
// table can see it: marks, TOS, TTL. What the target changes to a value not known
// becomes unknown. Address translations are not applied: they are made by the
// connection tracking after the table, and the next sighting tells them.
func (t Target) Apply(p *packet.Packet) {
	switch {
	case t.apply != nil:
		t.apply(p)
	case t.Opaque:
		p.Mark, p.CT.Mark = packet.Fact[uint32]{}, packet.Fact[uint32]{}
	}
}

// DecodeMatch reads the data of a struct xt_entry_match (include/uapi/linux/
// netfilter/x_tables.h), or of an nft match expression. It never fails: what is
// not understood is opaque.
func DecodeMatch(ctx Context, name string, revision uint8, data []byte) Match {
	m := Match{Name: name, Revision: revision}
	for i := range matches {
		row := &matches[i]
		if !row.covers(ctx.Family, name, revision, len(data)) {
			continue
		}
		if body, ok := row.decode(ext{Context: ctx, rev: revision, data: data}); ok {
			m.text = "-m " + pick(body.alias, name) + body.opts
			m.comment, m.eval, m.set = body.comment, body.eval, body.set
			return m
		}
		break
	}
	m.Opaque, m.text = true, opaque("-m", name, len(data))
	return m
}

// DecodeTarget reads the data of a struct xt_entry_target, or of an nft target
// expression. It never fails: what is not understood is opaque and Undecided.
func DecodeTarget(ctx Context, name string, revision uint8, data []byte) Target {
	t := Target{Name: name, Revision: revision}
	for i := range targets {
		row := &targets[i]
		if !row.covers(ctx.Family, name, revision, len(data)) {
			continue
		}
		if body, ok := row.decode(ext{Context: ctx, rev: revision, data: data}); ok {
			t.text = "-j " + pick(body.alias, name) + body.opts
			t.Kind, t.With, t.apply, t.fills = body.kind, body.with, body.apply, body.fills
			return t
		}
		break
	}
	t.Opaque, t.Kind, t.text = true, Undecided, opaque("-j", name, len(data))
	return t
}

func opaque(flag, name string, size int) string {
	return fmt.Sprintf("%s %s <%d bytes>", flag, name, size)
}

func pick(first, second string) string {
	if first != "" {
		return first
	}
	return second
}

// matchBody is what a match's decoder makes of a blob.
type matchBody struct {
	opts    string // options with their leading blank, "" if there are none
	alias   string // name to print, if it is not the extension's
	comment string
	eval    func(*packet.Packet) packet.Answer // nil: Unknown
	set     SetUse
}

// targetBody is what a target's decoder makes of a blob.
type targetBody struct {
	opts  string
	alias string
	kind  Kind
	with  string
	apply func(*packet.Packet) // nil: the packet stays as it is
	fills []string             // ipsets that it adds to or takes from
}

// row is one decoder: an extension's name, the revisions and the family whose
// struct it reads, and that struct's size.
type row[B any] struct {
	name        string
	first, last uint8
	family      string // "" : any
	size        int    // of the struct, bytes
	decode      func(ext) (B, bool)
}

// covers tells whether the row's decoder can read such a blob. XT_ALIGN rounds
// the size in a rule up to a multiple of 8; nft_compat may give it either way.
func (r *row[B]) covers(family, name string, revision uint8, size int) bool {
	return r.name == name && revision >= r.first && revision <= r.last &&
		(r.family == "" || r.family == family) &&
		size >= r.size && size <= (r.size+7)&^7
}
