// SPDX-License-Identifier: Apache-2.0

package rulebook

// This file keeps the ipsets of the node's namespaces, each namespace's by itself,
// and asks them.

import (
	"errors"
	"time"

	"github.com/pathtrace/pathtrace/tracer/ruleset/ipset"
	facts "github.com/pathtrace/pathtrace/tracer/ruleset/packet"
	"github.com/pathtrace/pathtrace/tracer/ruleset/xt"
)

// setShare: asking ipsets takes no more than one part in so many of the time.
const setShare = 10

// setBook is what is known of the ipsets of the node's namespaces.
type setBook struct {
	read    *reader
	leave   *leave
	verbose func(string)
	packets []*facts.Packet
	of      map[uint32]*setMemory
	held    *ipset.Sets // the node's own, which stays anyway; nil: not asked yet
}

func newSetBook(read *reader, flow Flow, verbose func(string)) *setBook {
	leave := newLeave()
	leave.allowance.Share = setShare
	return &setBook{read: read, leave: leave, verbose: verbose, packets: flow.packets(), of: make(map[uint32]*setMemory)}
}

// in gives the memory of a namespace's ipsets.
func (b *setBook) in(netns uint32) *setMemory {
	m := b.of[netns]
	if m == nil {
		m = newSetMemory(b.door(netns), b.read.now, b.leave, b.verbose)
		m.follow(b.packets)
		b.of[netns] = m
	}
	return m
}

// use notes what rules of a namespace do with ipsets.
func (b *setBook) use(netns uint32, asked []xt.SetUse, filled []string) {
	if len(asked) == 0 && len(filled) == 0 {
		return
	}
	m := b.in(netns)
	m.use(asked)
	for _, set := range filled {
		m.filled[set] = true
	}
}

// prepare asks ahead in a namespace, until a time.
func (b *setBook) prepare(netns uint32, until time.Time) {
	if m := b.of[netns]; m != nil && !m.ready() {
		m.visit(func(v *setVisit) error { return v.prepare(until) })
	}
}

// tick keeps what is known of a namespace fresh.
func (b *setBook) tick(netns uint32) {
	if m := b.of[netns]; m != nil {
		m.tick()
	}
}

// follow has other packets asked about.
func (b *setBook) follow(flow Flow) {
	b.packets = flow.packets()
	for _, m := range b.of {
		m.follow(b.packets)
	}
}

// door leads to the ipsets of a namespace. None is held open but the node's own:
// pods would not vanish.
func (b *setBook) door(netns uint32) setDoor {
	return func(fn func(setAsker) error) error {
		if netns == b.read.ns.Node().Inode {
			return b.atHome(fn)
		}
		return b.read.in(netns, func() (err error) {
			sets, err := ipset.Open()
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, sets.Close()) }()
			return fn(sets)
		})
	}
}

func (b *setBook) atHome(fn func(setAsker) error) error {
	if b.held == nil {
		err := b.read.in(b.read.ns.Node().Inode, func() (err error) { b.held, err = ipset.Open(); return err })
		if err != nil {
			return err
		}
	}
	err := fn(b.held)
	if err != nil && !errors.Is(err, ipset.ErrNoSet) {
		return errors.Join(err, b.close()) // what was not read of an answer may be in it
	}
	return err
}

func (b *setBook) close() error {
	if b.held == nil {
		return nil
	}
	err := b.held.Close()
	b.held = nil
	return err
}
