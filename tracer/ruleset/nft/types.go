// SPDX-License-Identifier: Apache-2.0

package nft

// This file holds what a rule set is made of above the expressions: tables,
// chains, rules, sets with their elements, objects and flowtables.

// Families of tables, as nft writes them.
const (
	FamilyInet   = "inet"
	FamilyIP     = "ip"
	FamilyIP6    = "ip6"
	FamilyARP    = "arp"
	FamilyBridge = "bridge"
	FamilyNetdev = "netdev"
)

// Numbers of the families (linux/netfilter.h, NFPROTO_*).
const (
	protoInet   = 1
	protoIPv4   = 2
	protoARP    = 3
	protoNetdev = 5
	protoBridge = 7
	protoIPv6   = 10
)

// Ruleset is all tables of a namespace at one generation. It is not changed
// once read and may be shared.
type Ruleset struct {
	// Generation counts the commits to the namespace's rule set (NFTA_GEN_ID).
	Generation uint32
	Tables     []*Table
	names      *names
}

// Table is one table.
type Table struct {
	Family, Name string
	Handle       uint64
	Flags        uint32 // NFT_TABLE_F_*: 1 dormant
	Chains       []*Chain
	Sets         []*Set
	Objects      []*Object
	Flowtables   []*Flowtable

	chains map[string]*Chain
	sets   map[string]*Set
}

// Chain is one chain; a base chain has a hook.
type Chain struct {
	Family, Table, Name string
	Handle              uint64

	Type     string // filter, nat, route; "" for a chain that is no base chain
	Hook     string // PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING, INGRESS, EGRESS
	HookNum  uint32
	Priority int32
	Policy   string // accept, drop
	Devices  []string
	Binding  bool // written inline in the rule that jumps there (jump { ... })
	Rules    []*Rule
}

// Base tells whether the chain hangs on a hook.
func (c *Chain) Base() bool { return c.Hook != "" }

// Rule is one rule.
type Rule struct {
	Family, Table, Chain string
	Handle               uint64
	Number               int // within the chain, from 1
	Exprs                []Expr
	Comment              string
	// UserData is what the program that wrote the rule attached to it (a list
	// of type, length, value); Comment is taken from it.
	UserData []byte
}

// HasXT tells whether matches or targets of xtables are in the rule: such a one
// was written by iptables-nft, and its text is iptables' business.
func (r *Rule) HasXT() bool {
	for _, e := range r.Exprs {
		switch e.(type) {
		case Match, Target:
			return true
		}
	}
	return false
}

// Flags of a set (enum nft_set_flags).
const (
	SetAnonymous = 0x1
	SetConstant  = 0x2
	SetInterval  = 0x4
	SetMap       = 0x8
	SetTimeout   = 0x10
	SetEval      = 0x20
	SetObject    = 0x40
	SetConcat    = 0x80
)

// Set is a set, a map or a verdict map.
type Set struct {
	Family, Table, Name string
	Handle              uint64
	Flags               uint32
	KeyType             uint32 // nft's own numbers, six bits each in a concatenation
	KeyLen              uint32 // bytes
	DataType            uint32 // likewise; dataVerdict for a verdict map
	DataLen             uint32
	ObjectType          uint32 // NFT_OBJECT_*, maps of objects
	Size                uint32 // 0: no limit
	Timeout             uint64 // ms
	// FieldLens are the lengths of a concatenated key's parts in bytes, each
	// padded to four in the key; empty where the kernel does not tell.
	FieldLens []uint32
	Elements  []Element
	// Unsettled: the commit that changed it may not have ended yet when it was read,
	// nor when packets of that generation came by (see Unsettle); until then it was
	// as Former, if that is known.
	Unsettled bool
	Former    *Set

	userData []byte
	index    map[string]int // exact sets: key to its place in Elements
	ranges   []span         // sets of ranges, in order
}

// Anonymous tells whether the set is written inline in its rule.
func (s *Set) Anonymous() bool { return s.Flags&SetAnonymous != 0 }

// VerdictMap tells whether the data of the set are verdicts.
func (s *Set) VerdictMap() bool { return s.Flags&SetMap != 0 && s.DataType == dataVerdict }

// dataVerdict is NFT_DATA_VERDICT.
const dataVerdict = 0xffffff00

// Element is one element of a set as the kernel lists it. A range is either two
// elements, one for the begin and one with End for the first key behind it, or
// one with KeyEnd, its last key.
type Element struct {
	Key, KeyEnd []byte
	End         bool
	CatchAll    bool
	Data        []byte
	Verdict     *Verdict
	Object      string
	Timeout     uint64 // ms; 0: none of its own
	Comment     string
	Exprs       []Expr
}

// Object is a stateful object that rules refer to.
type Object struct {
	Family, Table, Name string
	Type                uint32 // NFT_OBJECT_*
	Handle              uint64
}

// Flowtable is a table of offloaded connections.
type Flowtable struct {
	Family, Table, Name string
	Devices             []string
}

// Table finds a table; nil when there is none.
func (rs *Ruleset) Table(family, name string) *Table {
	for _, t := range rs.Tables {
		if t.Family == family && t.Name == name {
			return t
		}
	}
	return nil
}

// Chain finds a chain; nil when there is none.
func (t *Table) Chain(name string) *Chain { return t.chains[name] }

// Set finds a set or map; nil when there is none.
func (t *Table) Set(name string) *Set { return t.sets[name] }

// Chain finds a chain of a table; nil when there is none.
func (rs *Ruleset) Chain(family, table, name string) *Chain {
	if t := rs.Table(family, table); t != nil {
		return t.Chain(name)
	}
	return nil
}

// Rule finds a rule by its handle, which is unique within its table. chain may
// be "", then all of them are searched.
func (rs *Ruleset) Rule(family, table, chain string, handle uint64) (*Rule, bool) {
	t := rs.Table(family, table)
	if t == nil {
		return nil, false
	}
	for _, c := range t.Chains {
		if chain != "" && c.Name != chain {
			continue
		}
		for _, r := range c.Rules {
			if r.Handle == handle {
				return r, true
			}
		}
	}
	return nil, false
}

// Count is the number of rules.
func (rs *Ruleset) Count() int {
	var n int
	for _, t := range rs.Tables {
		for _, c := range t.Chains {
			n += len(c.Rules)
		}
	}
	return n
}
