// SPDX-License-Identifier: Apache-2.0

package cause

// What changed under the trace: findings name it and who did it, each with a
// twin in which the change had no part in it.

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// deathTime is when the packets of these tests die.
var deathTime = time.Date(2025, 6, 3, 12, 0, 10, 0, time.UTC)

func when(ms int) time.Time { return deathTime.Add(time.Duration(ms) * time.Millisecond) }

var script = &model.By{PID: 812, Comm: "netscript", ParentPID: 1, Parent: "systemd"}

// turned is calib set up or down.
func turned(ms int, what string, by *model.By, routes ...netip.Prefix) model.NodeEvent {
	text := "calib set " + strings.ToUpper(strings.TrimPrefix(what, "link-"))
	return model.NodeEvent{Time: when(ms), Precise: by != nil, What: what, Object: "calib", Netns: nodeNS, IfIndex: 5, By: by, Routes: routes, Text: text}
}

// rerouted is the route to pod B added or deleted.
func rerouted(ms int, what string, protocol uint8, by *model.By) model.NodeEvent {
	p := netip.PrefixFrom(podB, 32)
	return model.NodeEvent{Time: when(ms), Precise: by != nil, What: what, Object: p.String(), Prefix: p, Netns: nodeNS, IfIndex: 5, Protocol: protocol, By: by,
		Text: "route " + p.String() + " dev calib " + strings.TrimPrefix(what, "route-")}
}

// ended is the end of calico-node by a signal.
func ended(ms int) model.NodeEvent {
	return model.NodeEvent{Time: when(ms), Precise: true, What: model.ProcessExit, Object: "calico-node", PID: 77, Signal: "SIGKILL", By: &model.By{PID: 99, Comm: "node-upgrade"}, Netns: nodeNS,
		Text: "calico-node (pid 77) was ended by SIGKILL from node-upgrade (pid 99)"}
}

// eaten is a packet to pod B that found no route but the blackhole.
func eaten() *model.Packet {
	return dead("NOT_SPECIFIED", "ip_error+0x94", func(p *model.Packet) {
		p.Time = deathTime
		p.Drop.Stage = model.StageRoute
		p.Hops = append(p.Hops, model.Hop{Stage: model.StageRoute, Netns: nodeNS, Place: "node", Interface: "calia", IfIndex: 4, Route: &model.Route{Type: "blackhole", Error: "EINVAL"}})
	})
}

// withoutRoute is the node with Calico's blackhole in place of pod B's route.
func withoutRoute() *recorded {
	r := madeNode()
	p := r.Places[nodeNS]
	p.Routes = append(p.Routes[:3:3], node.Route{Dst: netip.MustParsePrefix("10.244.1.0/26"), Table: unix.RT_TABLE_MAIN, Type: unix.RTN_BLACKHOLE, Protocol: protoFelix})
	return r
}

func TestChangesInFindings(t *testing.T) {
	route := netip.PrefixFrom(podB, 32)
	bird := &model.By{PID: 77, Comm: "bird"}
	forwarding := model.NodeEvent{Time: when(-500), Precise: true, What: model.SysctlChanged, Object: "net.ipv4.ip_forward", Netns: nodeNS, By: script, Text: "net.ipv4.ip_forward set to 0 by netscript (pid 812)"}
	off := madeNode()
	off.Places[nodeNS].Sysctls["ipv4/ip_forward"] = "0"
	notForwarded := dead("IP_INADDRERRORS", "ip_error+0x94", func(p *model.Packet) { p.Time = deathTime })
	rules := model.NodeEvent{Time: when(-500), What: model.RulesetChanged, Object: "legacy ip filter", Netns: nodeNS, By: script, Text: "rules of legacy ip filter replaced by netscript (pid 812)"}
	other := rules
	other.Object = "legacy ip nat"
	ruled := func() *model.Packet {
		return dead("NETFILTER_DROP", "nf_hook_slow+0x1", func(p *model.Packet) {
			p.Time = deathTime
			byRule("FORWARD", "-A FORWARD -s 10.244.1.2/32 -j DROP", "")(p)
		})
	}
	for name, tc := range map[string]struct {
		state  *recorded
		events []model.NodeEvent
		packet *model.Packet
		code   string
		sure   string
		says   []string
		not    string
	}{
		"down then, up by now": {madeNode(), []model.NodeEvent{turned(-50, model.LinkDown, script, route), turned(50, model.LinkUp, script)}, eaten(),
			"interface-down", Certain, []string{"calib of this node was set down by netscript (pid 812)", "up again by now", "netscript (pid 812, started by systemd)"}, "not known"},
		"flaps": {madeNode(), []model.NodeEvent{turned(-250, model.LinkDown, script, route), turned(-150, model.LinkUp, script), turned(-50, model.LinkDown, script), turned(50, model.LinkUp, script)}, eaten(),
			"interface-down", Certain, []string{"set down again and again by netscript (pid 812)", "2 times and UP 2 times"}, "not known"},
		"down, by nobody that was seen": {madeNode(), []model.NodeEvent{turned(-50, model.LinkDown, nil, route), turned(500, model.LinkUp, nil)}, eaten(),
			"interface-down", Certain, []string{"who set it down: once that could not be seen with this backend"}, "netscript"},
		"just down, by our reading": {madeNode(), []model.NodeEvent{turned(5, model.LinkDown, nil, route), turned(50, model.LinkUp, nil)}, eaten(),
			"interface-down", Likely, []string{"that it was down already when the packet died"}, ""},
		"up then, its route not back": {withoutRoute(), []model.NodeEvent{turned(-100, model.LinkDown, script, route), turned(-50, model.LinkUp, script)}, eaten(),
			"interface-down", Certain, []string{"the route to 10.244.1.3 went with it and is not back", "set down by netscript (pid 812)"}, ""},
		"up then, its route back and deleted": {withoutRoute(), []model.NodeEvent{turned(-100, model.LinkDown, script, route), turned(-50, model.LinkUp, script), rerouted(-40, model.RouteAdded, 80, bird), rerouted(-30, model.RouteDeleted, 80, bird)}, eaten(),
			"blackhole-route", Certain, []string{"bird (pid 77) deleted the route 10.244.1.3/32 at 12:00:09.970"}, "netscript"},
		"set down after the death": {withoutRoute(), []model.NodeEvent{turned(50, model.LinkDown, script, route), turned(90, model.LinkUp, script)}, eaten(),
			"blackhole-route", Certain, nil, "netscript"},
		"an agent killed, its route gone": {withoutRoute(), []model.NodeEvent{ended(-300), rerouted(-200, model.RouteDeleted, protoBIRD, bird)}, eaten(),
			"calico-node-restart", Certain, []string{"calico-node (pid 77) was ended by SIGKILL from node-upgrade (pid 99)", "routes that went: 10.244.1.3/32", "see why node-upgrade ends it"}, "not known"},
		"an agent killed, a route of others gone": {withoutRoute(), []model.NodeEvent{ended(-300), rerouted(-200, model.RouteDeleted, 3, script)}, eaten(),
			"calico-node-restart", Likely, []string{"not known: that the route went because of it"}, ""},
		"an agent killed, its route back": {withoutRoute(), []model.NodeEvent{ended(-300), rerouted(-200, model.RouteDeleted, protoBIRD, bird), rerouted(-100, model.RouteAdded, protoBIRD, bird)}, eaten(),
			"blackhole-route", Certain, nil, "calico-node (pid"},
		"an agent killed long before": {withoutRoute(), []model.NodeEvent{ended(-60000), rerouted(-200, model.RouteDeleted, protoBIRD, bird)}, eaten(),
			"blackhole-route", Certain, []string{"bird (pid 77) deleted"}, "calico-node (pid"},
		"forwarding switched off":    {off, []model.NodeEvent{forwarding}, notForwarded, "ip-forward-off", Certain, []string{"12:00:09.500 net.ipv4.ip_forward set to 0 by netscript (pid 812)"}, ""},
		"a rule that has just come":  {madeNode(), []model.NodeEvent{rules}, ruled(), "rule-drop", Certain, []string{"12:00:09.500 rules of legacy ip filter replaced by netscript (pid 812)"}, ""},
		"another table that changed": {madeNode(), []model.NodeEvent{other}, ruled(), "rule-drop", Certain, nil, "netscript"},
	} {
		found := diagnoseChanged(t, tc.state, tc.events, tc.packet)
		if len(found) != 1 || found[0].Code != tc.code || found[0].Confidence != tc.sure {
			t.Errorf("%s: told %+v, want %s, %s", name, found, tc.code, tc.sure)
			continue
		}
		text := words(found[0]) + strings.Join(found[0].Fix, "\n")
		for _, says := range tc.says {
			if !strings.Contains(text, says) {
				t.Errorf("%s: does not say %q:\n%s", name, says, text)
			}
		}
		if tc.not != "" && strings.Contains(text, tc.not) {
			t.Errorf("%s: says %q:\n%s", name, tc.not, text)
		}
	}
}

// diagnoseChanged tells the changes before the packets, as a trace does.
func diagnoseChanged(t *testing.T, state State, events []model.NodeEvent, packets ...*model.Packet) []model.Finding {
	t.Helper()
	c := New(state, func(line string) { t.Errorf("could not be asked: %s", line) })
	c.Start(&model.Start{Type: model.TypeStart, Src: model.End{Given: "a", Netns: podNS}, Dst: model.End{Given: podB.String()}})
	for i := range events {
		c.Node(&events[i])
	}
	for i, p := range packets {
		p.ID = uint64(i + 1)
		c.Packet(p)
	}
	return c.Findings()
}

// A packet may be told before the change that it died of.
func TestChangesToldLate(t *testing.T) {
	route := netip.PrefixFrom(podB, 32)
	for name, tc := range map[string]struct {
		events []model.NodeEvent
		code   string
	}{
		"down then":           {[]model.NodeEvent{turned(-50, model.LinkDown, script, route), turned(50, model.LinkUp, script)}, "interface-down"},
		"its route went":      {[]model.NodeEvent{turned(-90, model.LinkDown, script, route), turned(-50, model.LinkUp, script)}, "interface-down"},
		"an agent was killed": {[]model.NodeEvent{ended(-300), rerouted(-200, model.RouteDeleted, protoBIRD, nil)}, "calico-node-restart"},
		"down, read late":     {[]model.NodeEvent{turned(100, model.LinkDown, nil, route), turned(105, model.LinkUp, nil)}, "interface-down"},
		"down only later":     {[]model.NodeEvent{turned(50, model.LinkDown, script, route)}, "blackhole-route"},
	} {
		c := New(withoutRoute(), func(line string) { t.Errorf("could not be asked: %s", line) })
		c.Start(&model.Start{Type: model.TypeStart, Src: model.End{Given: "a", Netns: podNS}, Dst: model.End{Given: podB.String()}})
		c.Packet(eaten())
		for i := range tc.events {
			c.Node(&tc.events[i])
		}
		if found := c.Findings(); len(found) != 1 || found[0].Code != tc.code {
			t.Errorf("%s: told %+v, want %s", name, found, tc.code)
		}
	}
}

// Changes that cost no packet are no finding.
func TestChangesWithoutLoss(t *testing.T) {
	events := []model.NodeEvent{ended(-300), rerouted(-200, model.RouteDeleted, protoBIRD, nil), turned(-100, model.LinkDown, script), turned(-50, model.LinkUp, script)}
	if found := diagnoseChanged(t, madeNode(), events, arrived()); len(found) > 0 {
		t.Errorf("told %+v", found)
	}
}

// Where there is a default route, packets without a route of their own leave by
// it.
func TestRouteAstray(t *testing.T) {
	gone := model.NodeEvent{Time: when(-200), Precise: true, What: model.RouteDeleted, Object: "10.244.2.0/24", Prefix: netip.MustParsePrefix("10.244.2.0/24"), Netns: nodeNS, IfIndex: 3, Protocol: protoBIRD,
		By: script, Text: "route 10.244.2.0/24 via 10.244.2.0 dev vxlan.calico deleted by netscript (pid 812)"}
	strayed := func(index uint32) *model.Packet {
		return leaving(func(p *model.Packet) {
			p.Time, p.Dst = deathTime, remote
			p.Hops = append(p.Hops, model.Hop{Stage: model.StageRoute, Netns: nodeNS, Place: "node", Route: &model.Route{Interface: "eth0", IfIndex: index}})
		})
	}
	for name, tc := range map[string]struct {
		events []model.NodeEvent
		index  uint32
		code   string
		says   string
	}{
		"deleted":              {[]model.NodeEvent{gone}, 2, "no-route", "deleted by netscript (pid 812), and packets to 10.244.2.3 leave by a shorter one"},
		"deleted at a restart": {[]model.NodeEvent{ended(-300), gone}, 2, "calico-node-restart", "needed for packets to 10.244.2.3, went with it"},
		"another way as good":  {[]model.NodeEvent{gone}, 3, "left-node", ""},
		"nothing changed":      {nil, 2, "left-node", ""},
	} {
		found := diagnoseChanged(t, madeNode(), tc.events, strayed(tc.index))
		if len(found) != 1 || found[0].Code != tc.code || !strings.Contains(words(found[0]), tc.says) {
			t.Errorf("%s: told %+v, want %s: %q", name, found, tc.code, tc.says)
		}
	}
}

// A node that changes for ever takes no more memory than one that changes often.
func TestHistoryIsBounded(t *testing.T) {
	h := newHistory()
	for i := range 100000 {
		e := turned(i, []string{model.LinkDown, model.LinkUp}[i%2], &model.By{PID: uint32(i), Comm: "ip"})
		e.IfIndex = uint32(i/2%(2*maxTurns)) + 1
		h.note(&e)
	}
	if len(h.changes) > maxChanges || len(h.turns) > maxTurns {
		t.Errorf("%d changes and %d links are kept", len(h.changes), len(h.turns))
	}
	for _, turns := range h.turns {
		if len(turns.doers) > maxDoers || turns.down != turns.up || turns.down == 0 {
			t.Fatalf("kept %+v", turns)
		}
	}
}
