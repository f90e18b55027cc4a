// SPDX-License-Identifier: Apache-2.0

// Taking a fault back, as far as it needs no node.

package fault

import (
	"errors"
	"slices"
	"testing"
)

// TestUndoAgain: what could not be taken back is tried again, and nothing else.
func TestUndoAgain(t *testing.T) {
	var done []string
	fail := true
	step := func(name string, err func() error) func(*Applied) error {
		return func(a *Applied) error {
			return a.then(func() error { return nil }, func() error {
				done = append(done, name)
				return err()
			})
		}
	}
	none := func() error { return nil }
	busy := errors.New("busy")
	a, err := apply("node1", step("first", none), step("second", func() error {
		if fail {
			return busy
		}
		return nil
	}), step("third", none))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Undo(); !errors.Is(err, busy) {
		t.Errorf("got %v, want %v", err, busy)
	}
	fail = false
	for range 2 {
		if err := a.Undo(); err != nil {
			t.Error(err)
		}
	}
	if want := []string{"third", "second", "first", "second"}; !slices.Equal(done, want) {
		t.Errorf("taken back: %v; want %v", done, want)
	}
}
