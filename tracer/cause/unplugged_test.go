// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// master gives a port of the bridge another one; 0: none.
func master(name string, index int) func(*recorded) {
	return ofNode(func(p *recordedPlace) {
		for i := range p.Links {
			if p.Links[i].Name == name {
				p.Links[i].Master = index
			}
		}
	})
}

// A pod whose interface is no port of its bridge is told as that, by whatever its packets
// die of; one that is routed, or that hangs where it should, is not.
func TestUnplugged(t *testing.T) {
	docker := ofNode(func(p *recordedPlace) {
		p.Links = append(p.Links, node.Link{Index: 20, Name: "docker0", Kind: "bridge", Up: true, Carrier: true, MTU: 1500})
	})
	route := func(prefix string, link int) func(*recorded) {
		return ofNode(func(p *recordedPlace) {
			p.Routes = append(p.Routes, node.Route{Dst: netip.MustParsePrefix(prefix), LinkIndex: link, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST})
		})
	}
	flooded := func() *model.Packet {
		return sentOnBridge("OTHERHOST", "ip_rcv_core+0x1", inPod(thirdNS, "default/c"))
	}
	cold := func() *model.Packet {
		return sentOnBridge("NEIGH_FAILED", "neigh_invalidate+0x1", func(p *model.Packet) {
			p.Drop.Netns, p.Drop.Place, p.Drop.Interface, p.Drop.IfIndex, p.Drop.Stage = podNS, "default/a", "eth0", 2, model.StageNeighbor
			p.Hops = nil
		})
	}
	intoNode := func(reason string) *model.Packet { // pod A's own frame, where it came in
		return sentOnBridge(reason, "ip_rcv_core+0x1", nil)
	}
	moved := func(r *recorded) { // vethb is in a namespace of its own, and pod B is no part of the node
		r.Strangers = map[uint32]bool{otherNS: true, 900: true}
		r.Places[otherNS].Links[0].PeerNetns = 900
		r.Places[900] = &recordedPlace{Rules: &RuleSets{}}
		ofNode(func(p *recordedPlace) { p.Links = append(p.Links[:4:4], p.Links[5:]...) })(r)
	}
	for name, tc := range map[string]struct {
		packet *model.Packet
		fault  func(*recorded)
		code   string // of the fault
		says   []string
	}{
		"no master":       {flooded(), master("vethb", 0), "bridge-port", []string{"vethb, the node's end of eth0 of the pod that has 10.244.1.3, is not a port of bridge cni0, nor of any other", "ip link: vethb has no master", "ip link set vethb master cni0", "NetworkManager"}},
		"no master, cold": {cold(), master("vethb", 0), "bridge-port", []string{"so nobody answers for 10.244.1.3", "ip link set vethb master cni0"}},
		"in the bridge":   {sentOnBridge("NO_TX_TARGET", "br_flood+0x1", nil), master("vethb", 0), "bridge-port", []string{"vethb has no master"}},
		"other bridge":    {flooded(), all(docker, master("vethb", 20)), "bridge-port", []string{"vethb, the node's end of eth0 of the pod that has 10.244.1.3, is a port of docker0, not a port of bridge cni0", "ip link: vethb master docker0", "second CNI plugin"}},
		"the asker's":     {intoNode("OTHERHOST"), master("vetha", 0), "bridge-port", []string{"vetha, the node's end of eth0 of default/a, is not a port of bridge cni0", "what it sends does not come to cni0"}},
		"source refused":  {intoNode("IP_RPFILTER"), master("vetha", 0), "bridge-port", []string{"ip link set vetha master cni0"}},
		"moved away":      {flooded(), moved, "bridge-port", []string{"the other end of eth0 of the pod that has 10.244.1.3 is not in this node's own network namespace", "interface 12, in network namespace 900; this node's own is 100"}},
		// pods that are routed hang on no bridge, whatever else there is
		"routed":      {intoNode("IP_RPFILTER"), all(master("vetha", 0), route("10.244.1.2/32", 11)), "rp-filter", nil},
		"one subnet":  {flooded(), all(docker, master("vethb", 20), ofNode(func(p *recordedPlace) { p.Links[len(p.Links)-1].Addrs = p.Links[2].Addrs })), "stale-neighbor", nil},
		"plugged":     {flooded(), nil, "unexplained-drop", nil},
		"plugged, rp": {intoNode("IP_RPFILTER"), nil, "rp-filter", nil},
	} {
		t.Run(name, func(t *testing.T) {
			state := bridgedNode()
			if tc.fault != nil {
				tc.fault(state)
			}
			found := diagnoseAll(t, state, tc.packet)
			if len(found) != 1 || found[0].Code != tc.code {
				t.Fatalf("told %+v, want %s alone", found, tc.code)
			}
			for _, part := range tc.says {
				if !says(found[0], part) {
					t.Errorf("does not say %q:\n%s", part, words(found[0]))
				}
			}
			if tc.code == "bridge-port" && (found[0].Confidence != Likely || strings.Contains(words(found[0]), "ip neigh del")) {
				t.Errorf("%s, want likely, without a fix of the neighbour:\n%s", found[0].Confidence, words(found[0]))
			}
		})
	}
}

// A MAC and an address that somebody of this node has are not told as nobody's, where no
// bridge is known to be theirs.
func TestHolderElsewhere(t *testing.T) {
	state := bridgedNode()
	all(master("vethb", 0), ofNode(func(p *recordedPlace) {
		p.Routes = p.Routes[:2] // the bridge has no subnet
	}))(state)
	found := diagnoseAll(t, state, sentOnBridge("OTHERHOST", "ip_rcv_core+0x1", inPod(thirdNS, "default/c")))
	if len(found) != 1 || found[0].Code != "stale-neighbor" || !says(found[0], "which is that of eth0 of the pod behind vethb, that is not on that wire") ||
		!says(found[0], "eth0 of the pod behind vethb has it, which is not on that wire") || strings.Contains(words(found[0]), "which no interface there has") {
		t.Errorf("told %+v", found)
	}
}
