// SPDX-License-Identifier: Apache-2.0

package cause

// Fragments that find no room to wait for the others of their packet: sysctl-drop.

import (
	"fmt"
	"strconv"
	"strings"
)

// fragmentRooms are the limits of the memory that fragments take while they wait, by who
// puts them together (inet_frag_find, net/ipv4/inet_fragment.c, 6.12: with a limit of 0, or
// with more in use than it, there is no new queue).
var fragmentRooms = []struct {
	functions []string
	sysctl    string // below net/
	stat      string // of /proc/net, with the line of what is in use
	line      string
}{
	{[]string{"ip_defrag*", "ip_frag*"}, "ipv4/ipfrag_high_thresh", "sockstat", "FRAG:"},
	{[]string{"nf_ct_frag6*", "nf_defrag*"}, "netfilter/nf_conntrack_frag6_high_thresh", "", ""},
	{[]string{"ipv6_frag*", "ip6_frag*"}, "ipv6/ip6frag_high_thresh", "sockstat6", "FRAG6:"},
}

// fragmentRoom is what the limit is by itself (4 MB, net/ipv4/ip_fragment.c, net/ipv6.h).
const fragmentRoom = 4 << 20

// noFragmentRoom: a fragment was dropped since none may wait.
func noFragmentRoom(q *inquiry) *claim {
	if !q.p.Outcome.Died() || !q.because("NOT_SPECIFIED", "") {
		return nil
	}
	for _, room := range fragmentRooms {
		if !q.in(room.functions...) {
			continue
		}
		limit, ok := q.sysctl(q.d.Netns, room.sysctl)
		if !ok {
			return nil
		}
		used := q.fragmentsUse(room.stat, room.line)
		if limit > 0 && used <= limit {
			return nil
		}
		name := "net." + strings.ReplaceAll(room.sysctl, "/", ".")
		c := &claim{subject: name, evidence: []string{q.died(), fmt.Sprintf("%s = %d: how many bytes fragments may take while they wait for the others of their packet", name, limit)}}
		c.summary = fmt.Sprintf("it is a fragment, and %s has no room for one to wait for the others of its packet: %s is %d", q.place(), name, limit)
		if limit > 0 {
			c.summary = fmt.Sprintf("it is a fragment, and those that wait for the others of their packets take all the room that %s has for them: %d bytes of %d (%s)", q.place(), used, limit, name)
			c.evidence = append(c.evidence, fmt.Sprintf("/proc/net/%s: %s memory %d", room.stat, room.line, used))
		}
		c.missing = []string{"the kernel's own word: it gives no reason for this, and the limit was read right after the packet died"}
		c.fix = []string{fmt.Sprintf("sysctl -w %s=%d (what it is by itself), and see what sets it: /etc/sysctl.d, a hardening script", name, max(fragmentRoom, 2*limit)),
			"see how many are lost so: nstat -az IpReasmFails Ip6ReasmFails, in " + q.place(),
			"better no fragments at all: send datagrams that fit the MTU, or see what makes the way's MTU so small"}
		return c
	}
	return nil
}

// fragmentsUse is how many bytes fragments take now; 0 where that is not told.
func (q *inquiry) fragmentsUse(stat, begins string) int {
	if stat == "" {
		return 0
	}
	text, err := q.state.Proc(q.d.Netns, stat)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 4 && f[0] == begins {
			used, _ := strconv.Atoi(f[4]) // a number, as the kernel prints it
			return used
		}
	}
	return 0
}
