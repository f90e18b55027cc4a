// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// macvlanNode is the made node whose second pod hangs on eth0 by a device of a kind.
func macvlanNode(kind, mode string) *recorded {
	r := madeNode()
	r.Places[nodeNS].Links = slices.DeleteFunc(r.Places[nodeNS].Links, func(l node.Link) bool { return l.Name == "calib" })
	l := &r.Places[otherNS].Links[0]
	l.Name, l.Kind, l.Mode, l.PeerIndex, l.MAC = "net1", kind, mode, 2, "02:00:00:00:00:09"
	l.Addrs = []netip.Prefix{netip.MustParsePrefix("172.30.0.50/24")}
	for _, netns := range []uint32{nodeNS, otherNS} {
		direct := node.Route{Dst: netip.MustParsePrefix("172.30.0.0/24"), LinkIndex: 2, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST}
		r.Places[netns].Routes = append(r.Places[netns].Routes, direct)
	}
	return r
}

var onParent = netip.MustParseAddr("172.30.0.50")

// inVain is a packet that waited in vain for who has the address of its destination.
func inVain(netns uint32, place, iface string, src, dst netip.Addr) *model.Packet {
	return dead("NEIGH_FAILED", "neigh_invalidate+0x1", func(p *model.Packet) {
		p.Src, p.Dst = src, dst
		p.Hops = []model.Hop{{Stage: model.StageNetfilter, Hook: "OUTPUT", Netns: netns, Place: place, Interface: iface, IfIndex: 2}}
		p.Drop.Netns, p.Drop.Place, p.Drop.Interface, p.Drop.IfIndex = netns, place, iface, 2
	})
}

// A macvlan and its parent do not hear each other; anybody else who does not answer is
// not said to be parted, and what a macvlan stands on is no end of a pair that would
// have to answer for others.
func TestParted(t *testing.T) {
	far := netip.MustParseAddr("172.30.0.77")
	for name, tc := range map[string]struct {
		kind, mode string
		packet     *model.Packet
		says       string // "": nothing of the kind
	}{
		"the node asks":        {"macvlan", "bridge", inVain(nodeNS, "node", "eth0", node1, onParent), "ip link add shim link eth0 type macvlan mode bridge; ip link set shim up; ip route add 172.30.0.50/32 dev shim"},
		"the pod asks":         {"macvlan", "bridge", inVain(otherNS, "default/b", "net1", onParent, node1), "ip route add 172.30.0.50/32 dev shim"},
		"ipvlan":               {"ipvlan", "l2", inVain(nodeNS, "node", "eth0", node1, onParent), "type ipvlan mode l2"},
		"macvtap":              {"macvtap", "vepa", inVain(nodeNS, "node", "eth0", node1, onParent), "type macvlan mode vepa"},
		"a VLAN is another's":  {"vlan", "", inVain(nodeNS, "node", "eth0", node1, onParent), ""},
		"who is elsewhere":     {"macvlan", "bridge", inVain(nodeNS, "node", "eth0", node1, far), ""},
		"the pod asks far off": {"macvlan", "bridge", inVain(otherNS, "default/b", "net1", onParent, far), ""},
	} {
		t.Run(name, func(t *testing.T) {
			found := diagnoseAll(t, macvlanNode(tc.kind, tc.mode), tc.packet)
			if len(found) != 1 || found[0].Code != "neighbor-failed" {
				t.Fatalf("want neighbor-failed: %+v", found)
			}
			says := words(found[0])
			if tc.says != "" && (!strings.Contains(says, "its parent, and the kernel hands packets neither") || !strings.Contains(says, tc.says)) {
				t.Errorf("lacks %q: %s", tc.says, says)
			}
			if tc.says == "" && strings.Contains(says, "its parent") {
				t.Errorf("says that they are parted: %s", says)
			}
			if strings.Contains(says, "proxy") {
				t.Errorf("speaks of proxy ARP on the interface below: %s", says)
			}
		})
	}
}

// Where two pods have one address, the interface below a macvlan is not told to be
// deleted.
func TestParentIsNotDeleted(t *testing.T) {
	r := macvlanNode("macvlan", "bridge")
	r.Places[podNS].Links[0].Addrs = r.Places[otherNS].Links[0].Addrs
	found := diagnoseAll(t, r, dead("IP_RPFILTER", "ip_rcv_finish_core+0x1", func(p *model.Packet) { p.Src = onParent }))
	for _, f := range found {
		if strings.Contains(words(f), "ip link del eth0") {
			t.Errorf("would take the uplink away: %s", words(f))
		}
	}
}

// Silence is no proof where something carries packets another way.
func TestUnwatched(t *testing.T) {
	start := &model.Start{Planes: []model.Plane{
		{Kind: model.PlaneMacvlan, Ends: []string{"dst"}, Evidence: []string{"net1 is a macvlan"}, Says: []string{"passed by"}},
		{Kind: model.PlaneCilium, Evidence: []string{"a program", "another"}, Says: []string{"one", "two"}}}}
	if says := unwatched(start); !slices.Equal(says, []string{"what passes there unseen: a program: one; two"}) {
		t.Errorf("says %q", says)
	}
	if says := unwatched(&model.Start{}); says != nil {
		t.Errorf("says %q of nothing", says)
	}
}
