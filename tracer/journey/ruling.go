// SPDX-License-Identifier: Apache-2.0

package journey

// What a journey asks about the rules of a table, and what it is told.

import (
	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// Ruling is what is known of the rules that one table or base chain applied.
type Ruling struct {
	Rules   []model.Rule // those that matched, in order; a policy that decided comes last
	Decided *model.Rule  // the one that set the verdict; nil: none did, or not known
	Verdict string       // more exact than the kernel's number: reject; "" as the kernel said
	Ends    string       // the verdict that the rules come to; "" where they do not tell
	Unknown string       // why the rules are not known; "" when they are
	Source  model.RuleSource
	Open    []string // inferred: what could not be evaluated on the way
	// Unread: the packet met rules that nobody has read.
	Unread bool
	// Candidates are the rules of which one decided, where it is not known which.
	Candidates []model.Rule
	// Queue is the number of the queue that the deciding rule sends packets to; nil:
	// none, or one of several.
	Queue *uint16
	// NotAsked: inferred: they are NAT rules, and the packet asked none.
	NotAsked bool
}

// drops tells that the rules themselves end the packet.
func (r Ruling) drops() bool {
	return r.Ends == "drop" || r.Ends == "reject"
}

// Passage is a packet on its way through one table: as it was seen last before.
type Passage struct {
	At       bpf.Event
	Netns    uint32
	PF       uint8
	Hook     uint8  // netfilter hook + 1
	Out      string // the interface its route leads to; "" not known
	OutIndex uint32 // of Out; 0: not known
	CT       *bpf.EventCt
	// Invalid: conntrack looked at it and gave it no entry.
	Invalid bool
	Table   Table
	// Until is the packet as it was seen next: behind the table, or dead.
	Until bpf.Event
	// Contents names what a legacy table held, where the table's own event tells;
	// nil: it does not.
	Contents *bpf.EventTable
	// After tells that At is the packet as it came out of the table, or died there;
	// Before is then the sighting before it: what is the same in both the table saw.
	After  bool
	Before bpf.Event
	// Site is set in a hook of a device or bridge, and Hook is not then; Came is the
	// interface it came in by last.
	Site *HookSite
	Came string
}
