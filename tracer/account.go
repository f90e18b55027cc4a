// SPDX-License-Identifier: Apache-2.0

// What a trace missed: counted by the kernel half, told while it happens and in
// the summary.

package tracer

import (
	"fmt"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// warnEvery bounds how often losses are told while it runs.
const warnEvery = 2 * time.Second

// account tells what was missed. Packets none of whose events arrived are
// known by their ids: the kernel counts what it handed out.
func (t *Tracer) account(sum *model.Summary) {
	c, err := t.att.Counters()
	if err != nil {
		t.cfg.Warn(err.Error())
		return
	}
	sum.LostEvents = c.LostEvents
	sum.LostPackets = c.LostPackets
	sum.SampledOut = c.Sampled
	lost, cut := t.asm.Frames()
	sum.LostFrames = c.LostFrames + lost
	sum.CutFrames = cut
	sum.SkippedRuns = t.att.Skipped()
	sum.UnknownRules = t.rules.Missing()
	sum.LostChanges = t.changes.lost()
	if seen := t.asm.Seen(); c.Packets > seen {
		sum.LostPackets += c.Packets - seen
	}
	for _, m := range t.att.Missed() {
		if !m.Quiet {
			sum.MissedHooks = append(sum.MissedHooks, m.MissedHook)
		}
	}
	if c.Stale > 0 {
		t.cfg.Verbose(fmt.Sprintf("%d buffers were freed unseen and recognised when they were used again", c.Stale))
	}
}

func (t *Tracer) tellLosses() {
	t.changes.lost()
	c, err := t.att.Counters()
	if err != nil {
		return // told by account
	}
	t.told.lost.Store(c.LostEvents + c.LostPackets)
	if c.Sampled > 0 && !t.told.warnedSampled {
		t.told.warnedSampled = true
		t.cfg.Warn("the flow is faster than is followed: some of its packets are left out on purpose and counted (--sample all follows every one)")
	}
	t.told.lossy = c.LostEvents > 0
	if n := c.LostEvents + c.LostPackets + c.LostFrames; n > t.told.warnedLost && time.Since(t.told.warnedAt) >= warnEvery {
		t.told.warnedAt = time.Now()
		what, todo := fmt.Sprintf("%d events and %d packets", c.LostEvents, c.LostPackets), "narrow it with --port or --proto"
		if c.LostFrames > 0 {
			what += fmt.Sprintf(", and packet bytes at %d hops,", c.LostFrames)
			todo += ", or take fewer bytes with --snaplen"
		}
		t.cfg.Warn(what + " lost so far: the flow is faster than they can be read; " + todo)
		t.told.warnedLost = n
	}
}
