// SPDX-License-Identifier: Apache-2.0

// Package tracer follows the packets of one flow through the node: it loads
// the kernel half (package bpf), gathers its events into one journey per
// packet, and hands finished packets to a sink. It changes nothing on the
// node, and everything it attached is gone when the process is.
//
//	kernel half (attach) -> event -> journey -> model.Packet (journey) -> model.Sink
//	                                    \ rules of the tables it passed (rulebook)
//
// Imports go one way: bpf, model <- journey <- rulebook, attach <- tracer.
package tracer

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf/rlimit"

	"github.com/pathtrace/pathtrace/tracer/attach"
	"github.com/pathtrace/pathtrace/tracer/endpoint"
	"github.com/pathtrace/pathtrace/tracer/journey"
	"github.com/pathtrace/pathtrace/tracer/kernel"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/rulebook"
)

// Config says what to trace and how.
type Config struct {
	Src, Dst  string // as given on the command line
	Proto     string // tcp, udp, icmp, sctp; "" all
	Port      uint16 // of Dst; 0 all
	Backend   string // auto, fentry, tracepoint
	NetnsPath string // the node's network namespace; "" the process's own
	Sample    int    // follow at most so many new packets a second; 0 as many as half a CPU can tell, -1 all
	Packets   int    // stop after this many packets whose fate is known; 0 no limit
	SnapLen   int    // bytes of every packet to take at every hop, up to attach.MaxSnapLen; 0 none
	Version   string

	Names endpoint.Sources // where pods and services are looked up; its Warn is not used

	Warn    func(line string) // worth a person's attention while it runs
	Verbose func(line string) // detail for -v
}

// Tracer is an attached trace.
type Tracer struct {
	cfg      Config
	flow     *flow
	kern     kernelNames
	att      *attach.Attachment
	rules    *rulebook.Book
	asm      *journey.Assembler
	conns    *journey.Connections
	clock    journey.Clock
	pace     pace
	start    *model.Start
	endWatch *endWatch // nil: nothing about the ends can change
	changes  *changes  // nil: not to be had
	told     progress
}

// progress is what was told so far, of packets and of losses.
type progress struct {
	packets, died atomic.Int64
	lost          atomic.Uint64
	lossy         bool // the kernel half has lost events
	warnedLost    uint64
	warnedSampled bool
	warnedAt      time.Time
}

// New resolves both ends, probes the kernel, loads and attaches. When it
// returns, nothing of the flow is missed any more.
func New(ctx context.Context, cfg Config) (*Tracer, error) {
	began := time.Now()
	if cfg.Warn == nil {
		cfg.Warn = func(string) {}
	}
	if cfg.Verbose == nil {
		cfg.Verbose = func(string) {}
	}
	if cfg.SnapLen < 0 || cfg.SnapLen > attach.MaxSnapLen {
		return nil, fmt.Errorf("snap length %d: not within 0 and %d", cfg.SnapLen, attach.MaxSnapLen)
	}
	f, err := findFlow(ctx, cfg)
	if err != nil {
		return nil, err
	}
	t, err := open(ctx, cfg, f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	t.start = &model.Start{Type: "start", Time: time.Now(), Version: cfg.Version, Kernel: t.kern.kern.Release(),
		Backend: t.cfg.Backend, Hooks: t.att.Hooks(), AttachMS: float64(time.Since(began).Microseconds()) / 1000,
		Src: f.src.End, Dst: f.dst.End, Proto: cfg.Proto, Port: cfg.Port, RuleSets: t.rules.Counts(), Planes: f.planes(cfg.Verbose)}
	if changeable(f.src, f.dst) {
		if t.endWatch, err = watchEnds(f, cfg.Names, cfg.Verbose, t.att.Ring().Wake); err != nil {
			t.Close()
			return nil, err
		}
	}
	debug.FreeOSMemory() // BTF and symbols were read for the start: most of it is not needed again
	return t, nil
}

// open loads and attaches the first backend that this kernel accepts.
func open(ctx context.Context, cfg Config, f *flow) (*Tracer, error) {
	candidates, err := attach.Backends(cfg.Backend)
	if err != nil {
		return nil, err
	}
	kern, err := kernel.Open()
	if err != nil {
		return nil, err
	}
	symbols, err := kernel.LoadSymbols()
	if err != nil {
		return nil, err
	}
	if symbols.Hidden() {
		cfg.Verbose(symbols.Note())
	}
	took := stopwatch(cfg.Verbose)
	survey := rulebook.Read(ctx, f.ns, cfg.Verbose)
	took("read the rule sets")
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("lift the limit on locked memory: %w", err)
	}
	var given []attach.Missed // backends given up
	for _, b := range candidates {
		var t *Tracer
		if t, err = openBackend(cfg, b, f, kern, symbols, survey); err == nil {
			for _, m := range given {
				t.att.Miss(m)
			}
			t.changes = watchNode(cfg, f, kern, t.clock, b.HasFunctions())
			return t, nil
		}
		err = fmt.Errorf("backend %s: %w", b.Name(), err)
		if len(candidates) > 1 {
			cfg.Verbose(err.Error())
			given = append(given, attach.Missed{
				MissedHook: model.MissedHook{Hook: "backend " + b.Name(), Why: err.Error()},
				Quiet:      errors.Is(err, attach.ErrPolicy), // a hardened node: said with -v and by the ready line
			})
		}
	}
	return nil, err
}

// openBackend attaches one backend and lets it follow packets.
func openBackend(cfg Config, b attach.Backend, f *flow, kern *kernel.Kernel, symbols *kernel.Symbols, survey *rulebook.Survey) (*Tracer, error) {
	att, err := b.Open(attach.Config{Kernel: kern, Symbols: symbols, Namespaces: f.ns, Filter: f.filter, Src: f.src, Dst: f.dst,
		SnapLen: cfg.SnapLen, Expressions: survey.InUse(), Verbose: cfg.Verbose, Stopwatch: func() func(string) { return stopwatch(cfg.Verbose) }})
	if err != nil {
		return nil, err
	}
	cfg.Backend = b.Name()
	t := &Tracer{cfg: cfg, flow: f, kern: kernelNames{kern, symbols, att.Functions()}, att: att, clock: journey.NewClock(), conns: journey.NewConnections(), pace: newPace(cfg.Sample)}
	rules := rulebook.Config{Survey: survey, Kernel: att, Ends: slices.Concat(f.src.NetnsInodes, f.dst.NetnsInodes), Flow: f.expected(), Handles: b.HearsRules(), Wall: t.clock.Wall}
	if b.HearsRules() {
		rules.Skipped, rules.Unheard = att.Skipped, att.Unheard(survey.InUse())
	}
	t.rules = rulebook.New(rules)
	t.asm = journey.NewAssembler(journey.Config{Places: f.places, Naming: t.kern, Tables: att.Tables(), Rules: t.rules, Wall: t.clock.Wall,
		NotOurs: t.notOurs, Module: t.moduleArrived, Lossy: func() bool { return t.told.lossy }, SnapLen: cfg.SnapLen})
	err = att.SetQuota(t.pace.quota())
	if err == nil {
		err = att.Arm(true)
	}
	if err != nil {
		return nil, errors.Join(err, t.rules.Close(), att.Close())
	}
	return t, nil
}

// stopwatch gives a function that tells, with -v, how long a step took.
func stopwatch(verbose func(string)) func(what string) {
	last := time.Now()
	return func(what string) {
		now := time.Now()
		verbose(fmt.Sprintf("%s: %d ms", what, now.Sub(last).Milliseconds()))
		last = now
	}
}

// Start describes the trace as it was attached.
func (t *Tracer) Start() *model.Start { return t.start }

// Progress gives the packets whose fate is known so far, and how many died.
func (t *Tracer) Progress() (packets, died int) {
	return int(t.told.packets.Load()), int(t.told.died.Load())
}

// Lost gives the number of events and packets lost so far.
func (t *Tracer) Lost() uint64 { return t.told.lost.Load() }

// Close detaches. It may take seconds: print first. Closing twice does nothing.
func (t *Tracer) Close() error {
	var errs []error
	if t.att != nil {
		errs = append(errs, t.rules.Close(), t.att.Close())
	}
	if t.changes != nil {
		errs = append(errs, t.changes.Close())
	}
	if t.endWatch != nil {
		errs = append(errs, t.endWatch.close())
	}
	if t.flow != nil {
		errs = append(errs, t.flow.Close())
	}
	t.att, t.changes, t.endWatch, t.flow = nil, nil, nil, nil
	return errors.Join(errs...)
}
