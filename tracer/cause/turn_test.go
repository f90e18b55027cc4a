// SPDX-License-Identifier: Apache-2.0

package cause

// What happens when the node changes while packets go on dying the same way.

import (
	"slices"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node/nodetest"

	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
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

// Rules are kept for a moment, but not when one was seen that is not among them.
func TestLiveRulesWith(t *testing.T) {
	c := nodetest.New(t)
	c.Add("n")
	c.In("n", "iptables-legacy -w -A FORWARD -s 192.0.2.7/32 -j DROP")
	ns, err := node.OpenNamespaces(c.Path("n"))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	live := NewLive(t.Context(), ns)
	kept := func(with *meaning.Rule) int {
		t.Helper()
		sets, err := live.Rules(live.Node(), with)
		if err != nil {
			t.Fatal(err)
		}
		return len(slices.Collect(sets.Legacy.All()))
	}
	if n := kept(nil); n != 1 {
		t.Fatalf("%d rules", n)
	}
	q := question{"rules", live.Node()}
	a := live.kept[q]
	a.until = time.Now().Add(time.Hour)
	live.kept[q] = a
	late := meaning.Rule{Backend: "legacy", Table: "filter", Chain: "FORWARD", Number: 2, Text: "-A FORWARD -s 192.0.2.8/32 -j DROP"}
	c.In("n", "iptables-legacy -w "+late.Text)
	if n := kept(nil); n != 1 {
		t.Errorf("%d rules, want those that are kept", n)
	}
	if n := kept(&late); n != 2 {
		t.Errorf("%d rules, want the one that was seen among them", n)
	}
}
