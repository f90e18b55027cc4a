// SPDX-License-Identifier: Apache-2.0

package rulebook

import "time"

const (
	// Reading rule sets may not take more than one part in readShare of the time,
	// counted over so much of it that readCredit can be saved up: on a node whose
	// rules are replaced all the time versions are left out, and what packets met
	// of those is unknown.
	readShare  = 4
	readCredit = 500 * time.Millisecond
)

// allowance is the time that reading may still take; nil: as much as it needs.
type allowance struct {
	now    func() uint64 // CLOCK_MONOTONIC, ns
	at     uint64        // when it was counted last
	credit time.Duration
}

func newAllowance(now func() uint64) *allowance {
	return &allowance{now: now, at: now(), credit: readCredit}
}

// left tells whether there is any.
func (a *allowance) left() bool {
	if a == nil {
		return true
	}
	now := a.now()
	a.credit = min(readCredit, a.credit+time.Duration(now-a.at)/readShare)
	a.at = now
	return a.credit > 0
}

// spent notes what a read took.
func (a *allowance) spent(d time.Duration) {
	if a != nil {
		a.credit -= d
	}
}
