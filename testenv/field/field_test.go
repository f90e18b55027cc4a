// SPDX-License-Identifier: Apache-2.0

package field

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/testenv/evidence"
	"github.com/pathtrace/pathtrace/testenv/matrix"
	"github.com/pathtrace/pathtrace/testenv/program"
	"github.com/pathtrace/pathtrace/testenv/scenario"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// plan is what a run covers, set by the Makefile: PATHTRACE_BIN, the built program,
// and PATHTRACE_BACKEND.
type plan struct{ bin, backend string }

func readPlan(t *testing.T) plan {
	t.Helper()
	p := plan{os.Getenv("PATHTRACE_BIN"), os.Getenv("PATHTRACE_BACKEND")}
	if p.bin == "" || p.backend == "" {
		t.Skip("PATHTRACE_BIN and PATHTRACE_BACKEND are not set: run by `make test`")
	}
	return p
}

// emulated tells that a trace takes long to load: fentry is tested in VMs.
func (p plan) emulated() bool { return p.backend == "fentry" }

// settle is how long packets that were freed last take to be told.
func (p plan) settle() time.Duration {
	if p.emulated() {
		return 2 * time.Second
	}
	return 500 * time.Millisecond
}

// TestField holds what is told of other people's faults against the right answers.
// TestMain attaches a program where a line of a case has started it for that.
func TestMain(m *testing.M) {
	program.Main()
	os.Exit(m.Run())
}

func TestField(t *testing.T) {
	p := readPlan(t)
	for _, c := range All() {
		t.Run(c.Name, func(t *testing.T) {
			needModules(t, c)
			t.Parallel()
			s := stand(t, c)
			healthy(t, p, s)
			broken(t, p, s)
		})
	}
}

// stand builds a case's node, for as long as the test runs.
func stand(t *testing.T, c Case) *Stage {
	t.Helper()
	needModules(t, c)
	s, err := Build(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// older compares two kernels' series.
func older(a, b string) bool {
	var aMajor, aMinor, bMajor, bMinor int
	if n, _ := fmt.Sscanf(a+" "+b, "%d.%d %d.%d", &aMajor, &aMinor, &bMajor, &bMinor); n != 4 {
		return true
	}
	return aMajor < bMajor || aMajor == bMajor && aMinor < bMinor
}

// needModules leaves out a case whose modules or tools are not here, or that takes a later kernel.
func needModules(t *testing.T, c Case) {
	t.Helper()
	if c.Since != "" {
		series, err := matrix.KernelSeries()
		if err != nil {
			t.Fatal(err)
		}
		if older(series, c.Since) {
			t.Skipf("takes Linux %s, this is %s", c.Since, series)
		}
	}
	for _, tool := range c.Tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not here", tool)
		}
	}
	for _, m := range c.Modules {
		if _, err := os.Stat("/sys/module/" + m); err == nil {
			continue
		}
		if out, err := exec.Command("modprobe", m).CombinedOutput(); err != nil {
			t.Skipf("kernel module %s is not here: %s", m, strings.TrimSpace(string(out)))
		}
	}
}

// healthy wants nothing found before anything is broken.
func healthy(t *testing.T, p plan, s *Stage) {
	t.Helper()
	if p.emulated() && !s.Case.Twin { // a trace takes half a minute there; that it works is enough
		if says, err := s.Send(t.Context(), true); err != nil || !strings.Contains(says, "answered,") && !strings.Contains(says, "succeeded") {
			t.Logf("healthy twin: %s, %v", says, err)
		}
		return
	}
	tr, said, status := trace(t, p, s, true)
	t.Logf("healthy twin: %s, exit %d", said, status)
	for _, f := range tr.Findings() {
		t.Errorf("false alarm before anything was broken: %s", words(f))
	}
	if status != 0 {
		t.Errorf("exit status %d before anything was broken, want 0", status)
	}
}

// trace traces the case's traffic and gives what was told.
func trace(t *testing.T, p plan, s *Stage, healthy bool) (tr *scenario.Trace, sender string, status int) {
	t.Helper()
	src, dst, err := s.Ends()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--backend", p.backend, "--netns", s.Env.Node(1).Netns.Path, "--src", src, "--dst", dst}
	tr, err = scenario.StartTrace(t.Context(), p.bin, append(args, s.Case.Flags...)...)
	if err != nil {
		t.Fatal(err)
	}
	if !healthy {
		if err := s.Run(t.Context(), s.Case.During); err != nil {
			t.Fatal(err)
		}
	}
	if sender, err = s.Send(t.Context(), healthy); err != nil {
		t.Fatal(err)
	}
	time.Sleep(p.settle())
	if _, err := tr.Stop(); err != nil {
		t.Fatal(err)
	}
	if status, err = tr.Wait(); err != nil {
		t.Fatal(err)
	}
	return tr, sender, status
}

// broken wants the right answer, and no other.
func broken(t *testing.T, p plan, s *Stage) {
	t.Helper()
	if err := s.Run(t.Context(), s.Case.Break); err != nil {
		t.Fatal(err)
	}
	tr, sender, status := trace(t, p, s, false)
	report, done := verdict(t, s.Case.Open)
	defer done()
	t.Logf("sender: %s, exit %d", sender, status)
	want, findings := s.Case.Wanted(p.backend), tr.Findings()
	series, err := matrix.KernelSeries()
	if err != nil {
		t.Fatal(err)
	}
	result := matrix.Result{Kernel: series, Backend: p.backend, Scenario: string(s.Case.Node.Dataplane) + "/field-" + s.Case.Name, Code: want.Code}
	defer func() {
		line, _ := result.Line() // of strings: it cannot fail
		t.Logf("%s", line)
	}()
	found, court := false, evidence.New(t.Context(), s.Env, tr.Packets())
	for _, f := range findings {
		switch {
		case f.Code == want.Code:
			wrong := want.differs(f)
			t.Logf("says: %s", words(f))
			found = found || len(wrong) == 0
			result.Confidence = f.Confidence
			for _, w := range wrong {
				report("%s\n  %s", w, words(f))
			}
		case !slices.Contains(want.Besides, f.Code):
			result.Alarms = append(result.Alarms, f.Code)
			report("wrong: %s", words(f))
		}
		for _, never := range want.Never {
			if regexp.MustCompile(never).MatchString(text(f)) {
				report("says %q: %s", never, words(f))
			}
		}
		for _, problem := range court.Problems(f) {
			report("%s\n  %s", problem, words(f))
		}
	}
	if !found {
		report("no finding as wanted: %+v", want)
		for _, pk := range tr.Packets() {
			t.Logf("told: %s", tell(pk))
		}
	}
	if status != want.Status() {
		report("exit status %d, want %d", status, want.Status())
	}
}

// verdict is how what is wrong in an answer is told. In an open case it is logged, and
// wrong is that nothing is.
func verdict(t *testing.T, open string) (report func(format string, args ...any), done func()) {
	t.Helper()
	if open == "" {
		return t.Errorf, func() {}
	}
	wrong := 0
	report = func(format string, args ...any) {
		t.Helper()
		wrong++
		t.Logf("open: "+format, args...)
	}
	return report, func() {
		t.Helper()
		if wrong == 0 {
			t.Errorf("marked as open (%s), but answered rightly: take the mark away", open)
			return
		}
		t.Logf("still open: %s", open)
	}
}

// differs lists what in a finding is not as wanted.
func (w Want) differs(f model.Finding) (wrong []string) {
	if w.Confidence != "" && f.Confidence != w.Confidence {
		wrong = append(wrong, fmt.Sprintf("confidence %s, want %s", f.Confidence, w.Confidence))
	}
	if w.Direction != "" && f.Direction != w.Direction {
		wrong = append(wrong, fmt.Sprintf("direction %s, want %s", f.Direction, w.Direction))
	}
	for _, says := range w.Says {
		if !regexp.MustCompile("(?i)" + says).MatchString(text(f)) {
			wrong = append(wrong, fmt.Sprintf("does not say %q", says))
		}
	}
	return wrong
}

// text is all that a finding says, a line each.
func text(f model.Finding) string {
	return strings.Join(slices.Concat([]string{f.Summary}, f.Evidence, f.Fix), "\n")
}

// tell puts a packet into a line for a failing test.
func tell(p model.Packet) string {
	b := fmt.Sprintf("#%d %s %s %s:%d > %s:%d %s%s %s", p.ID, p.Direction, p.Proto, p.Src, p.SrcPort, p.Dst, p.DstPort, p.TCPFlags, p.ICMP, p.Outcome)
	if d := p.Drop; d != nil {
		b += fmt.Sprintf(" %s in %s (stage %s) hook %s table %s at %s %s, rule %+v %s", d.Reason, d.Function, d.Stage, d.Hook, d.Table, d.Place, d.Interface, d.Rule, d.RuleUnknown)
	}
	b += " |"
	for _, h := range p.Hops {
		b += fmt.Sprintf(" %s:%s(%s %s%s%s%s)", h.Place, h.Stage, h.Interface, h.Hook, h.Table, h.Verdict, h.Answer)
	}
	return b
}

// words are a finding for a failing test.
func words(f model.Finding) string {
	return fmt.Sprintf("%s %s %s %v: %s\n    because: %s\n    fix: %s", f.Code, f.Confidence, f.Direction, f.Packets, f.Summary, strings.Join(f.Evidence, "\n             "), strings.Join(f.Fix, "\n         "))
}

// TestTable holds the table itself: names, reports, sentences.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range All() {
		if seen[c.Name] {
			t.Errorf("%s is there twice", c.Name)
		}
		seen[c.Name] = true
		if len(c.Reports) == 0 || c.Essence == "" || c.Want.Code == "" {
			t.Errorf("%s: without report, essence or wanted code", c.Name)
		}
		for _, r := range slices.Concat(c.Want.Says, c.Want.Never) {
			if _, err := regexp.Compile(r); err != nil {
				t.Errorf("%s: %v", c.Name, err)
			}
		}
	}
}
