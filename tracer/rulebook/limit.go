// SPDX-License-Identifier: Apache-2.0

package rulebook

import (
	"time"

	"github.com/pathtrace/pathtrace/tracer/recall"
)

const (
	// Reading rule sets takes no more than one part in readShare of the time, but
	// for so much that is saved up: on a node whose rules are replaced all the time
	// versions are left out, and what packets met of those is unknown.
	readShare  = 3
	readSaved  = 500 * time.Millisecond
	readPaused = 10 * time.Second // at most
)

// leave says when rules may be read again.
type leave struct {
	allowance recall.Allowance
	from      time.Time
}

func newLeave() *leave {
	return &leave{allowance: recall.Allowance{Share: readShare, Saved: readSaved, Longest: readPaused}}
}

// given tells whether they may be read now; without a leave they always may.
func (l *leave) given() bool { return l == nil || !time.Now().Before(l.from) }

// spent notes what a read took.
func (l *leave) spent(took time.Duration) {
	if l != nil {
		now := time.Now()
		l.from = now.Add(l.allowance.Spend(now, took))
	}
}
