// SPDX-License-Identifier: Apache-2.0

package infer_test

// Rules that roll dice or have a memory: which of them decided cannot be told
// from the rule set, but the one that did has to be among the alternatives, and
// what was seen may tell them apart.

import (
	"fmt"
	"testing"
)

const madeRules = `table inet made {
	set met { type ipv4_addr; flags dynamic,timeout; timeout 1h; size 100; }
	set bad { type ipv4_addr . ipv4_addr; flags interval; elements = { 10.1.0.0/28 . 10.2.0.64/28 }; }
	map verdicts { type ipv4_addr : verdict; flags interval; elements = { 10.2.0.16/28 : jump dice, 10.2.0.32/28 : goto limited, 10.2.0.48/28 : drop }; }
	chain dice {
		numgen random mod 3 vmap { 0 : accept, 1 : drop, 2 : continue }
		ip saddr 10.1.0.5 numgen inc mod 2 == 0 drop comment "every other"
		counter
	}
	chain limited {
		limit rate 1/hour burst 2 packets accept
		limit rate over 1/hour burst 1 packets counter
		ip saddr 10.1.0.5 reject with icmp type host-prohibited
	}
	chain forward {
		type filter hook forward priority 0; policy drop;
		ct state established,related accept
		meta mark set meta mark or 0x10
		ip daddr vmap @verdicts
		ip saddr . ip daddr @bad drop
		ip daddr 10.2.0.80/28 add @met { ip saddr } accept
		ip daddr 10.2.0.96/28 ip saddr @met drop
		ip daddr 10.2.0.96/28 accept
		ip daddr 10.2.0.112/28 meta mark and 0x10 == 0x10 fib saddr . iif oif exists goto counted
	}
	chain counted { counter accept comment "the way back is right"; }
}
`

func TestDiceAndMemory(t *testing.T) {
	r := newRouter(t)
	r.c.In("b", "iptables-legacy -A INPUT -j DROP") // so that nothing comes back
	r.run(madeRules, "nft", "-f", "-")
	l := r.listen()
	b := newAsker(t, r.ns)
	for _, src := range []string{"10.1.0.2", "10.1.0.5", "10.1.0.77"} {
		for _, dst := range []int{2, 16, 17, 18, 19, 20, 32, 33, 34, 48, 64, 80, 81, 96, 97, 112} {
			r.send(src, fmt.Sprintf("10.2.0.%d", dst))
		}
	}
	s := newScore()
	for _, x := range l.take() {
		if x.table == "made" {
			s.inferAll(t, b, r.inode(), []*traversal{x})
		}
	}
	t.Log(s)
	if s.total() < 48 || s.exact < 30 || s.alternatives == 0 || s.unknown > 0 || len(s.rules) < 9 {
		t.Errorf("%d packets by %d rules", s.total(), len(s.rules))
	}
}
