// SPDX-License-Identifier: Apache-2.0

package tracer

// What a journey asks about the rules of a table, and what it is told.

import (
	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// ruling is what is known of the rules that one table or base chain applied.
type ruling struct {
	rules   []model.Rule // those that matched, in order; a policy that decided comes last
	decided *model.Rule  // the one that set the verdict; nil: none did, or not known
	verdict string       // more exact than the kernel's number: reject; "" as the kernel said
	ends    string       // the verdict that the rules come to; "" where they do not tell
	unknown string       // why the rules are not known; "" when they are
	source  model.RuleSource
	open    []string // inferred: what could not be evaluated on the way
}

// drops tells that the rules themselves end the packet.
func (r ruling) drops() bool {
	return r.ends == "drop" || r.ends == "reject"
}

// passage is a packet on its way through one table: as it was seen last before.
type passage struct {
	at    bpf.Event
	netns uint32
	pf    uint8
	hook  uint8  // netfilter hook + 1
	out   string // the interface its route leads to; "" not known
	ct    *bpf.EventCt
	// invalid: conntrack looked at it and gave it no entry.
	invalid bool
	table   hookEntry
}
