// SPDX-License-Identifier: Apache-2.0

package tracer

// This file watches the node while packets are followed. What cannot be had of
// it is told, and leaves the trace as it is.

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/pathtrace/pathtrace/tracer/attach"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/watch"
)

// changes of the node during a trace.
type changes struct {
	watcher *watch.Watcher
	doers   *attach.Doers // nil: none to be had
	warned  uint64        // losses that were told
}

// watchNode begins to watch; functions tells whether functions may be attached.
func (t *Tracer) watchNode(functions bool) {
	var c changes
	var kinds []watch.Kind
	var err error
	if c.doers, err = attach.OpenDoers(t.kern.kern, functions, watch.Agents(), t.cfg.Verbose, t.stopwatch()); err != nil {
		t.cfg.Verbose("who changes the node is not seen: " + err.Error())
		c.doers = nil
	} else {
		kinds = deedsHeard(c.doers)
	}
	proc := filepath.Join("/", t.cfg.Names.HostRoot, "proc")
	if c.watcher, err = watch.New(t.ns, watch.Config{Names: t.where, Proc: proc, Deeds: kinds, Verbose: t.cfg.Verbose}); err != nil {
		t.cfg.Warn("changes of the node are not told: " + err.Error())
		if err := c.Close(); err != nil {
			t.cfg.Verbose(err.Error())
		}
		return
	}
	t.changes = &c
	t.listenToDoers()
}

// listenToDoers shows the kernel half the namespaces of the node: pods come.
func (t *Tracer) listenToDoers() {
	if t.changes == nil || t.changes.doers == nil {
		return
	}
	if err := t.changes.doers.Listen(append(t.ns.Members(), t.ns.Node().Inode)...); err != nil {
		t.cfg.Verbose(err.Error())
	}
}

// tellChanges hands over what changed since the last time.
func (t *Tracer) tellChanges(sink model.Sink, now time.Time) error {
	if t.changes == nil {
		return nil
	}
	var deeds []watch.Deed
	if d := t.changes.doers; d != nil {
		told, err := d.Take()
		if err != nil {
			return err
		}
		for i := range told {
			deeds = append(deeds, newDeed(&told[i], t.clock))
		}
	}
	for _, e := range t.changes.watcher.Poll(now, deeds) {
		if err := sink.Node(&e); err != nil {
			return err
		}
	}
	return nil
}

// newTeller puts changes in order with the packets on their way to a sink.
func (t *Tracer) newTeller(sink model.Sink) *watch.Teller {
	if t.changes == nil {
		return watch.NewTeller(nil, sink)
	}
	return watch.NewTeller(t.changes.watcher, sink)
}

// lostChanges counts how often changes were not told.
func (t *Tracer) lostChanges() uint64 {
	if t.changes == nil {
		return 0
	}
	lost := t.changes.watcher.Missed()
	if d := t.changes.doers; d != nil {
		n, err := d.Lost()
		if err != nil {
			t.cfg.Verbose(err.Error())
		}
		lost += n
	}
	if lost > t.changes.warned {
		t.changes.warned = lost
		t.cfg.Warn(fmt.Sprintf("changes of the node came faster than they could be read, %d times so far: some are not told", lost))
	}
	return lost
}

// changesInModule attaches what waits for a kernel module.
func (t *Tracer) changesInModule(name string) {
	if t.changes == nil || t.changes.doers == nil {
		return
	}
	if err := t.changes.doers.Arrived(name); err != nil {
		t.cfg.Verbose("who changes the node: " + err.Error())
	}
}

// Close ends watching.
func (c *changes) Close() error {
	var errs []error
	if c.watcher != nil {
		errs = append(errs, c.watcher.Close())
	}
	if c.doers != nil {
		errs = append(errs, c.doers.Close())
	}
	return errors.Join(errs...)
}
