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

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/attach"
	"github.com/pathtrace/pathtrace/tracer/endpoint"
	"github.com/pathtrace/pathtrace/tracer/journey"
	"github.com/pathtrace/pathtrace/tracer/kernel"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
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
	SnapLen   int    // bytes of every packet to take at every hop, up to MaxSnapLen; 0 none
	Version   string

	Names endpoint.Sources // where pods and services are looked up; its Warn is not used

	Warn    func(line string) // worth a person's attention while it runs
	Verbose func(line string) // detail for -v
}

// Tracer is an attached trace.
type Tracer struct {
	cfg     Config
	ns      *node.Namespaces
	names   *endpoint.Resolver
	where   *placeBook
	kern    kernelNames
	att     *attach.Attachment
	rules   *rulebook.Book
	asm     *journey.Assembler
	clock   journey.Clock
	pace    pace
	start   *model.Start
	ends    flowEnds
	watch   *endWatch // nil: nothing about the ends can change
	changes *changes  // nil: not to be had
	told    progress
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
	t := &Tracer{cfg: cfg}
	if t.cfg.Warn == nil {
		t.cfg.Warn = func(string) {}
	}
	if t.cfg.Verbose == nil {
		t.cfg.Verbose = func(string) {}
	}
	if cfg.SnapLen < 0 || cfg.SnapLen > attach.MaxSnapLen {
		return nil, fmt.Errorf("snap length %d: not within 0 and %d", cfg.SnapLen, attach.MaxSnapLen)
	}
	src, dst, filter, err := t.resolve(ctx)
	if err != nil {
		t.Close()
		return nil, err
	}
	if err := t.open(ctx, filter, src, dst); err != nil {
		t.Close()
		return nil, err
	}
	t.start = &model.Start{Type: "start", Time: time.Now(), Version: cfg.Version, Kernel: t.kern.kern.Release(),
		Backend: t.cfg.Backend, Hooks: t.att.Hooks(), AttachMS: float64(time.Since(began).Microseconds()) / 1000,
		Src: src.End, Dst: dst.End, Proto: cfg.Proto, Port: cfg.Port, RuleSets: t.rules.Counts()}
	t.ends.src, t.ends.dst = src, dst
	if changeable(src, dst) {
		if t.watch, err = watchEnds(t.ns, cfg.Names, t.where.names, src, dst, t.cfg.Verbose, t.att.Ring().Wake); err != nil {
			t.Close()
			return nil, err
		}
	}
	debug.FreeOSMemory() // BTF and symbols were read for the start: most of it is not needed again
	return t, nil
}

// resolve finds the node's namespaces and both ends' addresses.
func (t *Tracer) resolve(ctx context.Context) (src, dst endpoint.Endpoint, f bpf.Filter, err error) {
	if t.ns, err = node.OpenNamespacesAt(t.cfg.Names.HostRoot, t.cfg.NetnsPath); err != nil {
		return
	}
	sources := t.cfg.Names
	sources.Warn = t.cfg.Warn
	t.names = endpoint.NewResolverWith(t.ns, sources)
	if src, err = t.names.Resolve(ctx, t.cfg.Src); err != nil {
		err = fmt.Errorf("source: %w", err)
		return
	}
	if dst, err = t.names.Resolve(ctx, t.cfg.Dst); err != nil {
		err = fmt.Errorf("destination: %w", err)
		return
	}
	if err = endpoint.Check(src, dst); err != nil {
		return
	}
	uplinks, err := t.ns.Uplinks()
	if err != nil {
		return
	}
	ports, err := t.ns.VXLANPorts()
	if err != nil {
		return
	}
	names, err := t.names.Names(ctx)
	if err != nil {
		return
	}
	names.Learn(src)
	names.Learn(dst)
	t.where = newPlaceBook(t.ns, names, uplinks, t.cfg.Warn)
	if n := len(bpf.Filter{}.Uplinks); len(uplinks) > n {
		t.cfg.Warn(fmt.Sprintf("%d interfaces lead off this node, %d are known as such to the kernel half: equal packets sent again from outside may be told as one", len(uplinks), n))
	}
	if n := len(bpf.Filter{}.Vxlan); len(ports) > n {
		t.cfg.Warn(fmt.Sprintf("VXLAN on %d ports, inside %d of which is looked: %v", len(ports), n, ports[:n]))
	}
	f, err = attach.NewFilter(src, dst, t.cfg.Proto, t.cfg.Port, ports, t.ns.Node().Inode, uplinks)
	return
}

// open loads and attaches the first backend that this kernel accepts.
func (t *Tracer) open(ctx context.Context, f bpf.Filter, src, dst endpoint.Endpoint) error {
	candidates, err := attach.Backends(t.cfg.Backend)
	if err != nil {
		return err
	}
	if t.kern.kern, err = kernel.Open(); err != nil {
		return err
	}
	if t.kern.symbols, err = kernel.LoadSymbols(); err != nil {
		return err
	}
	if t.kern.Hidden() {
		t.cfg.Verbose(t.kern.symbols.Note())
	}
	took := t.stopwatch()
	survey := rulebook.Read(ctx, t.ns, t.cfg.Verbose)
	took("read the rule sets")
	if err := rlimit.RemoveMemlock(); err != nil {
		return fmt.Errorf("lift the limit on locked memory: %w", err)
	}
	var given []attach.Missed // backends given up
	for _, b := range candidates {
		if err = t.openBackend(b, f, src, dst, survey); err == nil {
			t.cfg.Backend = b.Name()
			for _, m := range given {
				t.att.Miss(m)
			}
			t.watchNode(b.HasFunctions())
			return nil
		}
		err = errors.Join(fmt.Errorf("backend %s: %w", b.Name(), err), t.detach())
		if len(candidates) > 1 {
			t.cfg.Verbose(err.Error())
			given = append(given, attach.Missed{
				MissedHook: model.MissedHook{Hook: "backend " + b.Name(), Why: err.Error()},
				Quiet:      errors.Is(err, attach.ErrPolicy), // a hardened node: said with -v and by the ready line
			})
		}
	}
	return err
}

// openBackend attaches one backend and lets it follow packets.
func (t *Tracer) openBackend(b attach.Backend, f bpf.Filter, src, dst endpoint.Endpoint, survey *rulebook.Survey) error {
	var err error
	t.att, err = b.Open(attach.Config{Kernel: t.kern.kern, Symbols: t.kern.symbols, Namespaces: t.ns, Filter: f, Src: src, Dst: dst,
		SnapLen: t.cfg.SnapLen, Expressions: survey.InUse(), Verbose: t.cfg.Verbose, Stopwatch: t.stopwatch})
	if err != nil {
		return err
	}
	t.kern.fns = t.att.Functions()
	t.clock = journey.NewClock()
	cfg := rulebook.Config{Survey: survey, Kernel: t.att, Ends: append(slices.Clone(src.NetnsInodes), dst.NetnsInodes...), Handles: b.HearsRules(), Wall: t.clock.Wall}
	if b.HearsRules() {
		cfg.Skipped, cfg.Unheard = t.att.Skipped, t.att.Unheard(survey.InUse())
	}
	t.rules = rulebook.New(cfg)
	t.asm = journey.NewAssembler(journey.Config{Places: t.where, Naming: t.kern, Tables: t.att.Tables(), Rules: t.rules, Wall: t.clock.Wall,
		NotOurs: t.notOurs, Module: t.moduleArrived, Lossy: func() bool { return t.told.lossy }, SnapLen: t.cfg.SnapLen})
	t.pace = newPace(t.cfg.Sample)
	if err := t.att.SetQuota(t.pace.quota()); err != nil {
		return err
	}
	return t.att.Arm(true)
}

// stopwatch gives a function that tells, with -v, how long a step took.
func (t *Tracer) stopwatch() func(what string) {
	last := time.Now()
	return func(what string) {
		now := time.Now()
		t.cfg.Verbose(fmt.Sprintf("%s: %d ms", what, now.Sub(last).Milliseconds()))
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
	err := t.detach()
	if t.watch != nil {
		err = errors.Join(err, t.watch.close())
		t.watch = nil
	}
	if t.names != nil {
		err = errors.Join(err, t.names.Close())
		t.names = nil
	}
	if t.ns != nil {
		err = errors.Join(err, t.ns.Close())
		t.ns = nil
	}
	return err
}

// detach takes out all programs of the backend in use.
func (t *Tracer) detach() error {
	var errs []error
	if t.att != nil {
		errs = append(errs, t.att.Close())
	}
	if t.changes != nil {
		errs = append(errs, t.changes.Close())
	}
	t.att, t.changes = nil, nil
	return errors.Join(errs...)
}
