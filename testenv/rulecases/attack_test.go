// SPDX-License-Identifier: Apache-2.0

// Rules that are replaced at the worst time: once, right after a packet died by
// them, or again and again. The kernel itself tells which set it was; another
// one's rule must never be named.

package rulecases

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/scenario"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// attackTools are the tools whose rules are replaced.
func attackTools() []string {
	return []string{"nft", "iptables-nft", "iptables-legacy", "ip6tables-nft", "ip6tables-legacy"}
}

// onceAfter is how long after the packet its rules are replaced.
func onceAfter() []time.Duration {
	const ms = time.Millisecond
	return []time.Duration{0, 5 * ms, 10 * ms, 20 * ms, 60 * ms, 250 * ms}
}

// attackPlan is how much is done.
type attackPlan struct {
	repeats int       // of all delays after which rules are replaced once
	rates   []float64 // replacements a second
	packets int       // at each rate
	pace    time.Duration
	settle  time.Duration // for the trace to read a set that was put back
	long    bool
}

// planAttacks: where the CPU is emulated (fentry's VMs) a second holds a tenth
// of the work. PATHTRACE_ATTACKS=packets makes it long. (TestRules replaces rules
// five times a second.)
func planAttacks(t *testing.T, p plan) attackPlan {
	t.Helper()
	a := attackPlan{repeats: 2, rates: []float64{2, 20}, packets: 200, pace: 20 * time.Millisecond, settle: 400 * time.Millisecond}
	if p.exact() {
		a = attackPlan{repeats: 1, rates: []float64{1}, packets: 60, pace: 100 * time.Millisecond, settle: 1500 * time.Millisecond}
	}
	text := os.Getenv("PATHTRACE_ATTACKS")
	if text == "" {
		return a
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 2 {
		t.Fatalf("PATHTRACE_ATTACKS=%s: not a number of packets", text)
	}
	a.long, a.packets, a.repeats, a.pace, a.rates = true, n, 10, 5*time.Millisecond, []float64{2, 5, 20}
	if p.exact() {
		a.pace = 50 * time.Millisecond
	}
	return a
}

// unknownBound is the percentage that may be unknown at a rate, natively: what
// is replaced twenty times a second cannot all be read.
func unknownBound(rate float64) int {
	if rate <= 2 {
		return mostUnknown
	}
	return 60
}

// TestAttacks replaces rules under traces.
func TestAttacks(t *testing.T) {
	p := readPlan(t)
	todo := planAttacks(t, p)
	var all tally
	t.Run("all", func(t *testing.T) {
		for _, tool := range attackTools() {
			t.Run(tool, func(t *testing.T) {
				t.Parallel()
				a := &attack{ctx: t.Context(), p: p, todo: todo, tool: tool, all: &all, s: newStand(t), next: attackFirst}
				a.run(t)
			})
		}
	})
	t.Logf("what was told while rules were replaced\n%s", all.table())
}

// attack is all that is done with one tool.
type attack struct {
	ctx  context.Context // of the test that all are part of: the trace lives as long
	p    plan
	todo attackPlan
	tool string
	all  *tally
	s    *stand
	tr   *scenario.Trace
	next uint16 // port of the next packet
}

// attackFirst is the first packet's source port. No two packets of a trace that
// may still be told have the same.
const attackFirst = 20000

func (a *attack) port() uint16 {
	if a.next++; a.next == 0 {
		a.next = attackFirst
	}
	return a.next
}

func (a *attack) run(t *testing.T) {
	defer a.end(t)
	for i := range a.todo.repeats {
		differs := []string{byComment, byChain}[i%2]
		t.Run(fmt.Sprintf("once-%s-%d", differs, i+1), func(t *testing.T) { a.once(t, differs, i) })
	}
	for i, rate := range a.todo.rates {
		for _, differs := range []string{byComment, byChain} {
			t.Run(fmt.Sprintf("%s-%g-a-second", differs, rate), func(t *testing.T) { a.turns(t, differs, rate, i == 0 && differs == byComment) })
		}
	}
}

func (a *attack) end(t *testing.T) {
	t.Helper()
	if a.tr != nil {
		stop(t, a.tr)
		a.tr = nil
	}
}

// trace begins a trace of the packets, unless the one that runs will do: where
// one sees all rules, loading another takes too long.
func (a *attack) trace(t *testing.T, want bool) (fresh bool) {
	t.Helper()
	if a.tr != nil && (!want || a.p.exact() && !a.todo.long) {
		return false
	}
	a.end(t)
	a.tr = a.s.trace(a.ctx, t, a.p, "--src", "if:"+a.s.client.HostInterface, "--dst", "any", "--proto", "udp", "--port", fmt.Sprint(pairPort))
	return true
}

// send sends a packet to the rules.
func (a *attack) send(port uint16) error {
	v6 := pair{tool: a.tool}.v6()
	to := a.s.server.IPv4
	if v6 {
		to = a.s.server.IPv6
	}
	err := sendUDP(netip.AddrPortFrom(unspecified(v6), port), netip.AddrPortFrom(to, pairPort), 0)
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("port %d: %w", port, err)
	}
	return err
}

// swapper puts set A there.
func (a *attack) swapper(t *testing.T, p pair) *swapper {
	t.Helper()
	if err := a.s.clear(t.Context()); err != nil {
		t.Fatal(err)
	}
	w, err := startSwapper(t.Context(), a.s.node, restoreCommand(p.tool), func(n int) string { return p.text(turn(n)) })
	if err != nil {
		t.Fatal(err)
	}
	a.awaitSet(t, p, "A")
	return w
}

// turn is which set the n-th is: A B B A B A A B and so on, so that now and then
// one is put back as it was, and no period is the kernel's own by chance.
func turn(n int) string { return []string{"A", "B"}[bits.OnesCount(uint(n))%2] }

// awaitSet waits until a set stands, and tells how many packets it has dropped.
func (a *attack) awaitSet(t *testing.T, p pair, want string) (dropped int) {
	t.Helper()
	for deadline := time.Now().Add(toldWithin); ; time.Sleep(20 * time.Millisecond) {
		words := p.list()
		text, err := a.s.node.Run(t.Context(), "", words[0], words[1:]...)
		set, n := p.stands(text)
		if err == nil && set == want {
			return n
		}
		if time.Now().After(deadline) {
			t.Fatalf("set %q stands, not %s: %v\n%s", set, want, err, text)
		}
	}
}

// report counts what was told of a packet and shows what is wrong.
func (a *attack) report(t *testing.T, row tallyRow, packet *model.Packet, unknown, problem string) {
	t.Helper()
	c := counts{packets: 1}
	if unknown != "" {
		c.unknown = 1
	}
	if problem != "" {
		switch {
		case strings.HasPrefix(problem, wrongRule):
			c.wrong = 1
		case strings.HasPrefix(problem, wrongCandidates):
			c.misled, c.unknown = 1, 1
		}
		b, err := json.Marshal(packet)
		if err != nil {
			t.Fatal(err)
		}
		t.Errorf("%s\n  told: %s\n  %s", problem, tell(packet), b)
	}
	a.all.add(row, c)
}

// tally is what was told, by attack.
type tally struct {
	mu   sync.Mutex
	rows map[tallyRow]counts
}

// tallyRow is a line of the table.
type tallyRow struct {
	tool, differs string
	rate          float64       // 0: once
	after         time.Duration // if once
}

// counts of a row.
type counts struct {
	packets, wrong, unknown, misled, replaced int
	took                                      time.Duration
}

func (a *tally) add(row tallyRow, c counts) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.rows == nil {
		a.rows = map[tallyRow]counts{}
	}
	sum := a.rows[row]
	a.rows[row] = counts{sum.packets + c.packets, sum.wrong + c.wrong, sum.unknown + c.unknown, sum.misled + c.misled, sum.replaced + c.replaced, sum.took + c.took}
}

// table draws it up, Markdown.
func (a *tally) table() string {
	rows := slices.SortedFunc(maps.Keys(a.rows), func(x, y tallyRow) int {
		return cmp.Or(strings.Compare(x.tool, y.tool), cmp.Compare(x.rate, y.rate), cmp.Compare(x.after, y.after), strings.Compare(y.differs, x.differs))
	})
	b := "| rules by | sets differ by | replaced | packets | wrong | unknown | wrong candidates |\n| --- | --- | --- | --- | --- | --- | --- |\n"
	for _, r := range rows {
		c := a.rows[r]
		when := fmt.Sprintf("once, %v after", r.after)
		if r.rate > 0 {
			when = fmt.Sprintf("%g a second (%.1f)", r.rate, float64(c.replaced)/c.took.Seconds())
		}
		b += fmt.Sprintf("| %s | %s | %s | %d | %d | %.1f%% | %d |\n",
			r.tool, r.differs, when, c.packets, c.wrong, 100*float64(c.unknown)/float64(max(1, c.packets)), c.misled)
	}
	return b
}
