// SPDX-License-Identifier: Apache-2.0

package legacy

// This file lets those who read the same tables, each for a purpose of its own,
// have one of them between them: a big node's is many megabytes.

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"weak"

	"golang.org/x/sys/unix"
)

// Shelf knows the tables that were read last, as long as somebody holds them: who
// reads the same rules again is given the same table. None (nil) knows nothing.
// It may be used from several goroutines.
type Shelf struct {
	mu     sync.Mutex
	newest map[place]weak.Pointer[Table]
}

// place is a table of a network namespace.
type place struct {
	netns        uint64 // inode
	family, name string
}

// NewShelf makes an empty one.
func NewShelf() *Shelf { return &Shelf{newest: make(map[place]weak.Pointer[Table])} }

// ReadAll is like the function of that name.
func (s *Shelf) ReadAll() ([]*Table, error) {
	var all []*Table
	for _, family := range []string{IPv4, IPv6} {
		names, err := Names(family)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			t, err := s.ReadAgain(family, name, nil)
			if errors.Is(err, ErrNoTable) {
				continue
			}
			if err != nil {
				return nil, err
			}
			all = append(all, t)
		}
	}
	return all, nil
}

// ReadAgain is like the function of that name; a table that somebody else has
// read serves as old, too.
func (s *Shelf) ReadAgain(family, name string, old *Table) (*Table, error) {
	if s == nil {
		return ReadAgain(family, name, old)
	}
	var ns unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &ns); err != nil {
		return nil, fmt.Errorf("%s table %s: which network namespace this is: %w", family, name, err)
	}
	at := place{ns.Ino, family, name}
	newest := s.at(at)
	t, err := readLike(family, name, old, newest)
	if err == nil && t != newest {
		s.put(at, t)
	}
	return t, err
}

func (s *Shelf) at(p place) *Table {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest[p].Value()
}

// put notes a table, and forgets those that nobody holds any more.
func (s *Shelf) put(p place, t *Table) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.newest, func(_ place, w weak.Pointer[Table]) bool { return w.Value() == nil })
	s.newest[p] = weak.Make(t)
}
