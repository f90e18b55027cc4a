// SPDX-License-Identifier: Apache-2.0

// What kinds of node there are: who builds the pod network, and through which
// rule engine.

package cluster

import (
	"fmt"
	"slices"
	"strings"
)

// Dataplane names a kind of node together with the form its rules take.
type Dataplane string

// The dataplanes that can be built.
const (
	CalicoLegacy    Dataplane = "calico-legacy"    // Felix through iptables-legacy
	CalicoNFT       Dataplane = "calico-nft"       // Felix through iptables-nft
	CalicoNFTables  Dataplane = "calico-nftables"  // Felix's native nftables mode
	FlannelLegacy   Dataplane = "flannel-legacy"   // flanneld through iptables-legacy
	FlannelNFT      Dataplane = "flannel-nft"      // flanneld through iptables-nft
	FlannelNFTables Dataplane = "flannel-nftables" // flanneld's native nftables mode
)

// Dataplanes lists all dataplanes.
func Dataplanes() []Dataplane {
	return []Dataplane{CalicoLegacy, CalicoNFT, CalicoNFTables, FlannelLegacy, FlannelNFT, FlannelNFTables}
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

// Kind tells who builds the pod network.
func (d Dataplane) Kind() Kind {
	kind, _, _ := strings.Cut(string(d), "-")
	return Kind(kind)
}

// Form tells the form of the node's rules.
func (d Dataplane) Form() RuleForm {
	_, form, _ := strings.Cut(string(d), "-")
	return RuleForm(form)
}

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
