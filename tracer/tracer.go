// SPDX-License-Identifier: Apache-2.0

// Package tracer follows the packets of one flow through the node: it loads
// the kernel half (package bpf), gathers its events into one journey per
// packet, and hands finished packets to a sink. It changes nothing on the
// node, and everything it attached is gone when the process is.
//
//	kernel event -> record (event.go) -> journey (journey.go, fate.go)
//	             -> model.Packet (assembler.go) -> model.Sink
package tracer

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/cause"
	"github.com/pathtrace/pathtrace/tracer/endpoint"
	"github.com/pathtrace/pathtrace/tracer/kernel"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// Config says what to trace and how.
type Config struct {
	Src, Dst  string // as given on the command line
	Proto     string // tcp, udp, icmp, sctp; "" all
	Port      uint16 // of Dst; 0 all
	Backend   string // auto, fentry, tracepoint
	NetnsPath string // the node's network namespace; "" the process's own
	Sample    int    // follow at most so many new packets a second; 0 as many as can be read, -1 all
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
	kern    *kernel.Kernel
	symbols *kernel.Symbols
	ns      *node.Namespaces
	att     *attachment
	br      *brackets
	reader  *ringbuf.Reader
	start   *model.Start
	fns     map[uint8]string
	where   *placeBook
	asm     *assembler
	clock   clock
	rules   *ruleBook
	pace    pace
	private uint32 // offset of xt_table.private, bytes; 0: not asked yet

	names   *endpoint.Resolver
	ends    flowEnds
	watch   *endWatch // nil: nothing about the ends can change
	changes *changes  // nil: not to be had

	packets, died atomic.Int64
	lost          atomic.Uint64
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
	if cfg.SnapLen < 0 || cfg.SnapLen > MaxSnapLen {
		return nil, fmt.Errorf("snap length %d: not within 0 and %d", cfg.SnapLen, MaxSnapLen)
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
	t.start = &model.Start{Type: "start", Time: time.Now(), Version: cfg.Version, Kernel: t.kern.Release(),
		Backend: t.cfg.Backend, Hooks: t.hooks(), AttachMS: float64(time.Since(began).Microseconds()) / 1000,
		Src: src.End, Dst: dst.End, Proto: cfg.Proto, Port: cfg.Port, RuleSets: t.rules.Counts()}
	t.ends.src, t.ends.dst = src, dst
	if changeable(src, dst) {
		if t.watch, err = watchEnds(t.ns, cfg.Names, t.where.names, src, dst, t.cfg.Verbose); err != nil {
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
	f, err = newFilter(src, dst, t.cfg.Proto, t.cfg.Port, ports, t.ns.Node().Inode, uplinks)
	return
}

// open loads and attaches the first backend that this kernel accepts.
func (t *Tracer) open(ctx context.Context, f bpf.Filter, src, dst endpoint.Endpoint) error {
	candidates, err := backendsFor(t.cfg.Backend)
	if err != nil {
		return err
	}
	if t.kern, err = kernel.Open(); err != nil {
		return err
	}
	if t.symbols, err = kernel.LoadSymbols(); err != nil {
		return err
	}
	if t.symbols.Hidden() {
		t.cfg.Verbose(t.symbols.Note())
	}
	took := t.stopwatch()
	t.rules = newRuleBook(ctx, t.ns, t.cfg.Verbose)
	t.rules.Survey()
	took("read the rule sets")
	if err := rlimit.RemoveMemlock(); err != nil {
		return fmt.Errorf("lift the limit on locked memory: %w", err)
	}
	var given []missedHook // backends given up
	for _, b := range candidates {
		if err = t.openBackend(b, f, src, dst); err == nil {
			t.cfg.Backend = b.name
			t.att.missed = append(t.att.missed, given...)
			t.watchNode(b.name == "fentry")
			return nil
		}
		err = errors.Join(fmt.Errorf("backend %s: %w", b.name, err), t.detach())
		if len(candidates) > 1 {
			t.cfg.Verbose(err.Error())
			given = append(given, missedHook{
				MissedHook: model.MissedHook{Hook: "backend " + b.name, Why: err.Error()},
				quiet:      errors.Is(err, errPolicy), // a hardened node: said with -v and by the ready line
			})
		}
	}
	return err
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

// backend is a way to hook into the kernel, the most exact first.
type backend struct {
	name     string
	spec     func() (*ebpf.CollectionSpec, error)
	plan     []hook
	brackets bool
	evals    bool // it listens to nft's expressions
}

var backends = []backend{
	{name: "fentry", spec: bpf.LoadFentry, plan: append(append([]hook{}, fentryHooks...), tracepointHooks...), evals: true},
	{name: "tracepoint", spec: bpf.LoadTracepoint, plan: append([]hook{percpuHook}, tracepointHooks...), brackets: true},
}

// backendsFor gives the backends to try: the one named, or all for auto and "".
func backendsFor(name string) ([]backend, error) {
	if name == "" || name == "auto" {
		return backends, nil
	}
	for _, b := range backends {
		if b.name == name {
			return []backend{b}, nil
		}
	}
	return nil, fmt.Errorf("backend %q: not one of auto, fentry, tracepoint", name)
}

func (t *Tracer) openBackend(b backend, f bpf.Filter, src, dst endpoint.Endpoint) error {
	spec, err := b.spec()
	if err != nil {
		return fmt.Errorf("committed BPF object: %w", err)
	}
	if t.fns, err = functionNames(spec.Types); err != nil {
		return err
	}
	if err := spec.Variables["cfg"].Set(f); err != nil {
		return fmt.Errorf("set the filter: %w", err)
	}
	reason := uint8(0)
	if args, err := t.kern.TracepointArgs("kfree_skb"); err == nil && len(args) >= 3 {
		reason = 1
	}
	if err := spec.Variables["has_drop_reason"].Set(reason); err != nil {
		return fmt.Errorf("set has_drop_reason: %w", err)
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count the CPUs: %w", err)
	}
	if err := sizeOracle(spec, cpus); err != nil {
		return err
	}
	if err := sizeFrames(spec, cpus, t.cfg.SnapLen); err != nil {
		return err
	}
	if b.brackets {
		if err := t.bracketOracle(spec, cpus); err != nil {
			return err
		}
	}
	links := b.brackets && t.kern.HasFunc("bpf_nf_link_attach")
	if b.brackets && !links {
		t.cfg.Verbose("left out netfilter links: " + errNoLinks.Error())
	}
	plan := b.plan
	if b.evals {
		plan = append(evalHooks(t.rules.Fresh()), plan...)
	}
	if t.att, err = newAttachment(t.kern, spec, plan, unattached(links, t.cfg.SnapLen > 0), t.cfg.Verbose, t.stopwatch()); err != nil {
		return err
	}
	if t.reader, err = ringbuf.NewReader(t.att.coll.Maps["events"]); err != nil {
		return fmt.Errorf("ring buffer: %w", err)
	}
	if t.cfg.SnapLen > 0 {
		if err := t.findMemory(); err != nil {
			t.cfg.Verbose("of packets only the linear part can be captured: " + err.Error())
		}
	}
	t.br = newBrackets(links)
	if b.brackets {
		t.placeBrackets(links, src, dst)
	}
	t.rules.peek = t.peek
	t.rules.skipped, t.rules.evals, t.rules.now = nil, b.evals, t.clock.now
	if b.evals {
		t.rules.skipped = t.att.skipped
		t.rules.MarkSkips(t.clock.now())
		t.moreExpressions() // of rules that came while we attached
		t.rules.unseen = t.rules.unseenExpressions(t.att.attached)
	}
	if err := t.limitEntries(src, dst); err != nil {
		return err
	}
	t.pace = newPace(t.cfg.Sample)
	if err := t.setQuota(); err != nil {
		return err
	}
	if err := t.arm(true); err != nil {
		return err
	}
	t.clock = newClock()
	t.rules.wall = t.clock.wall
	t.asm = newAssembler(&world{places: t.where, naming: t, tables: t.br, rules: t.rules, tracks: make(map[uint32]bool)}, t.clock.wall, t.notOurs)
	t.asm.frames = newFrames(t.cfg.SnapLen)
	return nil
}

// unattached are the programs that are loaded besides the plan's.
func unattached(links, bytes bool) []string {
	programs := []string{"sweep", "peek"}
	if links {
		programs = append(programs, bracketPrograms()...)
	}
	if bytes {
		programs = append(programs, "find_memory")
	}
	return programs
}

// placeBrackets puts netfilter links into the node's namespace and into those
// of the two ends, where they are on this node.
func (t *Tracer) placeBrackets(have bool, src, dst endpoint.Endpoint) {
	if !have {
		t.att.missed = append(t.att.missed, missedHook{MissedHook: model.MissedHook{Hook: "netfilter links",
			Why: errNoLinks.Error() + "; without them not seen: netfilter hooks and tables, delivery"}})
		return
	}
	for _, in := range t.bracketPlaces(src, dst) {
		t.bracket(in)
	}
}

// maxBracketed bounds the pods that get links of their own when it is not
// known which of them the flow may reach. Others get theirs when it does.
const maxBracketed = 64

// bracketPlaces are the node and the two ends; where an end is no pod of this
// node, it may be a service: then any pod may turn out to be behind it.
func (t *Tracer) bracketPlaces(src, dst endpoint.Endpoint) []uint32 {
	places := append([]uint32{t.ns.Node().Inode}, src.NetnsInodes...)
	places = append(places, dst.NetnsInodes...)
	if len(src.NetnsInodes) > 0 && len(dst.NetnsInodes) > 0 {
		return places
	}
	members := t.ns.Members()
	if len(members) > maxBracketed {
		t.cfg.Verbose(fmt.Sprintf("netfilter links: in %d of the node's %d namespaces at first, in others once the flow gets there", maxBracketed, len(members)))
		members = members[:maxBracketed]
	}
	return append(places, members...)
}

// bracket places the links of one namespace, and says so if it cannot.
func (t *Tracer) bracket(in uint32) {
	err := t.br.add(t.ns, in, t.att.coll.Programs)
	if err == nil {
		err = t.showTables()
	}
	if err != nil {
		m := model.MissedHook{Hook: "netfilter links in " + t.ns.Place(in), Why: err.Error() + "; without them not seen there: netfilter hooks and tables, delivery"}
		t.att.missed = append(t.att.missed, missedHook{MissedHook: m})
		t.cfg.Verbose("left out " + m.Hook + ": " + m.Why)
	}
}

// showTables tells the kernel half which legacy tables stand behind links.
func (t *Tracer) showTables() error {
	for key, name := range t.br.tables {
		if name == "" {
			if err := t.att.coll.Maps["bracket_tables"].Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				return fmt.Errorf("bracket_tables: %w", err)
			}
			delete(t.br.tables, key)
			continue
		}
		var table bpf.BracketTable
		for i := range name {
			table.Name[i] = int8(name[i])
		}
		if err := t.att.coll.Maps["bracket_tables"].Put(key, table); err != nil {
			return fmt.Errorf("bracket_tables: %w", err)
		}
		delete(t.br.tables, key)
	}
	return nil
}

// hooks counts what is attached.
func (t *Tracer) hooks() int { return len(t.att.links) + t.br.count() }

// Start describes the trace as it was attached.
func (t *Tracer) Start() *model.Start { return t.start }

// Progress gives the packets whose fate is known so far, and how many died.
func (t *Tracer) Progress() (packets, died int) { return int(t.packets.Load()), int(t.died.Load()) }

// Lost gives the number of events and packets lost so far.
func (t *Tracer) Lost() uint64 { return t.lost.Load() }

// How long Run waits for what is in flight once it was told to stop.
const (
	settleQuiet = 150 * time.Millisecond // without a further event
	settleLimit = 1500 * time.Millisecond
	drainLimit  = 5 * time.Second
	tick        = 20 * time.Millisecond
)

// Run hands packets to sink until ctx is done or enough were seen, waits for
// what is in flight, and closes with the summary. Sink errors end it.
func (t *Tracer) Run(ctx context.Context, sink model.Sink) (*model.Summary, error) {
	sum := &model.Summary{Type: "summary", MissedHooks: []model.MissedHook{}}
	// what is asked about the node when the trace was told to stop is still to be answered
	live := cause.NewLive(context.WithoutCancel(ctx), t.ns)
	teller := t.newTeller(sink)
	sink = cause.New(live, t.cfg.Verbose).Sink(teller)
	if err := sink.Start(t.start); err != nil {
		return sum, err
	}
	began := time.Now()
	last := began // of an event
	nextSweep, nextEnded := began.Add(sweepEvery), began.Add(lookForEnded)
	var stopping time.Time
	for {
		n, err := t.read()
		if err != nil {
			return sum, err
		}
		now := time.Now()
		if n > 0 {
			last = now
		}
		if err := t.tellChanges(sink, now); err != nil {
			return sum, err
		}
		if err := t.flush(sink, sum, now, false); err != nil {
			return sum, err
		}
		if err := teller.Tick(now); err != nil {
			return sum, err
		}
		for _, in := range t.br.wanted() {
			t.bracket(in)
		}
		if err := t.follow(sink); err != nil {
			return sum, err
		}
		if now.After(nextEnded) {
			t.releaseEnded()
			nextEnded = now.Add(lookForEnded)
		}
		t.rules.Tick(now)
		if t.rules.evals {
			t.moreExpressions()
		}
		if t.pace.adapt(now, t.reader.AvailableBytes(), t.reader.BufferSize()) {
			if err := t.setQuota(); err != nil {
				return sum, err
			}
		}
		if now.After(nextSweep) {
			t.sweep()
			t.rules.MarkSkips(t.clock.now())
			t.tellLosses()
			t.listenToDoers()
			nextSweep = now.Add(sweepEvery)
		}
		if stopping.IsZero() && (ctx.Err() != nil || t.cfg.Packets > 0 && int(t.packets.Load()) >= t.cfg.Packets) {
			stopping = now
		}
		if !stopping.IsZero() && t.settled(now, stopping, last) {
			break
		}
	}
	if err := t.drain(); err != nil {
		return sum, err
	}
	t.tellLosses()
	t.asm.lossy = t.asm.lossy || t.att.skipped() > 0
	if err := t.tellChanges(sink, time.Now()); err != nil {
		return sum, err
	}
	if err := t.flush(sink, sum, time.Now(), true); err != nil {
		return sum, err
	}
	t.account(sum)
	sum.DurationMS = time.Since(began).Milliseconds()
	return sum, sink.Summary(sum)
}

// drain ends the following of new packets and takes what is left in the ring
// buffer: an event that was written is not to be missed.
func (t *Tracer) drain() error {
	if err := t.arm(false); err != nil {
		return err
	}
	for limit := time.Now().Add(drainLimit); time.Now().Before(limit); {
		n, err := t.read()
		if err != nil || n == 0 {
			return err
		}
	}
	t.cfg.Warn("the ring buffer did not run empty: its last events are not told")
	return nil
}

// arm lets the kernel half follow new packets, or not.
func (t *Tracer) arm(on bool) error {
	var v uint32
	if on {
		v = 1
	}
	if err := t.att.coll.Variables["armed"].Set(v); err != nil {
		return fmt.Errorf("arm the programs: %w", err)
	}
	return nil
}

// settled tells that nothing more is to be waited for.
func (t *Tracer) settled(now, stopping, last time.Time) bool {
	if t.cfg.Packets > 0 && int(t.packets.Load()) >= t.cfg.Packets {
		return true
	}
	if now.Sub(stopping) >= settleLimit {
		return true
	}
	return now.Sub(last) >= settleQuiet && now.Sub(stopping) >= settleQuiet && t.asm.pending() == 0
}

// read takes events for one tick.
func (t *Tracer) read() (int, error) {
	deadline := time.Now().Add(tick)
	t.reader.SetDeadline(deadline)
	var rec ringbuf.Record
	for n := 0; ; n++ {
		// while there are events the reader does not look at its deadline
		if n%64 == 63 && time.Now().After(deadline) {
			return n, nil
		}
		err := t.reader.ReadInto(&rec)
		if errors.Is(err, unix.ETIMEDOUT) || isTimeout(err) {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("ring buffer: %w", err)
		}
		if isFrame(rec.RawSample) {
			if err := t.asm.frames.add(rec.RawSample); err != nil {
				return n, fmt.Errorf("ring buffer: %w", err)
			}
			continue
		}
		e, err := decode(rec.RawSample)
		if err != nil {
			return n, fmt.Errorf("ring buffer: %w", err)
		}
		if e.Kind == bpf.KindModule {
			t.moduleArrived(cString(e.module.Name[:]))
			continue
		}
		e.bytes = t.asm.frames.of(e.Frame)
		t.asm.add(&e, time.Now())
	}
}

func isTimeout(err error) bool {
	var to interface{ Timeout() bool }
	return errors.As(err, &to) && to.Timeout()
}

// flush hands over the packets whose fate is known.
func (t *Tracer) flush(sink model.Sink, sum *model.Summary, now time.Time, closing bool) error {
	for _, p := range t.asm.due(now, closing) {
		if t.cfg.Packets > 0 && int(t.packets.Load()) >= t.cfg.Packets {
			return nil
		}
		counts := &sum.Forward
		if p.Direction == model.Return {
			counts = &sum.Return
		}
		counts.Add(p.Outcome)
		t.packets.Add(1)
		if p.Outcome.Died() {
			t.died.Add(1)
		}
		if err := sink.Packet(p); err != nil {
			return err
		}
	}
	return nil
}

// counters reads what the kernel half counted.
func (t *Tracer) counters() (bpf.Counters, error) {
	var c bpf.Counters
	if err := t.att.coll.Variables["stats"].Get(&c); err != nil {
		return c, fmt.Errorf("read the kernel's counters: %w", err)
	}
	return c, nil
}

// account tells what was missed. Packets none of whose events arrived are
// known by their ids: the kernel counts what it handed out.
func (t *Tracer) account(sum *model.Summary) {
	c, err := t.counters()
	if err != nil {
		t.cfg.Warn(err.Error())
		return
	}
	sum.LostEvents = c.LostEvents
	sum.LostPackets = c.LostPackets
	sum.SampledOut = c.Sampled
	sum.LostFrames = c.LostFrames + t.asm.frames.lost
	sum.CutFrames = t.asm.frames.cut
	sum.SkippedRuns = t.att.skipped()
	sum.UnknownRules = t.rules.missing
	sum.LostChanges = t.lostChanges()
	if c.Packets > t.asm.seenIDs {
		sum.LostPackets += c.Packets - t.asm.seenIDs
	}
	for _, m := range t.att.missed {
		if !m.quiet {
			sum.MissedHooks = append(sum.MissedHooks, m.MissedHook)
		}
	}
	if c.Stale > 0 {
		t.cfg.Verbose(fmt.Sprintf("%d buffers were freed unseen and recognised when they were used again", c.Stale))
	}
}

func (t *Tracer) tellLosses() {
	t.lostChanges()
	c, err := t.counters()
	if err != nil {
		return // told by account
	}
	t.lost.Store(c.LostEvents + c.LostPackets)
	if c.Sampled > 0 && !t.warnedSampled {
		t.warnedSampled = true
		t.cfg.Warn("the flow is faster than is followed: some of its packets are left out on purpose and counted (--sample all follows every one)")
	}
	t.asm.lossy = c.LostEvents > 0
	if n := c.LostEvents + c.LostPackets + c.LostFrames; n > t.warnedLost && time.Since(t.warnedAt) >= warnEvery {
		t.warnedAt = time.Now()
		what, todo := fmt.Sprintf("%d events and %d packets", c.LostEvents, c.LostPackets), "narrow it with --port or --proto"
		if c.LostFrames > 0 {
			what += fmt.Sprintf(", and packet bytes at %d hops,", c.LostFrames)
			todo += ", or take fewer bytes with --snaplen"
		}
		t.cfg.Warn(what + " lost so far: the flow is faster than they can be read; " + todo)
		t.warnedLost = n
	}
}

// moduleArrived attaches hooks in a kernel module that was loaded after start.
func (t *Tracer) moduleArrived(name string) {
	t.changesInModule(name)
	n, err := t.att.arrived(name)
	switch {
	case err != nil:
		t.cfg.Warn(fmt.Sprintf("kernel module %s was loaded during the trace and is not covered: %v", name, err))
		t.att.missed = append(t.att.missed, missedHook{MissedHook: model.MissedHook{Hook: "module " + name, Why: err.Error()}})
	case n > 0:
		if err := t.symbols.Reload(); err != nil {
			t.cfg.Verbose(err.Error())
		}
		t.cfg.Verbose(fmt.Sprintf("kernel module %s was loaded: %d hooks more", name, n))
	}
}

// peek asks the kernel half what a legacy table holds now (bpf/fentry.bpf.c).
func (t *Tracer) peek(table uint64) (content, generation uint64, err error) {
	if t.private == 0 { // struct xt_table begins with a list head: 0 is no offset of it
		if t.private, err = t.kern.FieldOffset("xt_table", "private", "x_tables"); err != nil {
			return 0, 0, fmt.Errorf("look at a legacy table: %w", err)
		}
	}
	args := struct{ A [2]uint64 }{[2]uint64{table, uint64(t.private)}}
	if _, err := t.att.coll.Programs["peek"].Run(&ebpf.RunOptions{Context: args}); err != nil {
		return 0, 0, fmt.Errorf("look at a legacy table: %w", err)
	}
	err = errors.Join(t.att.coll.Variables["peeked_content"].Get(&content), t.att.coll.Variables["peeked_generation"].Get(&generation))
	return content, generation, err
}

// moreExpressions attaches to nft expressions that came into use.
func (t *Tracer) moreExpressions() {
	fresh := t.rules.Fresh()
	if len(fresh) == 0 {
		return
	}
	if err := t.att.more(evalHooks(fresh)); err != nil {
		t.cfg.Verbose(fmt.Sprintf("nft rules that end with %s: %v", strings.Join(fresh, ", "), err))
	}
	t.rules.completeSince = t.clock.now()
	t.rules.unseen = t.rules.unseenExpressions(t.att.attached)
}

const (
	sweepEvery = 250 * time.Millisecond
	warnEvery  = 2 * time.Second
	// An skb handed to its receiver may be freed without a word: forget it soon.
	deliveredFor = 200 * time.Millisecond
	// Anything else that was not seen for so long was freed unseen. Longer
	// than a neighbour is probed for (3 s) or a qdisc holds a packet.
	unseenFor = 30 * time.Second
)

// sweep forgets skbs that will not be seen again, so that the gate closes. The
// deleting itself is done by the kernel half: it counts.
func (t *Tracer) sweep() {
	var inFlight uint64
	if err := t.att.coll.Variables["in_flight"].Get(&inFlight); err != nil || inFlight == 0 {
		return
	}
	now := t.clock.now()
	var key uint64
	var val bpf.Tracked
	var stale []uint64
	it := t.att.coll.Maps["skbs"].Iterate()
	for it.Next(&key, &val) {
		limit := unseenFor
		if val.Flags&bpf.TrackedDelivered != 0 {
			limit = deliveredFor
		}
		if now-val.Last > uint64(limit) && now > val.Last {
			stale = append(stale, key, val.Last+1)
		}
	}
	if err := it.Err(); err != nil {
		t.cfg.Verbose(fmt.Sprintf("sweep: %v", err)) // the rest comes next time
	}
	for i := 0; i < len(stale); i += 2 {
		args := struct{ A [2]uint64 }{[2]uint64{stale[i], stale[i+1]}}
		if _, err := t.att.coll.Programs["sweep"].Run(&ebpf.RunOptions{Context: args}); err != nil {
			t.cfg.Verbose(fmt.Sprintf("sweep: %v", err))
			return
		}
	}
}

// notOurs keeps the kernel half from following a tuple that turned out to be
// of another flow, for a while: rules may change what it becomes.
func (t *Tracer) notOurs(tuple bpf.Tuple) {
	until := t.clock.now() + uint64(5*time.Second)
	if err := t.att.coll.Maps["others"].Put(tuple, until); err != nil {
		t.cfg.Verbose(fmt.Sprintf("others: %v", err))
	}
}

// Reason implements naming.
func (t *Tracer) Reason(code uint32) string { return t.kern.DropReasons().Name(code) }

// Symbol implements naming.
func (t *Tracer) Symbol(addr uint64) string { return t.symbols.Format(addr) }

// Function implements naming.
func (t *Tracer) Function(fn uint8) string { return t.fns[fn] }

// RouteReason implements naming: what a negative result of source validation
// means. Since ip_route_input_slow() returns drop reasons instead of an errno
// (its type says which), fib_validate_source() returns them negated.
func (t *Tracer) RouteReason(result int32) (reason string, isErrno bool) {
	if t.kern.ReturnsEnum("ip_route_input_slow") {
		return t.Reason(uint32(-result)), false
	}
	return errnoName(result), true
}

// Hidden implements naming.
func (t *Tracer) Hidden() bool { return t.symbols.Hidden() }

// FreesInChain implements naming. nft drops by NF_DROP_REASON(), which frees at
// once, since Linux 6.7 (net/netfilter/nf_tables_core.c); before that all drops
// are freed by nf_hook_slow(). No type or symbol tells, so the release has to.
func (t *Tracer) FreesInChain() bool { return t.kern.AtLeast(6, 7) }

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
	if t.br != nil {
		errs = append(errs, t.br.Close())
	}
	if t.reader != nil {
		errs = append(errs, t.reader.Close())
	}
	if t.att != nil {
		errs = append(errs, t.att.Close())
	}
	if t.changes != nil {
		errs = append(errs, t.changes.Close())
	}
	t.br, t.reader, t.att, t.changes = nil, nil, nil, nil
	return errors.Join(errs...)
}
