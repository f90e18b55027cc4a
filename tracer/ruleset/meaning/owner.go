// SPDX-License-Identifier: Apache-2.0

// Who wrote a rule or a chain: a table of the programs that write rules on
// Kubernetes nodes and what their rules are known by.

package meaning

import (
	"cmp"
	"iter"
	"slices"
	"strings"
)

// Owner is the program that wrote a rule; empty: none that is known here, which
// mostly means a person.
type Owner string

// Owners.
const (
	Calico     Owner = "Calico"
	Cilium     Owner = "Cilium"
	CNIPlugins Owner = "CNI plugins"
	Docker     Owner = "Docker"
	Fail2ban   Owner = "fail2ban"
	Firewalld  Owner = "firewalld"
	Flannel    Owner = "flannel"
	IPMasq     Owner = "ip-masq-agent"
	Istio      Owner = "Istio"
	Kindnet    Owner = "kindnet"
	KubeProxy  Owner = "kube-proxy"
	KubeRouter Owner = "kube-router"
	Kubelet    Owner = "kubelet"
	Libvirt    Owner = "libvirt"
	LocalDNS   Owner = "NodeLocal DNSCache"
	Podman     Owner = "Podman"
	Portmap    Owner = "CNI portmap"
	UFW        Owner = "ufw"
	Weave      Owner = "Weave Net"
)

// caliHashPrefix begins the comment that Felix puts into each of its rules
// (RuleHashPrefix, felix/rules/rulesdefs).
const (
	caliHashPrefix = "cali:"
	caliHashLen    = 16
)

// ownerMark is what an owner's rules are known by. A name that ends in "*" is a
// prefix.
type ownerMark struct {
	owner    Owner
	tables   []string // native nftables tables, which have one owner
	chains   []string
	comments []string // patterns too
}

// ownerMarks are looked through in order: the longer of two prefixes first.
var ownerMarks = [...]ownerMark{
	{Calico, []string{"calico", "calico-arp"}, []string{"cali-*", "felix-*"}, nil},
	{KubeRouter, []string{"kube-router*"}, []string{"KUBE-ROUTER-*", "KUBE-POD-FW-*", "KUBE-NWPLCY-*"}, nil},
	{Kubelet, nil, []string{"KUBE-KUBELET-CANARY", "KUBE-IPTABLES-HINT"}, nil},
	{KubeProxy, []string{"kube-proxy"}, []string{"KUBE-*"}, nil},
	{Flannel, []string{"flannel-*"}, []string{"FLANNEL-*"}, []string{"flanneld forward", "flanneld masq"}},
	{Portmap, []string{"cni_hostport"}, []string{"CNI-HOSTPORT-*", "CNI-DN-*", "CNI-SN-*"}, []string{"CNI portfwd *"}},
	{CNIPlugins, []string{"cni_plugins_masquerade"}, []string{"CNI-*"}, []string{"CNI firewall plugin *"}},
	{Docker, []string{"docker-bridges"}, []string{"DOCKER", "DOCKER-*", "DOCKER_*"}, nil},
	{Firewalld, []string{"firewalld"}, []string{
		"INPUT_direct", "FORWARD_direct", "OUTPUT_direct", "PREROUTING_direct", "POSTROUTING_direct",
		"INPUT_ZONES*", "FORWARD_IN_ZONES*", "FORWARD_OUT_ZONES*", "PREROUTING_ZONES*", "POSTROUTING_ZONES*",
		"INPUT_POLICIES_*", "FORWARD_POLICIES_*", "OUTPUT_POLICIES_*", "PREROUTING_POLICIES_*", "POSTROUTING_POLICIES_*"}, nil},
	{UFW, nil, []string{"ufw-*", "ufw6-*"}, nil},
	{Libvirt, []string{"libvirt_network"}, []string{"LIBVIRT_*"}, nil},
	{Podman, []string{"netavark"}, []string{"NETAVARK*"}, nil},
	{Cilium, nil, []string{"CILIUM_*", "OLD_CILIUM_*"}, []string{"cilium: *"}},
	{Weave, nil, []string{"WEAVE*"}, nil},
	{Istio, nil, []string{"ISTIO_*"}, nil},
	{IPMasq, nil, []string{"IP-MASQ*"}, []string{"ip-masq-agent*"}},
	{Kindnet, []string{"kindnet-*"}, []string{"KIND-MASQ-AGENT"}, []string{"kind-masq-agent*"}},
	{LocalDNS, nil, nil, []string{"NodeLocal DNS Cache*"}},
	{Fail2ban, nil, []string{"f2b-*", "fail2ban-*"}, nil},
}

// peoplesChains are made by a program for people to write into.
var peoplesChains = [...]string{"DOCKER-USER", "CNI-ADMIN"}

// fits tells whether a name is one of the patterns.
func fits(patterns []string, name string) bool {
	for _, p := range patterns {
		if prefix, ok := strings.CutSuffix(p, "*"); ok && strings.HasPrefix(name, prefix) || p == name {
			return true
		}
	}
	return false
}

// OwnerOfChain tells who made a chain, by its name, or by the table's where
// that is a native nftables one. Built-in chains are nobody's.
func OwnerOfChain(backend, table, chain string) Owner {
	for i := range ownerMarks {
		if backend == "nft" && fits(ownerMarks[i].tables, table) {
			return ownerMarks[i].owner
		}
	}
	for i := range ownerMarks {
		if fits(ownerMarks[i].chains, chain) {
			return ownerMarks[i].owner
		}
	}
	return ""
}

// OwnerOf tells who wrote a rule: whose chain it is in, whose comment it bears,
// or, in a built-in chain, whose chain it leads to. Who set the policy of a
// built-in chain cannot be told.
func OwnerOf(r Rule) Owner {
	owner := OwnerOfChain(r.Backend, r.Table, r.Chain)
	forPeople := slices.Contains(peoplesChains[:], r.Chain)
	if owner != "" && !forPeople {
		return owner
	}
	l := parseLine(r)
	if forPeople && l.action == "return" && len(l.comments) == 0 && l.bare {
		return owner // the end that the program itself writes
	}
	if by := ownerOfComments(l.comments); by != "" {
		return by
	}
	if l.action == "jump" || l.action == "goto" {
		return OwnerOfChain(r.Backend, r.Table, l.target)
	}
	return ""
}

func ownerOfComments(comments []string) Owner {
	if slices.ContainsFunc(comments, isCaliHash) {
		return Calico
	}
	for i := range ownerMarks {
		for _, c := range comments {
			if fits(ownerMarks[i].comments, c) {
				return ownerMarks[i].owner
			}
		}
	}
	return ""
}

// isCaliHash tells whether a comment begins with the hash that Felix puts into
// each of its rules: "cali:" and 16 characters of base64url, in native nftables
// mode with a ";" and text behind it.
func isCaliHash(comment string) bool {
	rest, ok := strings.CutPrefix(comment, caliHashPrefix)
	hash, _, _ := strings.Cut(rest, ";")
	return ok && len(hash) == caliHashLen && !strings.ContainsAny(hash, " \t")
}

// OwnerCount is how many rules of a rule set are one owner's.
type OwnerCount struct {
	Owner Owner
	Rules int
}

// CountOwners tells who wrote a rule set, the one with most rules first; rules
// of nobody known come last. Lines of chains (policies) are not counted.
func CountOwners(rules iter.Seq[Rule]) []OwnerCount {
	count := map[Owner]int{}
	for r := range rules {
		if !isChainLine(r.Text) {
			count[OwnerOf(r)]++
		}
	}
	list := make([]OwnerCount, 0, len(count))
	for o, n := range count {
		list = append(list, OwnerCount{Owner: o, Rules: n})
	}
	slices.SortFunc(list, func(a, b OwnerCount) int {
		if (a.Owner == "") != (b.Owner == "") {
			return cmp.Compare(b.Owner, a.Owner)
		}
		return cmp.Or(cmp.Compare(b.Rules, a.Rules), cmp.Compare(a.Owner, b.Owner))
	})
	return list
}
