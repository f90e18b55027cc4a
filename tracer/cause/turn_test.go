// SPDX-License-Identifier: Apache-2.0

package cause

// What happens when the node changes while packets go on dying the same way.

import (
	"slices"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// ip_error frees what finds no way, whatever the reason: first forwarding is off,
// then the pod's interface is down and its route with it. Both are told, each with its packets.
func TestCauseTurns(t *testing.T) {
	r := madeNode()
	now := time.Now()
	c := New(r, func(line string) { t.Error(line) })
	c.now = func() time.Time { return now }
	id := uint64(0)
	send := func() {
		id++
		p := dead("NOT_SPECIFIED", "ip_error+0x94", func(p *model.Packet) {
			p.Drop.Stage = model.StageRoute
			p.Hops = append(p.Hops, model.Hop{Stage: model.StageRoute, Netns: nodeNS, Route: &model.Route{Error: "EHOSTUNREACH"}})
		})
		p.ID = id
		c.Packet(p)
		now = now.Add(2 * lookAgain)
	}
	sysctls := r.Places[nodeNS].Sysctls
	sysctls["ipv4/ip_forward"], sysctls["ipv4/conf/calia/forwarding"] = "0", "0"
	send()
	send()
	sysctls["ipv4/ip_forward"], sysctls["ipv4/conf/calia/forwarding"] = "1", "1"
	r.Places[nodeNS].Links[3].Up = false
	r.Places[nodeNS].Routes = r.Places[nodeNS].Routes[:3]
	send()
	send()
	send()
	told := map[string][]uint64{}
	for _, f := range c.Findings() {
		told[f.Code] = f.Packets
	}
	if len(told) != 2 || !slices.Equal(told["ip-forward-off"], []uint64{1, 2}) || !slices.Equal(told["interface-down"], []uint64{3, 4, 5}) {
		t.Errorf("told %v", told)
	}
}
