// SPDX-License-Identifier: Apache-2.0

package recall

import (
	"errors"
	"testing"
	"time"
)

func TestMemory(t *testing.T) {
	now := time.Unix(0, 0)
	m := New[string](Config{Most: 2, Now: func() time.Time { return now },
		Until: func(asked, given time.Time) time.Time { return given.Add(Pause(time.Second, 5, given.Sub(asked))) }})
	reads := 0
	gone := errors.New("gone")
	ask := func(q string, took time.Duration, err error) (int, error) {
		return Ask(m, q, func() (int, error) { reads++; now = now.Add(took); return reads, err })
	}
	for _, c := range []struct {
		name    string
		after   time.Duration
		q       string
		took    time.Duration
		fails   error
		forget  bool
		want    int // of which read the answer is
		wantErr error
	}{
		{"first", 0, "a", 0, nil, false, 1, nil},
		{"still good", time.Second - 1, "a", 0, nil, false, 1, nil},
		{"no longer", 1, "a", time.Second, nil, false, 2, nil},
		{"good for longer, since it took so long", 5*time.Second - 1, "a", 0, nil, false, 2, nil},
		{"a failure", 0, "b", 0, gone, false, 3, gone},
		{"is remembered", 0, "b", 0, nil, false, 3, gone},
		{"forgotten", 0, "b", 0, nil, true, 4, nil},
		{"a third, for which all are forgotten", 0, "c", 0, nil, false, 5, nil},
		{"the second again", 0, "b", 0, nil, false, 6, nil},
	} {
		now = now.Add(c.after)
		if c.forget {
			m.Forget(c.q)
		}
		got, err := ask(c.q, c.took, c.fails)
		if got != c.want || !errors.Is(err, c.wantErr) {
			t.Errorf("%s: answer of read %d, %v; want that of %d, %v", c.name, got, err, c.want, c.wantErr)
		}
	}
}

// Looking takes its share of the time in the long run, whatever happens, and is not
// held up before what is saved up is spent.
func TestAllowance(t *testing.T) {
	const share, saved = 20, time.Second
	a := Allowance{Share: share, Saved: saved, Longest: 5 * time.Second}
	now := time.Unix(0, 0)
	var looked, waited time.Duration
	for range 1000 {
		const look = 20 * time.Millisecond
		now = now.Add(look)
		wait := a.Spend(now, look)
		looked += look
		if waited += wait; looked < saved && wait > 0 {
			t.Fatalf("waits for %v after %v", wait, looked)
		}
		now = now.Add(wait)
	}
	if part := looked.Seconds() / (looked + waited).Seconds(); part < 0.8/share || part > 1.2/share {
		t.Errorf("looking takes %.3f of the time", part)
	}
	if wait := a.Spend(now, time.Hour); wait != a.Longest {
		t.Errorf("waits for %v after an hour's look, want %v", wait, a.Longest)
	}
}
