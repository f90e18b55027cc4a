// SPDX-License-Identifier: Apache-2.0

// Package legacy reads the tables of iptables-legacy and ip6tables-legacy out
// of the kernel and walks them. The kernel counts per rule, by ordinal: what
// comes in is a set of ordinals whose counters rose, or a packet; what goes out
// is the way through the chains, the rule that decided, and its text as
// iptables-save prints it. The iptables tool itself is not needed. Nothing is
// changed: a table is asked for only if it is there (read.go).
//
//	read.go   kernel -> bytes        order.go  counters that rose -> way
//	parse.go  bytes -> Table         walk.go   packet -> way, where it can be told
//	keep.go   what is kept of them   text.go   entry -> iptables-save
package legacy

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"

	"github.com/pathtrace/pathtrace/tracer/nfnetlink"
	"github.com/pathtrace/pathtrace/tracer/ruleset/xt"
)

// Errors that callers tell apart.
var (
	// ErrNoTable: the namespace has no such table (asking on would create it).
	ErrNoTable = errors.New("no such table")
	// ErrChanging: the table was replaced again and again while it was read.
	ErrChanging = errors.New("table is being replaced faster than it can be read")
	// ErrCorrupt: the bytes are no table.
	ErrCorrupt = errors.New("not a valid table")
)

// Families of legacy tables.
const (
	IPv4 = "ip"
	IPv6 = "ip6"
)

// Hooks is the number of netfilter hooks a table can have entries for
// (linux/netfilter.h, NF_INET_NUMHOOKS); the hooks are numbered NF_INET_*.
const Hooks = 5

// HookName is the name of a hook, which is also that of its built-in chain.
func HookName(hook int) string { return nfnetlink.Hook(IPv4, hook) }

// Kind is what an entry of the kernel's list stands for.
type Kind uint8

// Kinds of entries. Only rules have been written by somebody, and only they
// have a number.
const (
	KindRule   Kind = iota
	KindPolicy      // the policy of a built-in chain
	KindReturn      // the end of a user-defined chain: back to the caller
	KindHead        // carries the name of the user-defined chain behind it; no walk of a sound table meets it
	KindEnd         // the last entry of the table; no walk of a sound table meets it
)

func (k Kind) String() string {
	return [...]string{"rule", "policy", "return", "head", "end"}[k]
}

// Action is what an entry does with a packet that matches.
type Action uint8

// Actions. Extend means that the target is an extension (REJECT, MARK, ...),
// which decides itself; Next is a rule without target.
const (
	Extend Action = iota
	Accept
	Drop
	Queue
	Stolen
	Stop
	Return
	Jump
	Goto
	Next
)

// Entry is one entry of a table. Its index in Table.Entries is the ordinal under
// which the kernel counts it. There may be a hundred thousand, so it holds no more
// than what walks need; the rest is read out of the bytes (keep.go).
type Entry struct {
	Chain  string // one string for all entries of a chain
	Target int    // ordinal of the entry that Jump, Goto and Next lead to, else -1
	Number int32  // from 1 within its chain, for rules; else 0
	Offset uint32 // bytes from the start of the table, as the kernel lays it out
	at     uint32 // where Table.packed has it
	Kind   Kind
	Action Action
	always bool // matches every packet: no condition but comments
	// fussy: has a match that looks into the packet and may drop it by itself
	// (hotdrop), in which case no counter rises.
	fussy bool
}

// Table is one table as it was at one moment. It is never changed after it was
// parsed.
type Table struct {
	Family     string // IPv4 or IPv6
	Name       string
	ValidHooks uint32        // bit n: the table has a chain for hook n
	HookEntry  [Hooks]uint32 // offset of the first entry of a hook's chain
	Underflow  [Hooks]uint32 // offset of the policy of a hook's chain
	Size       uint32        // bytes of all entries
	Entries    []Entry

	// Sets names the ipsets that rules refer to by number; Read sets it. Nil:
	// they are printed by number, and cannot be evaluated.
	Sets xt.SetNames

	// depth is how many jumps can be open at once: one for each ERROR target
	// (translate_table, xt_table_info.stacksize); one more drops the packet.
	depth    int
	usesSets bool // some rule has the set match or the SET target
	layout   layout
	info     [infoLen]byte // as the kernel gave it
	packed   []byte        // the entries

	printing sync.Once // of print: the fingerprint, hashed when it is asked for first
	print    [sha256.Size]byte
}

// Has tells whether the table has a chain for a hook.
func (t *Table) Has(hook int) bool {
	return hook >= 0 && hook < Hooks && t.ValidHooks&(1<<hook) != 0
}

// Start is the ordinal where the walk of a hook begins.
func (t *Table) Start(hook int) (int, error) { return t.hookOrdinal(hook, &t.HookEntry) }

// Policy is the ordinal of the policy of a hook's chain.
func (t *Table) Policy(hook int) (int, error) { return t.hookOrdinal(hook, &t.Underflow) }

func (t *Table) hookOrdinal(hook int, offsets *[Hooks]uint32) (int, error) {
	if !t.Has(hook) {
		return 0, fmt.Errorf("%s table %s: has no chain for %s", t.Family, t.Name, HookName(hook))
	}
	i, ok := t.at(offsets[hook])
	if !ok {
		return 0, fmt.Errorf("%s table %s: no entry at offset %d: %w", t.Family, t.Name, offsets[hook], ErrCorrupt)
	}
	return i, nil
}

// at is the ordinal of the entry at an offset.
func (t *Table) at(offset uint32) (int, bool) {
	i := sort.Search(len(t.Entries), func(i int) bool { return t.Entries[i].Offset >= offset })
	return i, i < len(t.Entries) && t.Entries[i].Offset == offset
}

// Rules counts the rules people see: without policies, ends and heads of chains.
func (t *Table) Rules() int {
	n := 0
	for i := range t.Entries {
		if t.Entries[i].Kind == KindRule {
			n++
		}
	}
	return n
}

// Chain is a chain of a table.
type Chain struct {
	Name   string
	Policy string // ACCEPT or DROP for the built-in ones, else ""
	First  int    // ordinal of its first entry
	Last   int    // ordinal of its last: the policy, or the end of a user-defined chain
}

// Chains lists the chains in the order of the table, which is iptables-save's.
func (t *Table) Chains() []Chain {
	var all []Chain
	for i := range t.Entries {
		e := &t.Entries[i]
		if e.Kind == KindHead || e.Kind == KindEnd {
			continue
		}
		if n := len(all); n == 0 || all[n-1].Name != e.Chain || t.Entries[i-1].Kind == KindHead {
			all = append(all, Chain{Name: e.Chain, First: i})
		}
		c := &all[len(all)-1]
		c.Last = i
		if e.Kind == KindPolicy {
			c.Policy = actionName(e.Action)
		}
	}
	return all
}

// Ordinal finds a rule by chain and number, or a chain's policy by number 0. It
// is -1 if there is none.
func (t *Table) Ordinal(chain string, number int) int {
	return slices.IndexFunc(t.Entries, func(e Entry) bool {
		return e.Chain == chain && int(e.Number) == number && (e.Kind == KindRule || number == 0 && e.Kind == KindPolicy)
	})
}

// where names an entry for people: "filter/FORWARD rule 3".
func (t *Table) where(i int) string {
	e := &t.Entries[i]
	switch e.Kind {
	case KindRule:
		return fmt.Sprintf("%s/%s rule %d", t.Name, e.Chain, e.Number)
	case KindPolicy:
		return fmt.Sprintf("policy of %s/%s", t.Name, e.Chain)
	}
	return fmt.Sprintf("%s of %s/%s", e.Kind, t.Name, e.Chain)
}
