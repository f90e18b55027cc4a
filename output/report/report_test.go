// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
)

var (
	client = netip.MustParseAddr("10.244.1.5")
	server = netip.MustParseAddr("10.244.1.6")
	noon   = time.Date(2025, 6, 3, 12, 0, 0, 0, time.UTC)
)

// packet is one that a rule of FORWARD dropped, or that arrived; name is in all
// that others than we choose.
func packet(id uint64, name string, o model.Outcome) *model.Packet {
	rule := model.Rule{Family: "ip", Table: "filter", Chain: name, Number: 2, Text: "-A " + name + " -j DROP", Comment: name, Meaning: name, Element: name}
	p := &model.Packet{
		ID: id, Direction: model.Forward, Time: noon.Add(time.Duration(id) * time.Millisecond), Proto: "tcp", TCPFlags: "S", Length: 60,
		Src: client, SrcPort: 40000, Dst: server, DstPort: 80, Outcome: o,
		Hops: []model.Hop{
			{Stage: model.StageTransmit, Netns: 2, Place: name, Interface: name, Function: name},
			{Stage: model.StageReceive, Netns: 1, Place: "node", Interface: name},
			{Stage: model.StageRoute, Netns: 1, Place: "node", Route: &model.Route{Interface: name, Gateway: name, Error: name}},
			{Stage: model.StageNetfilter, Netns: 1, Place: "node", Hook: "FORWARD", Table: name, Verdict: "accept", Rules: []model.Rule{rule, rule}, RulesUnknown: name},
		},
	}
	if o.Died() {
		p.Drop = &model.Drop{Reason: name, Function: name, Stack: []string{name}, Hook: "FORWARD", Table: name, Chain: name, Backend: "legacy",
			Rule: &rule, RuleSource: model.RuleExact, RuleUnknown: name, Unevaluated: []string{name}, Candidates: model.Candidates{{Function: name}},
			Interface: name, Place: "node", Netns: 1}
	}
	return p
}

// play sends a trace of packets and everything else, named name.
func play(t *testing.T, s model.Sink, name string, packets ...*model.Packet) {
	t.Helper()
	end := model.End{Given: name, Name: name, Namespace: name, Interface: name, ResolvedBy: name}
	var c model.Counts
	do := []func() error{
		func() error {
			return s.Start(&model.Start{Time: noon, Version: name, Kernel: name, Backend: name, Src: end, Dst: end, Proto: name})
		},
	}
	for _, p := range packets {
		c.Take(p)
		do = append(do, func() error { return s.Packet(p) })
	}
	do = append(do,
		func() error {
			return s.Node(&model.NodeEvent{Time: noon, What: name, Object: name, Text: name, By: &model.By{PID: 1, Comm: name}})
		},
		func() error {
			return s.Finding(&model.Finding{Code: name, Confidence: name, Direction: model.Direction(name), Packets: []uint64{1}, Summary: name, Evidence: []string{name}, Fix: []string{name}})
		},
		func() error {
			return s.Summary(&model.Summary{Forward: c, MissedHooks: []model.MissedHook{{Hook: name, Why: name}}})
		})
	for _, call := range do {
		if err := call(); err != nil {
			t.Fatal(err)
		}
	}
}

// hostile are names as somebody would choose them who wants the reader's browser
// to do something, or the reader to read something else.
var hostile = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, `javascript:alert(1)`, `</title></style></svg><h1>all fine</h1>`,
	`{{.Verdict}} ${1}`, `]]>--><!--`, "\x1b[2Jgone", "a\u202egpj.exe", "\x00\xff\xfe", "line\r\nbreak", "&lt;b&gt;", "\u200binvisible", strings.Repeat("W", 5000),
}

// Whatever comes from the trace is text: the page has the same elements and
// attributes as with a harmless name, and shows no character that cannot be seen.
func TestHostileNames(t *testing.T) {
	shape := func(name string) (shape string, page string) {
		var out bytes.Buffer
		play(t, New(&out), name, packet(1, name, model.Dropped), packet(2, name, model.Delivered))
		return tags(out.String()), out.String()
	}
	plain, _ := shape("harmless")
	for _, name := range hostile {
		got, page := shape(name)
		if got != plain {
			t.Errorf("%.40q changes the page's elements:\n%s", name, firstDifference(plain, got))
		}
		if i := strings.IndexFunc(page, func(r rune) bool { return r != '\n' && hidden(r) }); i >= 0 {
			t.Errorf("%.40q: invisible character %q", name, page[i:i+4])
		}
	}
}

// tags gives the page's elements with the names of their attributes, and every
// link.
func tags(page string) string {
	tag := regexp.MustCompile(`<[^>]*>`)
	attribute := regexp.MustCompile(`([-a-z]+)="[^"]*"`)
	link := regexp.MustCompile(`(href|src|action|style|on[a-z]+)="([^"]*)"`)
	body := page[strings.Index(page, "</style>"):strings.LastIndex(page, "<script>")]
	var b strings.Builder
	for _, one := range tag.FindAllString(body, -1) {
		for _, l := range link.FindAllString(one, -1) {
			b.WriteString(l + " ")
		}
		b.WriteString(attribute.ReplaceAllString(one, "$1") + "\n")
	}
	return b.String()
}

func firstDifference(a, b string) string {
	left, right := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range left {
		if i >= len(right) || left[i] != right[i] {
			return fmt.Sprintf("line %d: %.200q", i, strings.Join(right[min(i, len(right)):min(i+3, len(right))], "\n"))
		}
	}
	return "more at the end"
}

// Nothing is loaded: every link stays in the page and leads somewhere in it.
func TestLinksStayInThePage(t *testing.T) {
	pages := reports(t)
	var out bytes.Buffer
	play(t, New(&out), "x", packet(1, "x", model.Dropped))
	pages["made"] = out.Bytes()
	href := regexp.MustCompile(`(?:href|src)="([^"]*)"`)
	for name, page := range pages {
		for _, found := range href.FindAllSubmatch(page, -1) {
			to := string(found[1])
			switch {
			case to == "data:,":
			case !strings.HasPrefix(to, "#"):
				t.Errorf("%s: leads out of the page: %s", name, to)
			case !bytes.Contains(page, []byte(`id="`+to[1:]+`"`)):
				t.Errorf("%s: leads nowhere: %s", name, to)
			}
		}
		if got := bytes.Count(page, []byte("Content-Security-Policy")); got != 1 {
			t.Errorf("%s: %d policies", name, got)
		}
	}
}

// The drawings are well-formed SVG with numbers that make sense.
func TestDrawingsAreWellFormed(t *testing.T) {
	svg := regexp.MustCompile(`(?s)<svg class="way".*?</svg>`)
	for name, page := range reports(t) {
		drawn := svg.FindAll(page, -1)
		if len(drawn) < 2 {
			t.Errorf("%s: %d drawings, want a wide and a narrow one at least", name, len(drawn))
		}
		for _, d := range drawn {
			decoder := xml.NewDecoder(bytes.NewReader(d))
			for {
				_, err := decoder.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
			if bytes.Contains(d, []byte(`="-`)) {
				t.Errorf("%s: negative length", name)
			}
		}
	}
}

// However long the trace, memory and page are bounded, what died is kept before
// what did not, and what is left out is counted.
func TestBounded(t *testing.T) {
	var out bytes.Buffer
	w := New(&out)
	var packets []*model.Packet
	id := uint64(0)
	for n := range 3 * maxDied {
		for _, o := range []model.Outcome{model.Delivered, model.Dropped, model.Delivered} {
			id++
			p := packet(id, fmt.Sprintf("way%d", n), o)
			packets = append(packets, p)
		}
	}
	long := packet(id+1, "long", model.Rejected)
	for range 2 * maxHops {
		long.Hops = append(long.Hops, long.Hops[3])
	}
	play(t, w, "bounded", append([]*model.Packet{long}, packets...)...)
	if w.stories.died != maxDied || len(w.stories.list) != maxDied+maxOthers {
		t.Errorf("%d stories, %d of packets that died", len(w.stories.list), w.stories.died)
	}
	kept, left := 0, w.stories.leftOut.died+w.stories.leftOut.others
	for _, s := range w.stories.list {
		kept += s.count
	}
	if kept+left != len(packets)+1 || w.stories.leftOut.died != 2*maxDied+1 {
		t.Errorf("%d kept, %d left out, %d of which died", kept, left, w.stories.leftOut.died)
	}
	for _, want := range []string{
		fmt.Sprintf("%d packets that died another way than those shown", 2*maxDied+1),
		fmt.Sprintf("%d hops in between are left out", maxHops+4),
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if out.Len() > 4<<20 {
		t.Errorf("the page has %d bytes", out.Len())
	}
}

// The worst that a trace can hold still makes a page that a browser opens: so many
// ways, each through so many tables, each with so many rules.
func TestPageSize(t *testing.T) {
	var rules []model.Rule
	for n := range 40 {
		rules = append(rules, model.Rule{Table: "filter", Chain: "cali-fw-cali7715d358f22", Number: n + 1, Text: "-A cali-fw-cali7715d358f22 -m comment --comment \"cali:N3FucY-tAME8ezQa\" -m mark --mark 0x0/0x20000 -j ACCEPT"})
	}
	var out bytes.Buffer
	w := New(&out)
	for n := range uint64(1000) {
		p := packet(n+1, "x", []model.Outcome{model.Delivered, model.Dropped}[n%2])
		p.DstPort = uint16(1 + n)
		for range 60 {
			h := p.Hops[3]
			h.Rules = rules
			p.Hops = append(p.Hops, h)
		}
		if err := w.Packet(p); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	if err := w.Summary(&model.Summary{Forward: model.Counts{Seen: 1000, Dropped: 500}}); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes in %v", out.Len(), time.Since(began).Round(time.Millisecond))
	if out.Len() > 12<<20 {
		t.Errorf("the page has %d bytes", out.Len())
	}
	if !strings.Contains(out.String(), "40 more rules") {
		t.Error("rules are left out without a word")
	}
}

// An empty trace has a report too, and says so.
func TestNothingSeen(t *testing.T) {
	var out bytes.Buffer
	if err := New(&out).Summary(&model.Summary{}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "No packet of the flow was seen.") || strings.Contains(out.String(), "<svg class=\"way\"") {
		t.Errorf("page: %s", out.String())
	}
}

// What was told while tracing stands on the page once.
func TestLiveFinding(t *testing.T) {
	var out bytes.Buffer
	w := New(&out)
	f := model.Finding{Code: "ttl", Summary: "It went round."}
	live := f
	live.Live = true
	for _, err := range []error{w.Finding(&live), w.Finding(&f), w.Summary(&model.Summary{Forward: model.Counts{Seen: 1, Dropped: 1}})} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(out.String(), "It went round."); n != 1 {
		t.Errorf("told %d times", n)
	}
}

// The file is there whole or not at all; what was there stays until then.
func TestFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "trace.html")
	if err := os.WriteFile(path, []byte("old"), 0o640); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link.html")
	if err := os.Symlink("trace.html", link); err != nil {
		t.Fatal(err)
	}
	f, err := Create(link)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "old" {
		t.Errorf("before the end: %q, %v", got, err)
	}
	play(t, f, "x", packet(1, "x", model.Dropped))
	if got, err := os.ReadFile(path); err != nil || !bytes.HasSuffix(bytes.TrimSpace(got), []byte("</html>")) {
		t.Errorf("after it: %d bytes, %v", len(got), err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v, %v", info, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// What a packet costs that is told already.
func BenchmarkFoldedPacket(b *testing.B) {
	w := New(io.Discard)
	p := packet(1, "x", model.Dropped)
	for b.Loop() {
		if err := w.Packet(p); err != nil {
			b.Fatal(err)
		}
	}
}
