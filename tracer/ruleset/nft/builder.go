// SPDX-License-Identifier: Apache-2.0

package nft

// This file puts decoded messages together to a rule set.

import "fmt"

// builder gathers the messages of one read.
type builder struct {
	rs    *Ruleset
	scope scope
}

// table finds the table that something belongs to; nil when it is not wanted.
// What belongs to a table that was not listed came between two lists.
func (b *builder) table(family, name string) (*Table, error) {
	if !b.scope.has(family, name) {
		return nil, nil
	}
	if t := b.rs.Table(family, name); t != nil {
		return t, nil
	}
	return nil, fmt.Errorf("table %s %s was not listed", family, name)
}

func (b *builder) addTable(msg []byte) error {
	t, err := decodeTable(msg)
	if err != nil || !b.scope.has(t.Family, t.Name) {
		return err
	}
	t.chains, t.sets = map[string]*Chain{}, map[string]*Set{}
	b.rs.Tables = append(b.rs.Tables, t)
	return nil
}

func (b *builder) addChain(msg []byte) error {
	c, err := decodeChain(msg)
	if err != nil {
		return err
	}
	t, err := b.table(c.Family, c.Table)
	if t == nil || err != nil {
		return err
	}
	t.Chains = append(t.Chains, c)
	t.chains[c.Name] = c
	return nil
}

func (b *builder) addRule(msg []byte) error {
	r, err := decodeRule(msg)
	if err != nil {
		return err
	}
	t, err := b.table(r.Family, r.Table)
	if t == nil || err != nil {
		return err
	}
	c := t.Chain(r.Chain)
	if c == nil {
		return fmt.Errorf("chain %s of table %s %s was not listed", r.Chain, r.Family, r.Table)
	}
	if b.scope.chain != "" && b.scope.chain != r.Chain {
		return nil // Linux before 4.8 does not filter by chain
	}
	c.Rules = append(c.Rules, r)
	r.Number = len(c.Rules)
	return nil
}

func (b *builder) addSet(msg []byte) error {
	s, err := decodeSet(msg)
	if err != nil {
		return err
	}
	t, err := b.table(s.Family, s.Table)
	if t == nil || err != nil {
		return err
	}
	t.Sets = append(t.Sets, s)
	t.sets[s.Name] = s
	return nil
}

func (b *builder) addObject(msg []byte) error {
	o, err := decodeObject(msg)
	if err != nil {
		return err
	}
	t, err := b.table(o.Family, o.Table)
	if t == nil || err != nil {
		return err
	}
	t.Objects = append(t.Objects, o)
	return nil
}

func (b *builder) addFlowtable(msg []byte) error {
	f, err := decodeFlowtable(msg)
	if err != nil {
		return err
	}
	t, err := b.table(f.Family, f.Table)
	if t == nil || err != nil {
		return err
	}
	t.Flowtables = append(t.Flowtables, f)
	return nil
}

// found tells whether what was asked for is there, once it has been listed.
func (b *builder) found(listed uint16) error {
	s := b.scope
	if listed == msgNewTable && s.table != "" && b.rs.Table(s.family, s.table) == nil {
		return fmt.Errorf("table %s %s: %w", s.family, s.table, ErrNotFound)
	}
	if listed == msgNewChain && s.chain != "" && b.rs.Chain(s.family, s.table, s.chain) == nil {
		return fmt.Errorf("chain %s of table %s %s: %w", s.chain, s.family, s.table, ErrNotFound)
	}
	return nil
}

// wanted are the sets whose elements are read; nil for all.
func (b *builder) wanted(t *Table) map[string]bool {
	if b.scope.chain == "" {
		return nil
	}
	sets := map[string]bool{}
	for _, r := range t.Chain(b.scope.chain).Rules {
		for _, e := range r.Exprs {
			switch e := e.(type) {
			case Lookup:
				sets[e.Set] = true
			case Objref:
				sets[e.Set] = true
			}
		}
	}
	return sets
}
