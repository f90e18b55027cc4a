// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"html"
	"net/netip"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/model/recorded"
)

// drawn gives the lanes of stories as one line each: the stations, those at which
// packets died in capitals' stead with a cross.
func drawn(stories []*story, ends ...*model.End) string {
	lanes, _ := lanesOf(stories)
	addGoals(lanes, homes(stories, ends...))
	var lines []string
	for _, l := range lanes {
		words := []string{string(l.direction) + ":"}
		for _, s := range l.stops {
			word := strings.ReplaceAll(s.title, " ", "_")
			if len(s.deaths) > 0 {
				word += "[x]"
			}
			if s.passed == 0 {
				word = "(" + word + ")"
			}
			words = append(words, word)
		}
		lines = append(lines, strings.Join(words, " "))
	}
	return strings.Join(lines, "\n")
}

// A place that was not reached is named truly: the pod whose interface is known,
// what is not on this node, or nothing.
func TestGoals(t *testing.T) {
	dead := packet(1, "x", model.Dropped)
	var c collection
	c.limit = limits()
	c.add(dead)
	address := model.Prefixes{netip.PrefixFrom(server, 32)}
	for _, tc := range []struct {
		end  model.End
		want string
	}{
		{model.End{}, "to be reached: 10.244.1.6"},
		{model.End{Addresses: address}, "to be reached: 10.244.1.6"},
		{model.End{Addresses: address, Interface: "cali1", Netns: 7}, "behind cali1"},
		{model.End{Addresses: address, Interface: "cali1", Netns: 2}, "x"}, // where the packet was before
	} {
		lanes, _ := lanesOf(c.list)
		addGoals(lanes, homes(c.list, &tc.end))
		if last := lanes[0].stops[len(lanes[0].stops)-1]; last.place != tc.want || last.detail != "not reached" {
			t.Errorf("%+v: %s at %s, want %s", tc.end, last.detail, last.place, tc.want)
		}
	}
}

// The ways of packets recorded on real nodes, as their commands and rules make
// them go: through both pods and the node, tunnels in and out, from and to the
// node itself, and to where they died.
func TestWaysRecorded(t *testing.T) {
	for name, want := range map[string]string{
		"calico-nft_rule-drop-return-tcp": "forward: OUTPUT eth0 calia7a3e029a7b PREROUTING routing FORWARD POSTROUTING cali7715d358f22 eth0 routing INPUT delivered\n" +
			"return: OUTPUT eth0 cali7715d358f22 PREROUTING routing FORWARD[x] (192.168.166.129)",
		"calico-legacy_pod-input-drop-icmp": "forward: OUTPUT eth0 calia7a3e029a7b PREROUTING routing FORWARD POSTROUTING cali7715d358f22 eth0 PREROUTING routing INPUT[x]",
		"calico-legacy_calico-rpf-udp":      "forward: OUTPUT eth0 calia7a3e029a7b PREROUTING[x] (192.168.104.1)",
		"flannel-nft_rp-filter-icmp":        "forward: 10.244.2.3 eth0 PREROUTING routing INPUT unwrapped_from_VXLAN flannel.1 PREROUTING routing[x] (10.244.1.3)",
		"calico-legacy_vxlan-blocked-icmp":  "forward: OUTPUT eth0 calia7a3e029a7b PREROUTING routing FORWARD POSTROUTING vxlan.calico wrapped_in_VXLAN OUTPUT[x] (192.168.104.1)",
		"calico-legacy_tunnel-down-tcp":     "forward: OUTPUT eth0 calia7a3e029a7b PREROUTING routing FORWARD POSTROUTING eth0 192.168.104.1",
		"flannel-legacy_vxlan-blocked-return-udp": "forward: OUTPUT eth0 veth849572aa PREROUTING cni0 routing FORWARD POSTROUTING flannel.1 wrapped_in_VXLAN OUTPUT POSTROUTING eth0 10.244.2.3\n" +
			"return: 10.244.2.3 eth0 PREROUTING routing INPUT[x] (10.244.1.2)",
		"calico-legacy_ttl-one-icmp": "forward: OUTPUT eth0 calia7a3e029a7b PREROUTING answers forwarding[x] (192.168.166.130)\n" +
			"return: OUTPUT POSTROUTING calia7a3e029a7b eth0 routing INPUT delivered",
	} {
		w := New(&bytes.Buffer{})
		if err := model.ReadJSON(bytes.NewReader(recorded.Trace(t, "../../tracer/cause/testdata", name)), w); err != nil {
			t.Fatal(err)
		}
		if got := drawn(w.stories.list, &w.start.Src, &w.start.Dst); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
		}
	}
}

// What fentry sees beyond that: bridges, neighbours, queues, a conntrack hop of
// its own, verdicts of whole hooks.
func TestWaysOfHops(t *testing.T) {
	hop := func(stage model.Stage, iface string) model.Hop {
		return model.Hop{Stage: stage, Netns: 1, Place: "node", Interface: iface}
	}
	hook := func(name, table, verdict string) model.Hop {
		h := hop(model.StageNetfilter, "veth1")
		h.Hook, h.Table, h.Verdict = name, table, verdict
		return h
	}
	neighbor := func(state string) model.Hop {
		h := hop(model.StageNeighbor, "cni0")
		h.Neighbor = &model.Neighbor{Address: "10.0.0.2", State: state}
		return h
	}
	full := hop(model.StageQdisc, "eth0")
	full.Result = "NET_XMIT_DROP"
	for _, tc := range []struct {
		name string
		hops []model.Hop
		drop *model.Drop
		want string
	}{
		{"bridge", []model.Hop{hop(model.StageTransmit, "eth0"), hop(model.StageReceive, "veth1"), hop(model.StageBridge, "cni0"), hop(model.StageBridge, "cni0"), hop(model.StageTransmit, "veth2")}, nil,
			"eth0 veth1 bridge veth2"},
		{"one hook", []model.Hop{hop(model.StageTransmit, "eth0"), hook("PREROUTING", "raw", "accept"), hop(model.StageConntrack, "veth1"), hook("PREROUTING", "nat", "accept"), hook("PREROUTING", "", "accept")}, nil,
			"eth0 PREROUTING"},
		{"routine neighbour", []model.Hop{hop(model.StageTransmit, "eth0"), neighbor("reachable"), hop(model.StageTransmit, "veth2")}, nil, "eth0 veth2"},
		{"failed neighbour", []model.Hop{hop(model.StageTransmit, "eth0"), neighbor("failed")}, &model.Drop{Reason: "NEIGH_FAILED", Stage: model.StageNeighbor, Place: "node", Netns: 1}, "eth0 neighbour[x] (10.244.1.6)"},
		{"full queue", []model.Hop{hop(model.StageTransmit, "eth0"), full}, &model.Drop{Reason: "QDISC_DROP", Stage: model.StageQdisc, Place: "node", Netns: 1}, "eth0 queue[x] (10.244.1.6)"},
		{"a hook not told of before", []model.Hop{hop(model.StageTransmit, "eth0")}, &model.Drop{Reason: "NETFILTER_DROP", Hook: "OUTPUT", Place: "node", Netns: 1}, "eth0 OUTPUT[x] (10.244.1.6)"},
		{"no hop", nil, &model.Drop{Reason: "NOT_SPECIFIED", Place: "node", Netns: 1}, "dies_here the_kernel[x] (10.244.1.6)"},
		{"nothing known", nil, &model.Drop{}, "dies_here the_kernel[x] (10.244.1.6)"},
	} {
		p := packet(1, "x", model.Consumed)
		p.Hops = tc.hops
		if p.Drop = tc.drop; p.Drop != nil {
			p.Outcome = model.Dropped
		}
		var c collection
		c.limit = limits()
		c.add(p)
		if got := strings.TrimPrefix(drawn(c.list), "forward: "); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

// TestTunnelLayers: of each kind of tunnel both layers are on the page, in the drawing and
// in the list of hops; of a death what it was inside; of IPVS that it was IPVS.
func TestTunnelLayers(t *testing.T) {
	hop := func(stage model.Stage, iface string) model.Hop {
		return model.Hop{Stage: stage, Netns: 1, Place: "node", Interface: iface}
	}
	near, far := netip.MustParseAddr("172.30.0.1"), netip.MustParseAddr("172.30.0.2")
	for _, kind := range []string{"vxlan", "geneve", "gre", "ipip", "sit", "ip6tnl", "wireguard"} {
		outer := &model.Tunnel{Kind: kind, Src: near, Dst: far}
		encap, decap, hook, nat := hop(model.StageEncapsulate, "t0"), hop(model.StageDecapsulate, "t0"), hop(model.StageNetfilter, "eth0"), hop(model.StageNAT, "eth0")
		encap.Tunnel, decap.Tunnel = outer, &model.Tunnel{Kind: kind, Src: far, Dst: near}
		hook.Hook, hook.Table, hook.Verdict = "PREROUTING", "raw", "accept"
		nat.Before, nat.After, nat.NATBy = &model.Endpoints{Src: client, Dst: netip.MustParseAddr("10.96.0.10"), DstPort: 80}, &model.Endpoints{Src: client, Dst: server, DstPort: 8080}, model.ByIPVS
		out, in := packet(1, "x", model.Dropped), packet(2, "x", model.Delivered)
		out.Hops = []model.Hop{hop(model.StageReceive, "cali1"), nat, hop(model.StageTransmit, "t0"), encap, hop(model.StageDrop, "eth0")}
		out.Drop = &model.Drop{Reason: "NETFILTER_DROP", Hook: "OUTPUT", Interface: "eth0", Netns: 1, Place: "node", Tunnel: outer}
		in.Hops = []model.Hop{hop(model.StageReceive, "eth0"), hook, decap, hop(model.StageReceive, "t0"), hop(model.StageDeliver, "t0")}
		var page bytes.Buffer
		w := New(&page)
		play(t, w, "x", out, in)
		want := "forward: 10.244.1.5 cali1 NAT t0 wrapped_in_" + strings.ToUpper(kind) + " OUTPUT[x]\nforward: 10.244.1.5 eth0 PREROUTING unwrapped_from_" + strings.ToUpper(kind) + " t0 delivered"
		if got := drawn(w.stories.list); got != want {
			t.Errorf("%s is drawn\n%s\nwant\n%s", kind, got, want)
		}
		flat := strings.Join(strings.Fields(html.UnescapeString(page.String())), " ")
		for _, says := range []string{"<dt>inside</dt><dd>" + kind, "encapsulate " + kind, "decapsulate " + kind, "outer 172.30.0.1 > 172.30.0.2", "outer 172.30.0.2 > 172.30.0.1", "by ipvs"} {
			if !strings.Contains(strings.ToLower(flat), says) {
				t.Errorf("%s: the page does not say %q", kind, says)
			}
		}
	}
}

// Packets that went one way and ended at different points of it share a lane; a
// way that parts from it is another.
func TestLanesShare(t *testing.T) {
	var c collection
	c.limit = limits()
	arrived, dropped, elsewhere := packet(1, "x", model.Delivered), packet(2, "x", model.Dropped), packet(3, "x", model.Delivered)
	arrived.Hops = append(arrived.Hops, model.Hop{Stage: model.StageDeliver, Netns: 1, Place: "node"})
	elsewhere.Hops[1].Interface = "other"
	for _, p := range []*model.Packet{arrived, dropped, elsewhere} {
		c.add(p)
	}
	want := "forward: x x routing FORWARD[x] delivered\nforward: x other routing FORWARD"
	if got := drawn(c.list); got != want {
		t.Errorf("drawn:\n%s\nwant\n%s", got, want)
	}
}
