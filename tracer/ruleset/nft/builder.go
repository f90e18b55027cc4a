// SPDX-License-Identifier: Apache-2.0

package nft

// This file puts decoded messages together to a rule set.

import "fmt"

// builder gathers the messages of one read.
type builder struct{ rs *Ruleset }

// table finds the table that something belongs to. What belongs to a table that was
// not listed came between two lists.
func (b *builder) table(family, name string) (*Table, error) {
	if t := b.rs.Table(family, name); t != nil {
		return t, nil
	}
	return nil, fmt.Errorf("table %s %s was not listed", family, name)
}

func (b *builder) addTable(msg []byte) error {
	t, err := decodeTable(msg)
	if err != nil {
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
	if err != nil {
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
	if err != nil {
		return err
	}
	c := t.Chain(r.Chain)
	if c == nil {
		return fmt.Errorf("chain %s of table %s %s was not listed", r.Chain, r.Family, r.Table)
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
	if err != nil {
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
	if err != nil {
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
	if err != nil {
		return err
	}
	t.Flowtables = append(t.Flowtables, f)
	return nil
}
