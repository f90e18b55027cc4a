// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/evidence"
	"github.com/pathtrace/pathtrace/testenv/matrix"
	"github.com/pathtrace/pathtrace/testenv/story"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// What a run covers, set by the Makefile:
//
//	PATHTRACE_BIN         the built program (needed)
//	PATHTRACE_BACKEND     fentry or tracepoint (needed)
//	PATHTRACE_DATAPLANES  comma-separated; default all, of which those are left out that
//	                      take what this kernel has not
//	PATHTRACE_SET         all (default); core: every case once, the basic ones with every protocol,
//	                      and on nodes made of recorded ones what takes few traces;
//	                      mixed: all on one Calico and one Flannel node, core on the others
type plan struct {
	bin, backend string
	dataplanes   []cluster.Dataplane
	set          string
}

func readPlan(t *testing.T) plan {
	t.Helper()
	if testing.Short() {
		t.Skip("scenario tests need root and a built pathtrace: not with -short")
	}
	p := plan{bin: os.Getenv("PATHTRACE_BIN"), backend: os.Getenv("PATHTRACE_BACKEND"), set: os.Getenv("PATHTRACE_SET")}
	if p.bin == "" || p.backend == "" {
		t.Skip("PATHTRACE_BIN and PATHTRACE_BACKEND are not set: run by `make test`")
	}
	if !slices.Contains([]string{"", "all", "core", "mixed"}, p.set) {
		t.Fatalf("PATHTRACE_SET=%s: not all, core or mixed", p.set)
	}
	names := os.Getenv("PATHTRACE_DATAPLANES")
	if names == "" {
		p.dataplanes = cluster.Dataplanes()
		return p
	}
	for _, n := range strings.Split(names, ",") {
		d, err := cluster.ParseDataplane(n)
		if err != nil {
			t.Fatal(err)
		}
		p.dataplanes = append(p.dataplanes, d)
	}
	return p
}

// basic are the cases that a core run makes with every protocol.
var basic = []string{"healthy", "healthy-out", "rule-drop", "rule-drop-return"}

// core tells whether a core run makes a scenario that is one of its case's first, or
// the next. A trace takes its time under emulation: of nodes made of recorded ones,
// whose rules are met there, only what goes their own way to node2 is made, which is
// one trace.
func core(s story.Scenario, first bool) bool {
	switch d := s.Dataplane; {
	case d.Recorded():
		return first || slices.Contains(basic, caseName(s))
	case d.IPVS():
		return first && s.CrossNode && s.KubeProxy
	default:
		return first && s.CrossNode && s.Traffic.Src != "default/web2"
	}
}

// scenarios of one dataplane, as the plan wants them.
func (p plan) scenarios(d cluster.Dataplane) []story.Scenario {
	if p.set == "" || p.set == "all" || p.set == "mixed" && (d == cluster.CalicoLegacy || d == cluster.FlannelNFT) {
		return story.Of(d)
	}
	var out []story.Scenario
	seen := map[string]bool{}
	for _, s := range story.Of(d) {
		name := caseName(s)
		if core(s, !seen[name]) {
			out = append(out, s)
		}
		seen[name] = true
	}
	return out
}

// byFlow puts scenarios of one flow in a row; those that take a trace of their
// own come last.
func byFlow(list []story.Scenario) []story.Scenario {
	slices.SortStableFunc(list, func(a, b story.Scenario) int {
		key := func(s story.Scenario) string {
			return fmt.Sprint(s.Expect.Silence || s.Expect.Lasts, s.KubeProxy, s.Traffic.Src, s.Traffic.Dst, s.Traffic.IPv6, s.Traffic.Source, s.Traffic.Proto)
		}
		return strings.Compare(key(a), key(b))
	})
	return list
}

// caseName is a scenario's name without dataplane and protocol.
func caseName(s story.Scenario) string {
	_, name, _ := strings.Cut(s.Name, "/")
	return strings.TrimSuffix(name, "-"+s.Traffic.Proto)
}

// TestScenarios breaks a node in every way of testenv's table while tracing,
// mends it under the same trace, and compares what was told with what is.
func TestScenarios(t *testing.T) {
	p := readPlan(t)
	for _, d := range p.dataplanes {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel() // mostly waiting for silence; equal addresses on several nodes must not mix either
			plain := newEnv(t, cluster.Options{Dataplane: d, Nodes: 2})
			proxied := plain // where IPVS serves services, it always does
			if !d.IPVS() {
				proxied = newEnv(t, cluster.Options{Dataplane: d, KubeProxy: true})
			}
			ses := &session{ctx: t.Context(), p: p}
			if !ses.shared() {
				ses.capture = filepath.Join(t.TempDir(), "trace.pcapng")
			}
			for _, s := range byFlow(p.scenarios(d)) {
				e := plain
				if s.KubeProxy {
					e = proxied
				}
				t.Run(strings.TrimPrefix(s.Name, string(d)+"/"), func(t *testing.T) {
					again(t, func(t tester) {
						ses.run(t, e, s)
					}, ses.drop)
				})
			}
			ses.end(t)
		})
	}
}

func newEnv(t *testing.T, o cluster.Options) *cluster.Env {
	t.Helper()
	e, err := cluster.New(t.Context(), o)
	if errors.Is(err, cluster.ErrLacking) {
		t.Skip(err)
	}
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

// ends gives the addresses of the traffic's ends as a user would give them.
func ends(t interface {
	Helper()
	Fatal(args ...any)
}, e *cluster.Env, tr traffic.Spec) (src, dst string) {
	t.Helper()
	src, dst, err := traffic.Ends(e, tr)
	if err != nil {
		t.Fatal(err)
	}
	return src, dst
}

// session is the trace in use. The fentry backend sees rules that come later,
// so one trace serves all scenarios in a row that ask for the same flow: loading
// takes seconds under emulation. The tracepoint backend knows the tables that
// were there when it started, and starts anew each time.
type session struct {
	ctx context.Context
	p   plan
	tr  *Trace
	key string
	// capture is the file that it writes beside its output; "" under emulation,
	// where that would take too long.
	capture  string
	captures int
	// episodes are the scenarios that the trace in use has seen.
	episodes []episode
}

func (ses *session) shared() bool { return ses.p.backend == "fentry" }

// trace gives a trace of the flow that is ready.
func (ses *session) trace(t tester, e *cluster.Env, src, dst, proto string) *Trace {
	t.Helper()
	key := strings.Join([]string{e.Node(1).Netns.Path, src, dst, proto}, " ")
	if ses.tr != nil && ses.key == key {
		return ses.tr
	}
	ses.end(t)
	args := []string{"--backend", ses.p.backend, "--netns", e.Node(1).Netns.Path, "--src", src, "--dst", dst, "--proto", proto}
	if ses.capture != "" {
		args = append(args, "-w", ses.capture, "--write-all")
	}
	tr, err := StartTrace(ses.ctx, ses.p.bin, args...)
	if err != nil {
		t.Fatal(err)
	}
	ses.tr, ses.key, ses.episodes = tr, key, nil
	return tr
}

// end stops the trace and wants nothing lost.
func (ses *session) end(t interface {
	Helper()
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
}) {
	t.Helper()
	if ses.tr == nil {
		return
	}
	tr := ses.tr
	ses.tr = nil
	sum, err := tr.Stop()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("summary: %+v", *sum)
	if sum.LostEvents+sum.LostPackets > 0 {
		t.Errorf("%d events and %d packets lost", sum.LostEvents, sum.LostPackets)
		for _, pk := range tr.Packets() {
			t.Logf("told: %s", tell(pk))
		}
	}
	checkFindings(t, ses.p.backend, ses.episodes, tr.Packets(), tr.Findings())
	if ses.capture != "" {
		ses.checkCapture(t, tr)
	}
}

// drop ends the trace without asking what it saw: it may be what is wrong.
func (ses *session) drop() {
	if ses.tr != nil {
		if _, err := ses.tr.Stop(); err == nil {
			ses.tr = nil
			return
		}
		ses.tr.Kill()
		ses.tr = nil
	}
}

// toldWithin bounds the wait for packets of a trace that goes on: a packet one
// of whose copies has no end is told after 4 s.
const toldWithin = 15 * time.Second

// compare checks what was told. A trace that goes on is given time to tell it.
func (ses *session) compare(t tester, tr *Trace, check func(t tester, told []model.Packet)) {
	t.Helper()
	if !ses.shared() {
		check(t, tr.Packets())
		return
	}
	for deadline := time.Now().Add(toldWithin); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		quiet := recorder{tester: t}
		check(&quiet, tr.Packets())
		if quiet.problems == 0 {
			return
		}
	}
	check(t, tr.Packets())
}

// awaitTold waits until a packet of the fault was told, while the fault is still
// there to be looked at: a finding is made of the node as it stands then. Under
// emulation, and on a busy machine, that takes a while; whether it comes at all is
// checked later.
func (ses *session) awaitTold(tr *Trace, e *cluster.Env, s story.Scenario, begun time.Time) {
	if s.Expect.Code == "" || s.Expect.Silence {
		return
	}
	limit := toldWithin / 2
	if !ses.shared() {
		limit = 4 * time.Second
	}
	told := func() bool {
		return slices.ContainsFunc(after(tr.Packets(), begun), func(p model.Packet) bool { return len(mismatch(e, s, p)) == 0 })
	}
	for deadline := time.Now().Add(limit); !told() && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
	}
}

// run makes one scenario: trace, broken traffic, mended traffic.
func (ses *session) run(t tester, e *cluster.Env, s story.Scenario) {
	ctx := t.Context()
	applied, err := s.Apply(ctx, e)
	if err != nil {
		t.Excuse("%v", err)
		t.Fatal(err)
	}
	undone := false
	undo := func() {
		if !undone {
			undone = true
			if err := applied.Undo(); err != nil {
				t.Fatal(err)
			}
		}
	}
	defer undo()
	src, dst := ends(t, e, s.Traffic)
	if s.Expect.Silence || s.Expect.Lasts {
		ses.end(t)
	}
	tr := ses.trace(t, e, src, dst, s.Traffic.Proto)
	begun, held := time.Now(), len(tr.Live())
	sent, err := s.Run(ctx, e)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("sender: %v", sent)
	if want := s.Expect.Sender; len(want) > 0 && !slices.Contains(want, sent.Outcome) {
		t.Excuse("the sender saw %v, want one of %v", sent, want)
	}
	settle(ses.p)
	ses.awaitTold(tr, e, s, begun)
	holdEvidence(t, tr, e, tr.Live()[min(held, len(tr.Live())):])
	mended := time.Now()
	ses.episodes = append(ses.episodes, episode{s.Name, s.Expect, begun, mended})
	// what is no more than likely is told when the trace ends
	over := s.Expect.Lasts || !ses.shared() && s.Expect.Code != "" && len(tr.Live()) == held
	if over {
		ses.end(t)
		holdEvidence(t, tr, e, tr.Findings())
	}
	undo()
	hsrc, hdst := ends(t, e, s.Healthy)
	sameTrace := hsrc == src && hdst == dst && !s.Expect.Silence && !over
	var twin healthyRun
	healthy := func() {
		from := time.Now()
		twin = runHealthy(t, ctx, e, s)
		settle(ses.p)
		ses.episodes = append(ses.episodes, episode{name: s.Name + matrix.HealthyTwin, from: from, to: time.Now()})
		if !ses.shared() {
			ses.end(t)
		}
	}
	if sameTrace && s.Fault != "" {
		healthy()
	} else if !ses.shared() || s.Expect.Silence {
		settle(ses.p)
		ses.end(t)
	}
	ses.compare(t, tr, func(t tester, told []model.Packet) {
		checkStory(t, e, s, begunHere(before(after(told, begun), mended)))
	})
	if s.Fault == "" && s.Expect.Code == "" {
		return
	}
	if !sameTrace && ses.shared() {
		// other scenarios trace the twin's flow healthy, and a trace of its own
		// takes its time under emulation
		runHealthy(t, ctx, e, s)
		return
	}
	if !sameTrace || s.Fault == "" {
		tr = ses.trace(t, e, hsrc, hdst, s.Healthy.Proto)
		healthy()
	}
	ses.compare(t, tr, func(t tester, told []model.Packet) {
		checkHealthy(t, twin.packets(told))
	})
}

// holdEvidence holds what was found of the fault, while the node still stands as
// it stood then, against the system's own tools.
func holdEvidence(t tester, tr *Trace, e *cluster.Env, found []model.Finding) {
	t.Helper()
	court := evidence.New(t.Context(), e, tr.Packets())
	for _, f := range found {
		for _, problem := range court.Problems(f) {
			t.Errorf("finding %s: %s", f.Code, problem)
		}
	}
}

// healthyRun is traffic of a node that was mended.
type healthyRun struct {
	begun time.Time
	port  uint16 // of the client; 0: ICMP
}

// packets picks the run's own out of all that was told: not what the fault held
// back and let go only now, nor what asked whether the node was mended.
func (r healthyRun) packets(all []model.Packet) []model.Packet {
	return ofPort(after(all, r.begun), r.port)
}

// runHealthy sends the twin's traffic.
func runHealthy(t tester, ctx context.Context, e *cluster.Env, s story.Scenario) healthyRun {
	t.Helper()
	// a link that was down takes a moment; this connection is not looked at
	if err := s.Check(ctx, e); err != nil {
		t.Logf("right after mending: %v", err)
	}
	begun := time.Now()
	r, err := s.RunHealthy(ctx, e)
	if err != nil || r.Outcome != traffic.Answered {
		t.Excuse("healthy twin: %v: %v", r, err)
		t.Errorf("healthy twin does not pass")
	}
	if r.Traffic.Proto == "icmp" {
		return healthyRun{begun: begun}
	}
	return healthyRun{begun, r.Local.Port()}
}

// settle gives packets that were freed last the time to be told.
func settle(p plan) {
	if p.backend == "fentry" {
		time.Sleep(400 * time.Millisecond) // under emulation
		return
	}
	time.Sleep(150 * time.Millisecond)
}

func before(all []model.Packet, at time.Time) (out []model.Packet) {
	for _, p := range all {
		if p.Time.Before(at) {
			out = append(out, p)
		}
	}
	return out
}

func after(all []model.Packet, at time.Time) (out []model.Packet) {
	for _, p := range all {
		if !p.Time.Before(at) {
			out = append(out, p)
		}
	}
	return out
}

// begunHere leaves out the packets of TCP connections that were made before the
// trace: the warm-up's, whose end (FIN) may come late and die of the fault too.
func begunHere(all []model.Packet) (out []model.Packet) {
	clients := map[uint16]bool{}
	for _, p := range all {
		if p.Direction == model.Forward && p.TCPFlags == "S" {
			clients[p.SrcPort] = true
		}
	}
	for _, p := range all {
		if p.Proto != "tcp" || clients[clientPort(p)] {
			out = append(out, p)
		}
	}
	return out
}

// clientPort is the port of the side that asked, as itself knows it.
func clientPort(p model.Packet) uint16 {
	if p.Direction == model.Forward {
		return p.SrcPort
	}
	for _, h := range slices.Backward(p.Hops) {
		if h.After != nil {
			return h.After.DstPort // masquerade undone
		}
	}
	return p.DstPort
}

// ofPort keeps the packets of one client port; of ICMP all.
func ofPort(all []model.Packet, port uint16) (out []model.Packet) {
	for _, p := range all {
		if port == 0 || clientPort(p) == port {
			out = append(out, p)
		}
	}
	return out
}

// checkHealthy wants both directions to arrive and nothing to die.
func checkHealthy(t tester, packets []model.Packet) {
	t.Helper()
	arrived := map[model.Direction]bool{}
	for _, p := range packets {
		switch p.Outcome {
		case model.Delivered, model.LeftNode:
			arrived[p.Direction] = true
		default:
			t.Errorf("healthy, but told: %s", tell(p))
		}
	}
	if !arrived[model.Forward] || !arrived[model.Return] {
		t.Errorf("healthy, but not both directions arrived: %d packets told, %v", len(packets), arrived)
	}
}

// checkStory compares a broken flow's packets with the expectation.
func checkStory(t tester, e *cluster.Env, s story.Scenario, packets []model.Packet) {
	t.Helper()
	if s.Expect.Code == "" {
		checkHealthy(t, packets)
		return
	}
	if s.Expect.Silence {
		for _, pk := range packets {
			t.Errorf("nothing was sent, but told: %s", tell(pk))
		}
		return
	}
	found := 0
	forwardArrived := false
	for _, pk := range packets {
		if pk.Direction == model.Forward && (pk.Outcome == model.Delivered || pk.Outcome == model.LeftNode) {
			forwardArrived = true
		}
		wrong := mismatch(e, s, pk)
		if len(wrong) == 0 {
			found++
			continue
		}
		if pk.Outcome.Died() || pk.Outcome == model.Unknown {
			t.Errorf("told %s\n  but: %s", tell(pk), strings.Join(wrong, "; "))
		}
	}
	if found == 0 {
		t.Errorf("no packet told as expected: %s", wanted(s.Expect))
		for _, pk := range packets {
			t.Logf("told: %s", tell(pk))
		}
	}
	if s.Expect.Direction == model.Return && !forwardArrived {
		t.Error("replies die, but no request was told to have arrived")
	}
}

// mismatch lists what in a packet is not as expected; empty: all is.
func mismatch(e *cluster.Env, s story.Scenario, p model.Packet) []string {
	x := s.Expect
	var wrong []string
	note := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	note(x.Direction == "" || p.Direction == x.Direction, "direction %s, want %s", p.Direction, x.Direction)
	note(slices.Contains(x.Outcomes, p.Outcome), "outcome %s, want %v", p.Outcome, x.Outcomes)
	d := p.Drop
	if d == nil {
		note(!died(x.Outcomes), "no drop told")
		return wrong
	}
	note(len(x.Stages) == 0 || slices.Contains(x.Stages, d.Stage), "stage %q, want %v", d.Stage, x.Stages)
	note(len(x.Reasons) == 0 || slices.Contains(x.Reasons, d.Reason), "reason %s, want %v", d.Reason, x.Reasons)
	note(len(x.Functions) == 0 || hasPrefix(x.Functions, d.Function), "function %s, want %v", d.Function, x.Functions)
	note(x.Hook == "" || d.Hook == x.Hook, "hook %q, want %s", d.Hook, x.Hook)
	// where two tables have one priority, a backend without fentry names both
	note(x.Table == "" || d.Table == x.Table || d.Table == "" && slices.ContainsFunc(d.Candidates, func(c model.Candidate) bool { return c.Table == x.Table }), "table %q (of %v), want %s", d.Table, d.Candidates, x.Table)
	note(len(x.Places) == 0 || slices.ContainsFunc(x.Places, func(r story.Role) bool { return at(e, s, r, d.Netns) }), "place %s, want %v", d.Place, x.Places)
	note(len(x.Interface) == 0 || slices.ContainsFunc(x.Interface, func(r story.Role) bool { return s.InterfaceOf(e, r) == d.Interface }), "interface %q, want %v", d.Interface, x.Interface)
	return wrong
}

func died(outcomes []model.Outcome) bool {
	return len(outcomes) > 0 && !slices.ContainsFunc(outcomes, func(o model.Outcome) bool { return !o.Died() })
}

func hasPrefix(prefixes []string, s string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

// at tells whether a namespace is the one that plays a role.
func at(e *cluster.Env, s story.Scenario, r story.Role, inode uint32) bool {
	place := s.PlaceOf(r)
	if r == story.RoleNode {
		return uint32(e.Node(1).Netns.Inode) == inode
	}
	pod := e.Pod(place)
	return pod != nil && uint32(pod.Netns.Inode) == inode
}

// tell puts a packet into a line for a failing test.
func tell(p model.Packet) string {
	var b strings.Builder
	fmt.Fprintf(&b, "#%d %s %s %s:%d > %s:%d %s%s %s", p.ID, p.Direction, p.Proto, p.Src, p.SrcPort, p.Dst, p.DstPort, p.TCPFlags, p.ICMP, p.Outcome)
	if d := p.Drop; d != nil {
		fmt.Fprintf(&b, " %s in %s (stage %s) hook %s table %s at %s %s", d.Reason, d.Function, d.Stage, d.Hook, d.Table, d.Place, d.Interface)
	}
	if d := p.Drop; d != nil && (d.Rule != nil || d.RuleUnknown != "" || len(d.Candidates) > 0) {
		fmt.Fprintf(&b, " by rule %+v %s %s (candidates %v)", d.Rule, d.RuleSource, d.RuleUnknown, d.Candidates)
	}
	b.WriteString(" |")
	for _, h := range p.Hops {
		fmt.Fprintf(&b, " %s(%s %s%s%s)", h.Stage, h.Interface, h.Hook, h.Table, h.Verdict)
	}
	return b.String()
}

func wanted(x story.Expect) string {
	return fmt.Sprintf("%s %v stage %v reason %v function %v hook %s table %s place %v interface %v", x.Direction, x.Outcomes, x.Stages, x.Reasons, x.Functions, x.Hook, x.Table, x.Places, x.Interface)
}
