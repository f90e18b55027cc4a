// SPDX-License-Identifier: Apache-2.0

package rulebook

// This file asks ipsets about packets that may come, so that there is a reading
// before the first one of them.

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	facts "github.com/pathtrace/pathtrace/tracer/ruleset/packet"
	"github.com/pathtrace/pathtrace/tracer/ruleset/xt"
)

const (
	// mostAhead bounds the questions that are asked ahead in a namespace, aheadStart
	// the time of them before the trace, aheadTick that of one look later.
	mostAhead  = 2000
	aheadStart = 300 * time.Millisecond
	aheadTick  = 20 * time.Millisecond
	// They are asked again seldom, some at a time: a packet may come after hours.
	againEvery = 10 * time.Second
	againEach  = 16
	// mostEnds and mostPackets bound the packets that are thought of.
	mostEnds    = 16
	mostPackets = 5000
)

// Flow is what is known of the packets that will come.
type Flow struct {
	Src, Dst []netip.Addr // the ends' addresses
	// Others are addresses that may come into it: of the node, for which others send
	// in tunnels or with masquerading, and of the pods here.
	Others []netip.Addr
	Proto  uint8  // IPPROTO_*; 0: any
	Port   uint16 // of Dst; 0: any
}

// packets are those that may come, both ways; the ends' own first.
func (f Flow) packets() (all []*facts.Packet) {
	add := func(src, dst netip.Addr) {
		if src.Is4() == dst.Is4() && src != dst && len(all) < mostPackets {
			all = append(all, f.between(src, dst)...)
		}
	}
	src, dst := f.Src[:min(len(f.Src), mostEnds)], f.Dst[:min(len(f.Dst), mostEnds)]
	for _, s := range src {
		for _, d := range dst {
			add(s, d)
		}
	}
	for _, o := range f.Others {
		for _, s := range ofBothFamilies(src) {
			add(s, o)
		}
		for _, d := range ofBothFamilies(dst) {
			add(o, d)
		}
		if len(src) == 0 && len(dst) == 0 {
			add(o, f.Others[0])
		}
	}
	return all
}

// ofBothFamilies is the first address of each family.
func ofBothFamilies(all []netip.Addr) (some []netip.Addr) {
	for _, is4 := range []bool{true, false} {
		if i := slices.IndexFunc(all, func(a netip.Addr) bool { return a.Is4() == is4 }); i >= 0 {
			some = append(some, all[i])
		}
	}
	return some
}

// between are packets from an address to another, and their answers.
func (f Flow) between(src, dst netip.Addr) (all []*facts.Packet) {
	family, icmp := "ip", uint8(unix.IPPROTO_ICMP)
	request, reply := uint8(8), uint8(0) // echo
	if !src.Is4() {
		family, icmp, request, reply = "ip6", unix.IPPROTO_ICMPV6, 128, 129
	}
	pair := func(proto uint8) (there, back *facts.Packet) {
		there = &facts.Packet{Family: family, Src: src, Dst: dst, Proto: proto, Fragment: facts.Known(false)}
		back = &facts.Packet{Family: family, Src: dst, Dst: src, Proto: proto, Fragment: facts.Known(false)}
		all = append(all, there, back)
		return there, back
	}
	for _, proto := range f.protos() {
		if proto == unix.IPPROTO_ICMP {
			there, back := pair(icmp)
			there.ICMPType, there.ICMPCode = facts.Known(request), facts.Known(uint8(0))
			back.ICMPType, back.ICMPCode = facts.Known(reply), facts.Known(uint8(0))
			continue
		}
		there, back := pair(proto)
		if f.Port != 0 {
			there.DstPort, back.SrcPort = facts.Known(f.Port), facts.Known(f.Port)
		}
	}
	return all
}

// protos are those that the flow may have.
func (f Flow) protos() []uint8 {
	switch {
	case f.Proto != 0:
		return []uint8{f.Proto}
	case f.Port != 0:
		return []uint8{unix.IPPROTO_ICMP, unix.IPPROTO_TCP, unix.IPPROTO_UDP}
	}
	return []uint8{unix.IPPROTO_ICMP} // ports are not known
}

// ahead is what is asked before a packet does.
type ahead struct {
	uses    []xt.SetUse // that rules make of sets
	packets []*facts.Packet
	done    int           // of all pairs of both, packet by packet
	round   []setQuestion // that were asked so
	next    int           // of them to be asked again
}

// ready tells that there is nothing more to ask ahead.
func (h *ahead) ready() bool { return h.done >= len(h.uses)*len(h.packets) }

// use notes what rules ask sets, and has that asked ahead.
func (h *ahead) use(asked []xt.SetUse) {
	for _, u := range asked {
		same := func(known xt.SetUse) bool { return known.Name == u.Name && slices.Equal(known.Dirs, u.Dirs) }
		if u.Name != "" && len(u.Dirs) > 0 && !slices.ContainsFunc(h.uses, same) {
			h.uses, h.done = append(h.uses, u), 0
		}
	}
}

// follow has other packets asked about, and those before no more.
func (m *setMemory) follow(packets []*facts.Packet) {
	for _, q := range m.round {
		m.kept[q].ahead = false
	}
	m.ahead = ahead{uses: m.uses, packets: packets}
}

// forget: the set is gone. Where it is another one now, that is asked anew.
func (h *ahead) forget(set string) {
	of := func(q setQuestion) bool { return q.set == set }
	if slices.ContainsFunc(h.round, of) {
		h.round, h.done = slices.DeleteFunc(h.round, of), 0
	}
}

// dueAhead lists some of what was asked ahead, and was not asked since a while.
func (m *setMemory) dueAhead(now uint64) (due []setQuestion) {
	for range min(againEach, len(m.round)) {
		m.next = (m.next + 1) % len(m.round)
		q := m.round[m.next]
		if r := m.kept[q]; r != nil && now-r.looked >= uint64(againEvery) {
			due = append(due, q)
		}
	}
	return due
}

// prepare asks what was not asked ahead yet, until a time.
func (v *setVisit) prepare(until time.Time) error {
	var errs []error
	gone := make(map[string]bool)
	for !v.ready() && len(v.round) < mostAhead && time.Now().Before(until) {
		use, p := v.uses[v.done%len(v.uses)], v.packets[v.done/len(v.uses)]
		v.done++
		if gone[use.Name] || v.filled[use.Name] {
			continue
		}
		if err := v.askAhead(setAsk{use.Name, use.Dirs, p}); err != nil {
			gone[use.Name] = true
			errs = append(errs, err)
		}
	}
	if len(v.round) >= mostAhead {
		v.done = len(v.uses) * len(v.packets)
	}
	return errors.Join(errs...)
}

// askAhead asks about a packet, unless that was asked, or the set is a list: asking
// that holds its sets.
func (v *setVisit) askAhead(a setAsk) error {
	if err := v.look(a.set); err != nil {
		return err
	}
	q, formed := v.question(a)
	if formed != facts.Yes || q.whole != "" {
		return nil
	}
	if v.kept[q] == nil {
		if err := v.ask(a); err != nil {
			return err
		}
	}
	if r := v.kept[q]; !r.ahead {
		r.ahead, v.round = true, append(v.round, q)
	}
	return nil
}
