// SPDX-License-Identifier: Apache-2.0

package cause

// A tc action that hands packets to another interface: where that one is down, or gone, it
// drops them (tcf_mirred_to_dev, tcf_mirred_act: net/sched/act_mirred.c, 5.17 to 6.18).

import (
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/program"
)

// redirectsAmiss tells a filter that hands packets to an interface which takes none.
func (q *inquiry) redirectsAmiss(p *program.Program) bool {
	if p.Redirect == 0 || p.Where != q.d.Interface {
		return false
	}
	l := q.link(q.d.Netns, p.Redirect)
	return l == nil || !l.Up || !l.Carrier
}

func (q *inquiry) tellRedirect(c *claim, p *program.Program, where string) {
	l := q.link(q.d.Netns, p.Redirect)
	if l == nil {
		c.summary = fmt.Sprintf("%s on %s hands it to an interface that is gone (index %d), and so drops it", p.Thing(), where, p.Redirect)
		c.missing = append(c.missing, "which interface that was")
		c.fix = append(c.fix, "have whoever wrote the filter (a CNI bandwidth plugin, a shaper) write it again, with the interface: make the pod again")
		return
	}
	state := "is set down"
	if l.Up {
		state = "has no carrier"
	}
	c.summary = fmt.Sprintf("%s on %s hands it to %s (mirred redirect), which %s: what is handed to such an interface is dropped", p.Thing(), where, l.Name, state)
	c.evidence = append(c.evidence, fmt.Sprintf("tc filter: mirred redirect to %s, %s", l.Name, p.At()), "ip link: "+linkWords(l))
	if !l.Up {
		c.fix = append(c.fix, q.inPlace("ip link set "+l.Name+" up"))
		q.whoSetDown(c, q.d.Netns, l)
	}
	c.fix = append(c.fix, "see what "+l.Name+" is for: ip -d link show dev "+l.Name+"; a CNI bandwidth plugin, or a shaper, makes an ifb so")
}
