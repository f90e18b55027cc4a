// SPDX-License-Identifier: Apache-2.0

package tracer

// This file follows an end to where it is now: the kernel half compares with
// its new addresses, its new interface is one by which the flow may enter, and
// its new namespace gets what the old one had. What belonged to namespaces that
// have ended is let go. What of the new place is missed up to then, which nothing
// counts, is in docs/json.md (endpoint-changed).

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/pathtrace/pathtrace/tracer/endpoint"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// follow takes what was noticed of the ends since it was last asked.
func (t *Tracer) follow(sink model.Sink) error {
	if t.endWatch == nil {
		return nil
	}
	for {
		select {
		case m := <-t.endWatch.moves:
			if err := t.moveEnd(m); err != nil {
				return err
			}
			if err := sink.Node(m.event()); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// event is what is told of a move.
func (m move) event() *model.NodeEvent {
	e := &model.NodeEvent{Type: model.TypeNode, Time: m.at, What: model.EndpointChanged, Object: m.now.Given, Text: m.text}
	if m.gone {
		e.What = model.EndpointGone
		return e
	}
	end := m.now.End
	e.End = &end
	return e
}

// moveEnd follows one end.
func (t *Tracer) moveEnd(m move) error {
	if m.gone {
		return nil
	}
	e := &t.flow.src
	if m.dst {
		e = &t.flow.dst
	}
	former := t.former(e.Prefixes, m.now)
	*e = m.now
	e.Prefixes = append(slices.Clone(m.now.Prefixes), former...)
	if err := t.att.MoveEnds(t.flow.src.Prefixes, t.flow.dst.Prefixes); err != nil {
		return err
	}
	if err := t.att.LimitEntries(t.flow.src, t.flow.dst); err != nil {
		return err
	}
	t.rules.Follow(t.flow.expected())
	t.releaseEnded()
	for _, in := range m.now.NetnsInodes {
		t.att.Bracket(in)
	}
	return nil
}

// former are those of an end's addresses up to now that it has no more, but
// nobody else is known to have, as far as there is room for them.
func (t *Tracer) former(was []netip.Prefix, now endpoint.Endpoint) []netip.Prefix {
	var kept []netip.Prefix
	room := map[bool]int{true: endpoint.MaxPrefixes, false: endpoint.MaxPrefixes}
	for _, p := range now.Prefixes {
		room[p.Addr().Is4()]--
	}
	for _, p := range was {
		if slices.Contains(now.Prefixes, p) || room[p.Addr().Is4()] <= 0 {
			continue
		}
		if _, taken := t.flow.places.names.Address(p.Addr()); taken {
			continue
		}
		room[p.Addr().Is4()]--
		kept = append(kept, p)
	}
	return kept
}

// lookForEnded is how often is looked for namespaces that have ended.
const lookForEnded = time.Second

// releaseEnded lets go of namespaces that nothing leads to any more: their pods
// have ended, and would not vanish while something of ours is in them.
func (t *Tracer) releaseEnded() {
	places := append(t.att.Places(), t.rules.Places()...)
	ended := func(in uint32) bool { return !t.flow.ns.Reachable(in) }
	if !slices.ContainsFunc(places, ended) {
		return
	}
	if err := t.flow.ns.Refresh(); err != nil {
		t.cfg.Verbose(fmt.Sprintf("look for network namespaces that have ended: %v", err))
		return
	}
	for _, in := range places {
		if _, known := t.flow.ns.Lookup(in); known {
			continue
		}
		t.rules.Forget(in)
		if err := t.att.Release(in); err != nil {
			t.cfg.Verbose(fmt.Sprintf("let go of network namespace %d: %v", in, err))
		}
	}
}
