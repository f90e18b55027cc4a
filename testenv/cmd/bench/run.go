// SPDX-License-Identifier: Apache-2.0

// run.go does what the flags ask for: builds nodes, measures, prints and saves.

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/pathtrace/pathtrace/testenv/bench"
)

// runner is one run of the command.
type runner struct {
	options
	stdout, stderr io.Writer
	records        []bench.Record
	compared       []bench.Comparison
}

func (r *runner) say(line string) { fmt.Fprintln(r.stderr, "bench:", line) }

// measure does the measuring and prints.
func (r *runner) measure(ctx context.Context) error {
	sizes := []bench.Size{r.size}
	if r.growth {
		sizes = r.growing()
	}
	for _, size := range sizes {
		if err := size.Check(); err != nil {
			return err
		}
	}
	for _, size := range sizes {
		if err := r.on(ctx, size); err != nil {
			return err
		}
	}
	return r.judge(ctx)
}

// growing are the sizes of --growth: first more pods, then more rules.
func (r *runner) growing() []bench.Size {
	var sizes []bench.Size
	for _, n := range r.growPods {
		size := r.size
		size.Endpoints = n
		sizes = append(sizes, size)
	}
	for _, n := range r.growRules {
		size := r.size
		size.Fillers = n
		sizes = append(sizes, size)
	}
	return sizes
}

// on measures on a node of one size.
func (r *runner) on(ctx context.Context, size bench.Size) (err error) {
	r.say(fmt.Sprintf("building a node: %s, %d endpoints, %d filler rules", size.Dataplane, size.Endpoints, size.Fillers))
	n, err := bench.Build(ctx, size)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	builds, err := r.pathtraces()
	if err != nil {
		return err
	}
	plan, err := r.plan(builds)
	if err != nil {
		return err
	}
	setting, err := bench.NewSetting(r.label, n, plan, binaries(builds)...)
	if err != nil {
		return err
	}
	got := []bench.Record{{Type: bench.TypeSetting, Setting: &setting}}
	more, err := r.results(ctx, n, plan, builds)
	got = append(got, more...)
	r.records = append(r.records, got...)
	return errors.Join(err, bench.Tables(r.stdout, got))
}

func (r *runner) results(ctx context.Context, n *bench.Node, plan bench.Plan, builds []build) ([]bench.Record, error) {
	if r.own {
		return r.floods(ctx, n, builds)
	}
	res, err := n.Compare(ctx, plan)
	records := res.Records() // what there is also of a comparison that failed in the end
	r.compared = append(r.compared, res.Comparisons...)
	if err != nil {
		return records, err
	}
	if !r.costs {
		return records, nil
	}
	for _, b := range builds {
		if res.Lacks(b.name) {
			continue
		}
		costs, err := r.programCosts(ctx, n, b, res)
		if err != nil {
			return records, err
		}
		records = append(records, costs...)
	}
	return records, nil
}

// programCosts measures the programs of a build, and empty ones in their places.
func (r *runner) programCosts(ctx context.Context, n *bench.Node, b build, res bench.Result) ([]bench.Record, error) {
	costs, err := n.Costs(ctx, bench.Pathtrace(b.name, b.bin, b.args...), r.slot)
	if err != nil {
		return nil, err
	}
	empty, err := n.Costs(ctx, bench.Floor(b.name, b.bin, b.args...), r.slot)
	if err != nil {
		return nil, err
	}
	if untraced, ok := res.Untraced(bench.UDP); ok {
		bench.Calibrate(costs, empty, untraced)
	}
	var records []bench.Record
	for _, c := range costs {
		records = append(records, bench.Record{Type: bench.TypeProgram, Program: &bench.ToolProgram{Tool: b.name, ProgramCost: c}})
	}
	return records, nil
}

// floods runs --own. A backend that this kernel refuses takes no part.
func (r *runner) floods(ctx context.Context, n *bench.Node, builds []build) ([]bench.Record, error) {
	var records []bench.Record
	for _, b := range builds {
		for _, pps := range r.rates {
			o, err := n.OwnRate(ctx, b.name, b.bin, b.args, pps, r.ownTime)
			var refused *bench.RefusedError
			if errors.As(err, &refused) {
				records = append(records, bench.Record{Type: bench.TypeUnavailable, Unavailable: &bench.Unavailable{Tool: b.name, Why: err.Error()}})
				break
			}
			if err != nil {
				return records, err
			}
			r.say(fmt.Sprintf("%s at %d packets/s: %d sent, %d told", b.name, pps, o.Sent, o.Told))
			records = append(records, bench.Record{Type: bench.TypeOwnRate, OwnRate: &o})
		}
	}
	return records, nil
}

// plan is the comparison that the flags ask for.
func (r *runner) plan(builds []build) (bench.Plan, error) {
	p := bench.Plan{Kinds: r.traffic(), Rounds: r.rounds, Slot: r.slot, Patience: r.patience, Log: r.say}
	for _, b := range builds {
		trace := bench.Pathtrace(b.name, b.bin, b.args...)
		p.Tools = append(p.Tools, trace)
		if r.halted {
			p.Tools = append(p.Tools, bench.Halted(b.name+" (process stopped)", trace))
		}
		if r.floor {
			p.Tools = append(p.Tools, bench.Floor(b.name+" (empty programs)", b.bin, b.args...))
		}
	}
	for _, name := range r.others {
		t, ok, err := bench.Other(name)
		if err != nil {
			return p, err
		}
		if ok {
			p.Tools = append(p.Tools, t)
		}
	}
	return p, nil
}

func binaries(builds []build) []string {
	var all []string
	seen := map[string]bool{}
	for _, b := range builds {
		if !seen[b.bin] {
			seen[b.bin] = true
			all = append(all, b.bin)
		}
	}
	return all
}

// judge compares with the baseline, or makes a new one.
func (r *runner) judge(ctx context.Context) error {
	base, err := bench.CommittedBaseline()
	if err != nil {
		return err
	}
	if r.baselineOut != "" {
		text, err := json.MarshalIndent(base.With(r.label, r.backends, r.compared), "", "\t")
		if err == nil {
			err = os.WriteFile(r.baselineOut, append(text, '\n'), 0o644)
		}
		if err != nil {
			return fmt.Errorf("write the baseline: %w", err)
		}
	}
	if !r.guard {
		return nil
	}
	for try := 1; ; try++ {
		worse, err := base.Check(r.label, r.compared)
		if err != nil || len(worse) == 0 {
			return err
		}
		for _, line := range worse {
			r.say(line)
		}
		if try == guardTries {
			return errWorse
		}
		r.say("others pay more than the baseline says; measuring once more, to tell chance from change")
		r.compared = nil
		if err := r.on(ctx, r.size); err != nil {
			return err
		}
	}
}

// guardTries is how often the guard measures before it fails: on a machine that
// others use too, one run is off by more than what is allowed now and then; a
// program that became slower is slower in all of them.
const guardTries = 3

// save adds what was measured to the file of results.
func (r *runner) save() error {
	if r.json == "" || len(r.records) == 0 {
		return nil
	}
	var text bytes.Buffer
	if err := bench.Write(&text, r.records); err != nil {
		return err
	}
	f, err := os.OpenFile(r.json, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("save the results: %w", err)
	}
	_, err = f.Write(text.Bytes())
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("save the results: %w", err)
	}
	return nil
}
