// SPDX-License-Identifier: Apache-2.0

// Package recall keeps looking at the node cheap: what was asked is remembered for
// a while, and what takes long is asked the more seldom.
package recall

import "time"

// Memory is what was answered to questions of one kind. It is not safe for
// concurrent use.
type Memory[Q comparable] struct {
	cfg  Config
	kept map[Q]answer
}

// Config says how long answers are good for.
type Config struct {
	Most int              // answers that are remembered; past it all is forgotten
	Now  func() time.Time // nil: time.Now
	// Until is when an answer that was asked for at one time, and given at
	// another, is good for no longer.
	Until func(asked, given time.Time) time.Time
}

type answer struct {
	value any
	err   error
	until time.Time
}

// New remembers nothing yet.
func New[Q comparable](cfg Config) *Memory[Q] {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Memory[Q]{cfg: cfg, kept: make(map[Q]answer)}
}

// Forget has a question asked anew.
func (m *Memory[Q]) Forget(q Q) { delete(m.kept, q) }

// Ask gives what is still good, or reads it. Failures are remembered as well. The
// same question has to be asked for the same type.
func Ask[T any, Q comparable](m *Memory[Q], q Q, read func() (T, error)) (T, error) {
	asked := m.cfg.Now()
	if a, ok := m.kept[q]; ok && asked.Before(a.until) {
		value, _ := a.value.(T) // nil has no type
		return value, a.err
	}
	if len(m.kept) >= m.cfg.Most {
		clear(m.kept)
	}
	value, err := read()
	m.kept[q] = answer{value, err, m.cfg.Until(asked, m.cfg.Now())}
	return value, err
}
