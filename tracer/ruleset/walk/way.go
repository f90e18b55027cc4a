// SPDX-License-Identifier: Apache-2.0

package walk

// This file holds what is known of a packet on its way, whatever the rules.

import (
	"fmt"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// Step is something that matched.
type Step[M comparable] struct {
	Match   M
	Certain bool // false: it depends on something that was not seen
}

// Way is one way of a packet so far.
type Way[M comparable] struct {
	Packet  packet.Packet // as rules have changed it
	Steps   []Step[M]
	Certain bool // what was not seen made no difference so far
}

// From is the begin of a way. The packet is not changed.
func From[M comparable](p *packet.Packet) Way[M] { return Way[M]{Packet: *p, Certain: true} }

// Clone is a way that can go on differently.
func (w *Way[M]) Clone() Way[M] {
	c := *w
	c.Steps = slices.Clone(w.Steps)
	return c
}

// Match adds a step. It is certain if the way is, too.
func (w *Way[M]) Match(m M, certain bool) {
	w.Steps = append(w.Steps, Step[M]{m, certain && w.Certain})
}

// Key names what the rest of a way depends on: where it is, as the rules tell,
// and the packet. What was on the way is past.
func (w *Way[M]) Key(at ...any) string {
	p := w.Packet
	p.World = nil                         // the same for all ways
	return fmt.Sprintln(append(at, p)...) // blanks between all of them
}
