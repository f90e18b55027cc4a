// SPDX-License-Identifier: Apache-2.0

// The meter cuts a run into short parts and keeps the one that took the least
// CPU time a unit. On a machine that others use too, caches and cores are shared
// and the mean tells as much of the others as of us.

package bench

import (
	"time"
)

// partTime is how long a part lasts.
const partTime = 25 * time.Millisecond

// meter takes the time of the thread that calls it, and of others.
type meter struct {
	units        func() int64 // done so far
	withReceiver bool         // the receiving thread's time counts
	receiver     int          // that thread
	softirqd     softirqd

	next      time.Time
	begun     bool
	lastUnits int64
	lastCPU   time.Duration
	bestUnits int64
	bestCPU   time.Duration
}

// tick is called often by the sending thread, with the present time.
func (m *meter) tick(now time.Time) error {
	if now.Before(m.next) {
		return nil
	}
	return m.cut(now)
}

// end cuts the last part off, unless a whole one gave a figure: it is shorter.
func (m *meter) end() error {
	if m.bestCPU > 0 {
		return nil
	}
	return m.cut(time.Now())
}

// cut ends a part and begins the next.
func (m *meter) cut(now time.Time) error {
	m.next = now.Add(partTime)
	cpu, err := m.cpu()
	if err != nil {
		return err
	}
	units := m.units()
	if m.begun {
		m.part(units-m.lastUnits, cpu-m.lastCPU)
	}
	m.begun, m.lastUnits, m.lastCPU = true, units, cpu
	return nil
}

// part books one part.
func (m *meter) part(units int64, cpu time.Duration) {
	if units <= 0 || cpu <= 0 {
		return
	}
	if m.bestCPU == 0 || float64(units)/float64(cpu) > float64(m.bestUnits)/float64(m.bestCPU) {
		m.bestUnits, m.bestCPU = units, cpu
	}
}

func (m *meter) cpu() (time.Duration, error) {
	sum, err := threadTime(self)
	if err != nil {
		return 0, err
	}
	if m.withReceiver {
		t, err := threadTime(m.receiver)
		if err != nil {
			return 0, err
		}
		sum += t
	}
	t, err := m.softirqd.time()
	return sum + t, err
}
