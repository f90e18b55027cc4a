// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"errors"
	"fmt"
	"slices"
	"strings"
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

// lister is a namespace's hooks as its kernel tells them.
type lister struct {
	all      []node.Hook
	noDump   bool
	services []node.VirtualService
	failed   error // IPVS could not be asked
}

func (l lister) Hooks(uint32) ([]node.Hook, error) {
	if l.noDump {
		return nil, fmt.Errorf("list: %w", node.ErrNoHookDump)
	}
	return l.all, nil
}

func (l lister) KnownHooks(uint32) ([]node.Hook, error) { return l.all, nil }

func (l lister) VirtualServices(uint32) ([]node.VirtualService, error) { return l.services, l.failed }

// TestIPVSNotToBeAsked: that it is not known whether IPVS hangs there is told, and the
// brackets stand as if it did not.
func TestIPVSNotToBeAsked(t *testing.T) {
	failed, service := errors.New("no answer"), []node.VirtualService{{Proto: "tcp"}}
	filter := []node.Hook{{Family: "ip", HookNum: journey.LocalIn, Backend: node.BackendLegacy, Table: "filter", Chain: "INPUT"}}
	for name, tc := range map[string]struct {
		from   lister
		ipvs   bool
		unsure bool
	}{
		"asked":                    {lister{filter, true, service, nil}, true, false},
		"no IPVS":                  {lister{filter, true, nil, nil}, false, false},
		"not to be asked":          {lister{filter, true, nil, failed}, false, true},
		"the kernel lists its own": {lister{filter, false, nil, failed}, false, false},
	} {
		hooks, unsure, err := listHooks(tc.from, 1)
		ipvs := slices.ContainsFunc(hooks, func(h node.Hook) bool { return h.Function == ipvsTakes })
		if err != nil || ipvs != tc.ipvs || (unsure != nil) != tc.unsure || !slices.Contains(hooks, filter[0]) {
			t.Errorf("%s: IPVS %v, unsure %v, %v; hooks %v", name, ipvs, unsure, err, hooks)
		}
		if unsure == nil {
			continue
		}
		if m := unknownIPVS("node", unsure); m.Hook != "IPVS's netfilter hooks in node" || !strings.HasPrefix(m.Why, "no answer; without them not told apart there: ") {
			t.Errorf("%s: told as %+v", name, m)
		}
	}
}
