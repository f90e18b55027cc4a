// SPDX-License-Identifier: Apache-2.0

package rulebook

// This file answers what rules ask about addresses and routes (addrtype, rpfilter,
// fib): as they stand when a packet is told. The kernel counts their changes; the
// answer is the packet's only if none was made since the packet was there. Kernels
// that do not tell the count are asked all the same.

import (
	"net/netip"

	"github.com/pathtrace/pathtrace/tracer/journey"
	facts "github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// routesMet names the routes that stood as a packet came to a table and as it left;
// 0: not known.
type routesMet struct{ first, final uint64 }

// routesOf is read off the sightings before and behind a table.
func routesOf(p journey.Passage) routesMet {
	switch {
	case !p.After:
		return routesMet{p.At.Routes, p.Until.Routes}
	case p.Before.Id != 0 && p.Before.Netns == p.At.Netns:
		return routesMet{p.Before.Routes, p.At.Routes}
	}
	return routesMet{p.At.Routes, p.At.Routes}
}

// AddrType implements facts.World.
func (w *world) AddrType(addr netip.Addr, kind, dev string) facts.Answer {
	return w.unchanged(func() facts.Answer { return w.World.AddrType(addr, kind, dev) })
}

// ReversePath implements facts.World.
func (w *world) ReversePath(p *facts.Packet, loose, useMark bool) facts.Answer {
	return w.unchanged(func() facts.Answer { return w.World.ReversePath(p, loose, useMark) })
}

// unchanged gives an answer about routes if they are still those that the packet
// met, before and after they were asked.
func (w *world) unchanged(ask func() facts.Answer) facts.Answer {
	met := w.routes
	if met.first == 0 || met.final == 0 {
		return ask()
	}
	if met.first != met.final || w.now() != met.first {
		w.moved = true
		return facts.Unknown
	}
	w.World.Under(met.first)
	answer := ask()
	if w.now() != met.first {
		w.moved = true
		return facts.Unknown
	}
	return answer
}

// routesNow names the routes that stand in a namespace; 0: not known.
func (b *Book) routesNow(netns uint32, family string) (name uint64) {
	err := b.read.in(netns, func() error {
		l, err := b.read.kernel.Look(family, "", 0)
		name = l.Routes
		return err
	})
	if err != nil {
		return 0
	}
	return name
}
