// SPDX-License-Identifier: Apache-2.0

package recall

import "time"

// Pause is how long to let be what took some time, so that it takes one part in
// share of the time at most; no shorter than least.
func Pause(least time.Duration, share int, took time.Duration) time.Duration {
	return max(least, time.Duration(share)*took)
}

// Allowance is the time that looking may take: one part in Share in the long run,
// and what was saved up at once.
type Allowance struct {
	Share   int
	Saved   time.Duration // at most, and at first
	Longest time.Duration // pause
	debt    time.Duration // spent of Saved
	at      time.Time
}

// Spend takes the time of a look, and gives how long to wait before the next.
func (a *Allowance) Spend(now time.Time, took time.Duration) time.Duration {
	share := time.Duration(a.Share)
	if !a.at.IsZero() {
		a.debt -= now.Sub(a.at) / share
	}
	a.debt = min(max(a.debt, 0)+took, a.Saved+a.Longest/share)
	a.at = now
	return max(0, (a.debt-a.Saved)*share)
}
