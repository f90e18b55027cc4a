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
	r := t.newRun(sink)
	if err := r.sink.Start(t.start); err != nil {
		return r.sum, err
	}
	defer context.AfterFunc(ctx, t.att.Ring().Wake)()
	for !r.settled() {
		if err := r.look(); err != nil {
			return r.sum, err
		}
		if r.stopping.IsZero() && (ctx.Err() != nil || t.enough()) {
			r.stopping = r.now
		}
	}
	return r.sum, r.close()
}

// run is one Run.
type run struct {
	*Tracer
	sink     model.Sink
	unopened func(*model.Packet) // what died encrypted, and may have been of the flow
	sum      *model.Summary
	duties   []duty
	began    time.Time
	now      time.Time // of the last look
	heard    time.Time // when the last event came
	stopping time.Time // when it was told to stop; zero: it was not
}

// duty is what is looked after between two looks at the ring buffer.
type duty struct {
	every time.Duration // 0: each time
	do    func() error
	next  time.Time
}

func (t *Tracer) newRun(sink model.Sink) *run {
	began := time.Now()
	live := cause.NewLive(t.flow.ns, t.rules)
	teller := t.changes.teller(sink)
	causes := cause.New(live, t.cfg.Verbose)
	r := &run{Tracer: t, sink: causes.Sink(teller), unopened: causes.Unopened, began: began, now: began, heard: began,
		sum: &model.Summary{Type: "summary", MissedHooks: []model.MissedHook{}}}
	r.duties = []duty{
		{do: func() error { return t.changes.tell(r.sink, r.now) }},
		{do: func() error { return r.tell(t.asm.Due(r.now, false)) }},
		{do: func() error { return teller.Tick(r.now) }},
		{do: always(t.att.BracketReached)},
		{do: func() error { return t.follow(r.sink) }},
		{every: lookForEnded, do: always(t.releaseEnded)},
		{do: always(func() { t.rules.Tick(r.now) })},
		{do: always(t.moreExpressions)},
		{do: func() error { return t.keepPace(r.now) }},
		{every: sweepEvery, do: always(t.sweep)},
	}
	for i := range r.duties {
		r.duties[i].next = began.Add(r.duties[i].every)
	}
	return r
}

// always makes a duty of what cannot fail.
func always(do func()) func() error {
	return func() error { do(); return nil }
}

// look takes the events that come within a time, and then sees to each duty.
func (r *run) look() error {
	n, err := r.read(r.patience())
	if err != nil {
		return err
	}
	r.now = time.Now()
	if n > 0 {
		r.heard = r.now
	}
	for i := range r.duties {
		d := &r.duties[i]
		if d.every > 0 && !r.now.After(d.next) {
			continue
		}
		if err := d.do(); err != nil {
			return err
		}
		d.next = r.now.Add(d.every)
	}
	return nil
}

// patience is how long to wait for an event.
func (r *run) patience() time.Duration {
	switch {
	case !r.stopping.IsZero():
		return tick
	case time.Since(r.heard) < tellTick:
		return tellTick
	}
	return idleTick
}

// settled tells that it was told to stop, and nothing more is to be waited for.
func (r *run) settled() bool {
	stopped := r.now.Sub(r.stopping)
	switch {
	case r.stopping.IsZero():
		return false
	case r.enough(), stopped >= settleLimit:
		return true
	}
	return r.now.Sub(r.heard) >= settleQuiet && stopped >= settleQuiet && r.asm.Pending() == 0
}

// close tells what is left, and the summary.
func (r *run) close() error {
	if err := r.drain(); err != nil {
		return err
	}
	r.tellLosses()
	r.told.lossy = r.told.lossy || r.att.Skipped() > 0
	if err := r.changes.tell(r.sink, time.Now()); err != nil {
		return err
	}
	if err := r.tell(r.asm.Due(time.Now(), true)); err != nil {
		return err
	}
	r.account(r.sum)
	r.sum.DurationMS = time.Since(r.began).Milliseconds()
	return r.sink.Summary(r.sum)
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

// enough tells that as many packets were told as were asked for.
func (t *Tracer) enough() bool {
	return t.cfg.Packets > 0 && int(t.told.packets.Load()) >= t.cfg.Packets
}

// tell hands packets on, and shows the causes what else died.
func (r *run) tell(packets []*model.Packet) error {
	for _, p := range r.asm.Unopened() {
		r.unopened(p)
	}
	return r.handOver(r.sink, r.sum, packets)
}

// handOver counts packets and hands them to the sink, no more than were asked for.
func (t *Tracer) handOver(sink model.Sink, sum *model.Summary, packets []*model.Packet) error {
	for _, p := range packets {
		if t.enough() {
			return nil
		}
		t.conns.Settle(p)
		journey.SettleUnwanted(p)
		counts := &sum.Forward
		if p.Direction == model.Return {
			counts = &sum.Return
		}
		counts.Take(p)
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

// keepPace adapts the quota to the load.
func (t *Tracer) keepPace(now time.Time) error {
	if t.pace.due(now) && t.pace.adapt(t.load(now)) {
		return t.att.SetQuota(t.pace.quota())
	}
	return nil
}

// sweep has what is stale forgotten, and tells what was lost.
func (t *Tracer) sweep() {
	t.att.Sweep(t.clock.Now())
	t.rules.MarkSkips(t.clock.Now())
	t.tellLosses()
	t.changes.listen()
}

// moduleArrived attaches hooks in a kernel module that was loaded after start.
func (t *Tracer) moduleArrived(name string) {
	t.changes.arrived(name)
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
