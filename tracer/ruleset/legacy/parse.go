// SPDX-License-Identifier: Apache-2.0

package legacy

// This file turns the kernel's bytes into a Table. It trusts nothing: every
// offset is checked before it is followed, so that a truncated or garbled
// answer is an error with the table's name and the offset. Matches and targets
// are only located here; xt decodes them when they are asked for. (A table of
// 10,000 rules takes a few milliseconds and twice its size this way.)

import (
	"errors"
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/ruleset/xt"
	"golang.org/x/sys/unix"
)

// Parse decodes a table of family IPv4 or IPv6: info is a struct ipt_getinfo
// (IPT_SO_GET_INFO), entries what IPT_SO_GET_ENTRIES gives behind its header.
// Both are kept, and must not be changed. Every error wraps ErrCorrupt.
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
		blob:       entries,
	}
	for hook := range Hooks {
		t.HookEntry[hook] = u32(info[infoEntry+4*hook:])
		t.Underflow[hook] = u32(info[infoUnderflow+4*hook:])
	}
	steps := []func() error{
		func() error { return t.locate(u32(info[infoNumber:])) },
		t.assign,
		t.resolve,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, fmt.Errorf("%s table %q: %w: %w", family, t.Name, err, ErrCorrupt)
		}
	}
	return t, nil
}

// locate finds where each entry begins and ends.
func (t *Table) locate(number uint32) error {
	if uint64(t.Size) != uint64(len(t.blob)) {
		return fmt.Errorf("entries of %d bytes, %d announced", len(t.blob), t.Size)
	}
	if most := len(t.blob) / (t.layout.header + extHeader); uint64(number) > uint64(most) {
		return fmt.Errorf("%d entries do not fit into %d bytes", number, len(t.blob))
	}
	t.Entries = make([]Entry, 0, number)
	for offset := 0; offset < len(t.blob); {
		e, err := t.entryAt(offset)
		if err != nil {
			return fmt.Errorf("entry %d at offset %d: %w", len(t.Entries), offset, err)
		}
		t.Entries = append(t.Entries, e)
		offset = int(e.NextOffset)
	}
	if len(t.Entries) != int(number) {
		return fmt.Errorf("%d entries, %d announced", len(t.Entries), number)
	}
	return nil
}

// entryAt checks the sizes within one entry. It always leads forward.
func (t *Table) entryAt(offset int) (Entry, error) {
	raw, lay := t.blob[offset:], t.layout
	if len(raw) < lay.header+extHeader {
		return Entry{}, fmt.Errorf("truncated after %d bytes", len(raw))
	}
	target, next := u16(raw[lay.target:]), u16(raw[lay.target+2:])
	switch {
	case target < lay.header:
		return Entry{}, fmt.Errorf("target at %d lies within the entry's header of %d bytes", target, lay.header)
	case next < target+extHeader:
		return Entry{}, fmt.Errorf("ends at %d, too soon for a target at %d", next, target)
	case next > len(raw):
		return Entry{}, fmt.Errorf("ends at %d, beyond the last of %d bytes", next, len(raw))
	}
	if size := u16(raw[target:]); size < extHeader || target+size > next {
		return Entry{}, fmt.Errorf("target of %d bytes at %d, the entry ends at %d", size, target, next)
	}
	e := Entry{
		Target:       -1,
		Offset:       uint32(offset),
		TargetOffset: uint32(offset + target),
		NextOffset:   uint32(offset + next),
	}
	return e, t.conditions(&e, raw[:target])
}

// conditions looks at the header and the matches of an entry, given without its
// target: whether it has any condition.
func (t *Table) conditions(e *Entry, raw []byte) error {
	lay := t.layout
	var err error
	if e.header, err = xt.DecodeEntry(t.Family, raw[:lay.ip]); err != nil {
		return err
	}
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
		switch extensionAt(rest).name {
		case "comment":
		case "set":
			t.usesSets = true
			fallthrough
		default:
			e.always, e.fussy = false, true
		}
		offset += size
	}
	return nil
}

// assign tells for each entry what it is and to which chain it belongs.
func (t *Table) assign() error {
	var c inChain
	for i := range t.Entries {
		if err := t.assignEntry(i, &c); err != nil {
			return fmt.Errorf("entry %d at offset %d: %w", i, t.Entries[i].Offset, err)
		}
	}
	if n := len(t.Entries); n == 0 || t.Entries[n-1].Kind != KindEnd {
		return errors.New("the last entry is not the end of a table")
	}
	return nil
}

// inChain is the chain that entries belong to, and its rules so far; no name:
// none.
type inChain struct {
	name  string
	rules int
}

func (t *Table) assignEntry(i int, c *inChain) error {
	e := &t.Entries[i]
	if hook, ok := t.hookAt(e.Offset, &t.HookEntry); ok {
		*c = inChain{name: HookName(hook)}
	}
	if t.isHead(i) {
		return t.assignHead(i, c)
	}
	if c.name == "" {
		return errors.New("belongs to no chain")
	}
	e.Chain = c.name
	if err := t.readTarget(e); err != nil {
		return err
	}
	switch {
	case t.isPolicy(e):
		e.Kind, *c = KindPolicy, inChain{}
	case t.isEnd(i):
		e.Kind = KindReturn
	default:
		c.rules++
		e.Kind, e.Number = KindRule, c.rules
	}
	return nil
}

// isHead tells the head of a user-defined chain and the end of the table: their
// target is ERROR.
func (t *Table) isHead(i int) bool {
	return extensionAt(t.blob[t.Entries[i].TargetOffset:t.Entries[i].NextOffset]).name == errorTarget
}

// assignHead begins a chain, or ends the table. A walk that ran into such an
// entry would lose its packet (ip_tables.c, ipt_error).
func (t *Table) assignHead(i int, c *inChain) error {
	e := &t.Entries[i]
	if !t.bare(e) {
		return errors.New("head of a chain with conditions")
	}
	t.depth++
	e.Action, e.Name = Drop, errorTarget
	if i == len(t.Entries)-1 {
		e.Kind = KindEnd
		return nil
	}
	target := t.blob[e.TargetOffset:e.NextOffset]
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
func (t *Table) isPolicy(e *Entry) bool {
	hook, ok := t.hookAt(e.Offset, &t.Underflow)
	return ok && HookName(hook) == e.Chain && t.bare(e) && (e.Action == Accept || e.Action == Drop || e.Action == Queue)
}

// isEnd tells the last entry of a user-defined chain: an unconditional RETURN
// that libiptc puts before the next chain's head.
func (t *Table) isEnd(i int) bool {
	e := &t.Entries[i]
	return e.Action == Return && t.bare(e) && i+1 < len(t.Entries) && t.isHead(i+1)
}

// bare tells an entry without any condition, comments included.
func (t *Table) bare(e *Entry) bool {
	return e.always && int(e.TargetOffset-e.Offset) == t.layout.header
}

// readTarget reads what the entry's target does. A jump keeps its byte offset
// in Target until resolve.
func (t *Table) readTarget(e *Entry) error {
	target := t.blob[e.TargetOffset:e.NextOffset]
	ext := extensionAt(target)
	if e.Name = ext.name; e.Name != "" { // an extension
		t.usesSets = t.usesSets || e.Name == "SET"
		return nil
	}
	if u16(target) < standardLen {
		return fmt.Errorf("standard target of %d bytes, want %d", u16(target), standardLen)
	}
	isGoto := t.blob[int(e.Offset)+t.layout.flags]&t.layout.gotoed != 0
	switch verdict := int32(u32(ext.data)); {
	case verdict >= 0 && uint32(verdict) == e.NextOffset && !isGoto:
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
