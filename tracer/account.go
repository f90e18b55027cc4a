// SPDX-License-Identifier: Apache-2.0

// What a trace missed: counted by the kernel half, told while it happens and in
// the summary.

package tracer

import (
	"fmt"
	"time"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
)

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
