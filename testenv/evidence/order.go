// SPDX-License-Identifier: Apache-2.0

package evidence

// Statements about exchanges that were answered, or too late, beside others that were not.

import (
	"fmt"
	"net/netip"
	"regexp"

	"github.com/pathtrace/pathtrace/tracer/model"
)

var orderStatements = []statement{
	{regexp.MustCompile(`^(\d+) of (\d+) (?:connections|exchanges) \((\w+)\) to (\S+) were answered$`), answeredOf},
}

// answeredOf counts the flows to an address by their source, and those that something came
// back to.
func answeredOf(c *Court, m []string, _ model.Finding) string {
	asked, answered := make(map[netip.AddrPort]bool), make(map[netip.AddrPort]bool)
	for _, p := range c.packets {
		if p.Proto != m[3] {
			continue
		}
		near, far := netip.AddrPortFrom(p.Src, p.SrcPort), netip.AddrPortFrom(p.Dst, p.DstPort)
		is := asked
		if p.Direction == model.Return {
			near, far, is = far, near, answered
			for _, h := range p.Hops { // a masquerade undone
				if h.After != nil {
					near = netip.AddrPortFrom(h.After.Dst, h.After.DstPort)
				}
			}
		}
		if p.ICMPID != 0 {
			near = netip.AddrPortFrom(near.Addr(), p.ICMPID)
		}
		if far.String() == m[4] || far.Addr().String() == m[4] {
			is[near] = true
		}
	}
	well := 0
	for near := range asked {
		if answered[near] {
			well++
		}
	}
	if fmt.Sprint(well) != m[1] || fmt.Sprint(len(asked)) != m[2] {
		return fmt.Sprintf("%d of %d were", well, len(asked))
	}
	return ""
}
