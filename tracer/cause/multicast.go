// SPDX-License-Identifier: Apache-2.0

package cause

// The cause multicast: a group that nobody on the way takes or passes on.

import "fmt"

// multicast: a packet to a group came in by routing, where the node has not joined it
// and does not route multicast (ip_route_input_mc and ip_check_mc_rcu, net/ipv4/route.c;
// ip6_mc_input, net/ipv6/ip6_input.c, 6.12).
func multicast(q *inquiry) *claim {
	dst := endsAt(q.p).Dst
	if !dst.IsMulticast() || dst.IsLinkLocalMulticast() || !q.p.Outcome.Died() || q.d.Hook != "" || !q.maybeIn("ip_rcv_finish*", "ip_route_input*", "ip_error*", "ip_sublist_rcv*", "ip6_mc_input*") {
		return nil
	}
	family := "ipv4"
	if dst.Is6() {
		family = "ipv6"
	}
	on, ok := q.sysctl(q.d.Netns, family+"/conf/all/mc_forwarding")
	if !ok || on != 0 {
		return nil
	}
	return &claim{summary: fmt.Sprintf("%s is a multicast group, and %s neither is a member of it nor routes multicast: what a pod sends to a group reaches nobody but those on its own link", dst, q.place()),
		evidence: []string{q.died(), fmt.Sprintf("net.%s.conf.all.mc_forwarding = 0", family)},
		missing:  []string{"the kernel gives no reason of its own here"},
		fix: []string{"have the application find its peers otherwise: by DNS (a headless service), the API, or a list of addresses",
			"a network that carries multicast between pods: Weave Net, Antrea or OVN-Kubernetes with multicast on, or a second interface (Multus with macvlan); Calico and flannel do not"}}
}
