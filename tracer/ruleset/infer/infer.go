// SPDX-License-Identifier: Apache-2.0

// Package infer tells which rule decided over a packet where the kernel could
// not be watched: table or base chain and verdict are known, the rule is not. It
// asks a rule set what it would do with the packet, and holds that against the
// verdict that was seen. What was seen wins: a way through the rules that ends
// otherwise was not the packet's. One deciding rule left is told; several are told
// as alternatives; none is told as such. Nothing is rounded.
//
// It reads no rule sets: which version of them a packet met is tracer/rulebook's
// knowledge.
//
//	infer.go     question -> answer       nat.go  who asks NAT rules at all
//	decide.go    ways -> answer
//	legacy.go    legacy table -> ways     nft.go  nft table -> ways
//	world.go     what rules ask about the node: addrtype.go and rpath.go, which ask
//	             route.go and policy.go
package infer

import (
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// Target is the table or base chain that a packet went through.
type Target struct {
	Backend string // node.BackendLegacy or node.BackendNFT
	Family  string // of the table: ip, ip6, inet, bridge
	Table   string
	Chain   string // nft: the base chain
	Hook    string // PREROUTING, INPUT, FORWARD, OUTPUT or POSTROUTING; nft: not needed
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
	// NotAsked: the target's rules are NAT's, and none of them was asked about the
	// packet (Unknown says why).
	NotAsked bool
	// Mark is the packet's mark behind the table, where it follows.
	Mark packet.Fact[uint32]
}

// Ask tells which rule of the target decided over a packet, given as the hook saw
// it before the table: its marks, addresses and connection are those with which it
// came. verdict is what was seen: accept, drop, reject, stolen, queue; "" when it
// was not. A packet without Hook gets the target's.
func Ask(rules Rules, target Target, p *packet.Packet, verdict string) Ruling {
	if p.Hook == "" {
		there := *p
		there.Hook = rules.hook(target)
		p = &there
	}
	nat, why := asked(rules, target, p)
	if why != "" {
		r := unknown("%s", why)
		r.NotAsked = true
		return r
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
