// SPDX-License-Identifier: Apache-2.0

package cause

// What crosses a bridge comes to iptables only by a sysctl.

import "fmt"

// tellBridged adds to a claim about FORWARD that the packet was crossing a bridge: in
// that hook the port that it is to leave by is its device then (br_nf_forward_ip,
// net/bridge/br_netfilter_hooks.c), while a routed packet still has the one that it came
// by, which is the bridge itself.
func (q *inquiry) tellBridged(c *claim) {
	port := q.link(q.d.Netns, int(q.d.IfIndex))
	if port == nil || port.Master == 0 || q.d.Hook != "FORWARD" || q.d.Family == "bridge" {
		return
	}
	bridge, name := q.link(q.d.Netns, port.Master), "bridge/bridge-nf-call-iptables"
	if q.ipv6() {
		name = "bridge/bridge-nf-call-ip6tables"
	}
	on, ok := q.sysctl(q.d.Netns, name)
	if !ok || on == 0 || bridge == nil || bridge.Kind != "bridge" {
		return
	}
	dotted := "net.bridge." + name[len("bridge/"):]
	c.evidence = append(c.evidence, fmt.Sprintf("%s = %d: only by this do frames between two ports of %s come to FORWARD at all", dotted, on, bridge.Name))
	c.fix = append(c.fix, fmt.Sprintf("where nothing needs it (kube-proxy with iptables does, for services of pods on one bridge): sysctl -w %s=0", dotted))
}
