// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// script is a sink that notes what it is told, in order.
type script struct{ lines []string }

func (s *script) Start(*model.Start) error { return nil }
func (s *script) Packet(p *model.Packet) error {
	s.lines = append(s.lines, fmt.Sprintf("packet %d", p.ID))
	return nil
}
func (s *script) Node(e *model.NodeEvent) error {
	s.lines = append(s.lines, strings.TrimSpace(fmt.Sprintf("%s %s", e.What, e.Object)))
	return nil
}
func (s *script) Finding(f *model.Finding) error {
	s.lines = append(s.lines, "finding "+f.Code)
	return nil
}
func (s *script) Summary(*model.Summary) error { s.lines = append(s.lines, "summary"); return nil }

const self, traced = 100, 200

// telling is a Teller of a flow between 10.0.0.1 and 10.0.0.2, whose pod is the
// namespace traced; there is no node.
func telling(t *testing.T) (*Teller, *script) {
	t.Helper()
	out := &script{}
	teller := NewTeller(&Watcher{self: self}, out)
	start := &model.Start{Src: model.End{Netns: traced, Addresses: model.Prefixes{netip.MustParsePrefix("10.0.0.1/32")}},
		Dst: model.End{Addresses: model.Prefixes{netip.MustParsePrefix("10.0.0.2/32")}}}
	if err := teller.Start(start); err != nil {
		t.Fatal(err)
	}
	return teller, out
}

func (s *script) want(t *testing.T, want ...string) {
	t.Helper()
	if got := strings.Join(s.lines, ", "); got != strings.Join(want, ", ") {
		t.Errorf("told %s; want %s", got, strings.Join(want, ", "))
	}
}

// Events come out in order with packets, which are told late.
func TestOrder(t *testing.T) {
	teller, out := telling(t)
	at := time.Date(2025, 6, 3, 12, 0, 0, 0, time.UTC)
	ms := func(n int) time.Time { return at.Add(time.Duration(n) * time.Millisecond) }
	do := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	do(teller.Node(&model.NodeEvent{Time: ms(20), What: model.LinkDown, Object: "b", Netns: self}))
	do(teller.Node(&model.NodeEvent{Time: ms(10), What: model.LinkDown, Object: "a", Netns: self}))
	do(teller.Packet(&model.Packet{ID: 1, Time: ms(5)}))
	do(teller.Packet(&model.Packet{ID: 2, Time: ms(15)}))
	out.want(t, "packet 1", "link-down a", "packet 2")
	do(teller.Tick(ms(100)))
	out.want(t, "packet 1", "link-down a", "packet 2") // packets from before may come still
	do(teller.Tick(ms(20).Add(holdFor)))
	do(teller.Node(&model.NodeEvent{Time: ms(400), What: model.LinkUp, Object: "b", Netns: self}))
	do(teller.Finding(&model.Finding{Code: "live", Live: true}))
	do(teller.Node(&model.NodeEvent{Time: ms(500), What: model.LinkUp, Object: "a", Netns: self}))
	do(teller.Summary(&model.Summary{}))
	out.want(t, "packet 1", "link-down a", "packet 2", "link-down b", "link-up b", "finding live", "link-up a", "summary")
}

// What is no business of the flow is left out.
func TestOthersAreLeftOut(t *testing.T) {
	prefix := netip.MustParsePrefix
	for name, tc := range map[string]struct {
		e    model.NodeEvent
		told bool
	}{
		"a link of the node":              {model.NodeEvent{What: model.LinkDown, Netns: self}, true},
		"a link of the traced pod":        {model.NodeEvent{What: model.LinkDown, Netns: traced}, true},
		"a link of another pod":           {model.NodeEvent{What: model.LinkDown, Netns: 300}, false},
		"the route to an end":             {model.NodeEvent{What: model.RouteDeleted, Netns: self, Prefix: prefix("10.0.0.2/32")}, true},
		"the default route":               {model.NodeEvent{What: model.RouteDeleted, Netns: self, Prefix: prefix("0.0.0.0/0")}, true},
		"the route to somebody else":      {model.NodeEvent{What: model.RouteDeleted, Netns: self, Prefix: prefix("10.0.0.3/32")}, false},
		"where the packets really go":     {model.NodeEvent{What: model.RouteDeleted, Netns: self, Prefix: prefix("10.244.0.0/16")}, true},
		"rules of the node":               {model.NodeEvent{What: model.RulesetChanged, Netns: self}, true},
		"rules of another pod":            {model.NodeEvent{What: model.RulesetChanged, Netns: 300}, false},
		"a sysctl of the node":            {model.NodeEvent{What: model.SysctlChanged, Netns: self, Object: "net.ipv4.ip_forward"}, true},
		"a sysctl of an agent's own pod":  {model.NodeEvent{What: model.SysctlChanged, Netns: 300, Object: "net.ipv4.ip_forward"}, false},
		"an agent's end, wherever it was": {model.NodeEvent{What: model.ProcessExit, Netns: 300}, true},
	} {
		teller, out := telling(t)
		translated := model.Hop{Netns: self, After: &model.Endpoints{Dst: netip.MustParseAddr("10.244.1.9")}}
		if err := teller.Packet(&model.Packet{ID: 1, Hops: []model.Hop{translated}}); err != nil {
			t.Fatal(err)
		}
		tc.e.Time = time.Now()
		if err := teller.Node(&tc.e); err != nil {
			t.Fatal(err)
		}
		if err := teller.Summary(&model.Summary{}); err != nil {
			t.Fatal(err)
		}
		if got := len(out.lines) == 3; got != tc.told {
			t.Errorf("%s: told %v", name, out.lines)
		}
	}
}

// An interface that flaps is told some times, then counted; nothing is lost.
func TestFlapsAreFolded(t *testing.T) {
	teller, _ := telling(t)
	var told []model.NodeEvent
	teller.Sink = nodes{teller.Sink, &told}
	at := time.Date(2025, 6, 3, 12, 0, 0, 0, time.UTC)
	by := &model.By{PID: 812, Comm: "netscript"}
	const turns = 301
	for i := range turns {
		now := at.Add(time.Duration(i) * 100 * time.Millisecond)
		what := []string{model.LinkDown, model.LinkUp}[i%2]
		if err := teller.Node(&model.NodeEvent{Time: now, What: what, Object: "cali1", Netns: self, By: by, Text: "cali1 set by netscript"}); err != nil {
			t.Fatal(err)
		}
		if err := teller.Tick(now); err != nil {
			t.Fatal(err)
		}
	}
	if err := teller.Summary(&model.Summary{}); err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, e := range told {
		sum += max(1, e.Times)
	}
	if sum != turns || len(told) > 15 {
		t.Errorf("%d turns told in %d events, want %d in few", sum, len(told), turns)
	}
	if folded := told[foldAfter]; folded.By != by || folded.Until.IsZero() || !strings.HasPrefix(folded.Text, "cali1 again and again, within 4.7 s 24 times set DOWN and 24 times set UP; at last: ") {
		t.Errorf("told %+v", folded)
	}
}

// nodes keeps the events that go by.
type nodes struct {
	model.Sink
	all *[]model.NodeEvent
}

func (n nodes) Node(e *model.NodeEvent) error {
	*n.all = append(*n.all, *e)
	return n.Sink.Node(e)
}
