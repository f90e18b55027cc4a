// SPDX-License-Identifier: Apache-2.0

// Names of Calico's policies and profiles: as people write them, as Felix'
// comments tell them, and as they stand in chain names.

package meaning

import "strings"

// policy is a policy or profile with its name; the zero policy is one whose
// name is not known.
type policy struct {
	kind string // as in the API
	name string // namespace/name, or name of a global one
}

// policyKind is one kind of policy.
type policyKind struct {
	kind  string // in Felix' comments and in Meaning.PolicyKind
	short string // in chain names (KindShortName, felix/types/policy_id.go, 3.34); "": in none
	shown string // in a sentence
}

// policyKinds are the kinds that Felix programs.
var policyKinds = [...]policyKind{
	{"NetworkPolicy", "np", "Calico NetworkPolicy"},
	{"GlobalNetworkPolicy", "gnp", "Calico GlobalNetworkPolicy"},
	{"KubernetesNetworkPolicy", "knp", "Kubernetes NetworkPolicy"},
	{"KubernetesClusterNetworkPolicy", "kcnp", "Kubernetes ClusterNetworkPolicy"},
	{"KubernetesAdminNetworkPolicy", "", "Kubernetes AdminNetworkPolicy"},
	{"KubernetesBaselineAdminNetworkPolicy", "", "Kubernetes BaselineAdminNetworkPolicy"},
	{profileKind, "", "Calico profile"},
}

const profileKind = "Profile"

// oldPrefixes begin the names that older versions gave to what they took over
// from Kubernetes (libcalico-go/lib/names): "default/knp.default.web".
var oldPrefixes = [...]struct{ prefix, kind string }{
	{"knp.default.", "KubernetesNetworkPolicy"},
	{"kanp.adminnetworkpolicy.", "KubernetesAdminNetworkPolicy"},
	{"kbanp.baselineadminnetworkpolicy.", "KubernetesBaselineAdminNetworkPolicy"},
	{"kcnp.kube-admin.", "KubernetesClusterNetworkPolicy"},
	{"kcnp.kube-baseline.", "KubernetesClusterNetworkPolicy"},
}

// String is the policy as a sentence calls it.
func (p policy) String() string {
	for _, k := range policyKinds {
		if k.kind == p.kind {
			return k.shown + " " + p.name
		}
	}
	return "Calico " + p.kind + " " + p.name
}

// policyOfOldName reads the name alone, as older versions tell it: one with a namespace is
// a NetworkPolicy, one without a global one, but for those from Kubernetes.
func policyOfOldName(name string) policy {
	ns, last, namespaced := strings.Cut(name, "/")
	if !namespaced {
		last = ns
	}
	for _, old := range oldPrefixes {
		if bare, ok := strings.CutPrefix(last, old.prefix); ok {
			if namespaced {
				bare = ns + "/" + bare
			}
			return policy{kind: old.kind, name: bare}
		}
	}
	if namespaced {
		return policy{kind: "NetworkPolicy", name: name}
	}
	return policy{kind: "GlobalNetworkPolicy", name: name}
}

// policyOfComments finds the comment that Felix puts into the first rule of a
// policy's or profile's chain: "NetworkPolicy default/web ingress", "Profile
// kns.default egress", in older versions "Policy default/knp.default.web ingress".
func policyOfComments(comments []string) (policy, bool) {
	for _, c := range humanComments(comments) {
		for _, piece := range strings.Split(c, ";") {
			f := strings.Fields(piece)
			if len(f) != 3 || f[2] != "ingress" && f[2] != "egress" {
				continue
			}
			switch {
			case f[0] == "Policy":
				return policyOfOldName(f[1]), true
			case f[0] == profileKind || strings.HasSuffix(f[0], "Policy"):
				return policy{kind: f[0], name: f[1]}, true
			}
		}
	}
	return policy{}, false
}

// policyOfID reads an id that was not hashed, as it stands in a chain's name:
// "np/default/web", in older versions "default/knp.default.web".
func policyOfID(id string) policy {
	short, name, found := strings.Cut(id, "/")
	for _, k := range policyKinds {
		if found && short != "" && (short == k.short || short == k.kind) {
			return policy{kind: k.kind, name: name}
		}
	}
	return policyOfOldName(id)
}

// idsOf are the ids that Felix of any version gives a policy.
func idsOf(p policy) []string {
	var ids []string
	for _, k := range policyKinds {
		if k.kind == p.kind {
			ids = append(ids, k.kind+"/"+p.name)
			if k.short != "" {
				ids = append(ids, k.short+"/"+p.name)
			}
		}
	}
	ns, name, namespaced := strings.Cut(p.name, "/")
	if !namespaced {
		ns, name = "", ns
	} else {
		ns += "/"
	}
	taken := false // over from Kubernetes
	for _, old := range oldPrefixes {
		if old.kind == p.kind {
			ids, taken = append(ids, ns+old.prefix+name), true
		}
	}
	if taken {
		return ids
	}
	return append(ids, ns+name, ns+"default."+name)
}

// policyTails maps what follows "cali-pi-" or "cali-po-" in the names of chains
// whose policy's id was hashed to the policy.
func policyTails(names []string) map[string]policy {
	tails := map[string]policy{}
	for _, n := range names {
		p, ids := policyOfID(n), []string{n}
		if kind, name, ok := strings.Cut(n, " "); ok {
			p = policy{kind: kind, name: name}
			ids = idsOf(p)
		}
		for _, id := range ids {
			tail := strings.TrimPrefix(CalicoChain(ingressPolicyPrefix, id), ingressPolicyPrefix)
			if strings.HasPrefix(tail, caliShortened) {
				tails[tail] = p
			}
		}
	}
	return tails
}
