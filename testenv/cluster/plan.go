// SPDX-License-Identifier: Apache-2.0

// Names and addresses of nodes and pods: those of the recorded nodes, since the
// recorded rule sets name them.

package cluster

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"slices"
)

// testdata holds what real nodes looked like: rule sets, sets, sysctls and CNI
// results, recorded from Calico 3.34 (development), flannel 0.28 and kube-proxy
// 1.36.
//
//go:embed all:testdata
var testdata embed.FS

// facts are a node's fixed names and addresses.
type facts struct {
	addr      netip.Addr   // on the underlay
	podNet    netip.Prefix // the node's own pods
	tunnel    string
	tunnelMAC string
	tunnelIP  netip.Addr
	vni, port int
}

// facts are those of a node of this environment.
func (e *Env) facts(node int) facts { return netFacts(e.Dataplane, node) }

// netFacts are the recorded nodes' addresses, with what leads from one to the other.
// VXLAN's are Felix' defaults and flanneld's.
func netFacts(d Dataplane, node int) facts {
	f := recordedFacts(d.Kind(), node)
	device := map[Way]map[Kind]string{
		WayIPIP:      {Calico: calicoIPIP, Flannel: "flannel.ipip"},
		WayWireGuard: {Calico: "wireguard.cali", Flannel: "flannel-wg"},
	}
	switch d.Way() {
	case WayIPIP, WayWireGuard:
		f.tunnel = device[d.Way()][d.Kind()]
		f.tunnelMAC, f.vni, f.port = "", 0, 0
	case WayBare:
		f.tunnel, f.tunnelMAC, f.vni, f.port, f.tunnelIP = "", "", 0, 0, netip.Addr{}
	}
	if d.Way() == WayWireGuard {
		f.port = wireGuardPort
	}
	return f
}

// recordedFacts are those of nodes that are joined by VXLAN. Calico: VNI 4096 and port
// 4789, Felix's defaults; flannel: VNI 1 and port 8472, flanneld's.
func recordedFacts(kind Kind, node int) facts {
	table := map[Kind][]facts{
		Calico: {
			{tunnel: "vxlan.calico", vni: 4096, port: 4789, tunnelMAC: "66:f9:37:c3:7e:94",
				tunnelIP: netip.MustParseAddr("192.168.166.128"), podNet: netip.MustParsePrefix("192.168.166.128/26")},
			{tunnel: "vxlan.calico", vni: 4096, port: 4789, tunnelMAC: "66:2d:bf:44:a6:8b",
				tunnelIP: netip.MustParseAddr("192.168.104.0"), podNet: netip.MustParsePrefix("192.168.104.0/26")},
		},
		Flannel: {
			{tunnel: "flannel.1", vni: 1, port: 8472, tunnelMAC: "86:a9:84:b0:89:54",
				tunnelIP: netip.MustParseAddr("10.244.1.0"), podNet: netip.MustParsePrefix("10.244.1.0/24")},
			{tunnel: "flannel.1", vni: 1, port: 8472, tunnelMAC: "2e:84:f0:d6:f9:08",
				tunnelIP: netip.MustParseAddr("10.244.2.0"), podNet: netip.MustParsePrefix("10.244.2.0/24")},
		},
	}
	f := table[kind][node-1]
	f.addr = netip.AddrFrom4([4]byte{172, 30, 0, byte(node)})
	return f
}

// podPlan is a pod before it is built.
type podPlan struct {
	node            int
	namespace, name string
	containerID     string
	ipv4, ipv6      netip.Addr
	mac             string // Calico: as recorded; flannel: known once built
	hostInterface   string // likewise
}

// planPods lists the pods of a dataplane, in the order they are added.
func planPods(d Dataplane) ([]podPlan, error) {
	if d.Kind() == Calico {
		return planCalicoPods(d)
	}
	return planFlannelPods(), nil
}

// planFlannelPods: addresses are host-local's to give, in the order of the
// calls: .2 and .3 on each node, as recorded.
func planFlannelPods() []podPlan {
	return []podPlan{
		{node: 1, namespace: "default", name: "client", containerID: "cnitool-a019bf6a75f61bc17c28"},
		{node: 1, namespace: "default", name: "server", containerID: "cnitool-68a1d52c4c84bffde369"},
		{node: 2, namespace: "prod", name: "db", containerID: "cnitool-48dabf26ce5e801d8200"},
		{node: 2, namespace: "default", name: "web2", containerID: "cnitool-ddacda81bea4040b29ad"},
	}
}

// cniCache is what the parts used here of a CNI cache entry look like
// (libcni/api.go, cachedInfo, v1.3).
type cniCache struct {
	ContainerID string      `json:"containerId"`
	CNIArgs     [][2]string `json:"cniArgs"`
	Netns       string      `json:"netns"`
	Result      struct {
		Interfaces []struct {
			Name    string `json:"name"`
			MAC     string `json:"mac"`
			Sandbox string `json:"sandbox"`
		} `json:"interfaces"`
		IPs []struct {
			Address netip.Prefix `json:"address"`
		} `json:"ips"`
	} `json:"result"`
}

// planCalicoPods reads the pods off the recorded CNI cache: name, address, MAC
// and host interface, all of which the recorded rules name.
func planCalicoPods(d Dataplane) ([]podPlan, error) {
	var plan []podPlan
	for node := 1; node <= 2; node++ {
		files, err := fs.Glob(testdata, path.Join(d.recording(), fmt.Sprintf("node%d", node), "cni-results", "*"))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			p, err := planCalicoPod(file, node)
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", file, err)
			}
			plan = append(plan, p)
		}
	}
	slices.SortFunc(plan, func(a, b podPlan) int { return a.ipv4.Compare(b.ipv4) })
	return plan, nil
}

func planCalicoPod(file string, node int) (podPlan, error) {
	text, err := testdata.ReadFile(file)
	if err != nil {
		return podPlan{}, err
	}
	var c cniCache
	if err := json.Unmarshal(text, &c); err != nil {
		return podPlan{}, err
	}
	p := podPlan{node: node, containerID: c.ContainerID}
	for _, arg := range c.CNIArgs {
		switch arg[0] {
		case "K8S_POD_NAMESPACE":
			p.namespace = arg[1]
		case "K8S_POD_NAME":
			p.name = arg[1]
		}
	}
	if len(c.Result.Interfaces) != 2 || len(c.Result.IPs) != 1 || p.name == "" {
		return podPlan{}, fmt.Errorf("not a Calico result of one pod")
	}
	p.hostInterface, p.mac = c.Result.Interfaces[0].Name, c.Result.Interfaces[1].MAC
	p.ipv4 = c.Result.IPs[0].Address.Addr()
	p.ipv6 = calicoIPv6(node, p.ipv4)
	return p, nil
}

// calicoIPv6 makes a pod's IPv6 address up: the recorded nodes had none.
func calicoIPv6(node int, ipv4 netip.Addr) netip.Addr {
	a := netip.MustParseAddr("fd00:10:166::").As16()
	a[7], a[15] = byte(node), ipv4.As4()[3]
	return netip.AddrFrom16(a)
}
