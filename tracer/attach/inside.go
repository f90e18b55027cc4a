// SPDX-License-Identifier: Apache-2.0

package attach

// What tests of a whole trace look at, or break. Nothing else needs it: what a
// trace asks of the kernel half is in attachment.go.

import (
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
)

// Variable gives a variable of the kernel half.
func (a *Attachment) Variable(name string) *ebpf.Variable { return a.coll.Variables[name] }

// Programs lists the programs that were loaded at the start.
func (a *Attachment) Programs() []*ebpf.Program {
	return slices.Collect(maps.Values(a.coll.Programs))
}

// Absent tells of each program that is not attached, and waits for no module either.
func (d *Doers) Absent() (all []string) {
	waits := func(prog string) bool {
		return slices.ContainsFunc(d.programs.waiting, func(h hook) bool { return h.prog == prog })
	}
	for _, h := range d.plan {
		if !d.Hears(h.prog) && !waits(h.prog) {
			all = append(all, fmt.Sprintf("%s is not attached: %s is not told", h.prog, h.loses))
		}
	}
	return all
}
