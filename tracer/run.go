// SPDX-License-Identifier: Apache-2.0

// A trace while it runs: from the ring buffer to the sink, until its end.

package tracer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/cause"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// How long Run waits for what is in flight once it was told to stop.
const (
	settleQuiet = 150 * time.Millisecond // without a further event
	settleLimit = 1500 * time.Millisecond
	drainLimit  = 5 * time.Second
	tick        = 20 * time.Millisecond
	// While nothing comes there is little to do: events, moved ends and the end
	// of the trace wake it, and others need the CPU. To be woken is most of what
	// a slow flow's trace takes: once for its first event, once to take them all,
	// once to tell the packet.
	gather   = 10 * time.Millisecond
	tellTick = quietAfterEnd + 2*time.Millisecond
	idleTick = 250 * time.Millisecond
	// gatherBytes is how much of the ring buffer's 8 MiB may gather meanwhile.
	gatherBytes = 256 << 10
)

// Run hands packets to sink until ctx is done or enough were seen, waits for
// what is in flight, and closes with the summary. Sink errors end it.
func (t *Tracer) Run(ctx context.Context, sink model.Sink) (*model.Summary, error) {
	sum := &model.Summary{Type: "summary", MissedHooks: []model.MissedHook{}}
	// what is asked about the node when the trace was told to stop is still to be answered
	live := cause.NewLive(context.WithoutCancel(ctx), t.ns)
	live.Legacy = t.rules.shelf
	teller := t.newTeller(sink)
	sink = cause.New(live, t.cfg.Verbose).Sink(teller)
	if err := sink.Start(t.start); err != nil {
		return sum, err
	}
	defer context.AfterFunc(ctx, t.ring.wake)()
	began := time.Now()
	last := began // of an event
	nextSweep, nextEnded := began.Add(sweepEvery), began.Add(lookForEnded)
	var stopping time.Time
	for {
		wait := tick
		switch {
		case !stopping.IsZero():
		case time.Since(last) < tellTick:
			wait = tellTick
		default:
			wait = idleTick
		}
		n, err := t.read(wait)
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
		if t.pace.due(now) && t.pace.adapt(t.load(now)) {
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
		n, err := t.read(tick)
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

// read waits for events, and takes those that come within a tick until none does.
// It lets them gather between two looks: a packet makes some twenty within
// microseconds, and the kernel wakes a reader for each that finds it waiting.
func (t *Tracer) read(wait time.Duration) (int, error) {
	if err := t.ring.wait(func() bool { return t.reader.AvailableBytes() > 0 }, wait); err != nil {
		return 0, err
	}
	n := 0
	enough := func() bool { return t.reader.AvailableBytes() >= gatherBytes }
	for end := time.Now().Add(tick); t.reader.AvailableBytes() > 0 && time.Now().Before(end); {
		if !enough() {
			if err := t.ring.wait(enough, gather); err != nil {
				return n, err
			}
		}
		more, err := t.take(end)
		if n += more; err != nil {
			return n, err
		}
	}
	return n, nil
}

// take takes the events that are there, no longer than until an end.
func (t *Tracer) take(end time.Time) (int, error) {
	t.reader.SetDeadline(time.Now())
	var rec ringbuf.Record
	for n := 0; ; n++ {
		// while there are events the reader does not look at its deadline
		if n%64 == 63 && time.Now().After(end) {
			return n, nil
		}
		err := t.reader.ReadInto(&rec)
		if errors.Is(err, unix.ETIMEDOUT) || isTimeout(err) {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("ring buffer: %w", err)
		}
		if err := t.record(rec.RawSample); err != nil {
			return n, fmt.Errorf("ring buffer: %w", err)
		}
	}
}

// record takes one record of the ring buffer in.
func (t *Tracer) record(raw []byte) error {
	if isFrame(raw) {
		return t.asm.frames.add(raw)
	}
	e, err := decode(raw)
	if err != nil {
		return err
	}
	if e.Kind == bpf.KindModule {
		t.moduleArrived(cString(e.module.Name[:]))
		return nil
	}
	e.bytes = t.asm.frames.of(e.Frame)
	t.asm.add(&e, time.Now())
	return nil
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

// notOurs keeps the kernel half from following a tuple that turned out to be
// of another flow, for a while: rules may change what it becomes.
func (t *Tracer) notOurs(tuple bpf.Tuple) {
	until := t.clock.now() + uint64(5*time.Second)
	if err := t.att.coll.Maps["others"].Put(tuple, until); err != nil {
		t.cfg.Verbose(fmt.Sprintf("others: %v", err))
	}
}
