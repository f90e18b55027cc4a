// SPDX-License-Identifier: Apache-2.0

package watch

// This file tells the ends of the programs that keep the node's network, and who
// ended them.

import (
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// Signals that end a process which does not mind them (signal(7)).
var deadly = []unix.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGILL, unix.SIGABRT, unix.SIGBUS, unix.SIGFPE, unix.SIGKILL, unix.SIGSEGV, unix.SIGTERM, unix.SIGSYS}

const (
	// effectWithin is how long a signal waits for its effect before it is told by
	// itself, and effectFor how long it may be the cause of an end.
	effectWithin = 500 * time.Millisecond
	effectFor    = time.Minute
	// settledAge is how old a process of an agent that came during the trace has
	// to be for an end without a signal to be told: liveness probes run the same
	// programs.
	settledAge = 20 * time.Second
)

// agentEnded words the end of one of the programs that keep the network. An end
// of its own accord and without an error is none of ours.
func (w *Watcher) agentEnded(d *Deed) (model.NodeEvent, bool) {
	signal, status := unix.Signal(d.Value&0x7f), d.Value>>8&0xff
	sent := w.signalTo(d.By.PID, d.Time, signal)
	if !w.agents[d.By.PID] && d.Age < settledAge && sent == nil {
		return model.NodeEvent{}, false
	}
	delete(w.agents, d.By.PID)
	if signal == 0 && status == 0 && sent == nil {
		return model.NodeEvent{}, false
	}
	e := w.deedEvent(d, model.ProcessExit, d.By.Comm)
	e.PID, e.By = d.By.PID, nil
	head := fmt.Sprintf("%s (pid %d)", d.By.Comm, d.By.PID)
	switch {
	case signal != 0:
		e.Signal = unix.SignalName(signal)
		e.Text = head + " was ended by " + e.Signal
	default:
		e.Text = fmt.Sprintf("%s ended with status %d", head, status)
	}
	if sent == nil {
		return e, true
	}
	if signal == 0 {
		e.Signal = unix.SignalName(unix.Signal(sent.Value))
		e.Text += " after " + e.Signal
	}
	if sent.Set {
		e.Text += " by the kernel itself (out of memory, or the like)"
		return e, true
	}
	e.By = &sent.By
	e.Text += " from " + ByWords(e.By)
	return e, true
}

// signalTo takes the last signal to a process that may have ended it.
func (w *Watcher) signalTo(pid uint32, at time.Time, signal unix.Signal) *Deed {
	var found *Deed
	w.signals = slices.DeleteFunc(w.signals, func(s Deed) bool {
		if s.Victim.PID != pid {
			return false
		}
		if (signal == 0 || unix.Signal(s.Value) == signal) && slices.Contains(deadly, unix.Signal(s.Value)) && at.Sub(s.Time) < effectFor {
			found = &s
		}
		return true
	})
	return found
}

// signalsWithoutEffect tells deadly signals that were not followed by an end.
func (w *Watcher) signalsWithoutEffect(now time.Time) (events []model.NodeEvent) {
	for i := range w.signals {
		s := &w.signals[i]
		if s.Before != 0 || now.Sub(s.Time) < effectWithin {
			continue
		}
		s.Before = 1 // told; it may still turn out to be the cause of an end
		if !slices.Contains(deadly, unix.Signal(s.Value)) {
			continue
		}
		e := w.deedEvent(s, model.ProcessSignal, s.Victim.Comm)
		e.PID, e.Signal = s.Victim.PID, unix.SignalName(unix.Signal(s.Value))
		e.Text = fmt.Sprintf("%s sent to %s (pid %d) by %s", e.Signal, s.Victim.Comm, s.Victim.PID, ByWords(e.By))
		events = append(events, e)
	}
	w.signals = slices.DeleteFunc(w.signals, func(s Deed) bool { return now.Sub(s.Time) > effectFor })
	return events
}
