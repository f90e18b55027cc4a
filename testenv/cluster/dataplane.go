// SPDX-License-Identifier: Apache-2.0

// What kinds of node there are: who builds the pod network, through which rule
// engine, how packets get to the other node, and who serves services.

package cluster

import (
	"fmt"
	"slices"
	"strings"
)

// Dataplane names a kind of node together with the form its rules take.
type Dataplane string

// The dataplanes whose rule sets were recorded; their nodes are joined by VXLAN.
const (
	CalicoLegacy    Dataplane = "calico-legacy"    // Felix through iptables-legacy
	CalicoNFT       Dataplane = "calico-nft"       // Felix through iptables-nft
	CalicoNFTables  Dataplane = "calico-nftables"  // Felix's native nftables mode
	FlannelLegacy   Dataplane = "flannel-legacy"   // flanneld through iptables-legacy
	FlannelNFT      Dataplane = "flannel-nft"      // flanneld through iptables-nft
	FlannelNFTables Dataplane = "flannel-nftables" // flanneld's native nftables mode
)

// The dataplanes that are made of a recorded one, with another way between the nodes
// or another proxy, and with the rules that go with that.
const (
	CalicoIPIP       Dataplane = "calico-ipip"       // Felix and BIRD with tunl0, iptables-legacy
	CalicoWireGuard  Dataplane = "calico-wireguard"  // Felix with wireguard.cali, iptables-nft
	CalicoIPVS       Dataplane = "calico-ipvs"       // kube-proxy's IPVS mode, and Felix as it is beside that
	FlannelHostGW    Dataplane = "flannel-host-gw"   // routes by the nodes' own network, iptables-nft
	FlannelWireGuard Dataplane = "flannel-wireguard" // flannel-wg, iptables-nft
	FlannelIPIP      Dataplane = "flannel-ipip"      // flannel.ipip, iptables-nft
)

// Recorded lists the dataplanes whose rule sets were recorded.
func Recorded() []Dataplane {
	return []Dataplane{CalicoLegacy, CalicoNFT, CalicoNFTables, FlannelLegacy, FlannelNFT, FlannelNFTables}
}

// Dataplanes lists all dataplanes. What some take not every kernel has: New refuses
// them there with ErrLacking.
func Dataplanes() []Dataplane {
	return append(Recorded(), CalicoIPIP, CalicoWireGuard, CalicoIPVS, FlannelHostGW, FlannelWireGuard, FlannelIPIP)
}

// Kind is who builds the pod network.
type Kind string

// The two kinds of node.
const (
	Calico  Kind = "calico"
	Flannel Kind = "flannel"
)

// RuleForm is the engine and tool a node's rules are written with.
type RuleForm string

// The rule forms.
const (
	FormLegacy   RuleForm = "legacy"   // x_tables, iptables-legacy
	FormNFT      RuleForm = "nft"      // nf_tables with xt expressions, iptables-nft
	FormNFTables RuleForm = "nftables" // nf_tables, native
)

// Way is how pods' packets get from node to node.
type Way string

// The ways.
const (
	WayVXLAN     Way = "vxlan"
	WayIPIP      Way = "ipip"
	WayWireGuard Way = "wireguard"
	WayBare      Way = "bare" // as they are, by routes to the other node
)

// design is what a dataplane is made of.
type design struct {
	of   Dataplane // the recorded one
	form RuleForm
	way  Way
	ipvs bool // kube-proxy serves by IPVS
	mtu  int  // of tunnel and pods
	// modules are what the kernel must have beside what every dataplane takes.
	modules []string
}

// The room that a way takes off a packet of the 1500-byte underlay: VXLAN's 50 bytes,
// IPIP's 20; for WireGuard Felix reckons with 60 and flanneld, for IPv6's sake, with 80.
const (
	underlayMTU         = 1500
	vxlanMTU            = underlayMTU - 50
	ipipMTU             = underlayMTU - 20
	calicoWireGuardMTU  = underlayMTU - 60
	flannelWireGuardMTU = underlayMTU - 80
)

// design gives what the dataplane is made of.
func (d Dataplane) design() design {
	switch d {
	case CalicoIPIP:
		return design{of: CalicoLegacy, form: FormLegacy, way: WayIPIP, mtu: ipipMTU, modules: []string{"ipip"}}
	case CalicoWireGuard:
		return design{of: CalicoNFT, form: FormNFT, way: WayWireGuard, mtu: calicoWireGuardMTU, modules: []string{"wireguard"}}
	case CalicoIPVS:
		return design{of: CalicoLegacy, form: FormLegacy, way: WayVXLAN, ipvs: true, mtu: vxlanMTU,
			modules: []string{"ip_vs", "ip_vs_rr", "dummy", "ip_set_hash_ipportip", "ip_set_hash_ipportnet", "ip_set_bitmap_port"}}
	case FlannelHostGW:
		return design{of: FlannelNFT, form: FormNFT, way: WayBare, mtu: underlayMTU}
	case FlannelWireGuard:
		return design{of: FlannelNFT, form: FormNFT, way: WayWireGuard, mtu: flannelWireGuardMTU, modules: []string{"wireguard"}}
	case FlannelIPIP:
		return design{of: FlannelNFT, form: FormNFT, way: WayIPIP, mtu: ipipMTU, modules: []string{"ipip"}}
	}
	_, form, _ := strings.Cut(string(d), "-")
	return design{of: d, form: RuleForm(form), way: WayVXLAN, mtu: vxlanMTU}
}

// Kind tells who builds the pod network.
func (d Dataplane) Kind() Kind {
	kind, _, _ := strings.Cut(string(d), "-")
	return Kind(kind)
}

// Form tells the form of the node's rules.
func (d Dataplane) Form() RuleForm { return d.design().form }

// Way tells how packets get to the other node.
func (d Dataplane) Way() Way { return d.design().way }

// IPVS tells whether kube-proxy serves by IPVS. It always runs then.
func (d Dataplane) IPVS() bool { return d.design().ipvs }

// MTU is what the tunnel's interface, if there is one, and the pods have, in bytes.
func (d Dataplane) MTU() int { return d.design().mtu }

// Recorded tells whether the dataplane's own rule set was recorded.
func (d Dataplane) Recorded() bool { return d.design().of == d }

// recording is the folder of what was recorded for the dataplane, or for the one that
// it is made of.
func (d Dataplane) recording() string { return "testdata/" + string(d.design().of) }

// ParseDataplane turns a name into a Dataplane. The error names all that exist.
func ParseDataplane(name string) (Dataplane, error) {
	if slices.Contains(Dataplanes(), Dataplane(name)) {
		return Dataplane(name), nil
	}
	names := make([]string, 0, len(Dataplanes()))
	for _, d := range Dataplanes() {
		names = append(names, string(d))
	}
	return "", fmt.Errorf("dataplane %q does not exist; take one of %s", name, strings.Join(names, ", "))
}
