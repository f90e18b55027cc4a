// SPDX-License-Identifier: Apache-2.0

// Calico's rules that do not depend on policy, known by their comments and
// chains (felix/rules/static.go and endpoints.go, 3.34).

package meaning

import "fmt"

// calicoStatics are such rules: by a part of the comment, or by the chain where
// they bear no comment.
var calicoStatics = [...]struct {
	comment, chain string
	kind           Kind
	what           string
}{
	{"Endpoint admin disabled", "", AdminDown, "the endpoint is switched off in Calico's data"},
	{"VXLAN packets from non-allowed hosts", "", TunnelHost, "a VXLAN packet from a host that Calico does not know as a node"},
	{"IPIP packets from non-Calico hosts", "", TunnelHost, "an IP-in-IP packet from a host that Calico does not know as a node"},
	{"VXLAN encapped packets originating in workloads", "", TunnelPod, "a pod may not send VXLAN packets of its own"},
	{"IPinIP encapped packets originating in workloads", "", TunnelPod, "a pod may not send IP-in-IP packets of its own"},
	{"Configured DefaultEndpointToHostAction", "", PodToHost, "this is what DefaultEndpointToHostAction says for packets from pods to their own node"},
	{"", "cali-cidr-block", ServiceLoop, "its destination is in a service range and no service has translated it"},
	{"", "cali-wl-to-host", PodToHost, "a rule for packets from pods to their own node"},
}

func calicoStatic(c calicoReading, m *Meaning) bool {
	if m.Action != "drop" && m.Action != "reject" {
		return false
	}
	for _, s := range calicoStatics {
		if s.comment != "" && !c.has(s.comment) || s.chain != "" && s.chain != c.chain.name {
			continue
		}
		m.Kind, m.What = s.kind, s.what
		m.Sentence = fmt.Sprintf("Calico%s %s: %s", in(c.staticWhose(m)), c.verb(), m.What)
		return true
	}
	return false
}

// staticWhose is whose, but where no endpoint is concerned the chain.
func (c calicoReading) staticWhose(m *Meaning) string {
	if c.endpointRule(c.last()) >= 0 {
		return c.whose(m)
	}
	return c.chain.table + " " + c.chain.name
}
