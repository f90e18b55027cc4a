// SPDX-License-Identifier: Apache-2.0

// Package infer tells which rule decided over a packet where the kernel could
// not be watched: table or base chain and verdict are known, the rule is not. It
// reads the rule set, asks it what it would do with the packet, and holds that
// against the verdict that was seen. What was seen wins: a way through the rules
// that ends otherwise was not the packet's. One deciding rule left is told;
// several are told as alternatives; none is told as such. Nothing is rounded.
//
// It only reads, never asks a subsystem that is not there, and holds no
// namespace open.
//
//	infer.go     question -> answer       versions.go  rule sets over time
//	decide.go    ways -> answer           nat.go       who asks NAT rules at all
//	legacy.go    legacy table -> ways     nft.go       nft table -> ways, text.go
//	world.go     what rules ask about the node: addrtype.go and rpath.go, which ask
//	             route.go and policy.go
package infer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/legacy"
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// Target is the table or base chain that a packet went through.
type Target struct {
	Backend string // node.BackendLegacy or node.BackendNFT
	Family  string // of the table: ip, ip6, inet, bridge
	Table   string
	Chain   string // nft: the base chain
	Hook    string // PREROUTING, INPUT, FORWARD, OUTPUT or POSTROUTING; nft: not needed
	// At is when the packet was there; zero: now. With it a rule set that changed
	// since is not taken for the one that the packet met.
	At time.Time
}

// String names it for people.
func (t Target) String() string {
	if t.Backend == node.BackendLegacy {
		return fmt.Sprintf("%s %s table %s at %s", t.Backend, t.Family, t.Table, t.Hook)
	}
	return fmt.Sprintf("%s %s table %s chain %s", t.Backend, t.Family, t.Table, t.Chain)
}

// Ruling is what can be told of the rules that decided over a packet.
type Ruling struct {
	// Rules are those that surely matched, in order. The deciding one comes last,
	// if it is known; rules that only may have matched are left out.
	Rules []model.Rule
	// Decided is the rule or policy that decided, an element of Rules; nil: not
	// known (Unknown says why).
	Decided *model.Rule
	// Verdict is what it decides: accept, drop, reject, queue, stolen; "" where
	// not known. It is more exact than what was seen (a reject is seen as drop).
	Verdict string
	// Unevaluated lists conditions that could not be evaluated on the way.
	Unevaluated []string
	// Alternatives are the rules of which one decided, as far as is known.
	Alternatives []model.Rule
	// Unknown says why no deciding rule is named; "" when it is.
	Unknown string
	// Mark is the packet's mark behind the table, where it follows.
	Mark packet.Fact[uint32]
}

// Book holds the rule sets that packets are held against. It may be used from
// several goroutines.
type Book struct {
	// Legacy may know legacy tables that others have read; nil: it does not. It is
	// to be set before the book is used.
	Legacy *legacy.Shelf

	ctx context.Context
	ns  *node.Namespaces
	now func() time.Time

	mu        sync.Mutex
	histories map[key]*history
	worlds    map[uint32]*World
	nft       bool // nf_tables was seen to be there
}

// New makes a book of a node. Nothing is read yet. The context ends reads.
func New(ctx context.Context, ns *node.Namespaces) *Book {
	return &Book{ctx: ctx, ns: ns, now: time.Now, histories: map[key]*history{}, worlds: map[uint32]*World{}}
}

// World is what rules of a namespace ask about the node.
func (b *Book) World(netns uint32) *World {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.world(netns)
}

func (b *Book) world(netns uint32) *World {
	w := b.worlds[netns]
	if w == nil {
		w = NewWorld(b.ns, netns)
		b.worlds[netns] = w
	}
	return w
}

// Watch reads a table, so that it is known what stood in it before packets came.
func (b *Book) Watch(netns uint32, target Target) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := keyOf(netns, target)
	return b.refresh(k, b.history(k))
}

// Tick looks whether tables that packets went through have changed, so that what
// later packets meet is known although it is replaced soon. Tables that cannot
// be read any more (gone with their namespace, most likely) are forgotten, and
// told by the error.
func (b *Book) Tick() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []error
	for k, h := range b.histories {
		switch err := b.catchUp(k, h, b.now()); {
		case errors.Is(err, errTooOften):
		case err != nil:
			delete(b.histories, k)
			delete(b.worlds, k.netns) // made again when asked for
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}

// Infer tells which rule of the target decided over a packet, given as the hook
// saw it before the table: its marks, addresses and connection are those with
// which it came. verdict is what was seen: accept, drop, reject, stolen, queue;
// "" when it was not. A packet without World gets that of the namespace, one
// without Hook the target's.
func (b *Book) Infer(netns uint32, target Target, p *packet.Packet, verdict string) Ruling {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := *p
	if q.World == nil {
		q.World = b.world(netns)
	}
	if target.At.IsZero() {
		target.At = b.now()
	}
	k := keyOf(netns, target)
	h := b.history(k)
	late := b.catchUp(k, h, target.At)
	if len(h.versions) == 0 {
		return unknown("%v", late)
	}
	r := rulingAt(h, target, &q, verdict)
	if late != nil {
		return doubted(r, late)
	}
	return r
}

// doubted is a ruling by rules of which it is not known that they still stood.
func doubted(r Ruling, why error) Ruling {
	d := Ruling{Unevaluated: r.Unevaluated, Alternatives: r.Alternatives}
	if r.Decided != nil {
		d.Alternatives = []model.Rule{*r.Decided}
	}
	d.Unknown = fmt.Sprintf("whether the rules were still those read before is not known: %v", why)
	return d
}

// rulingAt holds a packet against the rules as they were at its time.
func rulingAt(h *history, target Target, p *packet.Packet, verdict string) Ruling {
	versions := h.at(target.At)
	rulings := make([]Ruling, len(versions))
	for i, v := range versions {
		rulings[i] = rulingBy(v.rules, target, p, verdict)
	}
	return agreement(rulings)
}

// rulingBy holds a packet against one rule set.
func rulingBy(rules ruleset, target Target, p *packet.Packet, verdict string) Ruling {
	if p.Hook == "" {
		there := *p
		there.Hook = rules.hook(target)
		p = &there
	}
	nat, why := asked(rules, target, p)
	if why != "" {
		return unknown("%s", why)
	}
	w, err := rules.walk(p, target)
	if err != nil {
		return unknown("%v", err)
	}
	r := decide(w, verdict)
	if nat == packet.Unknown {
		r.Unevaluated = append(r.Unevaluated, "whether the packet was the first of its connection, which alone asks NAT rules")
	}
	return r
}

// unknown is a ruling that names nothing.
func unknown(format string, args ...any) Ruling {
	return Ruling{Unknown: fmt.Sprintf(format, args...)}
}
