// SPDX-License-Identifier: Apache-2.0

package rulebook

// Rules of a real kernel that hang on real ipsets, which change between a packet and
// its being told.

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/journey"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

// Both rules drop: the verdict does not tell them apart, only the set does.
const setRules = `*filter
:INPUT ACCEPT
:FORWARD ACCEPT
:OUTPUT ACCEPT
-A FORWARD -p udp -m set --match-set addrs src -m comment --comment inside -j DROP
-A FORWARD -p udp -m comment --comment outside -j DROP
COMMIT
`

// newSetStage is a node with ipsets, rules and a flow from 10.1.0.2 to 10.2.0.2.
func newSetStage(t *testing.T, backend, sets, rules string, flow Flow) *stage {
	t.Helper()
	s := &stage{t: t, c: nodetest.New(t), kernel: &played{replacement: true}, backend: backend}
	s.kernel.looked.Content, s.kernel.looked.Generation = 4096, 1
	s.c.Add("n")
	s.c.InStdin("n", sets, "ipset", "restore")
	s.c.InStdin("n", rules, "iptables-"+backend+"-restore")
	var err error
	if s.ns, err = node.OpenNamespaces(s.c.Path("n")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.ns.Close() })
	survey := Read(t.Context(), s.ns, func(line string) { t.Log(line) })
	s.book = New(Config{Survey: survey, Kernel: s.kernel, Wall: journey.NewClock().Wall, Flow: flow})
	t.Cleanup(func() {
		if err := s.book.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func udpFlow(port uint16) Flow {
	return Flow{Src: []netip.Addr{netip.MustParseAddr("10.1.0.2")}, Dst: []netip.Addr{netip.MustParseAddr("10.2.0.2")}, Proto: unix.IPPROTO_UDP, Port: port}
}

// tickOn lets the time pass after which sets are asked again.
func (s *stage) tickOn() {
	time.Sleep(freshEvery)
	s.book.Tick(time.Now())
}

func TestRuleThatHangsOnASet(t *testing.T) {
	for _, backend := range []string{node.BackendNFT, node.BackendLegacy} {
		t.Run(backend, func(t *testing.T) {
			s := newSetStage(t, backend, "create addrs hash:net\nadd addrs 10.1.0.2\n", setRules, udpFlow(0))
			saved := s.c.In("n", "ipset save")
			s.named("the first packet", s.met(s.now(), "drop"), "inside")
			s.named("the next", s.met(s.now(), "drop"), "inside")

			at := s.now()
			s.c.In("n", "ipset del addrs 10.1.0.2")
			s.unknown("taken out after it", s.met(at, "drop"), "what ipset addrs held", "inside", "outside")
			s.tickOn()
			s.named("taken out before", s.met(s.now(), "drop"), "outside")

			s.c.In("n", "ipset add addrs 10.1.0.2")
			s.unknown("put in before it, unseen", s.met(s.now(), "drop"), "what ipset addrs held", "inside", "outside")
			s.tickOn()
			s.named("put in before", s.met(s.now(), "drop"), "inside")
			if got := s.c.In("n", "ipset save"); got != saved {
				t.Errorf("asking left:\n%s\nwas:\n%s", got, saved)
			}

			s.c.In("n", "ipset create other hash:net", "ipset swap addrs other", "ipset destroy other")
			s.unknown("swapped", s.met(s.now(), "drop"), "what ipset addrs held", "inside", "outside")
			s.tickOn()
			s.named("swapped before", s.met(s.now(), "drop"), "outside")
		})
	}
}

// Where the verdict tells what the set held, or both answers lead to one rule, it is
// named whatever is known of the set.
func TestRuleThatDoesNotHangOnTheSet(t *testing.T) {
	rules := `*filter
:INPUT ACCEPT
:FORWARD ACCEPT
:OUTPUT ACCEPT
-A FORWARD -p udp -m set --match-set addrs src -m comment --comment inside -j ACCEPT
-A FORWARD -p udp -m comment --comment outside -j DROP
COMMIT
`
	s := newSetStage(t, node.BackendNFT, "create addrs hash:ip\nadd addrs 10.1.0.2\n", rules, Flow{})
	s.named("never asked before", s.met(s.now(), "drop"), "outside")
}

// A rule that comes later is asked about ahead, too.
func TestSetOfALaterRule(t *testing.T) {
	s := newSetStage(t, node.BackendNFT, "create addrs hash:ip,port\nadd addrs 10.1.0.2,udp:7\n", "*filter\n:FORWARD ACCEPT\nCOMMIT\n", udpFlow(7))
	s.c.InStdin("n", `*filter
-A FORWARD -p udp -m set --match-set addrs src,dst -m comment --comment inside -j DROP
-A FORWARD -p udp -m comment --comment outside -j DROP
COMMIT
`, "iptables-nft-restore", "--noflush")
	s.tickOn()
	s.named("the first packet", s.met(s.now(), "drop"), "inside")
	s.c.In("n", "ipset del addrs 10.1.0.2,udp:7")
	s.unknown("taken out", s.met(s.now(), "drop"), "what ipset addrs held", "inside", "outside")
}

// What a set looks at is known ahead only as far as the flow was told.
func TestSetOfPorts(t *testing.T) {
	rules := `*filter
:INPUT ACCEPT
:FORWARD ACCEPT
:OUTPUT ACCEPT
-A FORWARD -p udp -m set --match-set pairs dst,dst -m comment --comment inside -j DROP
-A FORWARD -p udp -m comment --comment outside -j DROP
COMMIT
`
	const sets = "create pairs hash:ip,port\nadd pairs 10.2.0.2,udp:7\n"
	s := newSetStage(t, node.BackendNFT, sets, rules, udpFlow(7))
	s.named("with the port", s.met(s.now(), "drop"), "inside")
	s = newSetStage(t, node.BackendNFT, sets, rules, udpFlow(0))
	s.unknown("without", s.met(s.now(), "drop"), "what ipset pairs held", "inside", "outside")
	s.named("the next", s.met(s.now(), "drop"), "inside")
}

// A set that rules fill may have got the packet's element from the packet itself.
func TestSetThatRulesFill(t *testing.T) {
	rules := `*filter
:INPUT ACCEPT
:FORWARD ACCEPT
:OUTPUT ACCEPT
-A FORWARD -p udp -m set --match-set seen src -m comment --comment inside -j DROP
-A FORWARD -p udp -j SET --add-set seen src
-A FORWARD -p udp -m comment --comment outside -j DROP
COMMIT
`
	for _, backend := range []string{node.BackendNFT, node.BackendLegacy} {
		s := newSetStage(t, backend, "create seen hash:ip timeout 1\nadd seen 10.1.0.2\n", rules, udpFlow(0))
		s.unknown(backend, s.met(s.now(), "drop"), "what ipset seen held", "inside", "outside")
	}
}

// BenchmarkSetAnswers is what one packet costs that a set has to be asked about.
func BenchmarkSetAnswers(b *testing.B) {
	c := nodetest.New(b)
	c.Add("n")
	c.InStdin("n", "create addrs hash:net\n", "ipset", "restore")
	ns, err := node.OpenNamespaces(c.Path("n"))
	if err != nil {
		b.Fatal(err)
	}
	defer ns.Close()
	sets := newSetBook(&reader{ctx: b.Context(), ns: ns, now: journey.Clock{}.Now}, Flow{}, func(line string) { b.Log(line) })
	defer sets.close()
	sets.leave = nil
	m := sets.in(ns.Node().Inode)
	ask := setAsk{"addrs", []bool{true}, tcp4("10.1.0.2", 1000, 80)}
	for b.Loop() {
		now := sets.read.now()
		m.answer(ask, passed{begin: now, end: now})
	}
}
