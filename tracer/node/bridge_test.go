// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/binary"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

// Each attribute of a port is read from the kernel as it was set, and as
// `bridge -d link` prints it.
func TestBridgePorts(t *testing.T) {
	c := nodetest.New(t)
	c.Add("n")
	c.In("n", "ip link add sw type bridge", "ip link set sw up")
	changes := map[string]func(*BridgePort){
		"hairpin on":  func(p *BridgePort) { p.Hairpin = true },
		"isolated on": func(p *BridgePort) { p.Isolated = true },
		"locked on":   func(p *BridgePort) { p.Locked = true },
		"learning off": func(p *BridgePort) {
			p.Learning = false
		},
		"flood off":       func(p *BridgePort) { p.Flood = false },
		"bcast_flood off": func(p *BridgePort) { p.NoBroadcast = true },
		"mcast_flood off": func(p *BridgePort) { p.NoMulticast = true },
		"state 2":         func(p *BridgePort) { p.State = PortLearning },
	}
	n := openNode(t, c.Path("n"))
	c.In("n", "ip link add p type veth peer name q", "ip link set p master sw", "ip link set p up", "ip link set q up")
	links, err := n.Links(n.Node().Inode)
	if err != nil {
		t.Fatal(err)
	}
	index := map[string]int{}
	for _, l := range links {
		index[l.Name] = l.Index
	}
	awaitForwarding(t, n)
	for change, want := range changes {
		expect := BridgePort{LinkIndex: index["p"], Bridge: index["sw"], State: PortForwarding, Learning: true, Flood: true}
		want(&expect)
		var got []BridgePort
		c.In("n", "bridge link set dev p hairpin off isolated off locked off learning on flood on bcast_flood on mcast_flood on state 3", "bridge link set dev p "+change)
		if got, err = n.BridgePorts(n.Node().Inode); err != nil {
			t.Fatal(err)
		}
		got = slices.DeleteFunc(got, func(p BridgePort) bool { return p.LinkIndex == p.Bridge })
		for i := range got {
			got[i].VLANs = nil
		}
		if !reflect.DeepEqual(got, []BridgePort{expect}) {
			t.Errorf("%s: got %+v, want %+v alone", change, got, expect)
		}
	}
}

// awaitForwarding waits until the kernel has seen the carrier: till then a port
// takes no state.
func awaitForwarding(t *testing.T, n *Namespaces) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		ports, err := n.BridgePorts(n.Node().Inode)
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(ports, func(p BridgePort) bool { return p.State == PortForwarding }) {
			return
		}
	}
	t.Fatal("no port forwards")
}

// VLANs need a kernel that filters them.
func TestBridgeVLANs(t *testing.T) {
	c := nodetest.New(t)
	c.Add("n")
	c.In("n", "ip link add sw type bridge", "ip link set sw up", "ip link add p type veth peer name q", "ip link set p master sw", "ip link set p up")
	if out, err := exec.Command("ip", "-n", c.Name("n"), "link", "set", "sw", "type", "bridge", "vlan_filtering", "1").CombinedOutput(); err != nil {
		t.Skipf("this kernel filters no VLANs: %s", strings.TrimSpace(string(out)))
	}
	c.In("n", "bridge vlan del dev p vid 1", "bridge vlan add dev p vid 20 pvid untagged", "bridge vlan add dev p vid 30-31")
	n := openNode(t, c.Path("n"))
	ports, err := n.BridgePorts(n.Node().Inode)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ports {
		if p.Bridge != p.LinkIndex && (p.PVID() != 20 || !p.In(31) || p.In(1)) {
			t.Errorf("%+v", p)
		}
		if p.Bridge == p.LinkIndex && p.PVID() != 1 {
			t.Errorf("the bridge itself: %+v", p)
		}
	}
	if len(ports) != 2 {
		t.Errorf("%d ports, want the port and the bridge: %+v", len(ports), ports)
	}
}

// What the kernel sends is read by its format, whatever this kernel can do.
func TestBridgePortFormat(t *testing.T) {
	vlan := func(flags, id uint16) []byte {
		b := binary.NativeEndian.AppendUint16(nil, flags)
		return binary.NativeEndian.AppendUint16(b, id)
	}
	about := nl.NewIfInfomsg(unix.AF_BRIDGE)
	about.Index = 7
	port := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	port.AddRtAttr(nl.IFLA_BRPORT_STATE, []byte{4})
	port.AddRtAttr(nl.IFLA_BRPORT_LOCKED, []byte{1})
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	spec.AddRtAttr(nl.IFLA_BRIDGE_VLAN_INFO, vlan(nl.BRIDGE_VLAN_INFO_PVID|nl.BRIDGE_VLAN_INFO_UNTAGGED, 20))
	spec.AddRtAttr(nl.IFLA_BRIDGE_VLAN_INFO, vlan(0, 31))
	raw := about.Serialize()
	raw = append(raw, nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(3)).Serialize()...)
	raw = append(raw, port.Serialize()...)
	raw = append(raw, spec.Serialize()...)
	p, ok, err := newBridgePort(raw)
	want := BridgePort{LinkIndex: 7, Bridge: 3, State: PortBlocking, Locked: true, VLANs: []PortVLAN{{ID: 20, PVID: true, Untagged: true}, {ID: 31}}}
	if err != nil || !ok || !reflect.DeepEqual(p, want) {
		t.Errorf("got %+v %v %v, want %+v", p, ok, err, want)
	}
	if _, _, err := newBridgePort(raw[:4]); err == nil {
		t.Error("a short answer is taken")
	}
	if _, ok, err := newBridgePort(about.Serialize()); ok || err != nil {
		t.Errorf("a link that is no port is taken: %v", err)
	}
}
