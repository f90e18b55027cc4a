// SPDX-License-Identifier: Apache-2.0

package evidence

// Statements about exchanges that were answered, or too late, beside others that were not.

import (
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
)

var orderStatements = []statement{
	{regexp.MustCompile(`^(\d+) of (\d+) (?:connections|exchanges) \((\w+)\) to (\S+) were answered$`), answeredOf},
	{regexp.MustCompile(`^#(\d+) came ([\d.]+) s after the last packet to (\S+)$`), cameAfter},
	{regexp.MustCompile(`^ip -6 addr: (\S+) of .+ has no global address$`), hasNoGlobal},
	{regexp.MustCompile(`^tc filter: mirred redirect to (\S+), (ingress|egress) of (\S+)$`), redirectsTo},
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

// cameAfter measures the time between a packet and the last before it that went to an
// address.
func cameAfter(c *Court, m []string, _ model.Finding) string {
	p, ok := c.packet(m[1])
	if !ok {
		return "there is no such packet"
	}
	said, err := strconv.ParseFloat(m[2], 64)
	if err != nil {
		return err.Error()
	}
	var last time.Time
	for _, other := range c.packets {
		far := netip.AddrPortFrom(other.Dst, other.DstPort)
		if far.String() == m[3] && other.Time.Before(p.Time) && other.Time.After(last) {
			last = other.Time
		}
	}
	if after := p.Time.Sub(last).Seconds(); last.IsZero() || math.Abs(after-said) > 0.1 {
		return fmt.Sprintf("it came after %.2f s", after)
	}
	return ""
}

// hasNoGlobal: there is a place whose interface of that name has none.
func hasNoGlobal(c *Court, m []string, _ model.Finding) string {
	for _, in := range c.places {
		if c.run(in, "ip", "-o", "link", "show", "dev", m[1]) != "" && c.run(in, "ip", "-6", "-o", "addr", "show", "dev", m[1], "scope", "global") == "" {
			return ""
		}
	}
	return "ip -6 addr shows one everywhere"
}

func redirectsTo(c *Court, m []string, _ model.Finding) string {
	if !c.anywhere(func(says string) bool {
		return strings.Contains(says, "Redirect to device "+m[1]+")")
	}, "tc", "filter", "show", "dev", m[3], m[2]) {
		return "tc filter of no place shows such an action"
	}
	return ""
}
