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
	"github.com/pathtrace/pathtrace/tracer/journey"
	"github.com/pathtrace/pathtrace/tracer/kernel"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/watch"
)

// changes of the node during a trace. None (nil) are told where they are not to
// be had.
type changes struct {
	ns            *node.Namespaces
	clock         journey.Clock
	watcher       *watch.Watcher
	doers         *attach.Doers // nil: none to be had
	counted       uint64        // losses that were told
	warn, verbose func(string)
}

// watchNode begins to watch; functions tells whether functions may be attached.
func watchNode(cfg Config, f *flow, kern *kernel.Kernel, clock journey.Clock, functions bool) *changes {
	var kinds []watch.Kind
	doers, err := attach.OpenDoers(kern, functions, watch.Agents(), cfg.Verbose, stopwatch(cfg.Verbose))
	if err != nil {
		cfg.Verbose("who changes the node is not seen: " + err.Error())
		doers = nil
	} else {
		kinds = deedsHeard(doers)
	}
	proc := filepath.Join("/", cfg.Names.HostRoot, "proc")
	watcher, err := watch.New(f.ns, watch.Config{Names: f.places, Proc: proc, Deeds: kinds, Verbose: cfg.Verbose})
	c := &changes{ns: f.ns, clock: clock, watcher: watcher, doers: doers, warn: cfg.Warn, verbose: cfg.Verbose}
	if err != nil {
		cfg.Warn("changes of the node are not told: " + err.Error())
		if err := c.Close(); err != nil {
			cfg.Verbose(err.Error())
		}
		return nil
	}
	c.listen()
	return c
}

// listen shows the kernel half the namespaces of the node: pods come.
func (c *changes) listen() {
	if c == nil || c.doers == nil {
		return
	}
	if err := c.doers.Listen(append(c.ns.Members(), c.ns.Node().Inode)...); err != nil {
		c.verbose(err.Error())
	}
}

// tell hands over what changed since the last time.
func (c *changes) tell(sink model.Sink, now time.Time) error {
	if c == nil {
		return nil
	}
	var deeds []watch.Deed
	if c.doers != nil {
		told, err := c.doers.Take()
		if err != nil {
			return err
		}
		for i := range told {
			deeds = append(deeds, newDeed(&told[i], c.clock))
		}
	}
	for _, e := range c.watcher.Poll(now, deeds) {
		if err := sink.Node(&e); err != nil {
			return err
		}
	}
	return nil
}

// teller puts changes in order with the packets on their way to a sink.
func (c *changes) teller(sink model.Sink) *watch.Teller {
	if c == nil {
		return watch.NewTeller(nil, sink)
	}
	return watch.NewTeller(c.watcher, sink)
}

// lost counts how often changes were not told.
func (c *changes) lost() uint64 {
	if c == nil {
		return 0
	}
	lost := c.watcher.Missed()
	if c.doers != nil {
		n, err := c.doers.Lost()
		if err != nil {
			c.verbose(err.Error())
		}
		lost += n
	}
	if lost > c.counted {
		c.counted = lost
		c.warn(fmt.Sprintf("changes of the node came faster than they could be read, %d times so far: some are not told", lost))
	}
	return lost
}

// arrived attaches what waits for a kernel module.
func (c *changes) arrived(module string) {
	if c == nil || c.doers == nil {
		return
	}
	if err := c.doers.Arrived(module); err != nil {
		c.verbose("who changes the node: " + err.Error())
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
