// SPDX-License-Identifier: Apache-2.0

// What the rules of other programs mean, as far as they mean more than they say.

package meaning

import (
	"fmt"
	"strings"
)

// explainKubeRouter tells of kube-router's pod chains (KUBE-POD-FW-...): their
// comments name the pod, those of the jumps before name the policies
// (pkg/controllers/netpol/pod.go).
func explainKubeRouter(r *reading, m *Meaning) bool {
	const pod, namespace = " POD name:", " namespace: "
	comment := r.comment()
	_, rest, found := strings.Cut(comment, pod)
	if !found || m.Action != "drop" && m.Action != "reject" {
		return false
	}
	name, ns, found := strings.Cut(rest, namespace)
	if !found {
		return false
	}
	m.Kind, m.Endpoint = TierEnd, ns+"/"+name
	for i, l := range r.lines {
		if !sameChain(r.path.Rules[i], r.rule()) {
			continue
		}
		for _, c := range l.comments {
			if policy, ok := strings.CutPrefix(c, "run through nw policy "); ok {
				m.Policies = append(m.Policies, "Kubernetes NetworkPolicy "+ns+"/"+policy)
			}
		}
	}
	if len(m.Policies) == 1 {
		m.PolicyKind = "KubernetesNetworkPolicy"
		m.Policy = strings.TrimPrefix(m.Policies[0], "Kubernetes NetworkPolicy ")
	}
	m.What = "end of the pod's policies"
	who := "no NetworkPolicy"
	switch len(m.Policies) {
	case 0:
	case 1:
		m.Sentence = fmt.Sprintf("%s (pod %s, by kube-router) does not allow it: %s", m.Policies[0], m.Endpoint, m.What)
		return true
	default:
		who = "none of " + list(m.Policies)
	}
	m.Sentence = fmt.Sprintf("%s (pod %s, by kube-router) allows it: %s", who, m.Endpoint, m.What)
	return true
}

// explainDocker tells of the chains that keep Docker's networks apart.
func explainDocker(r *reading, m *Meaning) bool {
	if !strings.HasPrefix(r.rule().Chain, "DOCKER-ISOLATION-STAGE-") || m.Action != "drop" {
		return false
	}
	m.Kind, m.What = Isolation, "Docker keeps its bridge networks apart"
	m.Sentence = fmt.Sprintf("Docker's %s drops it: %s", place(r.rule()), m.What)
	return true
}
