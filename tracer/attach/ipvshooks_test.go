// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"fmt"
	"slices"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/journey"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// TestIPVSBeforeNAT: IPVS hangs before the nat table in INPUT, with no place for a bracket
// between: what dies there may have died of either.
func TestIPVSBeforeNAT(t *testing.T) {
	nat := node.Hook{Family: "ip", HookNum: journey.LocalIn, Priority: 100, Backend: node.BackendLegacy, Table: "nat", Chain: "INPUT"}
	filter := node.Hook{Family: "ip", HookNum: journey.LocalIn, Backend: node.BackendLegacy, Table: "filter", Chain: "INPUT"}
	v4, v6 := node.VirtualService{Proto: "tcp"}, node.VirtualService{Proto: "tcp", IPv6: true}
	for name, tc := range map[string]struct {
		services []node.VirtualService
		want     []string
	}{
		"a service":            {[]node.VirtualService{v6, v4}, []string{"filter", "ip_vs_out_hook ip_vs_in_hook nat"}},
		"none":                 {nil, []string{"filter", "nat"}},
		"of the other family":  {[]node.VirtualService{v6}, []string{"filter", "nat"}},
		"two of its own count": {[]node.VirtualService{v4, v4}, []string{"filter", "ip_vs_out_hook ip_vs_in_hook nat"}},
	} {
		g, _ := groupByPriority(hooksAt(append([]node.Hook{filter, nat}, ipvsHooks(tc.services)...), "ip", journey.LocalIn))
		var got []string
		for _, group := range g.groups {
			says := ""
			for i, e := range group {
				if i > 0 {
					says += " "
				}
				says += fmt.Sprint(e.Table, e.Function)
			}
			got = append(got, says)
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}
