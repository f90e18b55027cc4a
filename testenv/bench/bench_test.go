// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
)

// sampled is a sample at a rate, by the clock and by CPU time.
func sampled(rate, cpuRate float64) Sample {
	return Sample{Units: rate, Wall: time.Second, CPU: time.Second, BestUnits: cpuRate, BestCPU: time.Second}
}

func slotAt(rate, cpuRate float64) slot {
	return slot{samples: map[Kind]Sample{UDP: sampled(rate, cpuRate)}}
}

// TestCompareTakesNeighbours: the machine gets twice as fast midway, the tool
// always takes a fifth; one round is disturbed and must not count.
func TestCompareTakesNeighbours(t *testing.T) {
	spoilt := beside{slotAt(100, 200), slotAt(1, 2), slotAt(100, 200)}
	spoilt.slot.disturbed = true
	c := compare("tool", UDP, []beside{
		{slotAt(100, 200), slotAt(80, 160), slotAt(100, 200)},
		{slotAt(100, 200), slotAt(120, 240), slotAt(200, 400)},
		{slotAt(200, 400), slotAt(160, 320), slotAt(200, 400)},
		spoilt,
	})
	if c.Ratio != 0.8 || c.CPURatio != 0.8 || c.Low != 0.8 || c.High != 0.8 {
		t.Errorf("ratio %v (%v-%v), by CPU time %v, want 0.8 all: %+v", c.Ratio, c.Low, c.High, c.CPURatio, c)
	}
	if c.Rounds != 4 || c.Disturbed != 1 || c.Unit != "packets" {
		t.Errorf("%d rounds, %d disturbed, unit %q; want 4, 1, packets", c.Rounds, c.Disturbed, c.Unit)
	}
}

// TestCompareAllDisturbed: then the disturbed rounds are all there is, and say so.
func TestCompareAllDisturbed(t *testing.T) {
	b := beside{slotAt(100, 100), slotAt(50, 50), slotAt(100, 100)}
	b.before.disturbed = true
	if c := compare("tool", UDP, []beside{b, b}); c.Ratio != 0.5 || c.Disturbed != 2 {
		t.Errorf("%+v, want ratio 0.5 and 2 disturbed", c)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 2, 3}, 2.5},
	} {
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.values, got, c.want)
		}
	}
}

func TestMeterKeepsBestPart(t *testing.T) {
	m := &meter{}
	for _, part := range []struct {
		units int64
		cpu   time.Duration
	}{{100, 10}, {300, 20}, {0, 1}, {100, 0}, {200, 20}} {
		m.part(part.units, part.cpu)
	}
	if m.bestUnits != 300 || m.bestCPU != 20 {
		t.Errorf("best part %d units in %v, want 300 in 20ns", m.bestUnits, m.bestCPU)
	}
}

func TestGuard(t *testing.T) {
	base, err := ParseBaseline([]byte(`{"native": {"tracepoint": {"udp": 0.90, "tcp-rr": 0.95}}}`))
	if err != nil {
		t.Fatal(err)
	}
	at := func(udp, rr float64) []Comparison {
		return []Comparison{{Tool: "tracepoint", Kind: UDP, CPURatio: udp}, {Tool: "tracepoint", Kind: TCPRR, CPURatio: rr}}
	}
	for _, c := range []struct {
		name string
		got  []Comparison
		want []string // the beginning of each line
	}{
		{"as it was", at(0.90, 0.95), nil},
		{"better", at(1.0, 1.0), nil},
		{"ten points less are allowed", at(0.81, 0.86), nil},
		{"more are not", at(0.79, 0.95), []string{"tracepoint udp: others keep 0.79"}},
		{"both worse", at(0.5, 0.5), []string{"tracepoint tcp-rr: others keep 0.50", "tracepoint udp: others keep 0.50"}},
		{"a measurement that is missing is no success", at(0.90, 0.95)[:1], []string{"tracepoint tcp-rr: not measured"}},
	} {
		worse, err := base.Check("native", c.got)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if !slices.EqualFunc(worse, c.want, strings.HasPrefix) {
			t.Errorf("%s: %q, want %q", c.name, worse, c.want)
		}
	}
	if _, err := base.Check("vm-6.12", nil); err == nil {
		t.Error("a label that the baseline does not have passes")
	}
	next := base.With("vm-6.12", []string{"fentry"}, []Comparison{{Tool: "fentry", Kind: UDP, CPURatio: 0.954}, {Tool: "tcpdump", Kind: UDP, CPURatio: 0.2}})
	if got := next["vm-6.12"]["fentry"][UDP]; got != 0.95 || len(next["vm-6.12"]) != 1 || next["native"]["tracepoint"][UDP] != 0.90 {
		t.Errorf("new baseline %v", next)
	}
}

// TestCommittedBaseline: the guard of CI has something to compare with.
func TestCommittedBaseline(t *testing.T) {
	base, err := CommittedBaseline()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range Kinds() {
		if r := base["native"]["tracepoint"][kind]; r <= 0 || r > 1.2 {
			t.Errorf("native tracepoint %s: %v is no ratio to compare with", kind, r)
		}
	}
}

// TestTablesOfSavedResults: what was saved and read back is drawn as it was
// measured, every number where a reader looks for it.
func TestTablesOfSavedResults(t *testing.T) {
	records := append([]Record{{Type: TypeSetting, Setting: &Setting{Label: "native", Kernel: "6.18", CPUs: 2, Size: DefaultSize(), Rounds: 5, Slot: time.Second, Softirqd: true}}},
		Result{
			Comparisons: []Comparison{{Tool: "fentry", Kind: TCPStream, Unit: "bytes", Without: 1.25e9, With: 1e9, Ratio: 0.8, Low: 0.7, High: 0.9, CPURatio: 0.85, CPULow: 0.8, CPUHigh: 0.9, Rounds: 5, Disturbed: 1}},
			Lives:       []ToolLife{{Tool: "fentry", Runs: 5, Life: Life{Ready: 400 * time.Millisecond, Attach: 300 * time.Millisecond, Calm: 250 * time.Millisecond, Verdict: 200 * time.Millisecond, Exit: time.Second, Peak: 50 << 20, Resident: 40 << 20, Hooks: 36}}},
			Unavailable: []Unavailable{{"pwru", "no | kprobes"}},
		}.Records()...)
	records = append(records,
		Record{Type: TypeOwnRate, OwnRate: &OwnRate{Tool: "fentry", Asked: 50000, Without: 49999, With: 40000, Sent: 500000, Told: 498000, SampledOut: 1000, LostPackets: 900, LostEvents: 7, Silent: 100, NoRoom: 3}},
		Record{Type: TypeProgram, Program: &ToolProgram{Tool: "fentry", ProgramCost: ProgramCost{Program: "tp_kfree_skb", PerPacket: 2, NSPerRun: 130, NSPacket: 260, Counting: 80, Share: 0.0123}}})
	var saved, drawn bytes.Buffer
	if err := Write(&saved, records); err != nil {
		t.Fatal(err)
	}
	back, err := Read(&saved)
	if err != nil {
		t.Fatal(err)
	}
	if err := Tables(&drawn, back); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"**native**: Linux 6.18, 2 CPU(s), calico-legacy, 30 endpoints; 5 rounds, slots of 1s",
		"| tcp-stream | fentry | 10.00 Gbit/s | 8.00 Gbit/s | **0.80** | 0.70-0.90 | **0.85** | 0.80-0.90 | 5 (1 disturbed) |",
		"| fentry | 36 | 0.40 s | 0.30 s | 0.25 s | 0.20 s | 1.00 s | 40.0 MiB | 50.0 MiB | 0.00 s | 5 |",
		"| fentry | `tp_kfree_skb` | 2.00 | 130 | 80 | 100 | 1.2% |",
		"| fentry | 50000/s | 49999/s | 40000/s | 500000 | 498000 | 1000 | 900 (and 7 events) | 100 | 3 |",
		`| pwru | no \| kprobes |`,
	} {
		if !strings.Contains(drawn.String(), want) {
			t.Errorf("missing in the tables: %s\n%s", want, drawn.String())
		}
	}
}
