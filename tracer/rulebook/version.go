// SPDX-License-Identifier: Apache-2.0

package rulebook

// This file keeps what a table was like over time, and tells which version of it a
// packet met. A version is not its contents: rules that are put back as they were
// are another version, with something unknown in between. What is known of a
// version are the moments at which it was seen to stand, in the kernel's own clock,
// and the name that the kernel itself has for it; a packet that bears that name
// needs no clock.

import "slices"

// stamp is the kernel's own name for a version of a table (bpf/versions.h). Of nft,
// place holds the count of commits to the namespace's rule set, and the generation
// cursor; of a legacy table, place is the address of its contents and turn how many
// were made before.
type stamp struct{ place, turn uint64 }

// named tells that two equal stamps are of one version.
func (s stamp) named() bool { return s.place != 0 }

// moment is a look at what stands: the stamp was read between two times of
// CLOCK_MONOTONIC, nanoseconds. print is a fingerprint of the contents, of a legacy
// table only; 0: not known. It says what a packet met, but not for how long that
// stood: what is put back has the same.
type moment struct {
	after, before uint64
	stamp         stamp
	print         uint64
}

// version is a table as it was.
type version[T any] struct {
	stamp stamp
	print uint64
	// from and until are the first and the last time at which it is known to have
	// stood; it did so without a break in between.
	from, until uint64
	// follows tells that nothing stood between the version before and this one.
	follows bool
	rules   T
}

// holds tells that it stood over all of a time.
func (v *version[T]) holds(begin, end uint64) bool { return v.from <= begin && end <= v.until }

// history is a table over time, the newest version last.
type history[T any] struct {
	versions []*version[T]
	// looked is when it was looked at last, whatever came of it.
	looked uint64
}

// newest gives the version that was read last; nil: none was.
func (h *history[T]) newest() *version[T] {
	if len(h.versions) == 0 {
		return nil
	}
	return h.versions[len(h.versions)-1]
}

// still notes a look that found the newest version, by its name, and tells so.
func (h *history[T]) still(m moment) bool {
	h.looked = m.after
	v := h.newest()
	if v == nil || !m.stamp.named() || v.stamp != m.stamp {
		return false
	}
	v.until = max(v.until, m.after)
	return true
}

// read notes rules that were read between two looks which found the same name.
// unchanged tells that they are the newest version's still, and that nothing can
// have come and gone in between.
func (h *history[T]) read(first, last moment, rules T, follows, unchanged bool) {
	h.looked = last.after
	if v := h.newest(); v != nil && (unchanged || first.stamp.named() && v.stamp == first.stamp) {
		v.until = max(v.until, last.after)
		return
	}
	h.versions = append(h.versions, &version[T]{stamp: first.stamp, print: first.print, from: first.before, until: max(first.before, last.after), follows: follows, rules: rules})
}

// forget leaves as many of the newest versions as may be kept.
func (h *history[T]) forget(kept int) {
	if n := len(h.versions) - max(kept, 1); n > 0 {
		h.versions = slices.Delete(h.versions, 0, n)
		h.versions[0].follows = false
	}
}

// passed is a packet's way through a table as far as it is known: when it came and
// went, and the names of the version at both times; zero where they were not seen.
type passed struct {
	begin, end   uint64
	first, final stamp
	print        uint64 // of the contents all the while; 0: not known
}

// met is what is known of the rules that a packet met.
type met[T any] struct {
	// sure stood all the while; nil: that is not known of any.
	sure *version[T]
	// before and after stood next to the packet's time, when sure is nil.
	before, after *version[T]
	// only tells that it met one of those two: nothing else can have stood.
	only bool
	// changed tells that the table was replaced while the packet was in it.
	changed bool
}

// either lists the versions that come into question.
func (m met[T]) either() []*version[T] {
	if m.sure != nil {
		return []*version[T]{m.sure}
	}
	return slices.DeleteFunc([]*version[T]{m.before, m.after}, func(v *version[T]) bool { return v == nil })
}

// at finds what a packet met: by name where it bears one, else by time.
func (h *history[T]) at(p passed) met[T] {
	if p.print != 0 {
		for _, v := range slices.Backward(h.versions) {
			if v.print == p.print {
				return met[T]{sure: v}
			}
		}
	}
	if p.first.named() && p.final.named() {
		if p.first == p.final {
			if v := h.called(p.first, p.begin); v != nil {
				return met[T]{sure: v}
			}
			m := h.around(p)
			m.only = false // it was none of those that were read
			return m
		}
		m := met[T]{before: h.called(p.first, p.begin), after: h.called(p.final, p.end), changed: true}
		m.only = m.before != nil && m.after != nil && m.after.follows && h.next(m.before) == m.after
		return m
	}
	for _, v := range slices.Backward(h.versions) {
		if v.holds(p.begin, p.end) {
			return met[T]{sure: v}
		}
	}
	return h.around(p)
}

// called finds the version of a name; of several readings of one the last that was
// made before a time, else the first.
func (h *history[T]) called(s stamp, at uint64) (found *version[T]) {
	for _, v := range slices.Backward(h.versions) {
		if v.stamp == s {
			if found = v; v.from <= at {
				return v
			}
		}
	}
	return found
}

// settle notes the newest version as it was read once more, under the same name.
func (h *history[T]) settle(first, last moment, rules T) {
	h.looked = last.after
	h.newest().until = max(h.newest().until, first.after)
	h.versions = append(h.versions, &version[T]{stamp: first.stamp, print: first.print, from: first.before, until: max(first.before, last.after), rules: rules})
}

// next gives the version that was read after another one.
func (h *history[T]) next(v *version[T]) *version[T] {
	i := slices.Index(h.versions, v)
	if i < 0 || i+1 >= len(h.versions) {
		return nil
	}
	return h.versions[i+1]
}

// around gives the versions between which a time lies.
func (h *history[T]) around(p passed) met[T] {
	var m met[T]
	for _, v := range h.versions {
		switch {
		case v.from <= p.begin:
			m.before = v
		case m.after == nil:
			m.after = v
		}
	}
	m.only = m.before != nil && m.after != nil && m.after.follows
	return m
}
