// SPDX-License-Identifier: Apache-2.0

package infer_test

// Real packets through real rule sets: nodes as Calico, flannel and kube-proxy
// program them, with pods that talk. What Infer says of each packet in each
// chain is compared with the kernel's trace of it, and that with the counters.

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/ruleset/infer"
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// score counts what was told.
type score struct {
	exact, alternatives, unknown int
	whole                        int            // exact ones of which every rule was told
	why                          map[string]int // reasons of those that were not exact
	rules                        map[string]bool
}

func newScore() *score { return &score{why: map[string]int{}, rules: map[string]bool{}} }

func (s *score) total() int { return s.exact + s.alternatives + s.unknown }

func (s *score) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d chain traversals by %d deciding rules and policies: %d exact (%d with every rule on the way), %d alternatives, %d unknown",
		s.total(), len(s.rules), s.exact, s.whole, s.alternatives, s.unknown)
	for _, why := range slices.Sorted(maps.Keys(s.why)) {
		fmt.Fprintf(&b, "\n%5d: %s", s.why[why], why)
	}
	return b.String()
}

// is tells whether a rule is the one that decided.
func (x *traversal) is(r model.Rule) bool {
	if x.decided == 0 {
		return r.Number == 0 && r.Chain == x.chain
	}
	return r.Handle == x.decided && r.Number > 0
}

// judge holds a ruling against the trace.
func (s *score) judge(t *testing.T, x *traversal, r infer.Ruling) {
	t.Helper()
	s.rules[fmt.Sprint(x.family, x.table, x.chain, x.decided)] = true
	told := slices.Clone(r.Rules)
	switch {
	case r.Decided != nil:
		s.exact++
		if !x.is(*r.Decided) {
			t.Errorf("%s: told %+v, decided by handle %d of %v", x, *r.Decided, x.decided, x.matched)
		}
		if r.Verdict != x.verdict && (r.Verdict != "reject" || x.verdict != "drop") {
			t.Errorf("%s: verdict %q, was %q", x, r.Verdict, x.verdict)
		}
		if r.Unknown != "" || len(r.Alternatives) > 0 || !slices.Contains(told, *r.Decided) {
			t.Errorf("%s: contradicts itself: %+v", x, r)
		}
	case len(r.Alternatives) > 0:
		s.alternatives++
		s.why["alternatives: "+r.Unknown]++
		if !slices.ContainsFunc(r.Alternatives, x.is) {
			t.Errorf("%s: decided by handle %d, which is not among %+v", x, x.decided, r.Alternatives)
		}
	default:
		s.unknown++
		s.why["unknown: "+r.Unknown]++
		if r.Unknown == "" {
			t.Errorf("%s: nothing told, and not why", x)
		}
	}
	s.judgeWay(t, x, r, told)
}

// judgeWay compares the rules told with those that matched: none may be told
// that did not, nor in another order.
func (s *score) judgeWay(t *testing.T, x *traversal, r infer.Ruling, told []model.Rule) {
	t.Helper()
	var handles []uint64
	for _, rule := range told {
		if rule.Number > 0 {
			handles = append(handles, rule.Handle)
		}
	}
	rest := x.matched
	for _, h := range handles {
		i := slices.Index(rest, h)
		if i < 0 {
			t.Errorf("%s: handle %d is told to have matched, the trace has %v", x, h, x.matched)
			return
		}
		rest = rest[i+1:]
	}
	if r.Decided == nil {
		return
	}
	if slices.Equal(handles, x.matched) {
		s.whole++
	} else if len(r.Unevaluated) == 0 {
		t.Errorf("%s: nothing was left open, told are %v, the trace has %v", x, handles, x.matched)
	}
}

// inferAll asks about all traversals of a namespace.
func (s *score) inferAll(t *testing.T, b *asker, netns uint32, all []*traversal) {
	t.Helper()
	for _, x := range all {
		if x.table == "zz-trace" {
			continue
		}
		if x.verdict == "" {
			t.Errorf("%s: the trace does not tell its end", x)
			continue
		}
		s.judge(t, x, b.Infer(netns, x.target(), &x.packet, x.verdict))
	}
}

// scene is one environment to send packets through.
type scene struct {
	dataplane cluster.Dataplane
	exactly   int // percent that has to be told exactly
}

func TestRealNodes(t *testing.T) {
	for _, s := range []scene{
		{cluster.CalicoNFT, 99}, {cluster.CalicoNFTables, 99}, {cluster.FlannelNFT, 99}, {cluster.FlannelNFTables, 99},
	} {
		t.Run(string(s.dataplane), func(t *testing.T) {
			t.Parallel() // nearly all of it is waiting for silence
			s.test(t)
		})
	}
}

// newEnv builds a node.
func newEnv(t *testing.T, d cluster.Dataplane) *cluster.Env {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	e, err := cluster.New(ctx, cluster.Options{Dataplane: d, Nodes: 2, KubeProxy: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func (s scene) test(t *testing.T) {
	e := newEnv(t, s.dataplane)
	p := openPlace(t, e.Node(1).Netns.Path)
	l := p.listen()
	before := l.baseline(p)
	b := newAsker(t, p.ns)
	sum := newScore()
	traced := map[ruleKey]int{}
	var took time.Duration
	for some := range slices.Chunk(conversations(e), 10) {
		for _, sent := range some {
			send(t, e, sent)
		}
		all := l.take()
		for _, x := range all {
			for _, h := range x.matched {
				traced[ruleKey{x.family + " " + x.table, h}]++
			}
		}
		start := time.Now()
		sum.inferAll(t, b, p.inode(), all)
		took += time.Since(start)
	}
	counted := 0
	t.Logf("%s for each", (took / time.Duration(max(sum.total(), 1))).Round(time.Microsecond))
	for k, now := range p.counters() {
		if !strings.HasPrefix(k.table, "ip ") {
			continue // ARP is not traced; IPv6 hosts talk of themselves, before and after too
		}
		if now-before[k] != traced[k] {
			t.Errorf("rule %d of table %s: the counter rose by %d, the trace saw it match %d times", k.handle, k.table, now-before[k], traced[k])
		}
		counted += now - before[k]
	}
	t.Logf("%s\n%d matches by the counters", sum, counted)
	if counted == 0 {
		t.Error("no counter rose")
	}
	if sum.exact*100 < sum.total()*s.exactly || sum.total() < 200 {
		t.Errorf("%d of %d told exactly, want %d%% of at least 200", sum.exact, sum.total(), s.exactly)
	}
	if err := b.World(p.inode()).Trouble(); err != nil {
		t.Errorf("a question about the node failed: %v", err)
	}
}

// send sends traffic; whether it arrives is not the point here.
func send(t *testing.T, e *cluster.Env, sent traffic.Spec) {
	t.Helper()
	sent.Timeout, sent.Count = 150*time.Millisecond, 2
	if _, err := traffic.Send(t.Context(), e, sent); err != nil {
		t.Errorf("%+v: %v", sent, err)
	}
}

// conversations are who talks to whom.
func conversations(e *cluster.Env) []traffic.Spec {
	pods := []string{"default/client", "default/server", "prod/db", "default/web2"}
	var all []traffic.Spec
	add := func(src, dst string, port int, protos ...string) {
		for _, proto := range protos {
			all = append(all, traffic.Spec{Src: src, Dst: dst, Port: port, Proto: proto})
		}
	}
	for _, src := range pods {
		for _, dst := range pods {
			if src != dst && e.Pod(src) != nil && e.Pod(dst) != nil {
				add(src, dst, 0, "icmp", "tcp", "udp")
			}
		}
	}
	add("default/client", "default/server", 9999, "tcp", "udp")
	add("default/client", "external", 0, "icmp", "tcp")
	add("default/client", cluster.BadNetAddr.String(), 0, "icmp", "tcp")
	add("default/client", e.Node(1).Addr.String(), 0, "icmp", "tcp")
	add("node1", "default/server", 0, "icmp", "tcp")
	add("node1", "default/web2", 0, "icmp", "tcp")
	add("default/client", "255.255.255.255", 0, "udp")
	for _, s := range e.Services {
		add("default/client", s.ClusterIP.String(), int(s.Port), s.Proto)
		add("node1", s.ClusterIP.String(), int(s.Port), s.Proto)
	}
	return all
}

// TestLessIsSeen hides facts about the packets, as a backend does that does not
// see them: what is told may be less, but not wrong.
func TestLessIsSeen(t *testing.T) {
	e := newEnv(t, cluster.CalicoNFT)
	p := openPlace(t, e.Node(1).Netns.Path)
	l := p.listen()
	for _, sent := range conversations(e)[:12] {
		send(t, e, sent)
	}
	all := l.take()
	b := newAsker(t, p.ns)
	for _, hide := range []struct {
		what string
		of   func(*packet.Packet)
	}{
		{"connection", func(p *packet.Packet) { p.CT = packet.Conntrack{} }},
		{"mark", func(p *packet.Packet) { p.Mark = packet.Fact[uint32]{} }},
		{"ports", func(p *packet.Packet) { p.SrcPort, p.DstPort = packet.Fact[uint16]{}, packet.Fact[uint16]{} }},
		{"interfaces", func(p *packet.Packet) { p.In, p.Out = packet.Fact[string]{}, packet.Fact[string]{} }},
	} {
		s := newScore()
		for _, x := range all {
			less := *x
			hide.of(&less.packet)
			s.inferAll(t, b, p.inode(), []*traversal{&less})
		}
		t.Logf("without %s: %s", hide.what, s)
		if s.alternatives+s.unknown == 0 {
			t.Errorf("without %s everything was told all the same: nothing was hidden", hide.what)
		}
	}
}
