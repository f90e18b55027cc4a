// SPDX-License-Identifier: Apache-2.0

package rulebook

// What ipsets held over time, with sets and a clock that are played.

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/ruleset/ipset"
	facts "github.com/pathtrace/pathtrace/tracer/ruleset/packet"
	"github.com/pathtrace/pathtrace/tracer/ruleset/xt"
)

// playedSets are the ipsets of a namespace. Each question takes a tick of the clock.
type playedSets struct {
	clock  uint64
	kinds  map[string]string          // type by name
	holds  map[string]map[string]bool // elements, as elementName has them
	lists  map[string]facts.Answer
	asked  int
	visits int
}

func newPlayedSets() *playedSets {
	return &playedSets{clock: 1000,
		kinds: map[string]string{"ips": "hash:ip", "ports": "hash:ip,port", "more": "hash:net", "list": "list:set", "macs": "hash:mac"},
		holds: map[string]map[string]bool{"ips": {}, "ports": {}, "more": {}}, lists: map[string]facts.Answer{"list": facts.No}}
}

func elementName(e ipset.Element) string {
	if e.Type == "hash:ip,port" {
		return fmt.Sprintf("%s,%d:%d", e.IP, e.Proto, e.Port)
	}
	return e.IP.String()
}

func (s *playedSets) Set(name string) (ipset.Set, error) {
	kind, ok := s.kinds[name]
	if !ok {
		return ipset.Set{}, ipset.ErrNoSet
	}
	return ipset.Set{Name: name, Type: kind}, nil
}

func (s *playedSets) Contains(set string, e ipset.Element) (facts.Answer, error) {
	s.clock++
	s.asked++
	return facts.Of(s.holds[set][elementName(e)]), nil
}

func (s *playedSets) Test(set string, _ []bool, _ *facts.Packet) (facts.Answer, error) {
	s.clock++
	s.asked++
	return s.lists[set], nil
}

// memory remembers what the sets held.
func (s *playedSets) memory(t *testing.T) *setMemory {
	door := func(fn func(setAsker) error) error { s.visits++; return fn(s) }
	return newSetMemory(door, func() uint64 { return s.clock }, nil, func(line string) { t.Log(line) })
}

func (s *playedSets) wait(d time.Duration) { s.clock += uint64(d) }

// tcp4 is a packet to 10.2.0.2.
func tcp4(src string, sport, dport uint16) *facts.Packet {
	return &facts.Packet{Family: "ip", Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr("10.2.0.2"), Proto: unix.IPPROTO_TCP,
		SrcPort: facts.Known(sport), DstPort: facts.Known(dport), Fragment: facts.Known(false)}
}

// met is a packet's way through a table that takes a while, and ends now.
func (s *playedSets) met() passed {
	s.clock += 20
	return passed{begin: s.clock - 10, end: s.clock - 5}
}

func TestSetAnswers(t *testing.T) {
	const src, dst = true, false
	a := tcp4("10.1.0.2", 1000, 80)
	one := func(set string, p *facts.Packet, dirs ...bool) setAsk { return setAsk{set, dirs, p} }
	for _, c := range []struct {
		name   string
		before func(*playedSets, *setMemory) // what is read before the packet comes
		change func(*playedSets)             // after it was there
		ask    setAsk
		want   facts.Answer
	}{
		{"never read before", nil, nil, one("ips", a, src), facts.Unknown},
		{"read before", func(s *playedSets, m *setMemory) { m.answer(one("ips", a, src), s.met()) }, nil, one("ips", a, src), facts.No},
		{"a packet with another port", func(s *playedSets, m *setMemory) { m.answer(one("ips", a, src), s.met()) }, nil, one("ips", tcp4("10.1.0.2", 2000, 81), src), facts.No},
		{"the same element, asked for the other end", func(s *playedSets, m *setMemory) { m.answer(one("ips", a, dst), s.met()) }, nil, one("ips", tcp4("10.2.0.2", 1, 2), src), facts.No},
		{"another address", func(s *playedSets, m *setMemory) { m.answer(one("ips", a, src), s.met()) }, nil, one("ips", tcp4("10.1.0.3", 1000, 80), src), facts.Unknown},
		{"another port, which the set looks at", func(s *playedSets, m *setMemory) { m.answer(one("ports", a, dst, dst), s.met()) }, nil, one("ports", tcp4("10.1.0.2", 1000, 81), dst, dst), facts.Unknown},
		{"another port, which it does not look at", func(s *playedSets, m *setMemory) { m.answer(one("ports", a, dst, dst), s.met()) }, nil, one("ports", tcp4("10.1.0.2", 1001, 80), dst, dst), facts.No},
		{"added after it", func(s *playedSets, m *setMemory) { m.answer(one("ips", a, src), s.met()) },
			func(s *playedSets) { s.holds["ips"]["10.1.0.2"] = true }, one("ips", a, src), facts.Unknown},
		{"added before it, but not read", func(s *playedSets, m *setMemory) {
			m.answer(one("ips", a, src), s.met())
			s.holds["ips"]["10.1.0.2"] = true
		}, nil, one("ips", a, src), facts.Unknown},
		{"added before it, and read", func(s *playedSets, m *setMemory) {
			m.answer(one("ips", a, src), s.met())
			s.holds["ips"]["10.1.0.2"] = true
			s.wait(freshEvery)
			m.tick()
		}, nil, one("ips", a, src), facts.Yes},
		{"too few fields for the set", func(s *playedSets, m *setMemory) { m.answer(one("ports", a, dst, dst), s.met()) }, nil, one("ports", a, dst), facts.No},
		{"a field that was not seen", func(s *playedSets, m *setMemory) { m.answer(one("ports", a, dst, dst), s.met()) }, nil,
			one("ports", &facts.Packet{Family: "ip", Dst: a.Dst, Proto: unix.IPPROTO_TCP}, dst, dst), facts.Unknown},
		{"a set of what is never seen", func(s *playedSets, m *setMemory) { m.answer(one("macs", a, src), s.met()) }, nil, one("macs", a, src), facts.Unknown},
		{"no such set", nil, nil, one("gone", a, src), facts.Unknown},
		{"a set made anew as another one", func(s *playedSets, m *setMemory) {
			m.answer(one("ips", a, src), s.met())
			s.kinds["ips"] = "hash:net"
			s.wait(freshEvery)
		}, nil, one("ips", a, src), facts.Unknown},
		{"a list", func(s *playedSets, m *setMemory) { m.answer(one("list", a, src), s.met()) }, nil, one("list", a, src), facts.No},
		{"a list, and a packet with another port", func(s *playedSets, m *setMemory) { m.answer(one("list", a, src), s.met()) }, nil, one("list", tcp4("10.1.0.2", 1, 80), src), facts.Unknown},
		{"a set that rules fill", func(s *playedSets, m *setMemory) {
			m.answer(one("ips", a, src), s.met())
			m.filled["ips"] = true
		}, nil, one("ips", a, src), facts.Unknown},
		{"asked ahead", func(s *playedSets, m *setMemory) {
			m.use([]xt.SetUse{{Name: "ports", Dirs: []bool{dst, dst}}})
			m.follow(Flow{Src: []netip.Addr{a.Src}, Dst: []netip.Addr{a.Dst}, Proto: unix.IPPROTO_TCP, Port: 80}.packets())
			s.wait(freshEvery)
			m.tick()
		}, nil, one("ports", a, dst, dst), facts.No},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newPlayedSets()
			m := s.memory(t)
			if c.before != nil {
				c.before(s, m)
			}
			at := s.met()
			if c.change != nil {
				c.change(s)
			}
			if got := m.answer(c.ask, at); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// A packet that is told late is told by the readings about its time, not by later
// ones.
func TestSetAnswersOfThatTime(t *testing.T) {
	s := newPlayedSets()
	m := s.memory(t)
	ask := setAsk{"ips", []bool{true}, tcp4("10.1.0.2", 1000, 80)}
	m.answer(ask, s.met())
	var ways []passed
	for i := range 4 {
		ways = append(ways, s.met())
		m.answer(ask, s.met())
		s.holds["ips"]["10.1.0.2"] = i%2 == 0
		s.wait(freshEvery)
		m.tick()
	}
	asked := s.asked
	for i, want := range []facts.Answer{facts.No, facts.Yes, facts.No, facts.Yes} {
		if got := m.answer(ask, ways[i]); got != want {
			t.Errorf("packet %d: %s, want %s", i, got, want)
		}
	}
	if s.asked != asked {
		t.Errorf("%d questions more, none was needed", s.asked-asked)
	}
}

// What is asked again and again is little, and stops with the packets.
func TestSetsAreKeptFresh(t *testing.T) {
	s := newPlayedSets()
	m := s.memory(t)
	m.tick()
	if s.visits != 0 {
		t.Error("asked although no rule names a set")
	}
	ask := func(i int) setAsk {
		return setAsk{"ips", []bool{true}, tcp4(fmt.Sprintf("10.1.%d.%d", i/250, i%250), 1000, 80)}
	}
	for i := range 2 * mostFresh {
		m.answer(ask(i), s.met())
	}
	for range 3 {
		before := s.asked
		s.wait(freshEvery)
		m.tick()
		m.tick()
		if n := s.asked - before; n != mostFresh {
			t.Errorf("%d questions, want %d", n, mostFresh)
		}
	}
	if at := s.met(); m.answer(ask(2*mostFresh-1), at) != facts.No {
		t.Error("the one asked last was not kept")
	}
	s.wait(freshFor)
	before := s.asked
	m.tick()
	if s.asked != before {
		t.Errorf("%d questions although no packet asked for long", s.asked-before)
	}
	for i := range keptQuestions {
		m.answer(ask(i), s.met())
	}
	if n := len(m.kept); n > keptQuestions {
		t.Errorf("%d questions are remembered", n)
	}
}

// Asking ahead has an end, and is repeated, a few at a time.
func TestSetsAskedAhead(t *testing.T) {
	s := newPlayedSets()
	m := s.memory(t)
	flow := Flow{Src: []netip.Addr{netip.MustParseAddr("10.1.0.2")}}
	for i := range 3000 {
		flow.Others = append(flow.Others, netip.AddrFrom4([4]byte{10, 9, byte(i / 250), byte(i % 250)}))
	}
	m.follow(flow.packets())
	m.use([]xt.SetUse{{Name: "ips", Dirs: []bool{true}}, {Name: "ips", Dirs: []bool{false}}, {Name: "list", Dirs: []bool{true}}, {Name: "gone", Dirs: []bool{true}}, {}})
	for range 200 {
		s.wait(freshEvery)
		m.tick()
	}
	if n := len(m.round); n != mostAhead || !m.ready() {
		t.Errorf("%d questions asked ahead, ready: %v; want %d", n, m.ready(), mostAhead)
	}
	before := s.asked
	s.wait(againEvery)
	m.tick()
	if n := s.asked - before; n != againEach {
		t.Errorf("%d of them asked again, want %d", n, againEach)
	}
	before = len(m.kept)
	m.visit(func(v *setVisit) error { return errors.Join(v.prepare(time.Now().Add(time.Second))) })
	if len(m.kept) != before {
		t.Error("asked ahead although that was done")
	}
	moved := Flow{Src: []netip.Addr{netip.MustParseAddr("10.1.0.9")}, Dst: flow.Src}
	m.follow(moved.packets())
	s.wait(freshEvery)
	m.tick()
	packet := &facts.Packet{Family: "ip", Src: moved.Src[0]}
	if got := m.answer(setAsk{"ips", []bool{true}, packet}, s.met()); got != facts.No || len(m.round) != 2 {
		t.Errorf("an end has moved: %s, %d questions asked ahead; want no, 2", got, len(m.round))
	}
}

func TestPacketsExpected(t *testing.T) {
	addrs := func(all ...string) (as []netip.Addr) {
		for _, a := range all {
			as = append(as, netip.MustParseAddr(a))
		}
		return as
	}
	for _, c := range []struct {
		name string
		flow Flow
		want int
	}{
		{"nothing known", Flow{}, 0},
		{"both ends, TCP to a port", Flow{Src: addrs("10.1.0.2"), Dst: addrs("10.2.0.2"), Proto: unix.IPPROTO_TCP, Port: 80}, 2},
		{"any protocol", Flow{Src: addrs("10.1.0.2"), Dst: addrs("10.2.0.2"), Port: 80}, 6},
		{"two families", Flow{Src: addrs("10.1.0.2", "fd00::1"), Dst: addrs("10.2.0.2", "fd00::2")}, 4},
		{"others", Flow{Src: addrs("10.1.0.2"), Dst: addrs("10.2.0.2"), Others: addrs("10.3.0.1", "fd00::9", "10.1.0.2"), Proto: unix.IPPROTO_UDP}, 8},
		{"one end only", Flow{Src: addrs("10.1.0.2"), Others: addrs("10.3.0.1"), Proto: unix.IPPROTO_UDP}, 2},
		{"no end", Flow{Others: addrs("10.3.0.1", "10.3.0.2"), Proto: unix.IPPROTO_UDP}, 2},
	} {
		if got := c.flow.packets(); len(got) != c.want {
			t.Errorf("%s: %d packets, want %d", c.name, len(got), c.want)
		}
	}
}
