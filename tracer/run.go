// SPDX-License-Identifier: Apache-2.0

// A trace while it runs: from the ring buffer to the sink, until its end.

package tracer

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/cause"
	"github.com/pathtrace/pathtrace/tracer/journey"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// How long Run waits for what is in flight once it was told to stop.
const (
	settleQuiet = 150 * time.Millisecond // without a further event
	settleLimit = 1500 * time.Millisecond
	drainLimit  = 5 * time.Second
	tick        = 20 * time.Millisecond
	// While nothing comes there is little to do: events, moved ends and the end
	// of the trace wake it, and others need the CPU.
	tellTick   = journey.QuietAfterEnd + 2*time.Millisecond
	idleTick   = 250 * time.Millisecond
	sweepEvery = 250 * time.Millisecond
)

// Run hands packets to sink until ctx is done or enough were seen, waits for
// what is in flight, and closes with the summary. Sink errors end it.
func (t *Tracer) Run(ctx context.Context, sink model.Sink) (*model.Summary, error) {
	sum := &model.Summary{Type: "summary", MissedHooks: []model.MissedHook{}}
	// what is asked about the node when the trace was told to stop is still to be answered
	live := cause.NewLive(t.ns, t.rules)
	teller := t.newTeller(sink)
	sink = cause.New(live, t.cfg.Verbose).Sink(teller)
	if err := sink.Start(t.start); err != nil {
		return sum, err
	}
	defer context.AfterFunc(ctx, t.att.Ring().Wake)()
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
		t.att.BracketReached()
		if err := t.follow(sink); err != nil {
			return sum, err
		}
		if now.After(nextEnded) {
			t.releaseEnded()
			nextEnded = now.Add(lookForEnded)
		}
		t.rules.Tick(now)
		t.moreExpressions()
		if t.pace.due(now) && t.pace.adapt(t.load(now)) {
			if err := t.att.SetQuota(t.pace.quota()); err != nil {
				return sum, err
			}
		}
		if now.After(nextSweep) {
			t.att.Sweep(t.clock.Now())
			t.rules.MarkSkips(t.clock.Now())
			t.tellLosses()
			t.listenToDoers()
			nextSweep = now.Add(sweepEvery)
		}
		if stopping.IsZero() && (ctx.Err() != nil || t.cfg.Packets > 0 && int(t.told.packets.Load()) >= t.cfg.Packets) {
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
	t.told.lossy = t.told.lossy || t.att.Skipped() > 0
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

// read hands the events that come within a time to the assembler.
func (t *Tracer) read(wait time.Duration) (int, error) {
	return t.att.Ring().Read(wait, t.asm.Take)
}

// drain ends the following of new packets and takes what is left in the ring
// buffer: an event that was written is not to be missed.
func (t *Tracer) drain() error {
	if err := t.att.Arm(false); err != nil {
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

// settled tells that nothing more is to be waited for.
func (t *Tracer) settled(now, stopping, last time.Time) bool {
	if t.cfg.Packets > 0 && int(t.told.packets.Load()) >= t.cfg.Packets {
		return true
	}
	if now.Sub(stopping) >= settleLimit {
		return true
	}
	return now.Sub(last) >= settleQuiet && now.Sub(stopping) >= settleQuiet && t.asm.Pending() == 0
}

// flush hands over the packets whose fate is known.
func (t *Tracer) flush(sink model.Sink, sum *model.Summary, now time.Time, closing bool) error {
	return t.handOver(sink, sum, t.asm.Due(now, closing))
}

// handOver counts packets and hands them to the sink, no more than were asked for.
func (t *Tracer) handOver(sink model.Sink, sum *model.Summary, packets []*model.Packet) error {
	for _, p := range packets {
		if t.cfg.Packets > 0 && int(t.told.packets.Load()) >= t.cfg.Packets {
			return nil
		}
		counts := &sum.Forward
		if p.Direction == model.Return {
			counts = &sum.Return
		}
		counts.Add(p.Outcome)
		t.told.packets.Add(1)
		if p.Outcome.Died() {
			t.told.died.Add(1)
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
	n, err := t.att.Arrived(name)
	switch {
	case err != nil:
		t.cfg.Warn(fmt.Sprintf("kernel module %s was loaded during the trace and is not covered: %v", name, err))
	case n > 0:
		if err := t.kern.symbols.Reload(); err != nil {
			t.cfg.Verbose(err.Error())
		}
		t.cfg.Verbose(fmt.Sprintf("kernel module %s was loaded: %d hooks more", name, n))
	}
}

// moreExpressions attaches to nft expressions that came into use.
func (t *Tracer) moreExpressions() {
	if !t.rules.ByHandle() {
		return
	}
	fresh := t.rules.Fresh()
	if len(fresh) == 0 {
		return
	}
	if err := t.att.Listen(fresh); err != nil {
		t.cfg.Verbose(fmt.Sprintf("nft rules that end with %s: %v", strings.Join(fresh, ", "), err))
	}
	t.rules.Listening(t.clock.Now(), t.att.Unheard(t.rules.InUse()))
}

// notOurs keeps the kernel half from following a tuple that turned out to be
// of another flow, for a while: rules may change what it becomes.
func (t *Tracer) notOurs(tuple bpf.Tuple) {
	if err := t.att.NotOurs(tuple, t.clock.Now()+uint64(5*time.Second)); err != nil {
		t.cfg.Verbose(err.Error())
	}
}
