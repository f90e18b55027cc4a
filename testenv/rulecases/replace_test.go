// SPDX-License-Identifier: Apache-2.0

// Rules told while somebody replaces the tables again and again: any rule told
// must have been in one of the two sets that take turns.

package rulecases

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// Replacing tables under a trace.
const (
	swapPorts   = 10
	swapFirst   = 21000
	swapPackets = 300
	swapEvery   = 200 * time.Millisecond
	// Where the CPU is emulated (fentry's VMs) a second holds a tenth of the
	// work: reading a table takes as long as its life.
	swapEveryEmulated  = time.Second
	swapPacketsSpread  = 100 * time.Millisecond
	mostUnknownSwapped = 15 // percent, where the CPU is emulated
	swapPace           = 40 * time.Millisecond
)

// whileReplaced traces packets while two rule sets take turns; each rule's
// comment says the set, the client's port and the rule's number.
func (g *gallery) whileReplaced(t *testing.T, f form) {
	if err := g.s.clear(t.Context()); err != nil {
		t.Fatal(err)
	}
	w, err := startSwapper(t.Context(), g.s.node, restoreCommand(f.name), f.swapText)
	if err != nil {
		t.Fatal(err)
	}
	tr := g.loadTrace(t)
	already := len(tr.Packets())
	every, pace := swapEvery, swapPace
	if g.p.exact() {
		every, pace = swapEveryEmulated, swapPacketsSpread
	}
	w.run(every)
	err = g.s.client.Netns.Do(func() error {
		for i := range swapPackets {
			if err := sendLoad(swapFirst+uint16(i*7%swapPorts), g.s.server.IPv4, loadPort); err != nil {
				return err
			}
			time.Sleep(pace)
		}
		return nil
	})
	n, rate, swapErr := w.halt()
	if err := errors.Join(err, swapErr, w.stop()); err != nil {
		t.Fatal(err)
	}
	g.checkSwapped(t, f, awaitCount(tr, already, swapPackets), n, rate)
}

func (g *gallery) checkSwapped(t *testing.T, f form, told []model.Packet, n int, rate float64) {
	t.Helper()
	wrong, unknown, sets := 0, map[string]int{}, map[string]int{}
	for _, p := range told {
		set, why, problem := swapProblem(&p)
		if problem != "" {
			if wrong++; wrong <= 5 {
				t.Errorf("%s\n  told: %s", problem, tell(&p))
			}
		}
		if why != "" {
			unknown[why]++
		}
		sets[set]++
	}
	t.Logf("%d of %d packets told, %d wrong, unknown: %v, by set: %v; %d replacements, %.1f a second", len(told), swapPackets, wrong, unknown, sets, n, rate)
	if len(told) != swapPackets {
		t.Errorf("%d packets sent, %d told", swapPackets, len(told))
	}
	if n < 10 || g.p.exact() && (sets["A"] == 0 || sets["B"] == 0) {
		t.Errorf("%d replacements, rules told by set %v: nothing was replaced under the trace", n, sets)
	}
	most := mostUnknown
	if g.p.exact() {
		most = mostUnknownSwapped
	}
	g.fewUnknown(t, f, unknown, len(told), most)
}

// swapText installs set A or B: the same ports in another order, B's behind
// other rules. nft's table is made anew for A, and its chain emptied for B.
func (f form) swapText(n int) string {
	set, first := "A", 0
	if n%2 == 1 {
		set, first = "B", 5
	}
	rules := make([]string, 0, first+swapPorts)
	rule := func(match, verdict, comment string) {
		if f.name == "nft" {
			rules = append(rules, fmt.Sprintf("add rule ip swap sfwd udp %s %s comment \"%s\"", match, strings.ToLower(verdict), comment))
			return
		}
		rules = append(rules, fmt.Sprintf("-A FORWARD -p udp --%s -m comment --comment %s -j %s", match, comment, verdict))
	}
	for i := range first {
		rule("dport 9", "ACCEPT", fmt.Sprintf("%s-0-%d", set, i+1))
	}
	for i := range swapPorts {
		port := swapFirst + i
		if set == "B" {
			port = swapFirst + swapPorts - 1 - i
		}
		rule(fmt.Sprintf("sport %d", port), "DROP", fmt.Sprintf("%s-%d-%d", set, port, first+i+1))
	}
	if f.name == "nft" {
		head := "add table ip swap; "
		if set == "A" {
			head += "delete table ip swap; add table ip swap; "
		}
		head += "add chain ip swap sfwd { type filter hook forward priority 0; }; flush chain ip swap sfwd; "
		return head + strings.Join(rules, "; ") + "\n"
	}
	return "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n" + strings.Join(rules, "\n") + "\nCOMMIT\n"
}

var swapComment = regexp.MustCompile(`^([AB])-(\d+)-(\d+)$`)

// swapProblem checks that the rule told to have dropped a packet is one that was
// there: comment, number and the packet's port belong together.
func swapProblem(p *model.Packet) (set, unknown, problem string) {
	if p.Outcome == model.Unknown {
		return "", "the packet's end was not seen", ""
	}
	if p.Drop == nil || p.Outcome != model.Dropped {
		return "", "", "not told dropped"
	}
	r := p.Drop.Rule
	if r == nil {
		return "", reasonOf(p), ""
	}
	m := swapComment.FindStringSubmatch(r.Comment)
	if m == nil || m[2] != fmt.Sprint(p.SrcPort) || m[3] != fmt.Sprint(r.Number) {
		return "", "", fmt.Sprintf("%s: %d with comment %q, neither set has that for port %d", wrongRule, r.Number, r.Comment, p.SrcPort)
	}
	if r.Text != "" && !strings.Contains(r.Text, fmt.Sprint(p.SrcPort)) {
		return "", "", fmt.Sprintf("%s: %q for a packet from port %d", wrongRule, r.Text, p.SrcPort)
	}
	return m[1], "", ""
}
