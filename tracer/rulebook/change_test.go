// SPDX-License-Identifier: Apache-2.0

package rulebook

// Rule sets of a real kernel that change between a packet and its being told. The
// kernel half is played: what it would tell of versions is up to the test.

import (
	"iter"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/journey"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// played is a kernel half that tells of legacy tables what it is told, and of nft
// nothing: that is left to netlink.
type played struct {
	looked                 bpf.Looked
	newTables, replacement bool // what the generation counts
}

func (p *played) Look(string, string, uint64) (bpf.Looked, error) { return p.looked, nil }
func (p *played) CountsNewTables() bool                           { return p.newTables }
func (p *played) CountsReplacements() bool                        { return p.replacement }

// stage is a node whose FORWARD chain drops UDP from 10.1.0.0/24 by one rule.
type stage struct {
	t       *testing.T
	c       *nodetest.Cluster
	ns      *node.Namespaces
	kernel  *played
	book    *Book
	backend string
}

func newStage(t *testing.T, backend string, kernel *played) *stage {
	s := &stage{t: t, c: nodetest.New(t), kernel: kernel, backend: backend}
	s.c.Add("n")
	s.load("A")
	var err error
	if s.ns, err = node.OpenNamespaces(s.c.Path("n")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.ns.Close() })
	survey := Read(t.Context(), s.ns, func(line string) { t.Log(line) })
	s.book = New(Config{Survey: survey, Kernel: kernel, Wall: journey.NewClock().Wall})
	return s
}

// load replaces the rules; the kernel half sees that a table was made.
func (s *stage) load(comment string) {
	s.t.Helper()
	restore := exec.Command("ip", "netns", "exec", s.c.Name("n"), "iptables-"+s.backend+"-restore")
	restore.Stdin = strings.NewReader("*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n-A FORWARD -s 10.1.0.0/24 -p udp -m comment --comment " + comment + " -j DROP\nCOMMIT\n")
	if out, err := restore.CombinedOutput(); err != nil {
		s.t.Fatalf("load %s: %v: %s", comment, err, out)
	}
	if s.kernel.looked.Content != 0 {
		s.kernel.looked.Content += 64
		s.kernel.looked.Generation++
	}
}

// now is the kernel's clock.
func (s *stage) now() uint64 { return journey.Clock{}.Now() }

// met asks about a packet that was there at a time.
func (s *stage) met(at uint64, verdict string) journey.Ruling {
	e := bpf.Event{Ts: at, L3len: 60, T: bpf.Tuple{Family: 4, Proto: unix.IPPROTO_UDP, Sport: 4660, Dport: 7}}
	e.T.Saddr[0], e.T.Daddr[0] = word("10.1.0.2"), word("10.2.0.2")
	table := journey.Table{Backend: s.backend, Family: "ip", Table: "filter", Chain: "FORWARD"}
	return s.book.Infer(journey.Passage{At: e, Until: e, Netns: s.ns.Node().Inode, PF: unix.NFPROTO_IPV4, Hook: 3, Table: table}, verdict)
}

func word(addr string) uint32 {
	raw := netip.MustParseAddr(addr).As4()
	return uint32(raw[0]) | uint32(raw[1])<<8 | uint32(raw[2])<<16 | uint32(raw[3])<<24
}

func (s *stage) named(what string, r journey.Ruling, comment string) {
	s.t.Helper()
	if r.Decided == nil || r.Decided.Comment != comment || r.Ends != "drop" {
		s.t.Errorf("%s: %+v, want the rule %s", what, r, comment)
	}
}

// unknown wants no name, and why; candidates are the comments of those it may be.
func (s *stage) unknown(what string, r journey.Ruling, why string, candidates ...string) {
	s.t.Helper()
	var got []string
	for _, c := range r.Candidates {
		got = append(got, c.Comment)
	}
	if r.Decided != nil || !strings.Contains(r.Unknown, why) || strings.Join(got, " ") != strings.Join(candidates, " ") {
		s.t.Errorf("%s: %+v, want no rule, %q and candidates %v", what, r, why, candidates)
	}
}

func TestRulesThatChange(t *testing.T) {
	for _, c := range []struct {
		name, backend string
		kernel        played
		next          bool // it is known that nothing stood between two versions
	}{
		{"nft", node.BackendNFT, played{}, true},
		{"legacy, replacements are counted", node.BackendLegacy, played{looked: bpf.Looked{Content: 4096, Generation: 1}, replacement: true}, true},
		{"legacy, new tables are counted", node.BackendLegacy, played{looked: bpf.Looked{Content: 4096, Generation: 1}, newTables: true}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, c.backend, &c.kernel)
			first := s.now()
			s.named("nothing changed", s.met(first, "drop"), "A")

			between := s.now()
			s.load("B")
			if r := s.met(between, "drop"); c.next {
				s.unknown("replaced after it", r, "replaced between", "A", "B")
			} else {
				s.unknown("replaced after it, once or more", r, "before: filter/FORWARD rule 1 (A); after: filter/FORWARD rule 1 (B)")
			}
			s.named("it came before a look that found A", s.met(first, "drop"), "A")
			s.named("it came after", s.met(s.now(), "drop"), "B")

			between = s.now()
			s.load("B")
			if again := s.met(between, "drop"); c.next {
				s.named("written again as it was", again, "B")
			} else {
				s.unknown("written again, as far as is known", again, "replaced between")
			}

			between = s.now()
			s.load("C")
			s.load("B")
			s.unknown("others stood in between", s.met(between, "drop"), "replaced between")

			s.load("C")
			s.book.Tick(time.Now())
			s.named("looked at by itself", s.met(s.now(), "drop"), "C")
			s.unknown("a verdict that the rules do not explain", s.met(s.now(), "accept"), "drop by filter/FORWARD rule 1")
		})
	}
}

// Where nothing tells that a legacy table is replaced, equal rules found twice prove
// nothing of the time in between.
func TestNothingTellsOfReplacements(t *testing.T) {
	for name, k := range map[string]played{"nothing at all": {}, "the address of what stands": {looked: bpf.Looked{Content: 4096}}} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, node.BackendLegacy, &k)
			s.unknown("between two reads", s.met(s.now(), "drop"), "may have been replaced between")
		})
	}
}

func TestTableThatIsGone(t *testing.T) {
	s := newStage(t, node.BackendNFT, &played{})
	s.named("there", s.met(s.now(), "drop"), "A")
	s.c.In("n", "nft delete table ip filter")
	s.unknown("gone about then", s.met(s.now(), "drop"), "after: there was no such table", "A")
	s.unknown("gone", s.met(s.now(), "drop"), "no such table")
	s.backend = node.BackendLegacy
	s.unknown("never there", s.met(s.now(), "drop"), "not read")
	if names := s.c.In("n", "cat /proc/self/net/ip_tables_names"); names != "" {
		t.Errorf("asking made the legacy tables %q", names)
	}
}

// All rules of both halves, as the tools print them.
func TestAllRules(t *testing.T) {
	s := newStage(t, node.BackendLegacy, &played{})
	s.c.In("n",
		"iptables-legacy -w -A FORWARD -s 192.0.2.7/32 -m comment --comment left-over -j DROP",
		"iptables-nft -w -A FORWARD -d 192.0.2.8/32 -p tcp -m tcp --dport 80 -j REJECT",
		"nft add table inet site",
		"nft add chain inet site guard { type filter hook input priority 0 ; policy accept ; }",
		"nft add rule inet site guard tcp dport 23 drop")
	legacy, nft, err := s.book.All(s.ns.Node().Inode)
	if err != nil {
		t.Fatal(err)
	}
	for _, half := range []struct {
		rules iter.Seq[meaning.Rule]
		saved string
	}{{legacy, s.c.In("n", "iptables-legacy-save")}, {nft, s.c.In("n", "iptables-nft-save")}} {
		lines := 0
		for line := range strings.Lines(half.saved) {
			if line = strings.TrimSpace(line); strings.HasPrefix(line, "-A ") {
				lines++
				if !holds(half.rules, line) {
					t.Errorf("%q is not among the rules read: %+v", line, slices.Collect(half.rules))
				}
			}
		}
		if lines == 0 {
			t.Errorf("the tool printed no rule:\n%s", half.saved)
		}
	}
	if !holds(nft, "tcp dport 23 drop") {
		t.Errorf("the native table's rule is not among nft's: %+v", slices.Collect(nft))
	}
	if _, _, err := s.book.All(1); err == nil {
		t.Error("rules of a namespace that does not exist")
	}
}

func holds(rules iter.Seq[meaning.Rule], text string) bool {
	for r := range rules {
		if strings.HasPrefix(r.Text, text) {
			return true
		}
	}
	return false
}
