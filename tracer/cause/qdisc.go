// SPDX-License-Identifier: Apache-2.0

package cause

// Which queueing discipline it was that had no room.

import "fmt"

// queueing names those of the interface that the packet died on, with the rate of a
// shaper.
func queueing(q *inquiry) (says []string) {
	all, err := q.state.Qdiscs(q.d.Netns)
	q.gap(err)
	for _, d := range all {
		if d.LinkIndex != int(q.d.IfIndex) {
			continue
		}
		line := fmt.Sprintf("tc qdisc: %s dev %s", d.Kind, q.d.Interface)
		if d.Root {
			line += " root"
		}
		if d.Rate != 0 {
			line += " rate " + bitRate(d.Rate)
		}
		says = append(says, line)
	}
	return says
}

// bitRate is a rate as tc prints it: it divides by 1000 as long as nothing is lost.
func bitRate(bits uint64) string {
	units := []string{"bit", "Kbit", "Mbit", "Gbit", "Tbit"}
	i := 0
	for ; bits%1000 == 0 && bits > 0 && i < len(units)-1; i++ {
		bits /= 1000
	}
	return fmt.Sprint(bits, units[i])
}
