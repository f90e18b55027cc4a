// SPDX-License-Identifier: Apache-2.0

package rulebook

// This file knows what the kernel half can have missed of nft's rules: a rule that
// was not seen to match did not, only if everything that would have seen it ran.

import "slices"

// listening is what is known of the programs that see nft's rules.
type listening struct {
	// skipped counts the programs that the kernel has left out; nil: it leaves out
	// none.
	skipped func() uint64
	now     func() uint64 // CLOCK_MONOTONIC, ns
	// skips is what skipped was in the past, the newest last.
	skips []skipMark
	// unheard lists expressions in use that the kernel half does not listen to;
	// since is when it last began to listen to one more: before, rules that end
	// with it were not seen. Fresh ones it was not asked for yet.
	unheard []string
	since   uint64
	fresh   []string
	inUse   map[string]bool
}

// skipMark is the number of programs left out up to a time of the kernel's clock.
type skipMark struct{ at, count uint64 }

// keptSkips bounds how far back it is remembered.
const keptSkips = 64

// mark notes how many programs were left out up to now.
func (l *listening) mark() {
	if l.skipped == nil {
		return
	}
	l.skips = append(l.skips, skipMark{l.now(), l.skipped()})
	if n := len(l.skips) - keptSkips; n > 0 {
		l.skips = slices.Delete(l.skips, 0, n)
	}
}

// allRan tells that no program was left out around a time.
func (l *listening) allRan(at uint64) bool {
	if l.skipped == nil {
		return true
	}
	if n := len(l.skips); n == 0 || l.skips[n-1].at <= at {
		l.mark() // serves all that was seen before it
	}
	newest := l.skips[len(l.skips)-1]
	for _, m := range slices.Backward(l.skips) {
		if m.at < at {
			return m.count == newest.count
		}
	}
	return false
}

// complete tells that all expressions in use were listened to at a time.
func (l *listening) complete(at uint64) bool { return len(l.fresh) == 0 && at >= l.since }

// use notes what the rules of a namespace may end with.
func (l *listening) use(n *nftRules) {
	for _, t := range n.set.Tables {
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				for _, name := range enders(r.Exprs) {
					if !l.inUse[name] {
						l.inUse[name] = true
						l.fresh = append(l.fresh, name)
					}
				}
			}
		}
	}
}
