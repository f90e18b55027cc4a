// SPDX-License-Identifier: Apache-2.0

package attach

// Shows the kernel half where the ends are by now: a trie of both ends' prefixes,
// which it looks at instead of the constants it was loaded with once one has moved.

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/pathtrace/pathtrace/bpf"
)

// MoveEnds gives the kernel half the ends as they are now. What is new comes
// before what is old goes: no packet finds less than one of both.
func (a *Attachment) MoveEnds(src, dst []netip.Prefix) error {
	now := endKeys(src, dst)
	m := a.coll.Maps["moved_ends"]
	for key, of := range now {
		if err := m.Put(key, of); err != nil {
			return fmt.Errorf("moved_ends: %w", err)
		}
	}
	for key := range a.shown {
		if _, still := now[key]; still {
			continue
		}
		if err := m.Delete(key); err != nil {
			return fmt.Errorf("moved_ends: %w", err)
		}
	}
	a.shown = now
	if err := a.coll.Variables["moved"].Set(uint32(1)); err != nil {
		return fmt.Errorf("set moved: %w", err)
	}
	return nil
}

// endKeys lists the prefixes of both ends with the ends that each belongs to: the
// kernel half finds the longest only, so those that hold it are told with it.
func endKeys(src, dst []netip.Prefix) map[bpf.EndKey]uint32 {
	keys := make(map[bpf.EndKey]uint32)
	for _, p := range slices.Concat(src, dst) {
		var of uint32
		for _, end := range []struct {
			prefixes []netip.Prefix
			bit      uint32
		}{{src, bpf.EndSrc}, {dst, bpf.EndDst}} {
			if slices.ContainsFunc(end.prefixes, func(q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Contains(p.Addr()) }) {
				of |= end.bit
			}
		}
		keys[endKey(p)] = of
	}
	return keys
}

func endKey(p netip.Prefix) bpf.EndKey {
	family := uint32(6)
	if p.Addr().Is4() {
		family = 4
	}
	return bpf.EndKey{Prefixlen: 32 + uint32(p.Bits()), Family: family, Addr: prefixOf(p).Addr}
}
