// SPDX-License-Identifier: Apache-2.0

package plane

// What the kernel here can make is recognised for real in testenv/field (TestPlanes);
// here is what it cannot: other kinds of devices, and what is said of each.

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
	"github.com/pathtrace/pathtrace/tracer/program"
)

const nodeInode, podInode = 100, 200

func TestDevices(t *testing.T) {
	c := nodetest.New(t)
	c.Add("n")
	ns, err := node.OpenNamespaces(c.Path("n"))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	host := []node.Link{{Index: 2, Name: "eth0"}, {Index: 3, Name: "nk0", Kind: "netkit"}, {Index: 4, Name: "vetha", Kind: "veth", Master: 6},
		{Index: 5, Name: "cali1", Kind: "veth"}, {Index: 6, Name: "cni0", Kind: "bridge", VLANFiltering: true}, {Index: 7, Name: "br1", Kind: "bridge"}, {Index: 8, Name: "vethb", Kind: "veth", Master: 7}}
	port := func(own, bridge uint16) []node.BridgePort {
		return []node.BridgePort{{LinkIndex: 4, Bridge: 6, VLANs: []node.PortVLAN{{ID: own, PVID: true}}}, {LinkIndex: 6, Bridge: 6, VLANs: []node.PortVLAN{{ID: bridge}}}}
	}
	of := func(kind, mode string, below int) node.Link {
		return node.Link{Index: 9, Name: "net1", Kind: kind, Mode: mode, PeerIndex: below, PeerNetns: nodeInode}
	}
	for name, tc := range map[string]struct {
		link  node.Link
		ports []node.BridgePort
		kind  string
		says  []string
	}{
		"macvlan":         {link: of("macvlan", "bridge", 2), kind: model.PlaneMacvlan, says: []string{"net1 in netns 200 is a macvlan (mode bridge) on eth0", "no service of the node applies", "addresses on eth0"}},
		"private macvlan": {link: of("macvlan", "private", 2), kind: model.PlaneMacvlan, says: []string{"in mode private nothing from one macvlan to another"}},
		"ipvlan l2":       {link: of("ipvlan", "l2", 2), kind: model.PlaneIPvlan, says: []string{"is an ipvlan (mode l2) on eth0", "past the node's bridges, routing and packet filters"}},
		"ipvlan l3s":      {link: of("ipvlan", "l3s", 2), kind: model.PlaneIPvlan, says: []string{"pass PREROUTING and INPUT of the node"}},
		"vlan":            {link: of("vlan", "", 2), kind: model.PlaneVLAN, says: []string{"net1 in netns 200 is a vlan on eth0"}},
		"on another's":    {link: node.Link{Name: "net1", Kind: "macvlan", PeerIndex: 2, PeerNetns: 300}, kind: model.PlaneMacvlan, says: []string{"on a device that is not this node's"}},
		"the machine's":   {link: node.Link{Index: 9, Name: "net1"}, kind: model.PlaneDevice, says: []string{"net1 in netns 200 is a device of this machine", "of a virtual function"}},
		"netkit":          {link: of("netkit", "l3", 3), kind: model.PlaneNetkit, says: []string{"net1 in netns 200 and nk0 are a netkit pair", "unless a program of the pair"}},
		"veth":            {link: of("veth", "", 5)},
		"veth, no VLANs":  {link: of("veth", "", 8)},
		"dummy":           {link: of("dummy", "", 0)},
		"another VLAN":    {link: of("veth", "", 4), ports: port(10, 1), kind: model.PlaneBridge, says: []string{"vetha is a port of bridge cni0 in VLAN 10, and cni0 itself is not in that VLAN", "bridge-nf-call-iptables=1"}},
		"the bridge's":    {link: of("veth", "", 4), ports: port(10, 10)},
		"in no VLAN":      {link: of("veth", "", 4), ports: []node.BridgePort{{LinkIndex: 4, Bridge: 6}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &search{ns: ns, inode: nodeInode, links: host, ports: tc.ports, on: map[uint32][]int{}}
			if s.ports == nil {
				s.ports = []node.BridgePort{}
			}
			s.device(Src, podInode, &tc.link)
			all := s.planes()
			if tc.kind == "" {
				if len(all) != 0 {
					t.Errorf("told without need: %+v", all)
				}
				return
			}
			if len(all) != 1 || all[0].Kind != tc.kind || !slices.Equal(all[0].Ends, []string{Src}) {
				t.Fatalf("want %s: %+v", tc.kind, all)
			}
			want(t, all[0], tc.says...)
		})
	}
}

// Programs are told under whoever they are named after, in one plane each.
func TestOwners(t *testing.T) {
	s := &search{}
	for i, name := range []string{"cil_from_contai", "cil_to_containe", "cali_tc_preambl", "handle_ingress"} {
		s.program(&program.Program{How: program.TCX, Side: program.Ingress, Where: "eth0", ID: uint32(i + 1), Name: name, Tag: "ab"}, false)
	}
	s.program(&program.Program{How: program.Cgroup, Side: "connect4", Where: "/", ID: 9, Name: "cil_sock4_conne"}, true)
	s.program(&program.Program{How: program.Cgroup, Side: "connect4", Where: "/", ID: 10, Name: "calico_connect_"}, true)
	s.program(&program.Program{How: program.Cgroup, Side: "connect4", Where: "/", ID: 11, Name: "guard"}, true)
	all := s.planes()
	var kinds []string
	for _, p := range all {
		kinds = append(kinds, p.Kind)
	}
	if !slices.Equal(kinds, []string{model.PlaneCilium, model.PlaneCalico, model.PlanePrograms, model.PlaneConnect}) {
		t.Fatalf("planes %q", kinds)
	}
	want(t, all[0], "eBPF program cil_from_contai (id 1, tag ab), tcx ingress of eth0", "cil_sock4_conne", "cilium-dbg monitor -t drop", "see connect()")
	want(t, all[1], "calico-node -bpf counters dump", "some of them see connect()")
	want(t, all[2], "handle_ingress", "whoever loaded it")
	want(t, all[3], "guard", "programs of eBPF see connect()")
	if strings.Contains(strings.Join(all[2].Says, " "), "connect()") || strings.Contains(strings.Join(all[3].Says, " "), "tc-drop") {
		t.Errorf("says what is not so: %+v", all[2:])
	}
}

// Many programs are counted, not listed.
func TestManyPrograms(t *testing.T) {
	s := &search{}
	for i := range 9 {
		s.program(&program.Program{How: program.TCX, Side: program.Ingress, Where: "eth0", ID: uint32(i + 1), Name: "guard"}, false)
	}
	if all := s.planes(); len(all) != 1 || len(all[0].Evidence) != mostEvidence+1 || all[0].Evidence[mostEvidence] != "and 5 more" {
		t.Errorf("%+v", all)
	}
}

// Of a pod with several devices the one that has the address counts.
func TestHolds(t *testing.T) {
	l := node.Link{Addrs: []netip.Prefix{netip.MustParsePrefix("10.9.0.50/24"), netip.MustParsePrefix("fe80::1/64")}}
	for of, is := range map[string]bool{"10.9.0.50/32": true, "10.9.0.0/24": true, "10.9.0.51/32": false} {
		if holds(&l, []netip.Prefix{netip.MustParsePrefix(of)}) != is {
			t.Errorf("%s: want %v", of, is)
		}
	}
	if !holds(&l, nil) || holds(&node.Link{Addrs: l.Addrs[1:]}, nil) {
		t.Error("without addresses asked for, those that are not link-local count")
	}
}

// want looks for words in a plane, and that what is said is said in clauses.
func want(t *testing.T, p model.Plane, words ...string) {
	t.Helper()
	says := strings.Join(append(slices.Clone(p.Evidence), p.Says...), "\n")
	for _, w := range words {
		if !strings.Contains(says, w) {
			t.Errorf("%s lacks %q:\n%s", p.Kind, w, says)
		}
	}
	if len(p.Says) == 0 || len(p.Says) > 3 || strings.Contains(says, "%!") {
		t.Errorf("%s says %q", p.Kind, p.Says)
	}
	for _, s := range p.Says {
		if strings.HasSuffix(s, ".") {
			t.Errorf("%q is a sentence with a full stop", s)
		}
	}
}
