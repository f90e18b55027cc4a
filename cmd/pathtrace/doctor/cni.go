// SPDX-License-Identifier: Apache-2.0

package doctor

// This file recognises what built the pod network and what programs services,
// by their interfaces and by the chains and tables that they call theirs.

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/node"
)

// Dataplane is a program whose marks were found on the node.
type Dataplane struct {
	Name     string   `json:"name"`            // Calico, flannel, kube-proxy, ...
	Modes    []string `json:"modes,omitempty"` // of its rules: legacy, nft (by iptables-nft), nftables (native), ipvs; several: one of them is stale
	Evidence []string `json:"evidence"`
	Covered  bool     `json:"covered"` // pathtrace knows its rules
}

// marks are what one program leaves on a node.
type marks struct {
	name    string
	covered bool
	links   []string // interface names; * at the end: a prefix
	chains  []string // chains in tables of iptables' names, likewise
	tables  []string // nft tables of its own, likewise
	ipvs    string   // interface that says that IPVS is used
}

// knownMarks is the table of programs. Calico 3.34, flannel 0.28 and kube-proxy
// 1.36 as recorded; the others by their documentation, and only by interface.
func knownMarks() []marks {
	return []marks{
		{name: "Calico", covered: true, links: []string{"cali*", "vxlan.calico", "vxlan-v6.calico", "wireguard.cali", "tunl0"}, chains: []string{"cali-*"}, tables: []string{"calico"}},
		{name: "flannel", covered: true, links: []string{"flannel.*", "flannel-v6.*", "flannel-wg*"}, chains: []string{"FLANNEL-*"}, tables: []string{"flannel-ipv4", "flannel-ipv6"}},
		{name: "kube-proxy", covered: true, chains: []string{"KUBE-SERVICES"}, tables: []string{"kube-proxy"}, ipvs: "kube-ipvs0"},
		{name: "Cilium", links: []string{"cilium_host", "cilium_vxlan", "lxc*"}, chains: []string{"CILIUM_*"}},
		{name: "Weave", links: []string{"weave", "vethwe*"}, chains: []string{"WEAVE-*"}},
		{name: "Antrea", links: []string{"antrea-gw0"}, chains: []string{"ANTREA-*"}},
		{name: "OVN-Kubernetes", links: []string{"ovn-k8s-mp*"}, chains: []string{"OVN-KUBE-*"}},
		{name: "kube-router", links: []string{"kube-bridge"}, chains: []string{"KUBE-ROUTER-*"}},
		{name: "AWS VPC CNI", links: []string{"eni*"}, chains: []string{"AWS-SNAT-*"}},
		{name: "Docker", links: []string{"docker0"}, chains: []string{"DOCKER", "DOCKER-*"}},
	}
}

// tunl0 is there on its own wherever ipip is loaded: it proves nothing.
const weakLink = "tunl0"

// recognise names the programs whose marks are there.
func recognise(links []node.Link, facts ruleFacts) []Dataplane {
	var found []Dataplane
	for _, m := range knownMarks() {
		d := Dataplane{Name: m.name, Covered: m.covered}
		strong := 0
		for _, l := range links {
			switch {
			case matches(m.links, l.Name):
				d.Evidence = append(d.Evidence, l.Name)
				if l.Name != weakLink {
					strong++
				}
			case m.ipvs != "" && l.Name == m.ipvs:
				d.Evidence = append(d.Evidence, l.Name)
				d.Modes = append(d.Modes, "ipvs")
			}
		}
		d.Evidence = shorten(d.Evidence)
		d.addRules(m, facts)
		if strong+len(d.Modes) > 0 {
			found = append(found, d)
		}
	}
	return found
}

// addRules finds the modes of a program's rules.
func (d *Dataplane) addRules(m marks, facts ruleFacts) {
	counts := map[string]int{}
	for _, c := range facts.chains {
		switch {
		case matches(m.tables, c.table) && c.backend == node.BackendNFT:
			counts["nftables"]++
		case matches(m.chains, c.name):
			counts[c.backend]++
		}
	}
	for _, mode := range []string{node.BackendLegacy, node.BackendNFT, "nftables"} {
		if n := counts[mode]; n > 0 {
			d.Modes = append(d.Modes, mode)
			d.Evidence = append(d.Evidence, fmt.Sprintf("%d %s chains", n, mode))
		}
	}
}

// matches tells whether a name is one of the patterns.
func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		prefix, open := strings.CutSuffix(p, "*")
		return name == p || open && strings.HasPrefix(name, prefix)
	})
}

// shorten keeps a list readable.
func shorten(names []string) []string {
	const most = 4
	if len(names) <= most {
		return names
	}
	return append(slices.Clone(names[:most-1]), fmt.Sprintf("%d interfaces more", len(names)-most+1))
}
