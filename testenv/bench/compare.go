// SPDX-License-Identifier: Apache-2.0

// The comparison: rounds of slots, every tool's between two of nothing.

package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// Plan says what to compare and how long.
type Plan struct {
	Tools  []Tool
	Kinds  []Kind
	Rounds int           // at least 1; 5 give a median worth telling
	Slot   time.Duration // of each kind of traffic in a slot
	// Patience is how long to wait, before and instead of a slot, for other
	// people's BPF programs to go; 0: not at all.
	Patience time.Duration
	Log      func(line string)
}

// Nothing is the name of the control in results: slots without a tool, compared
// with their neighbours without one.
const Nothing = "nothing"

// Comparison is what one tool does to one kind of traffic.
type Comparison struct {
	Tool      string    `json:"tool"`
	Kind      Kind      `json:"kind"`
	Unit      string    `json:"unit"`
	Without   float64   `json:"without_per_s"` // median rate of the slots beside
	With      float64   `json:"with_per_s"`
	Ratio     float64   `json:"ratio"` // median of the rounds' ratios, by the clock
	Low       float64   `json:"ratio_low"`
	High      float64   `json:"ratio_high"`
	CPURatio  float64   `json:"cpu_ratio"` // the same by CPU time
	CPULow    float64   `json:"cpu_ratio_low"`
	CPUHigh   float64   `json:"cpu_ratio_high"`
	NSWithout float64   `json:"cpu_ns_without"` // CPU time of a unit
	NSWith    float64   `json:"cpu_ns_with"`
	NoRoom    float64   `json:"no_room"` // share that found the receiver's socket full
	Rounds    int       `json:"rounds"`
	Disturbed int       `json:"disturbed"` // rounds in which others' BPF programs ran
	Ratios    []float64 `json:"ratios"`    // each round's, by the clock
	CPURatios []float64 `json:"cpu_ratios"`
}

// ToolLife is what a tool itself took, medians over the rounds.
type ToolLife struct {
	Tool string `json:"tool"`
	Life
	Runs int `json:"runs"`
}

// Unavailable says why a tool takes no part on this machine.
type Unavailable struct {
	Tool string `json:"tool"`
	Why  string `json:"why"`
}

// slot is what ran in one.
type slot struct {
	samples   map[Kind]Sample
	disturbed bool
}

// beside is a tool's slot with its two neighbours.
type beside struct {
	before, slot, after slot
}

// Result is a finished comparison.
type Result struct {
	Comparisons []Comparison
	Lives       []ToolLife
	Unavailable []Unavailable
}

// Lacks tells whether a tool took no part.
func (r Result) Lacks(tool string) bool {
	return slices.ContainsFunc(r.Unavailable, func(u Unavailable) bool { return u.Tool == tool })
}

// Untraced is the CPU time, in ns, that a unit of traffic takes without a tool.
func (r Result) Untraced(kind Kind) (ns float64, ok bool) {
	for _, c := range r.Comparisons {
		if c.Kind == kind {
			return c.NSWithout, true
		}
	}
	return 0, false
}

// Compare runs the plan on a node while the traced flow idles.
func (n *Node) Compare(ctx context.Context, p Plan) (res Result, err error) {
	if p.Rounds < 1 || p.Slot <= 0 || len(p.Kinds) == 0 {
		return res, fmt.Errorf("a comparison needs rounds, a slot's time and a kind of traffic; asked for were %d, %v and %v", p.Rounds, p.Slot, p.Kinds)
	}
	stopIdle := n.keepIdle(ctx)
	defer func() { err = stopIdle(err) }()
	tools, refused, err := n.available(ctx, p.Tools)
	if err != nil {
		return res, err
	}
	res.Unavailable = refused
	got, control, lives, err := n.rounds(ctx, p, tools)
	if err != nil {
		return res, err
	}
	for _, kind := range p.Kinds {
		if len(control) > 0 { // one round of one tool has none
			res.Comparisons = append(res.Comparisons, compare(Nothing, kind, control))
		}
		for _, t := range tools {
			res.Comparisons = append(res.Comparisons, compare(t.Name, kind, got[t.Name]))
		}
	}
	for _, t := range tools {
		res.Lives = append(res.Lives, medianLife(t.Name, lives[t.Name]))
	}
	return res, nil
}

// available tries every tool once: what this kernel refuses takes no part, and
// is told. It warms caches as well.
func (n *Node) available(ctx context.Context, tools []Tool) (can []Tool, cannot []Unavailable, err error) {
	for _, t := range tools {
		r, err := t.start(ctx, n)
		if err == nil {
			_, err = r.Stop()
		}
		var refused *RefusedError
		switch {
		case errors.As(err, &refused):
			cannot = append(cannot, Unavailable{t.Name, err.Error()})
		case err != nil:
			return nil, nil, fmt.Errorf("try %s: %w", t.Name, err)
		default:
			can = append(can, t)
		}
	}
	return can, cannot, ctx.Err()
}

// rounds runs all slots.
func (n *Node) rounds(ctx context.Context, p Plan, tools []Tool) (got map[string][]beside, control []beside, lives map[string][]Life, err error) {
	got, lives = map[string][]beside{}, map[string][]Life{}
	var nothing []slot
	still, err := n.slot(ctx, p, 0)
	if err != nil {
		return nil, nil, nil, err
	}
	nothing = append(nothing, still)
	for round := range p.Rounds {
		for i := range tools {
			t := tools[(i+round)%len(tools)] // no tool always has the same neighbours
			with, life, err := n.toolSlot(ctx, p, t)
			if err != nil {
				return nil, nil, nil, fmt.Errorf("round %d, %s: %w", round+1, t.Name, err)
			}
			after, err := n.slot(ctx, p, 0)
			if err != nil {
				return nil, nil, nil, fmt.Errorf("round %d: %w", round+1, err)
			}
			b := beside{nothing[len(nothing)-1], with, after}
			got[t.Name] = append(got[t.Name], b)
			p.Log(fmt.Sprintf("round %d of %d, %s: %s", round+1, p.Rounds, t.Name, b.words(p.Kinds)))
			lives[t.Name] = append(lives[t.Name], life)
			nothing = append(nothing, after)
		}
	}
	for i := 1; i+1 < len(nothing); i++ {
		control = append(control, beside{nothing[i-1], nothing[i], nothing[i+1]})
	}
	return got, control, lives, nil
}

func (n *Node) toolSlot(ctx context.Context, p Plan, t Tool) (s slot, life Life, err error) {
	r, err := t.start(ctx, n)
	if err != nil {
		return s, life, err
	}
	calm, err := awaitCalm(ctx, r.PID())
	if err == nil {
		s, err = n.slot(ctx, p, r.PID())
	}
	life, stopErr := r.Stop()
	life.Calm = calm
	return s, life, errors.Join(err, stopErr)
}

// maxRepeats bounds how often a slot is run again because strangers came.
const maxRepeats = 2

// slot runs every kind of traffic. pid is the tool's, 0 without one.
func (n *Node) slot(ctx context.Context, p Plan, pid int) (s slot, err error) {
	own := []int{os.Getpid()}
	if pid != 0 && pid != own[0] {
		own = append(own, pid)
	}
	for try := 0; ; try++ {
		if err := awaitQuiet(ctx, own, p.Patience); err != nil {
			return s, err
		}
		before, err := strangers(own)
		if err != nil {
			return s, err
		}
		s = slot{samples: map[Kind]Sample{}}
		for _, kind := range p.Kinds {
			if s.samples[kind], err = n.Measure(ctx, kind, p.Slot); err != nil {
				return s, err
			}
		}
		after, err := strangers(own)
		if err != nil {
			return s, err
		}
		s.disturbed = before+after > 0
		if !s.disturbed || try == maxRepeats || p.Patience == 0 {
			return s, nil
		}
	}
}

// awaitQuiet waits, though not for ever, until no other trace runs.
func awaitQuiet(ctx context.Context, own []int, patience time.Duration) error {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		count, err := strangers(own)
		if err != nil || count == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

// compare draws up what the rounds gave. Disturbed rounds count only if there
// are too few others.
func compare(tool string, kind Kind, rounds []beside) Comparison {
	c := Comparison{Tool: tool, Kind: kind, Unit: unitOf(kind), Rounds: len(rounds)}
	quiet := slices.DeleteFunc(slices.Clone(rounds), beside.disturbed)
	c.Disturbed = len(rounds) - len(quiet)
	if len(quiet)*2 >= len(rounds) && len(quiet) > 0 {
		rounds = quiet
	}
	var without, with, nsWithout, nsWith, noRoom []float64
	for _, r := range rounds {
		b, s, a := r.before.samples[kind], r.slot.samples[kind], r.after.samples[kind]
		c.Ratios = append(c.Ratios, s.Rate()/mean(b.Rate(), a.Rate()))
		c.CPURatios = append(c.CPURatios, s.CPURate()/mean(b.CPURate(), a.CPURate()))
		without, with = append(without, mean(b.Rate(), a.Rate())), append(with, s.Rate())
		nsWithout, nsWith = append(nsWithout, 1e9/mean(b.CPURate(), a.CPURate())), append(nsWith, 1e9/s.CPURate())
		noRoom = append(noRoom, float64(s.NoRoom)/s.Units)
	}
	c.Without, c.With, c.NSWithout, c.NSWith, c.NoRoom = median(without), median(with), median(nsWithout), median(nsWith), median(noRoom)
	c.Ratio, c.Low, c.High = median(c.Ratios), slices.Min(c.Ratios), slices.Max(c.Ratios)
	c.CPURatio, c.CPULow, c.CPUHigh = median(c.CPURatios), slices.Min(c.CPURatios), slices.Max(c.CPURatios)
	return c
}

// words tells a round's ratios as it goes: a VM that dies leaves those at least.
func (b beside) words(kinds []Kind) string {
	var words []string
	for _, kind := range kinds {
		c := compare("", kind, []beside{b})
		words = append(words, fmt.Sprintf("%s %.2f (%.2f by CPU time)", kind, c.Ratio, c.CPURatio))
	}
	return strings.Join(words, ", ")
}

func (b beside) disturbed() bool { return b.before.disturbed || b.slot.disturbed || b.after.disturbed }

func unitOf(kind Kind) string {
	for _, k := range kinds {
		if k.kind == kind {
			return k.unit
		}
	}
	return ""
}

func mean(a, b float64) float64 { return (a + b) / 2 }

// median of at least one value.
func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	if len(v)%2 == 1 {
		return v[len(v)/2]
	}
	return mean(v[len(v)/2-1], v[len(v)/2])
}

// medianLife takes the median of every figure by itself, of memory the most.
func medianLife(tool string, lives []Life) ToolLife {
	mid := func(of func(Life) time.Duration) time.Duration {
		var all []float64
		for _, l := range lives {
			all = append(all, float64(of(l)))
		}
		return time.Duration(median(all))
	}
	out := ToolLife{Tool: tool, Runs: len(lives), Life: Life{
		Ready:   mid(func(l Life) time.Duration { return l.Ready }),
		Attach:  mid(func(l Life) time.Duration { return l.Attach }),
		Calm:    mid(func(l Life) time.Duration { return l.Calm }),
		Verdict: mid(func(l Life) time.Duration { return l.Verdict }),
		Exit:    mid(func(l Life) time.Duration { return l.Exit }),
		CPU:     mid(func(l Life) time.Duration { return l.CPU }),
	}}
	for _, l := range lives {
		out.Peak, out.Resident, out.Hooks = max(out.Peak, l.Peak), max(out.Resident, l.Resident), max(out.Hooks, l.Hooks)
	}
	return out
}
