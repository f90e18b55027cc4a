// SPDX-License-Identifier: Apache-2.0

package meaning

// This file reads off a packet the rules that it met.

import "github.com/pathtrace/pathtrace/tracer/model"

// RuleOf gives a packet's rule as it is explained here.
func RuleOf(backend string, r model.Rule) Rule {
	m := Rule{Backend: backend, Family: r.Family, Table: r.Table, Chain: r.Chain, Number: r.Number, Text: r.Text, Element: r.Element}
	if r.Comment != "" {
		m.Comments = []string{r.Comment}
	}
	return m
}

// WayTo lists the rules that a packet met in the namespace it died in, the one
// that decided last: marks are set in one table and tested in another. The packet
// must have died by a rule.
func WayTo(p *model.Packet) []Rule {
	var way []Rule
	for i := range p.Hops {
		if h := &p.Hops[i]; h.Netns == p.Drop.Netns {
			for _, r := range h.Rules {
				way = append(way, RuleOf(h.Backend, r))
			}
		}
	}
	last := RuleOf(p.Drop.Backend, *p.Drop.Rule)
	if n := len(way); n == 0 || way[n-1].Chain != last.Chain || way[n-1].Number != last.Number || way[n-1].Table != last.Table {
		way = append(way, last)
	}
	return way
}
