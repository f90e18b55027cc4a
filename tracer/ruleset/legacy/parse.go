// SPDX-License-Identifier: Apache-2.0

package legacy

// This file turns the kernel's bytes into a Table. It trusts nothing: every
// offset is checked before it is followed, so that a truncated or garbled
// answer is an error with the table's name and the offset. Matches and targets
// are only located here; xt decodes them when they are asked for.

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Parse decodes a table of family IPv4 or IPv6: info is a struct ipt_getinfo
// (IPT_SO_GET_INFO), entries what IPT_SO_GET_ENTRIES gives behind its header.
// Neither is kept. Every error wraps ErrCorrupt.
func Parse(family string, info, entries []byte) (*Table, error) {
	lay, ok := layouts(family)
	if !ok {
		return nil, fmt.Errorf("family %q: want %q or %q: %w", family, IPv4, IPv6, ErrCorrupt)
	}
	if len(info) != infoLen {
		return nil, fmt.Errorf("%s table: information of %d bytes, want %d: %w", family, len(info), infoLen, ErrCorrupt)
	}
	t := &Table{
		Family:     family,
		Name:       unix.ByteSliceToString(info[:tableNameLen]),
		ValidHooks: u32(info[infoHooks:]),
		Size:       u32(info[infoSize:]),
		layout:     lay,
		info:       [infoLen]byte(info),
	}
	for hook := range Hooks {
		t.HookEntry[hook] = u32(info[infoEntry+4*hook:])
		t.Underflow[hook] = u32(info[infoUnderflow+4*hook:])
	}
	p := &parser{t, entries}
	steps := []func() error{
		func() error { return p.locate(u32(info[infoNumber:])) },
		p.assign,
		t.resolve,
		func() error { return t.keep(entries) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, fmt.Errorf("%s table %q: %w: %w", family, t.Name, err, ErrCorrupt)
		}
	}
	return t, nil
}

// parser is a table with the kernel's bytes of its entries.
type parser struct {
	*Table
	raw []byte
}

// parts are an entry's header with its matches, and its target, once it has been
// located.
func (p *parser) parts(i int) (head, target []byte) {
	raw := p.raw[p.Entries[i].Offset:p.end(i)]
	at := u16(raw[p.layout.target:])
	return raw[:at], raw[at:]
}

// locate finds where each entry begins and ends.
func (p *parser) locate(number uint32) error {
	if uint64(p.Size) != uint64(len(p.raw)) {
		return fmt.Errorf("entries of %d bytes, %d announced", len(p.raw), p.Size)
	}
	if most := len(p.raw) / (p.layout.header + extHeader); uint64(number) > uint64(most) {
		return fmt.Errorf("%d entries do not fit into %d bytes", number, len(p.raw))
	}
	p.Entries = make([]Entry, 0, number)
	for offset := 0; offset < len(p.raw); {
		if len(p.Entries) == int(number) {
			return fmt.Errorf("more entries than the %d announced, at offset %d", number, offset)
		}
		e, next, err := p.entryAt(offset)
		if err != nil {
			return fmt.Errorf("entry %d at offset %d: %w", len(p.Entries), offset, err)
		}
		p.Entries = append(p.Entries, e)
		offset = next
	}
	if len(p.Entries) != int(number) {
		return fmt.Errorf("%d entries, %d announced", len(p.Entries), number)
	}
	return nil
}

// entryAt checks the sizes within one entry. It always leads forward.
func (p *parser) entryAt(offset int) (e Entry, behind int, err error) {
	raw, lay := p.raw[offset:], p.layout
	if len(raw) < lay.header+extHeader {
		return Entry{}, 0, fmt.Errorf("truncated after %d bytes", len(raw))
	}
	target, next := u16(raw[lay.target:]), u16(raw[lay.target+2:])
	switch {
	case target < lay.header:
		return Entry{}, 0, fmt.Errorf("target at %d lies within the entry's header of %d bytes", target, lay.header)
	case next < target+extHeader:
		return Entry{}, 0, fmt.Errorf("ends at %d, too soon for a target at %d", next, target)
	case next > len(raw):
		return Entry{}, 0, fmt.Errorf("ends at %d, beyond the last of %d bytes", next, len(raw))
	case next%entryAlign != 0:
		return Entry{}, 0, fmt.Errorf("ends at %d, no multiple of %d", next, entryAlign)
	}
	if size := u16(raw[target:]); size < extHeader || target+size > next {
		return Entry{}, 0, fmt.Errorf("target of %d bytes at %d, the entry ends at %d", size, target, next)
	}
	e = Entry{Target: -1, Offset: uint32(offset)}
	return e, offset + next, p.conditions(&e, raw[:target])
}

// conditions looks at the header and the matches of an entry, given without its
// target: whether it has any condition.
func (p *parser) conditions(e *Entry, raw []byte) error {
	lay := p.layout
	e.always = true
	for i, b := range raw[:lay.ip] {
		if i == lay.flags {
			b &^= lay.gotoed
		}
		e.always = e.always && b == 0
	}
	e.fussy = raw[lay.flags]&lay.proto != 0
	for offset := lay.header; offset < len(raw); {
		rest := raw[offset:]
		if len(rest) < extHeader {
			return fmt.Errorf("match at %d is truncated", offset)
		}
		size := u16(rest)
		if size < extHeader || size > len(rest) {
			return fmt.Errorf("match of %d bytes at %d, the target begins at %d", size, offset, len(raw))
		}
		switch {
		case named(rest, "comment"):
		case named(rest, "set"):
			p.usesSets = true
			fallthrough
		default:
			e.always, e.fussy = false, true
		}
		offset += size
	}
	return nil
}

// assign tells for each entry what it is and to which chain it belongs.
func (p *parser) assign() error {
	var c inChain
	for i := range p.Entries {
		if err := p.assignEntry(i, &c); err != nil {
			return fmt.Errorf("entry %d at offset %d: %w", i, p.Entries[i].Offset, err)
		}
	}
	if n := len(p.Entries); n == 0 || p.Entries[n-1].Kind != KindEnd {
		return errors.New("the last entry is not the end of a table")
	}
	return nil
}

// inChain is the chain that entries belong to, and its rules so far; no name:
// none.
type inChain struct {
	name  string
	rules int32
}

func (p *parser) assignEntry(i int, c *inChain) error {
	e := &p.Entries[i]
	if hook, ok := p.hookAt(e.Offset, &p.HookEntry); ok {
		*c = inChain{name: HookName(hook)}
	}
	if p.isHead(i) {
		return p.assignHead(i, c)
	}
	if c.name == "" {
		return errors.New("belongs to no chain")
	}
	e.Chain = c.name
	if err := p.readTarget(i); err != nil {
		return err
	}
	switch {
	case p.isPolicy(i):
		e.Kind, *c = KindPolicy, inChain{}
	case p.isEnd(i):
		e.Kind = KindReturn
	default:
		c.rules++
		e.Kind, e.Number = KindRule, c.rules
	}
	return nil
}

// isHead tells the head of a user-defined chain and the end of the table: their
// target is ERROR.
func (p *parser) isHead(i int) bool {
	_, target := p.parts(i)
	return named(target, errorTarget)
}

// assignHead begins a chain, or ends the table. A walk that ran into such an
// entry would lose its packet (ip_tables.c, ipt_error).
func (p *parser) assignHead(i int, c *inChain) error {
	e := &p.Entries[i]
	if !p.bare(i) {
		return errors.New("head of a chain with conditions")
	}
	p.depth++
	e.Action = Drop
	if i == len(p.Entries)-1 {
		e.Kind = KindEnd
		return nil
	}
	_, target := p.parts(i)
	if u16(target) < errorLen {
		return fmt.Errorf("head of a chain with a name of %d bytes, want %d", u16(target)-extHeader, errorNameLen)
	}
	e.Kind, e.Chain = KindHead, unix.ByteSliceToString(target[extHeader:extHeader+errorNameLen])
	if e.Chain == "" {
		return errors.New("head of a chain without a name")
	}
	*c = inChain{name: e.Chain}
	return nil
}

// hookAt is the hook whose chain begins (or ends) at an offset.
func (t *Table) hookAt(offset uint32, offsets *[Hooks]uint32) (int, bool) {
	for hook := range Hooks {
		if t.Has(hook) && offsets[hook] == offset {
			return hook, true
		}
	}
	return 0, false
}

// isPolicy tells the policy of a built-in chain: an unconditional verdict at
// the hook's underflow.
func (p *parser) isPolicy(i int) bool {
	e := &p.Entries[i]
	hook, ok := p.hookAt(e.Offset, &p.Underflow)
	return ok && HookName(hook) == e.Chain && p.bare(i) && (e.Action == Accept || e.Action == Drop || e.Action == Queue)
}

// isEnd tells the last entry of a user-defined chain: an unconditional RETURN
// that libiptc puts before the next chain's head.
func (p *parser) isEnd(i int) bool {
	return p.Entries[i].Action == Return && p.bare(i) && i+1 < len(p.Entries) && p.isHead(i+1)
}

// bare tells an entry without any condition, comments included.
func (p *parser) bare(i int) bool {
	head, _ := p.parts(i)
	return p.Entries[i].always && len(head) == p.layout.header
}

// readTarget reads what the entry's target does. A jump keeps its byte offset
// in Target until resolve.
func (p *parser) readTarget(i int) error {
	e := &p.Entries[i]
	head, target := p.parts(i)
	if !named(target, "") { // an extension
		p.usesSets = p.usesSets || named(target, "SET")
		return nil
	}
	if u16(target) < standardLen {
		return fmt.Errorf("standard target of %d bytes, want %d", u16(target), standardLen)
	}
	isGoto := head[p.layout.flags]&p.layout.gotoed != 0
	switch verdict := int32(u32(target[extHeader:])); {
	case verdict >= 0 && uint32(verdict) == p.end(i) && !isGoto:
		e.Action, e.Target = Next, int(verdict)
	case verdict >= 0 && isGoto:
		e.Action, e.Target = Goto, int(verdict)
	case verdict >= 0:
		e.Action, e.Target = Jump, int(verdict)
	default:
		action, ok := verdictAction(verdict)
		if !ok {
			return fmt.Errorf("verdict %d is none", verdict)
		}
		e.Action = action
	}
	return nil
}

// verdictAction is the action of a negative standard verdict.
func verdictAction(verdict int32) (Action, bool) {
	actions := [...]Action{
		-verdictDrop: Drop, -verdictAccept: Accept, -verdictStolen: Stolen,
		-verdictQueue: Queue, -verdictReturn: Return, -verdictStop: Stop,
	}
	if int64(-verdict) >= int64(len(actions)) || -verdict < 1 {
		return 0, false
	}
	return actions[-verdict], true
}

// resolve turns the offsets that jumps lead to into ordinals, and checks that
// each hook's chain has a beginning and a policy.
func (t *Table) resolve() error {
	for i := range t.Entries {
		e := &t.Entries[i]
		if e.Target < 0 {
			continue
		}
		to, ok := t.at(uint32(e.Target))
		if !ok || t.Entries[to].Kind == KindHead || t.Entries[to].Kind == KindEnd {
			return fmt.Errorf("entry %d at offset %d: leads to offset %d, where no rule begins", i, e.Offset, e.Target)
		}
		e.Target = to
	}
	for hook := range Hooks {
		if !t.Has(hook) {
			continue
		}
		first, ok1 := t.at(t.HookEntry[hook])
		last, ok2 := t.at(t.Underflow[hook])
		if !ok1 || !ok2 || last < first || t.Entries[last].Kind != KindPolicy || t.Entries[last].Chain != t.Entries[first].Chain {
			return fmt.Errorf("chain %s: begins at offset %d, but has no policy at %d", HookName(hook), t.HookEntry[hook], t.Underflow[hook])
		}
	}
	return nil
}
