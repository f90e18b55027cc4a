// SPDX-License-Identifier: Apache-2.0

package meaning

import "testing"

// TestIPVSFilter: what IPVS has no service for is kept from the node's own sockets
// (recorded traffic has none of it).
func TestIPVSFilter(t *testing.T) {
	rule := func(chain, text string) Path {
		return Path{Rules: []Rule{{Backend: "legacy", Family: "ip", Table: "filter", Chain: chain, Number: 4, Text: text}}}
	}
	reject := " -m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j REJECT --reject-with icmp-port-unreachable"
	m := NewBook(Known{}).Explain(rule("KUBE-IPVS-FILTER", "-A KUBE-IPVS-FILTER"+reject))
	if m.Kind != ServicePort || m.Owner != KubeProxy || m.Sentence != "kube-proxy rejects it: its destination is the address of a service, but none of its ports" {
		t.Errorf("%s of %s: %q", m.Kind, m.Owner, m.Sentence)
	}
	if m := NewBook(Known{}).Explain(rule("INPUT", "-A INPUT"+reject)); m.Kind == ServicePort {
		t.Errorf("the same in another chain: %q", m.Sentence)
	}
}
