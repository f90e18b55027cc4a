// SPDX-License-Identifier: Apache-2.0

package node

import (
	"slices"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

// A pod with a macvlan on a device of the node is the node's; one with a macvlan on
// another node's device, and one with nothing, is not.
func TestPeerless(t *testing.T) {
	c := nodetest.New(t)
	c.Add("n", "far", "mine", "other", "bare")
	c.In("n", "ip link add eth0 type veth peer name eth0 netns @far", "ip addr add 10.99.0.1/24 dev eth0", "ip link set eth0 up",
		"ip link add name up1 link eth0 type macvlan mode bridge", "ip link set up1 netns @mine name net1")
	c.In("far", "ip link set eth0 up", "ip link add name up2 link eth0 type macvlan mode vepa", "ip link set up2 netns @other name net1")
	n, err := OpenNamespaces(c.Path("n"))
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for name, want := range map[string]bool{"mine": true, "other": false, "bare": false, "far": false} {
		if got := slices.Contains(n.Members(), c.Inode(name)); got != want || n.Belongs(c.Inode(name)) != want {
			t.Errorf("%s belongs to the node: %v, want %v", name, got, want)
		}
	}
	for name, mode := range map[string]string{"mine": "bridge", "other": "vepa"} {
		links, err := n.Links(c.Inode(name))
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(links, func(l Link) bool { return l.Name == "net1" })
		l := links[i]
		if !Stacked(l.Kind) || l.Paired() || l.Physical() || l.Mode != mode || (l.PeerNetns == c.Inode("n")) != (name == "mine") {
			t.Errorf("net1 of %s: %+v", name, l)
		}
	}
	c.In("mine", "ip link del net1")
	if err := n.Refresh(); err != nil {
		t.Fatal(err)
	}
	if n.Belongs(c.Inode("mine")) {
		t.Error("its macvlan is gone, and it still belongs to the node")
	}
}

// What kinds of devices are is told by the kernel's names alone.
func TestKindsOfLinks(t *testing.T) {
	for _, tc := range []struct {
		l                        Link
		paired, stacked, machine bool
	}{
		{Link{Kind: "veth"}, true, false, false}, {Link{Kind: "netkit"}, true, false, false},
		{Link{Kind: "macvlan"}, false, true, false}, {Link{Kind: "ipvlan"}, false, true, false}, {Link{Kind: "vlan"}, false, true, false},
		{Link{}, false, false, true}, {Link{Loopback: true}, false, false, false}, {Link{Kind: "dummy"}, false, false, false},
	} {
		if tc.l.Paired() != tc.paired || Stacked(tc.l.Kind) != tc.stacked || tc.l.Physical() != tc.machine {
			t.Errorf("%q: paired %v, stacked %v, physical %v", tc.l.Kind, tc.l.Paired(), Stacked(tc.l.Kind), tc.l.Physical())
		}
	}
}
