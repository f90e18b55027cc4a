// SPDX-License-Identifier: Apache-2.0

// One packet dies by set A, and soon after B is in its place. The counters of B
// say that it was not B.

package rulecases

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// freshWithin is how soon after the trace said it is ready its first packet comes.
const freshWithin = 100 * time.Millisecond

// once goes through all delays, another one first each time: the first packet
// comes when the trace has just begun, and A just before that.
func (a *attack) once(t *testing.T, differs string, repeat int) {
	p := pair{tool: a.tool, differs: differs}
	w := a.swapper(t, p)
	delays := onceAfter()
	first := repeat % len(delays)
	fresh := a.trace(t, true)
	ready := time.Now()
	onlyA := true
	for i, after := range slices.Concat(delays[first:], delays[:first]) {
		if i > 0 || !fresh {
			if err := w.put(0); err != nil {
				t.Fatal(err)
			}
			a.awaitSet(t, p, "A")
			time.Sleep(a.todo.settle)
		}
		truth, sent := a.oneShot(t, p, w, after)
		if since := sent.Sub(ready); i == 0 && fresh && since > freshWithin && !a.p.exact() {
			t.Errorf("the first packet came %v after the trace was ready", since)
		}
		onlyA = onlyA && truth == "A"
	}
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	if fresh && !a.p.exact() {
		tr := a.tr
		a.end(t)
		if onlyA {
			checkFindings(t, tr.Findings())
		}
	}
}

// oneShot sends a packet and replaces the rules a while after, and tells which
// set it met.
func (a *attack) oneShot(t *testing.T, p pair, w *swapper, after time.Duration) (truth string, sent time.Time) {
	t.Helper()
	port, already := a.port(), len(a.tr.Packets())
	err := a.s.client.Netns.Do(func() error {
		if err := a.send(port); err != nil {
			return err
		}
		sent = time.Now()
		time.Sleep(after)
		return w.put(1)
	})
	if err != nil {
		t.Fatal(err)
	}
	truth = "A"
	if a.awaitSet(t, p, "B") > 0 {
		truth = "B"
	}
	told := awaitCount(a.tr, already, 1)
	if len(told) != 1 || told[0].SrcPort != port {
		t.Fatalf("%d packets told, want one from port %d", len(told), port)
	}
	packet := &told[0]
	unknown, problem := p.told(packet, truth)
	if unknown != "" && problem == "" && packet.Drop != nil {
		problem = oneSide(packet.Drop.RuleUnknown)
	}
	a.report(t, tallyRow{tool: a.tool, differs: p.differs, after: after}, packet, unknown, problem)
	return truth, sent
}

var sides = regexp.MustCompile(`; before: .+; after: .+`)

// oneSide: whoever reads that a rule is not known, because the rules were
// replaced, must read what it was before and after.
func oneSide(unknown string) (problem string) {
	if !sides.MatchString(unknown) {
		return fmt.Sprintf("rule unknown: %q: not told what it was before and after", unknown)
	}
	return ""
}

// checkFindings wants no cause to be the rule of set B alone, which dropped nothing.
func checkFindings(t *testing.T, findings []model.Finding) {
	t.Helper()
	for _, f := range findings {
		a, b := strings.Contains(f.Summary, "rules-A"), strings.Contains(f.Summary, "rules-B")
		if b && !a {
			t.Errorf("%s: found %s: %s: B dropped nothing", wrongRule, f.Confidence, f.Summary)
		}
	}
}
