// SPDX-License-Identifier: Apache-2.0

package xt

// ipsets: match set and target SET (net/netfilter/xt_set.c). Rules hold a set's
// index; its name comes from Context.Sets, whether an element is in it from
// packet.World.

import (
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// Of xt_set.h and ipset/ip_set.h.
const (
	setInvalid  = 65535 // IPSET_INVALID_ID: no set
	setMostDims = 6     // IPSET_DIM_MAX
	setInverted = 1 << 0

	// Bits of revision 0's flags, one word per dimension.
	setSource0   = 0x01
	setInverted0 = 0x04

	// Bits of the command flags, revision 3 on; revision 2 has its own bit among
	// the dimensions' ones.
	setReturnNomatch2     = 1 << 7
	setExist              = 1 << 0
	setSkipCounters       = 1 << 3
	setSkipSubcounters    = 1 << 4
	setReturnNomatch      = 1 << 7
	setMapMark            = 1 << 8
	setMapPrio            = 1 << 9
	setMapQueue           = 1 << 10
	counterOpsWithoutNone = 4
)

// SetUse is an ipset that a match asks about, with the packet's fields that an
// element is made of (packet.World.IPSet).
type SetUse struct {
	Name string // "" where no set is asked, or its name is not known
	Dirs []bool
}

// Set is the ipset that the match asks about.
func (m Match) Set() SetUse { return m.set }

// Fills are the ipsets that the target adds the packet to or takes it from, those
// whose names are known.
func (t Target) Fills() []string { return t.fills }

// setRef is a set with the packet's fields it is asked for.
type setRef struct {
	index uint16
	name  string
	named bool
	dirs  []bool // from the first dimension on; true: of the source
}

// setRef0 reads struct xt_set_info_v0.
func (e ext) setRef0(off int) setRef {
	s := e.named(e.u16(off))
	for i := 0; i < setMostDims; i++ {
		flags := e.u32(off + 4 + 4*i)
		if flags == 0 {
			break
		}
		s.dirs = append(s.dirs, flags&setSource0 != 0)
	}
	return s
}

// setRef reads struct xt_set_info: index, dimensions, flags.
func (e ext) setRef(off int) (setRef, bool) {
	s, dims, flags := e.named(e.u16(off)), int(e.u8(off+2)), e.u8(off+3)
	for i := 1; i <= dims; i++ {
		s.dirs = append(s.dirs, flags&(1<<i) != 0)
	}
	return s, dims <= setMostDims
}

func (e ext) named(index uint16) setRef {
	s := setRef{index: index}
	if e.Sets != nil && index != setInvalid {
		s.name, s.named = e.Sets.SetName(index)
	}
	return s
}

func (s setRef) String() string {
	name := s.name
	if !s.named {
		name = fmt.Sprintf("<set %d>", s.index)
	}
	if len(s.dirs) == 0 {
		return name
	}
	var sides []string
	for _, source := range s.dirs {
		side := "dst"
		if source {
			side = "src"
		}
		sides = append(sides, side)
	}
	return name + " " + strings.Join(sides, ",")
}

// use is the set as others ask about it.
func (s setRef) use() SetUse { return SetUse{s.name, s.dirs} }

// contains asks whether the packet is in the set. Without a dimension there is
// nothing to ask for.
func (s setRef) contains(p *packet.Packet) packet.Answer {
	if !s.named || len(s.dirs) == 0 || p.World == nil {
		return packet.Unknown
	}
	return p.World.IPSet(s.name, s.dirs, p)
}

// decodeSet0 reads struct xt_set_info_match_v0.
func decodeSet0(e ext) (matchBody, bool) {
	set, inverted := e.setRef0(0), e.u32(4)&setInverted0 != 0
	var o options
	o.neg(inverted, "--match-set %s", set)
	return matchBody{opts: o.String(), set: set.use(), eval: func(p *packet.Packet) packet.Answer {
		return flip(set.contains(p), inverted)
	}}, true
}

// decodeSet reads struct xt_set_info_match_v1.
func decodeSet(e ext) (matchBody, bool) {
	set, ok := e.setRef(0)
	return setMatch(e, set, e.rev == 2 && e.u8(3)&setReturnNomatch2 != 0, false, ""), ok
}

// decodeSetCounters reads struct xt_set_info_match_v3 and v4: they differ in the
// counters' layout.
func decodeSetCounters(e ext) (matchBody, bool) {
	set, ok := e.setRef(0)
	flags := e.u32(40)
	var o options
	o.flag(flags&setReturnNomatch != 0, "--return-nomatch")
	o.flag(flags&setSkipCounters != 0, "! --update-counters")
	o.flag(flags&setSkipSubcounters != 0, "! --update-subcounters")
	counting := false
	for _, c := range []struct {
		name string
		off  int
	}{{"packets", 8}, {"bytes", 24}} {
		op, value := e.u8(c.off), e.u64(c.off+8)
		if e.rev == 4 {
			op, value = e.u8(c.off+8), e.u64(c.off)
		}
		if op == 0 || op > counterOpsWithoutNone {
			continue
		}
		counting = true
		o.add("%s %d", fmt.Sprintf([]string{"--%s-eq", "! --%s-eq", "--%s-lt", "--%s-gt"}[op-1], c.name), value)
	}
	return setMatch(e, set, flags&setReturnNomatch != 0, counting, o.String()), ok
}

// setMatch evaluates to Unknown where elements' own flags or counters decide.
func setMatch(e ext, set setRef, returnNomatch, counting bool, rest string) matchBody {
	inverted := e.u8(3)&setInverted != 0
	var o options
	o.neg(inverted, "--match-set %s", set)
	if e.rev == 2 {
		o.flag(returnNomatch, "--return-nomatch")
	}
	o.WriteString(rest)
	body := matchBody{opts: o.String(), set: set.use()}
	body.eval = func(p *packet.Packet) packet.Answer {
		switch {
		case returnNomatch, counting && inverted:
			return packet.Unknown
		case counting:
			return set.contains(p).And(packet.Unknown)
		}
		return flip(set.contains(p), inverted)
	}
	return body
}

// decodeSET0 reads struct xt_set_info_target_v0.
func decodeSET0(e ext) (targetBody, bool) {
	var o options
	body := targetBody{}
	for i, option := range []string{"--add-set", "--del-set"} {
		if set := e.setRef0(32 * i); set.index != setInvalid {
			o.add("%s %s", option, set)
			body.fill(set)
		}
	}
	body.opts = o.String()
	return body, true
}

// decodeSET reads struct xt_set_info_target_v1, v2 and v3.
func decodeSET(e ext) (targetBody, bool) {
	var o options
	body := targetBody{}
	sets := true
	put := func(option string, off int) {
		set, ok := e.setRef(off)
		sets = sets && ok
		if set.index != setInvalid {
			o.add("%s %s", option, set)
			if option != "--map-set" { // which only looks
				body.fill(set)
			}
		}
	}
	put("--add-set", 0)
	flags := uint32(0)
	if e.rev >= 2 {
		at := map[uint8]int{2: 8, 3: 12}[e.rev]
		flags = e.u32(at)
		o.flag(flags&setExist != 0, "--exist")
		if timeout := e.u32(at + 4); timeout != 0xffffffff {
			o.add("--timeout %d", timeout)
		}
	}
	put("--del-set", 4)
	if e.rev == 3 {
		put("--map-set", 8)
		o.flag(flags&setMapMark != 0, "--map-mark")
		o.flag(flags&setMapPrio != 0, "--map-prio")
		o.flag(flags&setMapQueue != 0, "--map-queue")
		if flags&setMapMark != 0 {
			body.apply = forgetMark // the element's value is not known here
		}
	}
	body.opts = o.String()
	return body, sets
}

// fill notes a set that the target changes.
func (b *targetBody) fill(s setRef) {
	if s.named {
		b.fills = append(b.fills, s.name)
	}
}
